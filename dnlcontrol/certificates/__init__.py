"""Checks that a solution is what it says."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["depth"]  # dnl.certificates.depth: the certificates of infinite depth, of limits/


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module("dnlcontrol.limits.infinite_depth")
    raise AttributeError(f"module 'dnlcontrol.certificates' has no attribute {name!r}")
