"""Where a solve starts: a flat control vector, the levels it was prolonged from, and words for the
record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.extension import prolong
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.problem.controls import SmoothRandom
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.solution import Solution


def starting_point(discrete: DiscreteProblem, start: Any) -> tuple[np.ndarray, Solution | None]:
    """A flat control vector, and the solution it came from if there is one."""
    space = discrete.space
    if start is None:
        return space.initial(), None
    if isinstance(start, np.ndarray):
        if start.shape != (space.size,):
            checks.reject(
                "start", start, f"a flat vector of {space.size} entries, a Solution or a mapping"
            )
        return np.clip(checks.numbers("start", start), *space.bounds), None
    if isinstance(start, (list, tuple)) and start and all(isinstance(s, Solution) for s in start):
        check_ladder(start)
        for solution in start[:-1]:
            starting_point(discrete, solution)
        start = start[-1]
    if isinstance(start, Solution):
        if start.grid.horizon != discrete.grid.horizon:
            seen = f"a solution on [0, {start.grid.horizon:g}]"
            checks.reject(
                "start", seen, f"a solution of the same problem, on [0, {discrete.grid.horizon:g}]"
            )
        parts = {}
        for block in space:
            old = start.controls.get(block.name)
            if (
                old is None
                or old.values.shape[1:] != block.control.shape
                or old.layout.on != block.layout.on
            ):
                checks.reject(
                    "start",
                    f"a solution without a control {block.name!r} of shape {block.control.shape} "
                    "on "
                    f"{block.layout.on!r}",
                    "a solution of the same problem",
                )
            parts[block.name] = prolong(old.layout, old.values, block.layout)
        return np.clip(space.assemble(parts), *space.bounds), start
    if isinstance(start, Mapping):
        return space.initial(start), None
    checks.reject_type(
        "start",
        start,
        "None, a Solution or several, a mapping name -> initial guess, or a flat vector",
    )


def check_ladder(solutions: Sequence[Solution]) -> None:
    depths = [s.depth for s in solutions]
    if any(b <= a for a, b in pairwise(depths)):
        checks.reject("start", f"solutions of depths {depths}", "solutions by increasing depth")


def coarser(discrete: DiscreteProblem, start: Solution | Sequence[Solution]) -> list[Samples]:
    """The samples of the given solutions; the last alone unless it is coarser than the problem."""
    levels = [start] if isinstance(start, Solution) else list(start)
    if levels[-1].depth >= discrete.depth:
        levels = levels[-1:]
    return [
        Samples(
            {k: c.layout for k, c in s.controls.items()},
            {k: c.values for k, c in s.controls.items()},
        )
        for s in levels
    ]


def quadratic_rate_of(origin: Solution | None) -> float:
    """The smallest ‖r_{k+1}‖ / ‖r_k‖² of the log: a bound of what one Newton step leaves, near the
    same minimiser.
    """
    if origin is None or origin.backend != "adjoint":
        return float("inf")
    pairs = [(a[2], b[2]) for a, b in pairwise(origin.log) if 0 < a[2] <= 1e-2]
    return min((b / a**2 for a, b in pairs), default=float("inf"))


def in_words(start: Any) -> str:
    """Where a solve started, for its record."""
    if start is None:
        return "initial guesses"
    if isinstance(start, Solution):
        return f"a solution of depth {start.depth}, {start.backend}, value {start.value!r}"
    if isinstance(start, Sequence):
        return "; ".join(in_words(s) for s in start)
    return (
        "a vector" if isinstance(start, np.ndarray) else "guesses for " + ", ".join(sorted(start))
    )


def seeds(problem: ControlProblem, start: Any) -> dict[str, int]:
    """The seeds of random initial guesses by control."""
    if start is not None and not isinstance(start, Mapping):
        return {}
    guesses = {name: control.initial for name, control in problem.controls.items()} | dict(
        start or {}
    )
    return {name: guess.seed for name, guess in guesses.items() if isinstance(guess, SmoothRandom)}
