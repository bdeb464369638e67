"""load: a Solution or a Study from a run directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.fingerprint import changed, fingerprint, in_words
from dnlcontrol.files.fields import refuse
from dnlcontrol.problem.from_file import rebuilt
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.reference import Reference
from dnlcontrol.results.records import read_json
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import load_solution
from dnlcontrol.studies.rates import corrected
from dnlcontrol.studies.result import Level, Study
from dnlcontrol.studies.study_files import place, problem_parts

NAME_IT = "without its problem until it is named: dnl.load(run, problem=FILE), --problem FILE"

SAME = 1e-9  # figures of two versions of NumPy


def load(directory: str | os.PathLike[str], problem: str | os.PathLike[str] | None = None) -> Any:
    """The Solution or Study saved in a run directory, with its problem built again.

    ``problem``: the problem file to run, a path or a name in the library. None: the one that the
    run was solved from, where it lies outside the run and its text has not changed. A UserWarning
    says where that is not so, and what changed; the solutions then have no problem, unless the file
    was named.

    Raises
    ------
    InputError where the directory holds neither, or a file of another program or format; where a
    problem file that was named fails.
    """
    found, line = opened(directory, problem)
    if line:
        warnings.warn(line, UserWarning, stacklevel=2)
    return found


def opened(
    directory: str | os.PathLike[str], problem: str | os.PathLike[str] | None = None
) -> tuple[Solution | Study, str]:
    """What :func:`load` gives, and what it warns of, '' for nothing."""
    found = read_run(directory)
    folder = Path(directory)
    try:
        made, doubt = rebuilt(found.source, folder, problem)
    except checks.InputError as error:
        if problem is not None:
            raise
        made, doubt = None, f"its problem cannot be built again: {error}"
    if made is not None:
        finest, kept = _finest(found, folder)
        parts = problem_parts(kept)
        names = changed(parts, fingerprint(made, finest.rule)) if parts else []
        if names:
            doubt = f"{doubt or 'its problem file makes another problem'} ({in_words(names)})"
            made = None if problem is None else made
    if made is None:
        return found, f"run: {folder}: {doubt}; {NAME_IT}" if doubt else ""
    return _with_problem(found, made), f"run: {folder}: {doubt}" if doubt else ""


def _finest(found: Solution | Study, folder: Path) -> tuple[Solution, Path]:
    """The solution, of a study that of its finest level, and where it is kept."""
    if isinstance(found, Solution):
        return found, folder
    level = found.levels[-1]
    return level.solution, place(folder, level.depth, level.solution.backend)


def _with_problem(found: Solution | Study, problem: ControlProblem) -> Solution | Study:
    if isinstance(found, Solution):
        return replace(found, problem=problem)

    def of(solution: Solution | None) -> Solution | None:
        return None if solution is None else replace(solution, problem=problem)

    levels = (replace(v, adjoint=of(v.adjoint), exact=of(v.exact)) for v in found.levels)
    return replace(found, levels=tuple(levels))


def read_run(directory: str | os.PathLike[str]) -> Solution | Study:
    """The Solution or Study of a run directory as it is kept, without its problem."""
    folder = checks.path("run", directory, "the path of a run directory")
    try:
        if (folder / "study.json").is_file():
            return load_study(folder)
        if (folder / "solution.json").is_file():
            return load_solution(folder)
    except OSError as error:
        refuse(
            folder, f"which cannot be read ({error})", "a run directory written by save or --out"
        )
    what = (
        "a directory without solution.json or study.json"
        if folder.is_dir()
        else "no such directory"
    )
    checks.reject("run", f"{folder} ({what})", "a run directory written by save or --out")


def load_study(directory: str | os.PathLike[str], reference: Reference | None = None) -> Study:
    """Read a finished study.

    Raises InputError where a level is missing, damaged or of another study.
    """
    folder = Path(directory)
    record = read_json(folder / "study.json", "study")
    rows = {row["depth"]: row for row in record["summary"]["levels"]}
    primary, orders = record.get("backend", "adjoint"), record.get("orders")
    levels: list[Level] = []
    for depth in record["depths"]:
        beside = primary == "exact" or place(folder, depth, "exact").is_dir()
        exact = _kept(folder, depth, "exact", record["name"]) if beside else None
        found = None if primary == "exact" else _kept(folder, depth, "adjoint", record["name"])
        level = Level(found, exact, rows.get(depth, {}).get("constant"))
        _same_grid(folder, [*levels[:1], level])
        _same_row(folder, rows.get(depth), level)
        levels.append(level)
    if [*rows] != record["depths"]:
        refuse(folder / "study.json", f"of depths {record['depths']}", f"its rows, {[*rows]}")
    return Study(
        record["name"],
        tuple(levels),
        reference,
        record.get("source", {}),
        orders_given=None if orders is None else tuple(orders),
        choice=record.get("choice", ""),
    )


def _kept(folder: Path, depth: int, backend: str, name: str) -> Solution:
    """The solution of a level, which is the one that its place says."""
    kept = place(folder, depth, backend)
    solution = load_solution(kept)
    seen = (solution.depth, solution.backend, solution.name)
    if seen != (depth, backend, name):
        said = f"which holds depth {seen[0]} of {seen[2]!r} by the {seen[1]} backend"
        refuse(kept / "solution.json", said, f"depth {depth} of {name!r} by the {backend} backend")
    return solution


def _same_grid(folder: Path, levels: list[Level]) -> None:
    """That all levels are of one rule and horizon."""
    grids = {(s.rule, s.grid.horizon) for level in levels for s in level.solutions}
    if len(grids) > 1:
        seen = f"whose level {levels[-1].depth} is of another rule or horizon than the first"
        refuse(folder / "study.json", seen, "levels of one problem and one rule")


def _same_row(folder: Path, row: Mapping[str, Any] | None, level: Level) -> None:
    """That a row of the table is of its level."""
    if row is None:
        return
    constant, exact = level.stored_constant, level.exact
    here = {"value": level.solution.value}
    here["corrected"] = np.nan if constant is None else corrected(level.solution, constant)
    here["value_exact"] = np.nan if exact is None else exact.value
    for key, own in here.items():
        told = np.nan if row.get(key) is None else row[key]
        if key in row and not np.isclose(told, own, rtol=SAME, atol=SAME, equal_nan=True):
            seen = f"whose {key} at depth {level.depth} is {told!r}, not {own!r}"
            refuse(folder / "study.json", seen, "the table of its levels")
