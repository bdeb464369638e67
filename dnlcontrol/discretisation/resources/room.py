"""How much memory this process may still take, and the refusal of what does not fit.

The least of what the machine has available, of what every control group above the process leaves
(containers: memory.max of version 2, memory.limit_in_bytes of version 1) and of what RLIMIT_AS
leaves. What a control group counts as inactive file cache is given back on demand, so it is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnlcontrol import checks

# of what is there that a forecast may ask for: forecasts are good to 25%, and the rest of the
# machine goes on
SHARE = 0.8
# what is never asked about, in MB: less than importing the libraries takes
FREE_MB = 64.0
MB = 2**20
# how libraries say that an allocation failed, where it is no MemoryError: PyTorch, its CUDA
# allocator, C++ in CasADi
OUT_OF_MEMORY = ("allocate memory", "out of memory", "bad_alloc")
GROUPS = Path("/sys/fs/cgroup")


def available_mb() -> float:
    """What this process may still take, in MB; infinite where nothing is known."""
    return max(0.0, min(_machine(), _address_space(), *_groups())) / MB


def beyond(need_mb: float, most_mb: float = math.inf) -> bool:
    """Whether a need, in MB, is more than ``most_mb`` or than fits the memory that is there."""
    return need_mb > FREE_MB and need_mb > min(most_mb, SHARE * available_mb())


def refuse_beyond(need_mb: float, depth: int, what: str, advice: str) -> None:
    """Raise InputError where a need, in MB, is more than the memory that is there.

    ``what`` names what would be built, ``advice`` what to do.
    """
    if beyond(need_mb):
        there = available_mb()
        checks.reject(
            "depth",
            f"{depth}: {what} needs about {in_words(need_mb)}",
            f"up to {in_words(SHARE * there)}, of {in_words(there)} there; {advice}",
        )


@contextmanager
def memory_in_words(depth: int, need_mb: float) -> Iterator[None]:
    """What runs out of memory inside is told in one line, as an InputError.

    ``need_mb`` is what it was forecast to need.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(
            words in str(error) for words in OUT_OF_MEMORY
        ):
            raise
        seen = f"{depth}: the memory ran out, about {in_words(need_mb)} was forecast"
        allowed = f"what fits {in_words(available_mb())}; take a smaller depth or fewer samples"
        raise checks.InputError(f"depth: got {seen}; allowed: {allowed}") from error


def in_words(mb: float) -> str:
    """A size with three digits and its unit.

    >>> in_words(0.25), in_words(812.4), in_words(40e3), in_words(3e12)
    ('0.25 MB', '812 MB', '39.1 GB', '2.9e+06 TB')
    """
    for unit in ("MB", "GB"):
        if mb < 1000.0:
            return f"{mb:.3g} {unit}"
        mb /= 1024.0
    return f"{mb:.3g} TB" if mb < 1000.0 else f"{mb:.1e} TB"


def _machine() -> float:
    """MemAvailable of Linux; elsewhere all physical memory."""
    text = _read(Path("/proc/meminfo"))
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024.0
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return math.inf


def _address_space() -> float:
    """What RLIMIT_AS leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    pages = _read(Path("/proc/self/statm")).split()
    return limit - (float(pages[0]) * resource.getpagesize() if pages else 0.0)


def _groups() -> Iterator[float]:
    """What each control group of this process and above it leaves."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield from _left(GROUPS, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes"
            yield from _left(GROUPS / "memory", path, *names)


def _left(root: Path, path: str, limit: str, usage: str) -> Iterator[float]:
    """Of a group and those above it; in a container's own namespace the path may lead nowhere."""
    folder = root / path.lstrip("/")
    for group in dict.fromkeys((folder, *folder.parents, root)):
        if group != root and root not in group.parents:
            continue
        most, used = _read(group / limit).strip(), _read(group / usage).strip()
        if most.isdigit() and used.isdigit():
            yield float(most) - float(used) + _reclaimable(group)


def _reclaimable(group: Path) -> float:
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return float(value)
    return 0.0


def _read(path: Path) -> str:
    """The text of a file, empty where there is none to read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
