"""The memory that is there: of the machine, of containers, of the address space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dnlcontrol.checks import InputError
from dnlcontrol.discretisation.resources import room

MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 4096000 kB\n"  # 4000 MB
MB = 2**20


def pretend(monkeypatch, files: dict[str, str]) -> None:
    """Files of the system as given, all others missing."""
    monkeypatch.setattr(room, "_read", lambda path: files.get(Path(path).as_posix(), ""))


def test_the_machine(monkeypatch):
    pretend(monkeypatch, {"/proc/meminfo": MEMINFO})
    assert room.available_mb() == pytest.approx(4000.0)


def test_groups_of_version_2_and_those_above(monkeypatch):
    pretend(
        monkeypatch,
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/a/b/memory.max": "max\n",
            "/sys/fs/cgroup/a/b/memory.current": f"{10 * MB}\n",
            "/sys/fs/cgroup/a/memory.max": f"{500 * MB}\n",
            "/sys/fs/cgroup/a/memory.current": f"{300 * MB}\n",
            "/sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {100 * MB}\n",
        },
    )
    assert room.available_mb() == pytest.approx(300.0), "500 - 300, and 100 of file cache"


def test_a_container_sees_its_own_group_as_the_root(monkeypatch):
    pretend(
        monkeypatch,
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "0::/somewhere/on/the/host\n",
            "/sys/fs/cgroup/memory.max": f"{200 * MB}\n",
            "/sys/fs/cgroup/memory.current": f"{50 * MB}\n",
        },
    )
    assert room.available_mb() == pytest.approx(150.0)


def test_groups_of_version_1(monkeypatch):
    folder = "/sys/fs/cgroup/memory/job"
    pretend(
        monkeypatch,
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job\n",
            f"{folder}/memory.limit_in_bytes": f"{64 * MB}\n",
            f"{folder}/memory.usage_in_bytes": f"{60 * MB}\n",
            f"{folder}/memory.stat": f"total_inactive_file {6 * MB}\n",
        },
    )
    assert room.available_mb() == pytest.approx(10.0)


def test_the_address_space():
    """A limit of 1 GB beyond what the child has: less than that is there, and most of it."""
    child = """
import resource
from dnlcontrol.discretisation.resources.room import available_mb
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30,) * 2)
print(available_mb())
"""
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 900.0 < float(done.stdout) <= 1024.0


def test_what_is_small_is_never_asked_about(monkeypatch):
    monkeypatch.setattr(room, "available_mb", lambda: 0.0)
    room.refuse_beyond(room.FREE_MB, 4, "a solve", "nothing")
    with pytest.raises(InputError) as refused:
        room.refuse_beyond(2048.0, 4, "a solve", "wait")
    assert str(refused.value) == (
        "depth: got 4: a solve needs about 2 GB; allowed: up to 0 MB, of 0 MB there; wait"
    )


@pytest.mark.parametrize(
    "error",
    [
        np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype(float)),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8000 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_running_out_is_told_in_one_line(error: Exception):
    with (
        pytest.raises(InputError, match=r"^depth: got 7: the memory ran out, about 3 GB") as told,
        room.memory_in_words(7, 3072.0),
    ):
        raise error
    assert "\n" not in str(told.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match=r"^shapes"), room.memory_in_words(7, 1.0):
        raise RuntimeError("shapes do not match")
