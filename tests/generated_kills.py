"""Runs that are killed at drawn moments and begun again: nothing of it shows in their results.

    python -m tests.generated_kills --kills 100 --seed 3 [--within FOLDER]

A run is the command line's: ``study --out`` of either backend, or an adjoint ``solve`` with a
checkpoint. One that is left alone says what is right and how long it takes; others are ended by
SIGKILL, SIGTERM or SIGINT at a moment drawn over that time, several times over, and then left to
end. Right is

    the same table, values and controls, bit for bit for a study of kept levels, and to TOLERANCE
    where a solve went on from a checkpoint in the middle
    no temporary file and no lock left, one line on standard error, status 128 + the signal
"""

from __future__ import annotations

import argparse
import csv
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import dnlcontrol as dnl

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# Two minimisers of one discrete problem, both stationary to 1e-8 in the dual norm, by the
# smallest curvature of these problems (their regularisers' weights, 1e-3 and above).
TOLERANCE = 1e-5
TIMES = ("seconds", "peak_memory_mb", "product_cost")  # columns that no two runs have alike
# of a level that went on from a checkpoint: its path to the minimiser is another one
PATHS = (
    *("nit", "nfev", "njev", "nhev", "cg_per_step", "work", "product_cost"),
    *("stationarity", "exact_stationarity", "feasibility", "complementarity"),
)
STARTING = 1.5  # seconds at which a first kill may come at the latest, beside those of the run
LONGEST = 300.0


@dataclass(frozen=True)
class Kind:
    """A command, ``out`` the directory that it writes to."""

    name: str
    arguments: tuple[str, ...]
    flag: str  # of ``out``

    def command(self, out: Path) -> list[str]:
        return [sys.executable, "-m", "dnlcontrol", *self.arguments, self.flag, str(out)]


TOY = ("two_class_toy", "-p", "samples=8")
KINDS = (
    Kind("adjoint study", ("study", *TOY, "--depths", "4,8,16,32", "--every", "0"), "--out"),
    Kind("exact study", ("study", *TOY, "--depths", "4,8,16", "--backend", "exact"), "--out"),
    Kind(
        "checkpoint",
        ("solve", *TOY, "--depth", "32", "--backend", "adjoint", "--every", "0", "--json"),
        "--checkpoint",
    ),
)


@dataclass
class Tally:
    """Kills by signal, and what was wrong."""

    kills: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    after_the_end: int = 0  # the run was faster than its kill
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Undisturbed:
    """What a kind's run gives, and its seconds."""

    kind: Kind
    seconds: float
    result: object


