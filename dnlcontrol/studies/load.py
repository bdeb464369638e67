"""load: a Solution or a Study from a run directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnlcontrol import checks
from dnlcontrol.problem.reference import Reference, increasing_exponents
from dnlcontrol.results.records import read_json
from dnlcontrol.results.solution_files import load_solution
from dnlcontrol.studies.result import Level, Study
from dnlcontrol.studies.study import check_depths
from dnlcontrol.studies.study_files import place


def load(directory: str | os.PathLike[str]) -> Any:
    """The Solution or Study saved in a run directory.

    Raises
    ------
    InputError where the directory holds neither, or a file of another program or format.
    """
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
