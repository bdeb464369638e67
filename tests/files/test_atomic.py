"""A full disk names the file, leaves no temporary one, and what was there before as it was."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.files import atomic
from dnlcontrol.files.atomic import write_together
from dnlcontrol.files.interrupts import interrupts

ROOT = Path(__file__).parents[2]
FULL = os.strerror(errno.ENOSPC)


def regulator() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u - x),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x**2,
        regularisers=[dnl.H1("u", 1.0)],
    )


SOLUTION = dnl.solve(regulator(), 4)
STUDY = dnl.study(regulator(), [2, 4], backend="exact")


def checkpointed(folder: Path) -> None:
    dnl.solve(regulator(), 4, "adjoint", checkpoint=folder, every=0)


WRITERS: dict[str, Callable[[Path], object]] = {
    "solution": SOLUTION.save,
    "study": STUDY.save,
    "level": lambda folder: dnl.study(regulator(), [2], directory=folder, backend="exact"),
    "checkpoint": checkpointed,
    "certificate": lambda folder: dnl.certify(SOLUTION, seed=0).save(folder / "certificate.json"),
    "picture": lambda folder: STUDY.plot(folder / "convergence.png"),
    "C": lambda folder: dnl.export_c(regulator(), 2, folder / "network.c"),
    "ONNX": lambda folder: dnl.export_onnx(SOLUTION, folder / "network.onnx", head=False),
}


class FullDisk:
    """Only so many bytes are taken, in this process."""

    def __init__(self, path: Path, room: int) -> None:
        self.file = open(path, "wb")  # noqa: SIM115  # closed by __exit__
        self.room = room

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        self.file.write(data[: self.room])
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, FULL)
        return len(data)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Fills the disk after so many files, and one half of the next."""

    def fill(files: int) -> None:
        left = [files]

        def opened(path: Path, mode: str) -> FullDisk:
            assert mode == "wb"
            left[0] -= 1
            return FullDisk(path, 10**9 if left[0] >= 0 else 20)

        monkeypatch.setattr(atomic, "open", opened, raising=False)

    return fill


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("files", [0, 1])
@pytest.mark.parametrize(
    "writer", [pytest.param(w, marks=pytest.mark.slow) if w == "ONNX" else w for w in WRITERS]
)
def test_on_a_full_disk_what_was_there_stays(writer, files, tmp_path, full):
    """Before the first file, and after the first of several."""
    write = WRITERS[writer]
    if writer != "checkpoint":  # which leaves nothing when it is done
        write(tmp_path)
    before = files_in(tmp_path)
    if writer == "level":
        for name in [n for n in before if "solution" in n]:
            (tmp_path / name).unlink()
            del before[name]
    full(files)
    if files and writer in ("certificate", "picture", "ONNX"):
        write(tmp_path)  # one file alone
        return
    with pytest.raises(OSError, match=FULL) as told:
        write(tmp_path)
    assert told.value.errno == errno.ENOSPC
    assert Path(told.value.filename).parent.is_relative_to(tmp_path)
    assert not Path(told.value.filename).name.startswith(".")
    assert "\n" not in str(told.value)
    left = files_in(tmp_path)
    if writer == "level":
        left = {n: left[n] for n in before}
    if files and writer == "checkpoint":
        left.pop("checkpoint.npz")
    assert left == before


def test_files_that_belong_together_come_together(tmp_path, full):
    a, b = tmp_path / "a", tmp_path / "b"
    write_together({a: b"old a", b: b"old b"})
    full(1)
    with pytest.raises(OSError, match="/b'"):
        write_together({a: b"new a", b: b"new b" * 10})
    assert files_in(tmp_path) == {"a": b"old a", "b": b"old b"}


def test_an_interruption_in_the_middle_leaves_what_was_there(tmp_path, monkeypatch):
    """In Python Ctrl-C interrupts at once."""
    SOLUTION.save(tmp_path)
    before = files_in(tmp_path)

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SOLUTION.save(tmp_path)
    assert files_in(tmp_path) == before


LIMITED = """
import resource, signal, sys
import dnlcontrol as dnl
from dnlcontrol.shell.entry import main
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
sys.exit(main(["solve", "t2_scalar_resnet", "--depth", "8", "--out", sys.argv[1]]))
"""


def test_the_command_line_says_so_in_one_line(tmp_path):
    """By the operating system's own limit on the sizes of files."""
    pytest.importorskip("resource")
    out = tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(out / "arrays.npz") in done.stderr
    assert list(out.iterdir()) == []


# -- signals of the command line -------------------------------------------------------------------
@pytest.fixture
def asked():
    """Nothing is asked before, nor after."""
    assert interrupts.asked is None
    yield interrupts
    interrupts.asked = None


def test_a_signal_waits_for_what_is_being_written(asked):
    done = []

    def write() -> None:
        with asked.waiting():
            with asked.waiting():
                asked.ask(signal.SIGTERM, None)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert done == ["inner", "outer"]
    assert asked.asked == signal.SIGTERM


def test_a_signal_that_a_library_swallowed_keeps_results_from_being_written(asked, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        asked.ask(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        write_together({tmp_path / "a": b"no result"})
    assert list(tmp_path.iterdir()) == []
