"""A study on disk: one directory a level, kept as soon as it is finished."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.fingerprint import fingerprint, same_problem
from dnlcontrol.files.atomic import make_directory
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.records import read_json, write_json
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import load_solution, save_solution


def prepare(directory: Any, problem: ControlProblem, ladder: list[int], rule: str) -> Path:
    """The directory of a new study, or of the same study begun before."""
    folder = make_directory(directory)
    if (folder / "solution.json").exists():
        checks.reject(
            "directory",
            f"{folder}, which holds a solution",
            "a new directory, or that of the same study",
        )
    mine, path = fingerprint(problem, rule), folder / "problem.json"
    if path.is_file():
        theirs = read_json(path, "fingerprint")
        if not same_problem(theirs, mine):
            checks.reject(
                "directory",
                f"{folder}, which holds a study of another problem ({theirs.get('name')!r})",
                "a new directory, or that of the same problem and parameters",
            )
    else:
        write_json(path, {"format": 1, "kind": "fingerprint", **mine, "depths": ladder})
    return folder


def place(folder: Path, depth: int, backend: str) -> Path:
    return folder / f"L{depth:05d}" / backend


def finished(kept: Path, problem: ControlProblem, tolerance: float) -> Solution | None:
    """The level's solution if it was completed before, at this tolerance or a tighter one."""
    if not (kept / "solution.json").is_file():
        return None
    try:
        solution = load_solution(kept)
    except checks.InputError:
        return None  # killed between its two files: solve it again
    if solution.tolerance > tolerance:
        return None
    return replace(solution, problem=problem)


def table_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows as comma-separated values, as pandas writes them: full precision, NaN empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else repr(float(value))
    return value


def save_level(
    folder: Path, depth: int, solutions: Iterable[Solution], source: Mapping[str, Any]
) -> None:
    """Write the solutions of a level that are not there yet."""
    for solution in solutions:
        kept = place(folder, depth, solution.backend)
        if not (kept / "solution.json").is_file():
            save_solution(solution, kept, source)
