"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is finished is kept, one line, 128 + n."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import dnlcontrol as dnl
from dnlcontrol.files.interrupts import interrupts
from dnlcontrol.shell import entry, signals
from dnlcontrol.shell.cli import main
from dnlcontrol.studies import study as ladder

ROOT = Path(__file__).parents[2]
STUDY = ["study", "t2_scalar_resnet", "--depths", "2,4", "--backend", "exact", "--out"]
ENDING = [getattr(signal, name) for name in signals.ENDING if hasattr(signal, name)]
HANDLERS = {s: signal.default_int_handler if s == signal.SIGINT else signal.SIG_DFL for s in ENDING}
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def no_signal_ignored():
    """As on a terminal: a job in the background has SIGINT ignored, one under nohup SIGHUP."""
    before = {how: signal.signal(how, handler) for how, handler in HANDLERS.items()}
    yield
    for how, handler in before.items():
        signal.signal(how, handler)


def assert_told(err: str, how: signal.Signals) -> None:
    assert err.count("\n") == 1
    told = "interrupted" if how == signal.SIGINT else f"ended by {how.name}"
    assert err.startswith(f"dnlcontrol: {told}; ")
    assert "keep what was done" in err


@pytest.mark.parametrize("how", ENDING)
def test_in_the_middle_of_a_level_the_ones_before_are_kept(how, tmp_path, monkeypatch, capsys):
    solve_level = ladder.solve_level

    def ended(problem: Any, depth: int, *rest: Any) -> Any:
        if depth == 4:
            os.kill(os.getpid(), how)
        return solve_level(problem, depth, *rest)

    monkeypatch.setattr(ladder, "solve_level", ended)
    assert main([*STUDY, str(tmp_path)]) == 128 + how
    assert_told(capsys.readouterr().err, how)
    assert dnl.load(tmp_path / "L00002" / "exact").success
    assert [p.name for p in tmp_path.rglob(".*")] == []
    monkeypatch.undo()
    assert main([*STUDY, str(tmp_path)]) == 0
    assert {s: signal.getsignal(s) for s in ENDING} == HANDLERS


@pytest.mark.parametrize("how", ENDING)
def test_while_a_level_is_saved_it_is_kept(how, tmp_path, monkeypatch, capsys):
    fsync = os.fsync

    def ended(descriptor: int) -> None:
        if (tmp_path / "L00002").exists():
            monkeypatch.setattr(os, "fsync", fsync)
            os.kill(os.getpid(), how)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", ended)
    assert main([*STUDY, str(tmp_path)]) == 128 + how
    assert_told(capsys.readouterr().err, how)
    assert dnl.load(tmp_path / "L00002" / "exact").success
    assert not (tmp_path / "L00004").exists()
    assert [p.name for p in tmp_path.rglob(".*")] == []


def test_an_interruption_that_a_library_made_its_own_error_of(tmp_path, monkeypatch, capsys):
    def swallowed(*_: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("Callback failed") from None

    monkeypatch.setattr(ladder, "solve_level", swallowed)
    assert main([*STUDY, str(tmp_path)]) == 143
    assert_told(capsys.readouterr().err, signal.SIGTERM)


def test_an_interrupted_solve_that_returns_is_not_kept(tmp_path, monkeypatch, capsys):
    """IPOPT stops where its user interrupts it: that point is no level of the study."""
    solve_level = ladder.solve_level

    def stopped(*given: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            return solve_level(*given)

    monkeypatch.setattr(ladder, "solve_level", stopped)
    assert main([*STUDY, str(tmp_path)]) == 143
    assert_told(capsys.readouterr().err, signal.SIGTERM)
    assert list(tmp_path.rglob("solution.json")) == []


def test_a_signal_in_a_callback_is_asked_again(capsys):
    """Python prints what a destructor raises, and goes on."""

    class Last:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def run() -> int:
        Last()
        for _ in range(1000):
            time.sleep(0.01)
        return 0

    began = time.monotonic()
    assert signals.answered(run) == 143
    assert time.monotonic() - began < 5.0
    assert_told(capsys.readouterr().err, signal.SIGTERM)


def test_errors_without_a_signal_are_told_as_ever(monkeypatch, tmp_path):
    def fail(*_: Any) -> Any:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(ladder, "solve_level", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        main([*STUDY, str(tmp_path)])
    assert {s: signal.getsignal(s) for s in ENDING} == HANDLERS


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signals.answered(lambda: os.kill(os.getpid(), signal.SIGHUP) or 4) == 4
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_library_installs_no_handlers(tmp_path):
    """Neither a solve nor a study in Python, nor a command in another thread."""
    seen = []

    def look(_line: str) -> None:
        seen.append({s: signal.getsignal(s) for s in ENDING})

    problem = dnl.ControlProblem(
        x0=[[1.0]],
        dynamics=dnl.ODE(lambda t, x, u: u.u - x),
        controls={"u": dnl.Control((1,))},
        terminal=lambda x, c: dnl.namespace(x).sum(x**2),
        regularisers=[dnl.L2("u", 1.0)],
    )
    dnl.study(problem, [2], backend="exact", directory=tmp_path / "study", progress=look)
    status = []
    thread = threading.Thread(target=lambda: status.append(entry.main(["problems"])))
    thread.start()
    thread.join(60)
    assert status == [0]
    assert seen == [HANDLERS] * len(seen)
    assert seen
    assert interrupts.asked is None


def test_a_process_of_its_own(tmp_path):
    """From the first line on, while it still imports."""
    command = [sys.executable, "-X", "importtime", "-m", "dnlcontrol", *STUDY, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "dnlcontrol.checks" in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = [line for line in process.stderr if not line.startswith("import time")]
    assert process.returncode == 143
    assert_told("".join(rest), signal.SIGTERM)
