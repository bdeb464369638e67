"""study: the same problem over a ladder of depths, both backends compared, rates and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.reference import Reference
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import save_learnt, save_solution
from dnlcontrol.solving.solve import solve
from dnlcontrol.studies.result import Level, Study
from dnlcontrol.studies.study_files import finished, place, prepare

# of the adjoint solve
OPTIONS = ("max_iterations", "method", "batches", "dtype", "chunk", "warm", "every")


def study(
    problem: ControlProblem,
    depths: Sequence[int],
    exact_to: int = 0,
    directory: Any = None,
    reference: Reference | None = None,
    start: Any = None,
    rule: str = "left",
    tolerance: float = 1e-8,
    device: str = "cpu",
    source: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
    follow: Callable[[Any], None] | None = None,
    **options: Any,
) -> Study:
    """Solve at every depth, each level started from the ones before: adjoint levels extrapolated
    where that foretold the last level, and preconditioned by a coarse level; exact levels by
    prolongation.

    Parameters
    ----------
    depths : increasing depths, e.g. [4, 8, 16, 32].
    exact_to : the exact backend runs too where depth <= exact_to; it follows its own chain of
        prolongations, so neither backend is started from the other's solution.
    directory : finished levels are kept there, and the checkpoint of an adjoint level, at most
        ``every`` so many seconds; a study that was killed continues from them.
    reference : the closed form that levels are measured against, else the finest level.
    start : the first level's start, as in :func:`solve`; further options go to the adjoint solve of
        every level.
    progress, follow : called with a line for each level, and with each iterate of the adjoint
        levels.
    """
    ladder = check_depths(depths)
    exact_to = checks.whole("exact_to", exact_to, 0)
    if not isinstance(problem, ControlProblem):
        checks.reject_type("problem", problem, "a ControlProblem")
    if not isinstance(reference, (Reference, type(None))):
        checks.reject_type("reference", reference, "a Reference or None")
    for name, call in (("progress", progress), ("follow", follow)):
        if call is not None:
            checks.function(name, call)
    for name in options:
        checks.choice("study option", name, OPTIONS)
    if not problem.controls:
        checks.reject(
            "problem", f"{problem.name!r} without controls", "a problem with controls; use simulate"
        )
    folder = None if directory is None else prepare(directory, problem, ladder, rule)
    levels: list[Level] = []
    chains: dict[str, Any] = {"adjoint": start, "exact": start}
    for depth in ladder:
        found: dict[str, Solution] = {}
        for backend in ("adjoint", "exact"):
            if backend == "exact" and depth > exact_to:
                continue
            kept_in = None if folder is None else place(folder, depth, backend)
            solution = None if kept_in is None else finished(kept_in, problem, tolerance)
            if solution is None:
                if progress:
                    progress(f"L={depth} {backend} ...")
                more: dict[str, Any] = {}
                if backend == "adjoint":
                    more = {**options, "device": device, "progress": follow, "checkpoint": kept_in}
                begin = (
                    [k.adjoint for k in levels]
                    if levels and backend == "adjoint"
                    else chains[backend]
                )
                solution = solve(problem, depth, backend, rule, begin, tolerance=tolerance, **more)
                if progress and "branch lost" in solution.message:
                    progress(f"L={depth} {backend}: {solution.message}")
                if kept_in is not None:
                    if depth < ladder[-1]:
                        # before the solution, which marks the level as finished
                        save_learnt(solution, kept_in)
                    save_solution(solution, kept_in, source)
            elif progress:
                progress(f"L={depth} {backend}: kept from {kept_in}")
            chains[backend] = found[backend] = solution
        if levels:  # only the last level needs what was learnt of the Hessian
            levels[-1] = replace(
                levels[-1], adjoint=replace(levels[-1].adjoint, preconditioner=None)
            )
        levels.append(Level(found["adjoint"], found.get("exact")))
    result = Study(problem.name, tuple(levels), reference, dict(source or {}))
    if folder is not None:
        result.save(folder)
    return result


def check_depths(depths: Any) -> list[int]:
    """A strictly increasing list of depths."""
    if isinstance(depths, (int, np.integer)) or not hasattr(depths, "__iter__"):
        checks.reject_type("depths", depths, "a list of increasing integers >= 1")
    ladder = [checks.whole("depths", d) for d in depths]
    if not ladder or any(b <= a for a, b in pairwise(ladder)):
        checks.reject("depths", ladder, "a non-empty, strictly increasing list")
    return ladder
