"""One writer in a directory: others are told who it is; readers and the dead keep nobody out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.files.locks import LOCK, held
from dnlcontrol.shell.cli import main

HOLD = """
import sys, time
from pathlib import Path
from dnlcontrol.files.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def regulator() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u - x),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x**2,
        regularisers=[dnl.L2("u", 1.0)],
    )


@contextmanager
def held_by_a_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def solution() -> dnl.Solution:
    return dnl.solve(regulator(), 4)


def test_who_has_it_is_told_in_one_line(tmp_path, solution, capsys):
    """A study, a solution, a checkpoint, and the command line; afterwards each may write."""
    writers = {
        "study": lambda: dnl.study(regulator(), [2, 4], directory=tmp_path),
        "solution": lambda: solution.save(tmp_path),
        "checkpoint": lambda: dnl.solve(regulator(), 4, "adjoint", checkpoint=tmp_path),
    }
    with held_by_a_process(tmp_path) as other:
        who = f"{tmp_path}, in use by process {other.pid} on {socket.gethostname()}"
        for write in writers.values():
            with pytest.raises(dnl.InputError) as told:
                write()
            assert who in str(told.value)
            assert "\n" not in str(told.value)
        assert main(["solve", "t2_scalar_resnet", "--depth", "2", "--out", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert who in err
        assert err.count("\n") == 1
        assert [p.name for p in tmp_path.iterdir()] == [LOCK]
    writers["solution"]()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arrays.npz", "solution.json"]


def test_readers_are_not_kept_out(tmp_path, solution):
    solution.save(tmp_path)
    with held_by_a_process(tmp_path):
        assert dnl.load(tmp_path).value == solution.value


def test_a_killed_process_keeps_nobody_out(tmp_path, solution):
    with held_by_a_process(tmp_path) as other:
        (tmp_path / f".arrays.npz.{other.pid}.1.tmp").write_bytes(b"half")
        mine = tmp_path / f".arrays.npz.{os.getpid()}.1.tmp"
        mine.write_bytes(b"half")
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (tmp_path / LOCK).exists()
        solution.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [mine.name, "arrays.npz", "solution.json"]
    )


def test_another_thread_is_kept_out_and_the_same_is_not(tmp_path):
    told: list[str] = []

    def write() -> None:
        try:
            with held(tmp_path):
                told.append("written")
        except dnl.InputError as error:
            told.append(str(error))

    with held(tmp_path), held(tmp_path / "." / ".." / tmp_path.name):
        for _ in range(2):
            thread = threading.Thread(target=write)
            thread.start()
            thread.join(10)
        assert f"process {os.getpid()} on" in told[0]
        assert f"process {os.getpid()} on" in told[1]
    write()
    assert told[2] == "written"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_has_not_its_parents_right(tmp_path):
    with held(tmp_path):
        child = os.fork()
        if not child:
            try:
                with held(tmp_path):
                    os._exit(1)
            except dnl.InputError:
                os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8
        with held_by_a_reader(tmp_path) as message:
            assert f"process {os.getpid()}" in message


@contextmanager
def held_by_a_reader(folder: Path) -> Iterator[str]:
    """What the lock file still says."""
    yield (folder / LOCK).read_text(encoding="utf-8")
