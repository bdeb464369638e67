"""Where a solve starts.

A flat control vector, the levels it was prolonged from, and words for the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.extension import prolong
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.problem.controls import SmoothRandom
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.solution import Solution
from dnlcontrol.solving.learnt import NOTHING, Learnt
from dnlcontrol.solving.prolonged_multipliers import prolonged_multipliers

Guess = float | np.ndarray | Callable[..., Any] | SmoothRandom
StartLike = None | Solution | Sequence[Solution] | Mapping[str, Guess] | np.ndarray


def starting_point(
    discrete: DiscreteProblem,
    start: StartLike,
    warm: str = "controls",
    learnt: Learnt = NOTHING,
) -> StartingPoint:
    """Where a solve of the discrete problem starts.

    ``start``: what :func:`dnlcontrol.solve` accepts. ``warm="duals"`` carries the multipliers of a
    solution, too; ``learnt`` is what finding it told of the Hessian.

    Raises
    ------
    InputError : a start of another problem, of the wrong size, or nothing to start from.
    """
    if isinstance(start, (list, tuple)) and start and all(isinstance(s, Solution) for s in start):
        check_ladder(start)
        for solution in start[:-1]:
            _prolonged(discrete, solution)
    origin = origin_of(start)
    if origin is None:
        return StartingPoint(_guessed(discrete, start))
    levels = start if isinstance(start, (list, tuple)) else [origin]
    return StartingPoint(
        _prolonged(discrete, origin),
        tuple(coarser(discrete, levels)),
        prolonged_multipliers(origin, discrete) if warm == "duals" else None,
        quadratic_rate_of(origin),
        learnt.preconditioner,
    )


def origin_of(start: object) -> Solution | None:
    """The solution that a start is prolonged from: the last one of several."""
    if isinstance(start, (list, tuple)) and start and all(isinstance(s, Solution) for s in start):
        start = start[-1]
    return start if isinstance(start, Solution) else None


def _guessed(discrete: DiscreteProblem, start: object) -> Flat:
    """The controls' own guesses, those of a mapping, or a flat vector; within the bounds."""
    space = discrete.space
    allowed = "None, a Solution or several, a mapping name -> initial guess, or a flat vector"
    if start is None:
        return space.initial()
    checks.refuse_hidden("start", start, allowed)
    if isinstance(start, np.ndarray):
        if start.shape != (space.size,):
            what = f"a flat vector of {space.size} entries, a Solution or a mapping"
            checks.reject("start", start, what)
        return np.clip(checks.numbers("start", start), *space.bounds)
    if isinstance(start, Mapping):
        return space.initial(start)
    checks.reject_type("start", start, allowed)


def _prolonged(discrete: DiscreteProblem, solution: Solution) -> Flat:
    """The controls of a solution of any depth on this one's samples, within the bounds."""
    space, horizon = discrete.space, discrete.grid.horizon
    if solution.grid.horizon != horizon:
        seen = f"a solution on [0, {solution.grid.horizon:g}]"
        checks.reject("start", seen, f"a solution of the same problem, on [0, {horizon:g}]")
    parts = {}
    for block in space:
        shape, on = block.control.shape, block.layout.on
        old = solution.controls.get(block.name)
        if old is None or old.values.shape[1:] != shape or old.layout.on != on:
            seen = f"a solution without a control {block.name!r} of shape {shape} on {on!r}"
            checks.reject("start", seen, "a solution of the same problem")
        parts[block.name] = prolong(old.layout, old.values, block.layout)
    return np.clip(space.assemble(parts), *space.bounds)


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


def quadratic_rate_of(origin: Solution) -> float:
    """The smallest ‖r_{k+1}‖ / ‖r_k‖² of the log.

    A bound of what one Newton step leaves, near the same minimiser.
    """
    if origin.backend != "adjoint":
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