def undisturbed(kind: Kind, folder: Path) -> Undisturbed:
    began = time.monotonic()
    done = subprocess.run(
        kind.command(folder), cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{kind.name} alone: status {done.returncode}, {done.stderr}")
    return Undisturbed(kind, time.monotonic() - began, result_of(kind, folder, done.stdout))


def result_of(kind: Kind, folder: Path, printed: str) -> object:
    """Rows of the table, and the controls of each level; of a solve its value."""
    import json

    if kind.flag == "--checkpoint":
        return {"value": json.loads(printed)["value"]}
    with (folder / "table.csv").open(encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    study = dnl.load(folder)
    controls = [
        {k: c.values for k, c in s.controls.items()}
        for level in study.levels
        for s in level.solutions
    ]
    return {"rows": rows, "controls": controls}


def differences(a: object, b: object, exact: bool, where: str = "") -> list[str]:
    """The places where two results differ; paths are compared only where ``exact``."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{where}: keys"]
        seen = [k for k in a if exact or k not in PATHS]
        return [d for k in seen for d in differences(a[k], b[k], exact, f"{where}/{k}")]
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return [f"{where}: {len(a)} and {len(b)}"]
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in differences(x, y, exact, f"{where}/{i}")]
    return [] if _same(a, b, exact) else [f"{where}: {a} and {b}"]


def _same(a: object, b: object, exact: bool) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        try:
            a, b = float(a), float(b)
        except ValueError:
            return a == b
    x, y = np.asarray(a), np.asarray(b)
    if exact or x.dtype.kind not in "fi" or x.shape != y.shape:
        return np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
    return bool(np.allclose(x, y, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def killed(right: Undisturbed, out: Path, rng: np.random.Generator, most: int, tally: Tally) -> int:
    """One run, ended up to ``most`` times and then left to end; the number of kills."""
    kills = 0
    tally.runs += 1
    while kills < most:
        moment = float(rng.uniform(0.0, right.seconds + STARTING))
        how = SIGNALS[int(rng.integers(len(SIGNALS)))]
        there = _written(out)
        process = subprocess.Popen(
            right.kind.command(out),
            cwd=ROOT,
            preexec_fn=_heeding,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(how)
        else:
            tally.after_the_end += 1
            break
        _, err = process.communicate(timeout=LONGEST)
        kills += 1
        tally.kills[how.name] = tally.kills.get(how.name, 0) + 1
        idle = _written(out) == there or (out / "summary.json").exists()
        if process.returncode == -how and idle:  # before anything of ours ran, or after all of it
            continue
        tally.wrong.extend(f"{right.kind.name}: {w}" for w in _ending(process, how, err, out))
    return kills


def _heeding() -> None:
    """As on a terminal: a job in the background has SIGINT ignored, one under nohup SIGHUP."""
    for how in SIGNALS:
        if how != signal.SIGKILL:
            signal.signal(how, signal.SIG_DFL)


def _written(out: Path) -> dict[Path, int]:
    """What is in the directory, with the times of writing."""
    return {path: path.stat().st_mtime_ns for path in out.glob("**/*")}


def _ending(process: subprocess.Popen[str], how: signal.Signals, err: str, out: Path) -> list[str]:
    """What is wrong with how a run ended: before its own first line Python alone answers."""
    if how == signal.SIGKILL:
        return []
    found = []
    if process.returncode == 0:  # it had ended
        return []
    if process.returncode == -how:
        return [f"{how.name} was not answered: {err[-300:]}"]
    if process.returncode != 128 + how:
        found.append(f"{how.name} ended with status {process.returncode}: {err[-300:]}")
    if err.count("\n") != 1 or "Traceback" in err:
        found.append(f"{how.name} told {err[-300:]!r}")
    remains = [p.name for p in out.glob("**/.*")]
    return found + ([f"{how.name} left {remains}"] if remains else [])


def left_to_end(right: Undisturbed, out: Path, tally: Tally) -> None:
    """The last run, and its comparison with the undisturbed one."""
    done = subprocess.run(
        right.kind.command(out),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    name = right.kind.name
    if done.returncode:
        tally.wrong.append(f"{name}: at last status {done.returncode}: {done.stderr[-300:]}")
        return
    found = result_of(right.kind, out, done.stdout)
    exact = right.kind.name == "exact study"
    tally.wrong.extend(f"{name}: {d}" for d in differences(right.result, found, exact)[:3])
    remains = [p.name for p in out.glob("**/.*")]
    if remains:
        tally.wrong.append(f"{name}: left {remains}")


def tally_of(
    kills: int, seed: int, folder: Path, kinds: Sequence[Kind] = KINDS, fewest: int = 1
) -> Tally:
    """So many kills, ``fewest`` to three of each run, spread over the kinds."""
    rng, tally = np.random.default_rng(seed), Tally()
    right = [undisturbed(kind, folder / f"alone{i}") for i, kind in enumerate(kinds)]
    while (made := sum(tally.kills.values())) < kills:
        one = right[tally.runs % len(right)]
        out = folder / f"run{tally.runs}"
        killed(one, out, rng, min(int(rng.integers(fewest, 4)), kills - made), tally)
        left_to_end(one, out, tally)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=Path, help="a folder that keeps the runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        tally = tally_of(given.kills, given.seed, given.within or Path(temporary))
    for line in tally.wrong:
        print(line)
    by_signal = ", ".join(f"{n} {name}" for name, n in sorted(tally.kills.items()))
    print(f"{sum(tally.kills.values())} kills ({by_signal}) in {tally.runs} runs")
    print(f"{tally.after_the_end} runs ended before their kill; {len(tally.wrong)} wrong")
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
