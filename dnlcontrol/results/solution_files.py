"""Run directories: JSON and plain arrays, versioned.

They are written so that a kill at any moment leaves no half-truth. A solution is ``arrays.npz`` and
``solution.json``; the JSON is written last and carries the checksum of the arrays. A study is
``study.json`` and one directory for each finished level.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.discretisation.fingerprint import fingerprint
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.scaling import Scaling
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.files.archive import Archive, BrokenArchive
from dnlcontrol.files.atomic import make_directory, write_atomic, write_together
from dnlcontrol.files.fields import Misfit, refuse
from dnlcontrol.files.locks import held
from dnlcontrol.minimise.preconditioner import Preconditioner
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.records import json_bytes, read_json
from dnlcontrol.results.schema import (
    FORMAT,
    LOWEST,
    all_finite,
    finite,
    fits_record,
    learnt_names,
)
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
)

# files written before these were kept have none
ADDED = ("options", "environment", "work", "scales")
LEARNT = "hessian.npz"
FILES = ("solution.json", "arrays.npz", LEARNT)  # of one solution
LEARN_AGAIN = "what a study has written; without the file it is learnt again"


def save_solution(
    solution: Solution,
    directory: Any,
    source: Mapping[str, Any] | None = None,
    belongs: Mapping[str, object] | None = None,
) -> None:
    """Write one solution; an older one in the same directory is replaced.

    ``belongs``: what it was solved for; None: the parts of its problem, as far as it has one.
    """
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
        **{k: getattr(solution, k) for k in (*SCALARS, "formulation")},
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
        "arrays": {k: list(np.shape(v)) for k, v in arrays.items()},
        "multiplier_nodes": dict(solution.multiplier_nodes),
        "source": dict(source or solution.source),
        "belongs": _problem_parts(solution) if belongs is None else dict(belongs),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder = solution_directory(directory)
    with held(folder):
        write_together({folder / "arrays.npz": data, folder / "solution.json": json_bytes(record)})


def load_solution(directory: str | os.PathLike[str]) -> Solution:
    """Read what :func:`save_solution` wrote.

    Raises InputError, in one line with the name of the file, for anything else.
    """
    folder = Path(directory)
    record = read_json(folder / "solution.json", "solution")
    arrays = _arrays(folder / "arrays.npz", record)
    grid = Grid(**record["grid"])
    return Solution(
        grid=grid,
        controls={
            k: Extension(k, Layout(grid, c["on"], c["at_nodes"]), arrays[f"control:{k}"])
            for k, c in record["controls"].items()
        },
        states=arrays["states"],
        costates=arrays["costates"],
        terminal_gradient=arrays["terminal_gradient"],
        log=tuple(record["log"]),
        multipliers={k: arrays[f"multiplier:{k}"] for k in record["multipliers"]},
        multiplier_nodes={k: list(v) for k, v in record.get("multiplier_nodes", {}).items()},
        formulation=record.get("formulation", ""),
        **{k: record.get(k, {}) for k in ADDED},
        **{k: record[k] for k in (*SCALARS, "versions", "source")},
    )


def _arrays(path: Path, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a record, read after their shapes were seen to fit it."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record["sha256"]:
                raise FileNotFoundError
            archive = Archive(file)
            fits_record(record, archive.shapes())
            arrays = {name: archive.array(name) for name in archive.shapes()}
        all_finite(record, arrays)
    except FileNotFoundError:
        seen = f"whose {path.name} is missing, truncated or not the one saved"
        refuse(path.parent, seen, "a complete run directory")
    except (BrokenArchive, OSError, MemoryError) as error:
        refuse(path, f"which cannot be read: {error or type(error).__name__}")
    except Misfit as misfit:
        refuse(path, f"{misfit}, at depth {record['grid']['depth']} of solution.json")
    return arrays


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
    """What :func:`save_learnt` kept beside this solution of the problem; None for nothing.

    Raises InputError, in one line with the name of the file, where it is not of these controls.
    """
    path = Path(directory) / LEARNT
    if not path.is_file():
        return None, None
    solved = Scaling.restored(solution.scales).applied(problem)
    space = discretise(solved, solution.depth, solution.rule).space
    try:
        with open(path, "rb") as file:
            archive = Archive(file)
            names = learnt_names(space, archive.shapes())
            arrays = {name: archive.array(name) for name in names}
        finite(arrays)
    except (BrokenArchive, OSError, MemoryError) as error:
        refuse(path, f"which cannot be read: {error or type(error).__name__}", LEARN_AGAIN)
    except Misfit as misfit:
        refuse(path, misfit, LEARN_AGAIN)
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


def _problem_parts(solution: Solution) -> dict[str, object]:
    if solution.problem is None:
        return {}
    return {"problem": fingerprint(solution.problem, solution.rule)}
