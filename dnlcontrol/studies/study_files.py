"""A study on disk: one directory a level, kept as soon as it is finished.

Each says what it belongs to: the problem part by part, options and start.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import LIMIT
from dnlcontrol.backends.watch import TIME_LIMIT
from dnlcontrol.certificates.proof import unproved
from dnlcontrol.discretisation.fingerprint import Parts, changed, fingerprint, in_words
from dnlcontrol.files.atomic import make_directory
from dnlcontrol.files.checkpoint import NAME
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.records import read_json, write_json
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import FILES, SCALARS, load_solution, save_solution
from dnlcontrol.solving.belonging import REMEDY, Belonging

OF_A_STUDY = ("study.json", "summary.json", "table.csv")  # at the root, beside problem.json
NO_FINGERPRINT = "what the levels belong to (they were saved without it)"


@dataclass(frozen=True)
class Owner:
    """What the levels of a study belong to.

    ``parts`` of the problem; ``options`` of each backend by its name; ``start(depth)``: the parts
    of the start of a ladder whose first level has that depth.
    """

    name: str
    rule: str
    parts: Parts
    options: Mapping[str, Parts]
    start: Callable[[int], Parts]

    def record(self, backend: str, first: int) -> dict[str, object]:
        """Kept with the levels of one backend in a ladder that begins at depth ``first``."""
        return {**self._belonging(backend, first).record(), "first": first}

    def changes(self, record: Mapping[str, object], backend: str) -> list[str]:
        """What is not as a level's record says, in words."""
        told = record.get("belongs")
        theirs = told if isinstance(told, Mapping) else {}
        first = theirs.get("first")
        if type(first) is not int or first < 1:
            return changed(_mapping(theirs.get("problem")), self.parts) or [NO_FINGERPRINT]
        if backend not in self.options:  # not of this run, but of the same problem
            return changed(_mapping(theirs.get("problem")), self.parts)
        try:
            return self._belonging(backend, first).changes(theirs)
        except checks.InputError:  # a start that fits no ladder which begins there
            return ["start"]

    def _belonging(self, backend: str, first: int) -> Belonging:
        return Belonging(self.parts, self.options[backend], self.start(first))


def prepare(
    directory: str | os.PathLike[str], owner: Owner, ladder: list[int], restart: bool
) -> Path:
    """The directory of a new study, or of the same study begun before.

    Raises InputError where it holds something else, or levels of another problem or of other
    options: what changed is named. With ``restart`` these are removed.
    """
    folder = make_directory(directory)
    if (folder / "solution.json").exists():
        checks.reject(
            "directory",
            f"{folder}, which holds a solution",
            "a new directory, or that of the same study",
        )
    if (folder / "problem.json").exists():
        read_json(folder / "problem.json", "fingerprint")
    if restart:
        clear(folder)
    changes: dict[str, list[int]] = {}
    for depth, backend, kept in levels_in(folder):
        record = _record(kept)
        for name in [] if record is None else owner.changes(record, backend):
            changes.setdefault(name, []).append(depth)
    if changes:
        _refuse(folder, changes, owner)
    head = {"format": 1, "kind": "fingerprint", "name": owner.name, "rule": owner.rule}
    write_json(folder / "problem.json", {**head, "problem": owner.parts, "depths": ladder})
    return folder


def _refuse(folder: Path, changes: Mapping[str, list[int]], owner: Owner) -> NoReturn:
    """Raise the error that names what changed, and since which levels."""
    depths = sorted({depth for found in changes.values() for depth in found})
    many = len(depths) > 1
    levels = f"level{'s' * many} {', '.join(map(str, depths))} {'were' if many else 'was'} solved"
    what = "a study of another problem" if changes.keys() & owner.parts.keys() else "another study"
    seen = f"{folder}, which holds {what}: {in_words(changes)} changed since {levels}"
    raise checks.InputError(f"directory: got {seen}; allowed: a new directory, or {REMEDY}")


# -- levels --------------------------------------------------------------------------------------
def place(folder: Path, depth: int, backend: str) -> Path:
    return folder / f"L{depth:05d}" / backend


def levels_in(folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Depth, backend and directory of every level that there is, whole or not."""
    for kept in sorted(folder.glob("L*/*")):
        depth = kept.parent.name[1:]
        if depth.isdecimal() and kept.name in ("adjoint", "exact") and kept.is_dir():
            yield int(depth), kept.name, kept


def finished(
    kept: Path, problem: ControlProblem, depth: int, rule: str
) -> tuple[Solution | None, str]:
    """A level that was completed before and is proved again; else None, and why not, in words.

    The words are "" where there is none.
    """
    if not (kept / "solution.json").is_file():
        return None, ""
    try:
        solution = load_solution(kept)
    except checks.InputError as error:  # killed between its two files, or damaged
        return None, f"what is kept cannot be read ({error})"
    why = unproved(solution, problem, depth, rule)
    if why:
        return None, f"what is kept in {kept} is not proved again: {why}"
    if solution.status == LIMIT and TIME_LIMIT in solution.message:
        return None, "stopped by max_seconds before; goes on"
    return replace(solution, problem=problem), ""


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


def save_levels(
    folder: Path, solutions: Iterable[tuple[int, Solution]], source: Mapping[str, Any]
) -> None:
    """Write the solutions of levels, given with their depths, in the place of whatever is there.

    A level that holds the same solution stays as it is, as do others of the same problem; those of
    another problem are removed.
    """
    wanted = {place(folder, depth, s.backend): s for depth, s in solutions}
    held = {kept for kept, solution in wanted.items() if _holds(kept, solution)}
    parts = [
        fingerprint(s.problem, s.rule) if s.problem else problem_parts(kept)
        for kept, s in wanted.items()
        if s.problem or kept in held
    ]
    others = {
        kept
        for _, _, kept in levels_in(folder)
        if kept not in wanted and parts and not changed(problem_parts(kept), parts[0])
    }
    if {kept for _, _, kept in levels_in(folder)} - held - others:
        clear(folder, held | others)
    for kept, solution in wanted.items():
        if kept not in held:
            save_solution(solution, kept, source)


def clear(folder: Path, spared: Iterable[Path] = ()) -> None:
    """Remove what studies have written there, but for some levels; nothing else.

    The study's own record goes first: a kill leaves levels, each with what it belongs to.
    """
    for name in OF_A_STUDY:
        (folder / name).unlink(missing_ok=True)
    for kept in {k for _, _, k in levels_in(folder)} - set(spared):
        for name in (*FILES, NAME):  # the mark of a finished level before what it marks
            (kept / name).unlink(missing_ok=True)
        for empty in (kept, kept.parent):
            if not any(empty.iterdir()):
                empty.rmdir()


def _holds(kept: Path, solution: Solution) -> bool:
    """Whether a level's directory holds this solution."""
    try:
        there = load_solution(kept)
    except checks.InputError:
        return False
    same = all(getattr(there, k) == getattr(solution, k) for k in SCALARS)
    return same and all(
        np.array_equal(there.controls[k].values, c.values)
        for k, c in solution.controls.items()
        if k in there.controls
    )


def _record(kept: Path) -> Mapping[str, Any] | None:
    """The record of a level; None for one that is not finished, or cannot be read."""
    try:
        return read_json(kept / "solution.json", "solution")
    except checks.InputError:
        return None


def problem_parts(kept: Path) -> Mapping[str, object]:
    """The parts of the problem that the solution kept there belongs to; none where it says none."""
    return _mapping(_mapping((_record(kept) or {}).get("belongs")).get("problem"))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
