"""From an interior point to the minimiser: held controls onto their bounds, the rest anew.

An interior-point method leaves every control a little inside its bounds; without a clean-up
bang-bang solutions look unconverged.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.solver import newton_in_time, on_active
from dnlcontrol.backends.exact.lifted.active_newton import ActiveNewton
from dnlcontrol.backends.exact.lifted.interior_point import InteriorPoint, LiftedPoint
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.faces import complementarity, held_entries, stationarity
from dnlcontrol.minimise.multipliers import Multipliers

# each is a whole solve by IPOPT
CLEAN_UP_ROUNDS = 3
# Newton steps beside a minimiser, where they converge quadratically
POLISH_ITERATIONS = 50
# of the tolerance: large multipliers of dependent rows magnify what their residuals keep
TIGHTER = 0.1


def settle(
    solver: InteriorPoint, evaluator: ReducedEvaluator, point: LiftedPoint, tolerance: float
) -> LiftedPoint:
    """The minimiser beside an interior point: active-set Newton, or a clean-up where that fails.

    Each takes what the solver's budget has left; the point so far where that is nothing.
    """
    if solver.budget.over or not np.isfinite(evaluator.value(point.w)):
        return point
    refined = ActiveNewton(solver).refine(point, tolerance)
    if refined is not None and worst(evaluator, refined.w, refined.multipliers) <= 0.5 * tolerance:
        return refined
    polished = polish(solver, evaluator, clean_up(solver, evaluator, point), tolerance)
    if _distance(evaluator, polished) <= tolerance:
        return polished
    best = polished
    for begin, share in product((polished, point), (1.0, TIGHTER)):
        found = stabilised(solver, begin, share * tolerance)
        if found is not None and _distance(evaluator, found) < _distance(evaluator, best):
            best = found
        if _distance(evaluator, best) <= tolerance:
            break
    spent = {k: getattr(polished, k) for k in ("iterations", "evaluations", "log")}
    return replace(best, **spent)


def stabilised(solver: InteriorPoint, point: LiftedPoint, tolerance: float) -> LiftedPoint | None:
    """By active-set Newton with multipliers that need not be unique; None where that fails."""
    refined = ActiveNewton(solver, stabilised=True).refine(point, tolerance)
    if refined is None:
        return None
    return replace(refined, message=f"{point.message}; steps with stabilised multipliers")


def worst(evaluator: ReducedEvaluator, w: Flat, mu: RowVector) -> float:
    """The largest measure at w and μ, states recomputed from w; infinite where one is not finite.

    Stationarity, complementarity, slack and violation of the rows.
    """
    at = evaluator.trajectory(w, Multipliers(mu))
    rows = evaluator.rows
    space = evaluator.space
    measures = (
        stationarity(space, w, at.gradient),
        complementarity(space, w, at.gradient),
        np.max(rows.slack(at.constraints, mu), initial=0.0),
        np.max(rows.violation(at.constraints), initial=0.0),
    )
    return float(max(measures)) if np.all(np.isfinite(measures)) else np.inf


def clean_up(solver: InteriorPoint, evaluator: ReducedEvaluator, point: LiftedPoint) -> LiftedPoint:
    """Hold controls at their bounds and solve for the others, until the held set stands still.

    A solve that fails and comes no nearer is left aside.
    """
    space = evaluator.space
    if not space.bounded:
        return point
    lower, upper = space.bounds
    for _ in range(CLEAN_UP_ROUNDS):
        held = held_entries(space, point.w, _gradient(evaluator, point))
        nearer = np.where(point.w - lower < upper - point.w, lower, upper)
        snapped = np.where(held, nearer, point.w)
        if np.array_equal(snapped, point.w) or solver.budget.over:
            break
        again = solver.solve(snapped, point.x, held, point)
        before = point
        point = replace(
            again,
            iterations=point.iterations + again.iterations,
            evaluations=point.evaluations + again.evaluations,
            log=(*point.log, *again.log),
        )
        if not again.converged and _distance(evaluator, again) >= _distance(evaluator, before):
            return replace(before, iterations=point.iterations, evaluations=point.evaluations)
    return point


def _distance(evaluator: ReducedEvaluator, point: LiftedPoint) -> float:
    return worst(evaluator, point.w, point.multipliers)


def polish(
    solver: InteriorPoint, evaluator: ReducedEvaluator, point: LiftedPoint, tolerance: float
) -> LiftedPoint:
    """Newton steps on the active set, where the interior point's slack still shows.

    A weakly active side keeps a slack of the square root of the barrier parameter. Bounds alone:
    the bound-constrained Newton method; other constraints: steps on the active rows. States and
    costates of polished controls are those of the sweep.
    """
    if solver.budget.over:
        return point
    space, rows = evaluator.space, evaluator.rows
    at = evaluator.trajectory(point.w, Multipliers(point.multipliers))
    norm = stationarity(space, point.w, at.gradient)
    slack = rows.slack(at.constraints, point.multipliers)
    done = norm <= tolerance and complementarity(space, point.w, at.gradient) <= tolerance
    if done and np.max(slack, initial=0.0) <= 1e-12:
        return point
    if rows.size:
        exact = on_active(evaluator, point.w, point.multipliers, tolerance, solver.budget)
        if exact is None:
            return point
        w = exact.w
        mu = exact.mu
        reached = exact.stationarity
    else:
        part = solver.budget.part(POLISH_ITERATIONS)
        outcome = newton_in_time(evaluator, point.w, tolerance, part)
        solver.budget.take(outcome.iterations)
        w = outcome.w
        mu = point.multipliers
        reached = outcome.stationarity
        if not reached < norm:
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
