"""How an exact solve ended, in a sentence that agrees with what its point measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.exact.budget import Budget
from dnlcontrol.backends.exact.clean_up import worst
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.solver import CondensedOutcome
from dnlcontrol.backends.exact.ipopt import WORDS
from dnlcontrol.backends.exact.lifted.interior_point import LiftedPoint
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, STALLED
from dnlcontrol.discretisation.space.flat import Flat

# lengths 1, 2, 4, ..., times the way from the start, along which an unbounded cost goes on falling
DOUBLINGS = 20
# the same, relative to 1 + |side|: rows that grow by rounding alone
ROW_ROUNDING = 1e-9
FALL_ROUNDING = 1e-9  # of a fall: the first two of a linear cost are equal
LARGEST_STATE = 1e50  # beyond, the square of a cost of squares, and of its gradient, overflow

UNBOUNDED = (
    "the cost falls without bound along a direction; add a regulariser, or bounds on the controls"
)
NOT_REFINED = (
    "IPOPT converged to its own measures, but no Newton steps led from there to the tolerance: "
    "weakly determined controls or multipliers; add a regulariser, start closer, or take a larger "
    "depth"
)
LOST = {
    "left": "the states leave float64: the step is too long for these dynamics (stiff, or growing "
    "fast); take a larger depth or rule='trapezoid'",
    "trapezoid": "the states are not finite: a stage has no root, or they grow beyond float64; "
    "bound the controls, start closer, or take a larger depth",
}
REFINED = "IPOPT stopped short, Newton steps on the active constraints reached the tolerance"


@dataclass(frozen=True)
class Ending:
    """Status and message of a solve."""

    status: int
    message: str


def verdict(
    evaluator: ReducedEvaluator,
    start: Flat,
    point: LiftedPoint | CondensedOutcome,
    tolerance: float,
    budget: Budget,
) -> Ending:
    """What to say of the point that was found from ``start``, (size,)."""
    if worst(evaluator, point.w, point.multipliers) <= tolerance:
        plain = not (point.at_limit or point.infeasible)
        return Ending(STALLED, point.message if plain else REFINED)
    if not point.infeasible and falls_without_bound(evaluator, start, point.w):
        return Ending(STALLED, UNBOUNDED)
    if not np.all(np.abs(evaluator.states(point.w)) <= LARGEST_STATE):
        rule = "trapezoid" if evaluator.discrete.grid.implicit else "left"
        return Ending(STALLED, LOST[rule])
    if point.infeasible:
        return Ending(INFEASIBLE, point.message)
    if point.at_limit or budget.over:
        return Ending(LIMIT, budget.words)
    ipopt_converged = point.message.startswith(WORDS["Solve_Succeeded"])
    return Ending(STALLED, NOT_REFINED if ipopt_converged else point.message)


def falls_without_bound(evaluator: ReducedEvaluator, start: Flat, w: Flat) -> bool:
    """Whether J goes on falling from ``start`` through w, at least as fast, within all constraints.

    At start + 2^k (w - start), k = 0..DOUBLINGS, every fall is at least the one before, up to
    rounding: a cost that is bounded below along the ray has falls that tend to 0. Both arguments
    are (size,).
    """
    space, rows = evaluator.space, evaluator.rows
    d = w - start
    if not (np.all(np.isfinite(d)) and np.any(d)):
        return False
    last = evaluator.value(start)
    falls = 0.0
    violation = float(np.max(rows.violation(evaluator.constraint_values(w)), initial=0.0))
    for k in range(DOUBLINGS + 1):
        trial = start + 2.0**k * d
        if np.any(trial != np.clip(trial, *space.bounds)):
            return False
        value = evaluator.value(trial)
        outside = np.max(rows.violation(evaluator.constraint_values(trial)), initial=0.0)
        if not np.isfinite(value) or outside > violation + ROW_ROUNDING * (1.0 + 2.0**k):
            return False
        if not last - value >= falls * (1.0 - FALL_ROUNDING) or value >= last:
            return False
        last, falls = value, last - value
    return True
