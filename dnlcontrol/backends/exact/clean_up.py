"""From an interior point to the minimiser: held controls onto their bounds, the rest anew.

An interior-point method leaves every control a little inside its bounds; without a clean-up
bang-bang solutions look unconverged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.objective import ReducedObjective
from dnlcontrol.backends.exact.lifted.active_newton import ActiveNewton
from dnlcontrol.backends.exact.lifted.interior_point import InteriorPoint, LiftedPoint
from dnlcontrol.minimise.active_set import newton_on_active
from dnlcontrol.minimise.faces import complementarity, held_entries, stationarity
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.newton import newton

# each is a whole solve by IPOPT
CLEAN_UP_ROUNDS = 3
# Newton steps beside a minimiser, where they converge quadratically
POLISH_ITERATIONS = 50


def settle(
    solver: InteriorPoint, evaluator: ReducedEvaluator, point: LiftedPoint, tolerance: float
) -> LiftedPoint:
    """The minimiser beside an interior point: active-set Newton, or a clean-up where that fails."""
    refined = ActiveNewton(solver).refine(point, tolerance)
    if refined is not None and _exact(evaluator, refined, tolerance):
        return refined
    return polish(solver, evaluator, clean_up(solver, evaluator, point), tolerance)


def _exact(evaluator: ReducedEvaluator, point: LiftedPoint, tolerance: float) -> bool:
    """Whether every measure, states recomputed from the controls, leaves room to the tolerance."""
    at = evaluator.trajectory(point.w, Multipliers(point.multipliers))
    rows = evaluator.rows
    space = evaluator.space
    measures = (
        stationarity(space, point.w, at.gradient),
        complementarity(space, point.w, at.gradient),
        np.max(rows.slack(at.constraints, point.multipliers), initial=0.0),
        np.max(rows.violation(at.constraints), initial=0.0),
    )
    return bool(np.all(np.isfinite(measures)) and max(measures) <= 0.5 * tolerance)


def clean_up(solver: InteriorPoint, evaluator: ReducedEvaluator, point: LiftedPoint) -> LiftedPoint:
    """Hold controls at their bounds and solve for the others, until the held set stands still."""
    space = evaluator.space
    if not space.bounded:
        return point
    lower, upper = space.bounds
    for _ in range(CLEAN_UP_ROUNDS):
        held = held_entries(space, point.w, _gradient(evaluator, point))
        nearer = np.where(point.w - lower < upper - point.w, lower, upper)
        snapped = np.where(held, nearer, point.w)
        if np.array_equal(snapped, point.w):
            break
        again = solver.solve(snapped, point.x, held, point)
        point = replace(
            again,
            iterations=point.iterations + again.iterations,
            evaluations=point.evaluations + again.evaluations,
            log=(*point.log, *again.log),
        )
    return point


def polish(
    solver: InteriorPoint, evaluator: ReducedEvaluator, point: LiftedPoint, tolerance: float
) -> LiftedPoint:
    """Newton steps on the active set, where the interior point's slack still shows.

    A weakly active side keeps a slack of the square root of the barrier parameter. Bounds alone:
    the bound-constrained Newton method; other constraints: steps on the active rows. States and
    costates of polished controls are those of the sweep.
    """
    space, rows = evaluator.space, evaluator.rows
    at = evaluator.trajectory(point.w, Multipliers(point.multipliers))
    norm = stationarity(space, point.w, at.gradient)
    slack = rows.slack(at.constraints, point.multipliers)
    done = norm <= tolerance and complementarity(space, point.w, at.gradient) <= tolerance
    if done and np.max(slack, initial=0.0) <= 1e-12:
        return point
    if rows.size:
        exact = newton_on_active(evaluator, point.w, point.multipliers, 1.0, 0.1 * tolerance)
        if exact is None:
            return point
        w = exact.w
        mu = exact.mu
        reached = exact.stationarity
    else:
        outcome = newton(ReducedObjective(evaluator), point.w, tolerance, POLISH_ITERATIONS)
        w = outcome.w
        mu = point.multipliers
        reached = outcome.stationarity
        if reached >= norm:
            return point
    at = evaluator.trajectory(w, Multipliers(mu))
    costates = at.integral_costates if solver.program.one_step else at.costates
    return replace(
        point,
        w=w,
        x=at.states.reshape(point.x.shape),
        costates=costates.reshape(point.costates.shape),
        multipliers=mu,
        message=f"{point.message}; polished to stationarity {reached:.1e}",
    )


def _gradient(evaluator: ReducedEvaluator, point: LiftedPoint) -> np.ndarray:
    """The gradient of the Lagrangian in the controls, by the sweep."""
    return evaluator.trajectory(point.w, Multipliers(point.multipliers)).gradient
