"""load: a Solution or a Study from a run directory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnlcontrol import checks
from dnlcontrol.discretisation.fingerprint import changed, fingerprint, in_words
from dnlcontrol.problem.from_file import rebuilt
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.reference import Reference, increasing_exponents
from dnlcontrol.results.records import read_json
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import load_solution
from dnlcontrol.studies.result import Level, Study
from dnlcontrol.studies.study import check_depths
from dnlcontrol.studies.study_files import place, problem_parts

NAME_IT = "without its problem until it is named: dnl.load(run, problem=FILE), --problem FILE"


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
    if (folder / "study.json").is_file():
        return load_study(folder)
    if (folder / "solution.json").is_file():
        return load_solution(folder)
    what = (
        "a directory without solution.json or study.json"
        if folder.is_dir()
        else "no such directory"
    )
    checks.reject("run", f"{folder} ({what})", "a run directory written by save or --out")


def _stored_constants(record: Mapping[str, object]) -> dict[int, float]:
    """depth -> the error constant in the table of a finished study."""
    summary = record.get("summary")
    rows = summary.get("levels") if isinstance(summary, Mapping) else None
    found = [(r.get("depth"), r.get("constant")) for r in rows or () if isinstance(r, Mapping)]
    return {
        depth: float(c)
        for depth, c in found
        if isinstance(depth, int) and isinstance(c, (int, float))
    }


def load_study(directory: str | os.PathLike[str], reference: Reference | None = None) -> Study:
    """Read a finished study."""
    folder = Path(directory)
    record = read_json(folder / "study.json", "study")
    constants = _stored_constants(record)
    primary, orders = record.get("backend", "adjoint"), record.get("orders")
    levels = []
    for depth in check_depths(record.get("depths")):
        exact = place(folder, depth, "exact")
        beside = load_solution(exact) if exact.is_dir() or primary == "exact" else None
        found = None if primary == "exact" else load_solution(place(folder, depth, "adjoint"))
        levels.append(Level(found, beside, constants.get(depth)))
    return Study(
        str(record.get("name")),
        tuple(levels),
        reference,
        record.get("source", {}),
        orders_given=None if orders is None else increasing_exponents("orders", orders),
        choice=str(record.get("choice", "")),
    )
