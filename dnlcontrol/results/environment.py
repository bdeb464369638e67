"""What a solve ran on: versions, threads, platform. Stored with every solution."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("dnlcontrol", "numpy", "scipy", "torch", "casadi")


def versions() -> dict[str, str]:
    """Versions of this library and of those it computes with."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """Read once: the packages' metadata are files."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def environment() -> dict[str, Any]:
    """Python, platform and threads.

    Threads of PyTorch (where it is loaded) and of each BLAS or OpenMP library, by file name.
    Iterates are the same bit for bit on the same versions, threads and processor; elsewhere to
    rounding.
    """
    from threadpoolctl import threadpool_info

    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": {
            "torch": None if torch is None else int(torch.get_num_threads()),
            **{
                os.path.basename(pool["filepath"]): int(pool["num_threads"])
                for pool in threadpool_info()
            },
        },
    }


def peak_memory() -> float:
    """The largest resident size of this process so far, in MB."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024**2 if sys.platform == "darwin" else 1024)
