"""Run directories: JSON and plain arrays, versioned, written so that a kill at any moment leaves no half-truth.

A solution is ``arrays.npz`` and ``solution.json``; the JSON is written last and carries the checksum of the
arrays. A study is ``study.json`` and one directory for each finished level.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discrete import discretise
from dnlcontrol.files import make_directory, write_atomic
from dnlcontrol.grid import Grid
from dnlcontrol.problem import ControlProblem
from dnlcontrol.solution import Solution
from dnlcontrol.space.extension import Extension
from dnlcontrol.space.layout import Layout

FORMAT = 1
SCALARS = ("name", "backend", "value", "stationarity", "feasibility", "complementarity", "status", "message",
           "nit", "nfev", "njev", "nhev", "seconds", "peak_memory_mb", "tolerance", "formulation")  # fmt: skip

ADDED = ("options", "environment", "multiplier_nodes", "work")  # files written before these were kept have none
LEARNT = "hessian.npz"


def save_solution(solution: Solution, directory: Any, source: Mapping[str, Any] | None = None) -> None:
    """Write one solution; an older one in the same directory is replaced."""
    folder = solution_directory(directory)
    arrays = {
        "states": solution.states,
        "costates": solution.costates,
        "terminal_gradient": solution.terminal_gradient,
    }
    arrays.update({f"control:{k}": c.values for k, c in solution.controls.items()})
    arrays.update({f"multiplier:{k}": v for k, v in solution.multipliers.items()})
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getvalue()
    grid = solution.grid
    record = {
        "format": FORMAT, "kind": "solution", **{k: getattr(solution, k) for k in SCALARS},
        "grid": {"depth": grid.depth, "horizon": grid.horizon, "rule": grid.rule},
        "controls": {k: {"on": c.layout.on, "at_nodes": bool(c.layout.at_nodes)} for k, c in solution.controls.items()},
        "multipliers": sorted(solution.multipliers), "log": [list(line) for line in solution.log],
        "versions": dict(solution.versions), "options": dict(solution.options), "work": dict(solution.work),
        "environment": dict(solution.environment), "multiplier_nodes": dict(solution.multiplier_nodes),
        "source": dict(source or solution.source),
        "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    write_atomic(folder / "arrays.npz", data)
    write_json(folder / "solution.json", record)


def load_solution(directory: Any) -> Solution:
    """Read what :func:`save_solution` wrote."""
    folder = Path(directory)
    record = read_json(folder / "solution.json", "solution")
    data = (folder / "arrays.npz").read_bytes() if (folder / "arrays.npz").is_file() else b""
    if hashlib.sha256(data).hexdigest() != record.get("sha256"):
        checks.reject(
            "run",
            f"{folder}, whose arrays.npz is missing, truncated or not the one saved",
            "a complete run directory",
        )
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in stored.files}
        grid = Grid(**record["grid"])
        controls = {
            k: Extension(k, Layout(grid, c["on"], c["at_nodes"]), arrays[f"control:{k}"])
            for k, c in record["controls"].items()
        }
        fits = all(len(c.values) == c.layout.count for c in controls.values())
        if not fits or len(arrays["states"]) != grid.depth + 1:
            raise TypeError(f"arrays that are not of depth {grid.depth}")
        return Solution(
            grid=grid, controls=controls, states=arrays["states"], costates=arrays["costates"],
            terminal_gradient=arrays["terminal_gradient"], log=tuple(tuple(line) for line in record["log"]),
            multipliers={k: arrays[f"multiplier:{k}"] for k in record["multipliers"]},
            **{k: record.get(k, {}) for k in ADDED}, versions=record["versions"], source=record["source"],
            **{k: _number(record[k]) for k in SCALARS},
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        seen = f"{folder}, whose solution.json does not fit: {type(error).__name__} ({error})"
        checks.reject("run", seen, "a run directory written by this library")


def save_learnt(solution: Solution, directory: Any) -> None:
    """Keep what the minimiser learnt of the Hessian, so that a killed study goes on as if it had not been."""
    if solution.preconditioner is not None:
        buffer = io.BytesIO()
        np.savez(buffer, **solution.preconditioner.arrays())
        write_atomic(make_directory(directory) / LEARNT, buffer.getvalue())


def load_learnt(directory: Any, problem: ControlProblem, solution: Solution) -> Any:
    """What :func:`save_learnt` kept beside this solution of the problem; None where there is nothing."""
    path = Path(directory) / LEARNT
    if not path.is_file():
        return None
    from dnlcontrol.backends.adjoint.coarse import Preconditioner

    with np.load(path, allow_pickle=False) as stored:
        if "shifts" not in stored:  # kept by an earlier version in another form: learn it again
            return None
        return Preconditioner.restored(discretise(problem, solution.depth, solution.rule).space, dict(stored))


def load(directory: Any) -> Any:
    """The Solution or Study saved in a run directory."""
    try:
        folder = Path(directory)
    except TypeError:
        checks.reject_type("run", directory, "the path of a run directory")
    if (folder / "study.json").is_file():
        from dnlcontrol.studies import load_study

        return load_study(folder)
    if (folder / "solution.json").is_file():
        return load_solution(folder)
    what = "a directory without solution.json or study.json" if folder.is_dir() else "no such directory"
    checks.reject("run", f"{folder} ({what})", "a run directory written by save or --out")


def solution_directory(directory: Any) -> Path:
    """A directory for one solution: one that holds a study would load as that study."""
    folder = make_directory(directory)
    if (folder / "study.json").exists() or (folder / "problem.json").exists():
        checks.reject("directory", f"{folder}, which holds a study", "a new directory, or that of an older solution")
    return folder


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_atomic(path, (json.dumps(plain(record), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """A JSON object of this library's format and of one kind."""
    if not path.is_file():
        checks.reject("run", f"{path.parent} (no {path.name})", "a run directory written by save or --out")
    try:
        record = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        checks.reject("run", f"{path}, truncated or not JSON ({error})", "a run directory written by save or --out")
    if not isinstance(record, dict) or record.get("kind") != kind:
        checks.reject("run", f"{path} of another program", f"a {kind} written by this library")
    if record.get("format") != FORMAT:
        checks.reject(
            "run",
            f"{path} of format {record.get('format')!r}",
            f"format {FORMAT}; use the version that wrote it",
        )
    return record


def plain(value: Any) -> Any:
    """JSON types only; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None else str(value)


def _number(value: Any) -> Any:
    return math.nan if value is None else value
