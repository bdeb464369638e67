"""Run directories: JSON and plain arrays, versioned.

They are written so that a kill at any moment leaves no half-truth. A solution is ``arrays.npz`` and
``solution.json``; the JSON is written last and carries the checksum of the arrays. A study is
``study.json`` and one directory for each finished level.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.scaling import Scaling
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.files.atomic import make_directory, write_atomic, write_together
from dnlcontrol.files.locks import held
from dnlcontrol.minimise.preconditioner import Preconditioner
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.records import FORMAT, json_bytes, read_json
from dnlcontrol.results.solution import Solution

SCALARS = (
    "name",
    "backend",
    "value",
    "stationarity",
    "feasibility",
    "complementarity",
    "status",
    "message",
    "nit",
    "nfev",
    "njev",
    "nhev",
    "seconds",
    "peak_memory_mb",
    "tolerance",
    "formulation",
)

# files written before these were kept have none
ADDED = ("options", "environment", "multiplier_nodes", "work", "scales")
LEARNT = "hessian.npz"
LOWEST = "lowest:"  # before a control's name in it


def save_solution(
    solution: Solution, directory: Any, source: Mapping[str, Any] | None = None
) -> None:
    """Write one solution; an older one in the same directory is replaced."""
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
        "format": FORMAT,
        "kind": "solution",
        **{k: getattr(solution, k) for k in SCALARS},
        "grid": {"depth": grid.depth, "horizon": grid.horizon, "rule": grid.rule},
        "controls": {
            k: {"on": c.layout.on, "at_nodes": bool(c.layout.at_nodes)}
            for k, c in solution.controls.items()
        },
        "multipliers": sorted(solution.multipliers),
        "log": [list(line) for line in solution.log],
        "versions": dict(solution.versions),
        "options": dict(solution.options),
        "work": dict(solution.work),
        "scales": dict(solution.scales),
        "environment": dict(solution.environment),
        "multiplier_nodes": dict(solution.multiplier_nodes),
        "source": dict(source or solution.source),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder = solution_directory(directory)
    with held(folder):
        write_together({folder / "arrays.npz": data, folder / "solution.json": json_bytes(record)})


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
            grid=grid,
            controls=controls,
            states=arrays["states"],
            costates=arrays["costates"],
            terminal_gradient=arrays["terminal_gradient"],
            log=tuple(tuple(line) for line in record["log"]),
            multipliers={k: arrays[f"multiplier:{k}"] for k in record["multipliers"]},
            **{k: record.get(k, {}) for k in ADDED},
            versions=record["versions"],
            source=record["source"],
            **{k: _number(record[k]) for k in SCALARS},
        )
    except (KeyError, TypeError, AttributeError) as error:
        seen = f"{folder}, whose solution.json does not fit: {type(error).__name__} ({error})"
        checks.reject("run", seen, "a run directory written by this library")


def save_learnt(
    preconditioner: Preconditioner | None,
    lowest: Samples | None,
    directory: str | os.PathLike[str],
) -> None:
    """Keep what the minimiser learnt of the Hessian, and the direction of its lowest curvature.

    A killed study then goes on as if it had not been.
    """
    arrays = {} if preconditioner is None else dict(preconditioner.arrays())
    if lowest is not None:
        arrays.update({f"{LOWEST}{name}": values for name, values in lowest.values.items()})
    if arrays:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_atomic(make_directory(directory) / LEARNT, buffer.getvalue())


def load_learnt(
    directory: str | os.PathLike[str], problem: ControlProblem, solution: Solution
) -> tuple[Preconditioner | None, Samples | None]:
    """What :func:`save_learnt` kept beside this solution of the problem; None for nothing."""
    path = Path(directory) / LEARNT
    if not path.is_file():
        return None, None
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    solved = Scaling.restored(solution.scales).applied(problem)
    space = discretise(solved, solution.depth, solution.rule).space
    lowest = None
    if all(f"{LOWEST}{b.name}" in arrays for b in space):
        values = {b.name: arrays[f"{LOWEST}{b.name}"] for b in space}
        lowest = Samples({b.name: b.layout for b in space}, values)
    if "shifts" not in arrays:  # none, or in the form of an earlier version: learn it again
        return None, lowest
    return Preconditioner.restored(space, arrays), lowest


def solution_directory(directory: Any) -> Path:
    """A directory for one solution: one that holds a study would load as that study."""
    folder = make_directory(directory)
    if (folder / "study.json").exists() or (folder / "problem.json").exists():
        checks.reject(
            "directory",
            f"{folder}, which holds a study",
            "a new directory, or that of an older solution",
        )
    return folder


def _number(value: Any) -> Any:
    return math.nan if value is None else value
