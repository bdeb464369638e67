"""Checks that a result is what it says."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["depth"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"dnlcontrol.certificates.{name}")
    raise AttributeError(f"module 'dnlcontrol.certificates' has no attribute {name!r}")
