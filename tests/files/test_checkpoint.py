"""A killed solve goes on from its checkpoint to the same minimiser; no file can mislead it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.files.checkpoint import NAME, Checkpoint
from dnlcontrol.minimise.outcome import Iterate
from dnlcontrol.shell.cli import main
from dnlcontrol.shell.progress import ProgressLine, TimeLeft
from dnlcontrol.studies.load import load
from problems import o4_bryson_denham, spirals, two_class_toy

ROOT = Path(__file__).parents[2]
SPIRALS = {"samples": 12, "alpha": 2e-3, "scale": 1.0}  # from a random start: some 15 iterations


class Stopped(Exception):
    """A kill that a test can catch: nothing after the iterate runs, as with SIGKILL."""


@dataclass
class Stop:
    """Stops a solve at an iterate; counts what it sees."""

    at: int
    seen: list[int] = field(default_factory=list)

    def __call__(self, iterate: Any) -> None:
        self.seen.append(iterate.iteration)
        if len(self.seen) > self.at:
            raise Stopped


def interrupted(
    problem: dnl.ControlProblem, depth: int, folder: Path, at: int, **options: Any
) -> None:
    with pytest.raises(Stopped):
        dnl.solve(
            problem, depth, "adjoint", checkpoint=folder, every=0, progress=Stop(at), **options
        )
    assert (folder / NAME).is_file()


def resumed(
    problem: dnl.ControlProblem, depth: int, folder: Path, **options: Any
) -> tuple[dnl.Solution, int]:
    """The solution, and the iterates that this solve made."""
    seen = Stop(10**9)
    solution = dnl.solve(
        problem, depth, "adjoint", checkpoint=folder, every=0, progress=seen, **options
    )
    assert not (folder / NAME).exists(), "a converged solve removes its checkpoint"
    assert "continued from a checkpoint" in solution.message
    return solution, len(seen.seen)


def assert_same(a: dnl.Solution, b: dnl.Solution, accuracy: float = 1e-8) -> None:
    assert a.success and b.success, (a.message, b.message)
    assert dnl.distance(a, b, "L2") <= accuracy


def test_a_process_killed_by_sigkill_goes_on(tmp_path: Path) -> None:
    """Stationarity 1e-11 over a curvature of 1e-3 and more: an error of 1e-8 at most.

    The curvature is that in the metric.
    """
    code = f"""
import time, dnlcontrol as dnl
from problems import spirals
problem = spirals.problem(**{SPIRALS!r})
def slow(i):
    if i.iteration >= 6:
        print(i.iteration, flush=True)
        time.sleep(60)
dnl.solve(problem, 12, "adjoint", tolerance=1e-11, checkpoint={str(tmp_path)!r}, every=0,
          progress=slow)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "6"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    problem = spirals.problem(**SPIRALS)
    scratch = dnl.solve(problem, 12, "adjoint", tolerance=1e-11)
    solution, iterates = resumed(problem, 12, tmp_path, tolerance=1e-11)
    assert_same(scratch, solution)
    # the iterates themselves go on
    assert iterates == scratch.nit + 1 - 6
    assert solution.nit == scratch.nit
    assert solution.nhev == scratch.nhev
    assert solution.njev == scratch.njev + 1


@pytest.mark.parametrize("method", ["lbfgs", "adam", "sgd"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_every_method_goes_on(tmp_path: Path, method: str, share: float) -> None:
    problem = two_class_toy.problem(samples=8)
    options: dict[str, Any] = {"method": method, "tolerance": 1e-9}
    if method != "lbfgs":
        options["batches"] = dnl.MiniBatches(size=4, epochs=8, rate=0.02)
    scratch = dnl.solve(problem, 4, "adjoint", **options)
    assert scratch.nit > 5
    interrupted(problem, 4, tmp_path, int(share * scratch.nit), **options)
    solution, iterates = resumed(problem, 4, tmp_path, **options)
    assert_same(scratch, solution, 1e-6)  # stationarity 1e-9 over a curvature of 1e-3 and more
    assert iterates < scratch.nit + 1


@pytest.mark.parametrize("at", [3, 20])
def test_multipliers_and_penalty_go_on(tmp_path: Path, at: int) -> None:
    problem = o4_bryson_denham.problem()
    scratch = dnl.solve(problem, 12, "adjoint")
    interrupted(problem, 12, tmp_path, at)
    with np.load(tmp_path / NAME, allow_pickle=False) as stored:
        record = json.loads(str(stored["record"]))
    assert list(record["stages"]) == ["rounds", "newton"]
    assert record["stages"]["rounds"]["rho"] >= 0.1
    solution, _ = resumed(problem, 12, tmp_path)
    assert_same(scratch, solution, 1e-6)
    for name, values in scratch.multipliers.items():
        np.testing.assert_allclose(solution.multipliers[name], values, atol=1e-6)


def test_a_longer_run_goes_on_where_a_short_one_stopped(tmp_path: Path) -> None:
    problem = spirals.problem(**SPIRALS)
    with pytest.warns(dnl.ConvergenceWarning):
        short = dnl.solve(problem, 6, "adjoint", checkpoint=tmp_path, max_iterations=4)
    assert not short.success
    assert (tmp_path / NAME).is_file()
    solution, iterates = resumed(problem, 6, tmp_path)
    scratch = dnl.solve(problem, 6, "adjoint")
    assert_same(scratch, solution)
    assert iterates == scratch.nit + 1 - 4


def test_a_killed_study_goes_on_inside_a_level(tmp_path: Path) -> None:
    problem = spirals.problem(**SPIRALS)
    stop = Stop(10**9)
    scratch = dnl.study(problem, [4, 8], follow=stop, tolerance=1e-11)
    with pytest.raises(Stopped):
        dnl.study(
            problem,
            [4, 8],
            directory=tmp_path,
            every=0,
            follow=Stop(len(stop.seen) - 2),
            tolerance=1e-11,
        )
    assert (tmp_path / "L00008" / "adjoint" / NAME).is_file()
    rest = Stop(10**9)
    again = dnl.study(problem, [4, 8], directory=tmp_path, every=0, follow=rest, tolerance=1e-11)
    assert len(rest.seen) <= 3  # of the second level, the last ones
    assert_same(scratch.levels[-1].adjoint, again.levels[-1].adjoint)
    assert not list(tmp_path.rglob(NAME))
    assert load(tmp_path).success


def test_checkpoints_of_other_solves_are_errors(tmp_path: Path) -> None:
    problem = two_class_toy.problem(samples=8)
    interrupted(problem, 4, tmp_path, 3)
    other = two_class_toy.problem(samples=8, alpha=1e-2)
    for asked, depth, options in (
        (problem, 5, {}),
        (other, 4, {}),
        (problem, 4, {"method": "lbfgs"}),
        (problem, 4, {"rule": "trapezoid"}),
    ):
        with pytest.raises(ValueError, match=r"checkpoint: got .* allowed: a new directory"):
            dnl.solve(asked, depth, "adjoint", checkpoint=tmp_path, **options)
    with pytest.raises(ValueError, match="None for the exact backend"):
        dnl.solve(problem, 4, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="None for method='msa'"):
        dnl.solve(problem, 4, "adjoint", method="msa", checkpoint=tmp_path)
    with pytest.raises(ValueError, match="every: got -1"):
        dnl.solve(problem, 4, "adjoint", checkpoint=tmp_path, every=-1)
    assert resumed(problem, 4, tmp_path)[0].success


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_left_with_a_warning(tmp_path: Path, share: float) -> None:
    problem = two_class_toy.problem(samples=8)
    interrupted(problem, 4, tmp_path, 3)
    data = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(data[: int(share * len(data))])
    with pytest.warns(UserWarning, match="truncated or no checkpoint"):
        solution = dnl.solve(problem, 4, "adjoint", checkpoint=tmp_path)
    assert solution.success
    assert "continued" not in solution.message


def test_a_checkpoint_of_a_later_format_is_an_error(tmp_path: Path) -> None:
    np.savez(
        tmp_path / NAME,
        record=np.array(json.dumps({"kind": "checkpoint", "format": 99, "about": {}})),
    )
    with pytest.raises(ValueError, match="format 99"):
        dnl.solve(two_class_toy.problem(samples=8), 4, "adjoint", checkpoint=tmp_path)


def test_writes_are_seldom_and_whole(tmp_path: Path) -> None:
    """At most one write in ``every`` seconds; no temporary file stays."""
    seldom = Checkpoint(tmp_path, 60.0, {}).open()
    for k in range(100):
        seldom.offer("newton", {"w": np.full(3, float(k)), "log": ()})
    assert not (tmp_path / NAME).exists()
    seldom.close(solved=False)
    found = Checkpoint(tmp_path, 60.0, {}).open().found("newton")
    assert found["w"].tolist() == [99.0] * 3
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_stages_inside_begin_anew(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, 0.0, {}).open()
    checkpoint.offer("rounds", {"round": 0})
    checkpoint.offer("newton", {"w": np.ones(2), "quadratic_rate": np.inf})
    checkpoint.offer("rounds", {"round": 1})
    again = Checkpoint(tmp_path, 0.0, {}).open()
    assert again.found("rounds") == {"round": 1}
    assert again.found("newton") == {}


# -- the progress line ---------------------------------------------------------------------------
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_time_left_of_a_geometric_sequence_is_exact() -> None:
    """Stationarity 10^{-k} at second 2k: 1e-8 is reached at second 16."""
    left = TimeLeft(1e-8)
    told = [left.seconds(2.0 * k, 10.0**-k) for k in range(7)]
    assert told[:3] == [None] * 3
    np.testing.assert_allclose(told[3:], [10.0, 8.0, 6.0, 4.0])  # type: ignore[arg-type]
    assert left.seconds(14.0, 0.0) is None
    growing = TimeLeft(1e-8)
    assert [growing.seconds(float(k), 10.0**k) for k in range(6)] == [None] * 6


def test_the_line_is_written_over_itself() -> None:
    stream, now = Terminal(), iter(range(100))
    line = ProgressLine(stream, 1e-8, clock=lambda: float(next(now)))
    for k in range(5):
        line(Iterate(k, 0.25, 10.0**-k, 1.0, 2, 10.0 * k))
    line.say("L=8 adjoint ...")
    *shown, said = stream.getvalue().splitlines()
    assert said == "L=8 adjoint ..."
    assert shown[-1].count("\r") == 0
    assert "\x1b[K" in stream.getvalue()
    last = stream.getvalue().split("\r")[-1]
    for part in ("J = 0.25", "stationarity 1.0e-04", "radius 1", "40 units", "time left ~ 4 s"):
        assert part in last
    assert "time left ~\x1b" in stream.getvalue().split("\r")[1]


def test_terminals_see_progress_and_pipes_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    solve = [
        "solve",
        "two_class_toy",
        "-p",
        "samples=8",
        "--depth",
        "4",
        "--backend",
        "adjoint",
        "--json",
    ]
    assert (
        main([*solve, "--checkpoint", str(tmp_path / "kept"), "--every", "0", "--method", "lbfgs"])
        == 0
    )
    piped = capsys.readouterr()
    assert piped.err == ""
    assert json.loads(piped.out)["success"]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(solve) == 0
    assert main(["study", "two_class_toy", "-p", "samples=8", "--depths", "2,4", "--json"]) == 0
    text = terminal.getvalue()
    assert "units" in text
    assert "stationarity" in text
    assert "L=4 adjoint ..." in text
    assert text.endswith("\n")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_offering_is_cheap(tmp_path: Path) -> None:
    """An offer that writes nothing costs microseconds, whatever the iteration."""
    checkpoint = Checkpoint(tmp_path, 1e9, {}).open()
    w = np.zeros(10**6)
    began = time.perf_counter()
    for _ in range(1000):
        checkpoint.offer("newton", {"w": w, "log": ()})
    assert time.perf_counter() - began < 0.5  # 1000 copies of w alone would take a second or more
