"""The exact backend: one discrete problem to a minimiser, lifted or condensed."""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.exact.budget import Budget
from dnlcontrol.backends.exact.clean_up import settle
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator, quiet
from dnlcontrol.backends.exact.condensed.solver import minimise
from dnlcontrol.backends.exact.ending import verdict
from dnlcontrol.backends.exact.ipopt import CONTRADICTION, WORDS, LogLine, first_barrier
from dnlcontrol.backends.exact.lifted.interior_point import (
    InteriorPoint,
    LiftedPoint,
    Program,
    carried_point,
)
from dnlcontrol.backends.exact.lifted.node_program import NodeProgram, applies
from dnlcontrol.backends.exact.lifted.transcription import Transcription
from dnlcontrol.backends.fits import chosen_formulation, refuse_too_large
from dnlcontrol.backends.found import BackendResult
from dnlcontrol.backends.options import Exact, Goal
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.resources.sizes import forecast
from dnlcontrol.discretisation.space.flat import Flat

LARGEST_START = 1e8  # relative to the free term: a start beyond has been lost by the rule


@quiet
def run(
    discrete: DiscreteProblem, start: StartingPoint, options: Exact, goal: Goal
) -> BackendResult:
    """Minimise from the starting point's controls and multipliers.

    The size is forecast.

    Raises
    ------
    InputError : a program above the limits of memory and time, unless ``options.force``.
    """
    sizes = forecast(discrete)
    chosen = chosen_formulation(sizes, options)
    if not options.force:
        refuse_too_large(sizes, chosen)
    formulation = lifted if chosen == "lifted" else condensed
    return formulation(discrete, start, goal, options.verbose)


def lifted(
    discrete: DiscreteProblem, start: StartingPoint, goal: Goal, verbose: bool
) -> BackendResult:
    """States as unknowns: IPOPT, then Newton's method on the active set.

    Without multipliers where those do not help.
    """
    budget = Budget.of(goal)
    evaluator = ReducedEvaluator(discrete)
    program: Program = (
        NodeProgram(evaluator.reduced) if applies(discrete) else Transcription(discrete)
    )
    w, mu = start.w, start.mu
    spent = 0
    lines: tuple[LogLine, ...] = ()
    point: LiftedPoint | None = None
    if mu is not None:
        carried = carried_point(evaluator, program, w, mu)
        barrier = first_barrier(evaluator, w, mu)
        solver = InteriorPoint(program, goal.tolerance, budget, verbose, barrier)
        point = solver.solve(w, carried.x, warm=carried)
        if not point.converged and not budget.over:
            spent = point.iterations
            lines = point.log
            point = None
    if point is None:
        solver = InteriorPoint(program, goal.tolerance, budget, verbose)
        point = solver.solve(w, starting_states(evaluator, w))
    if not point.infeasible and not budget.over:
        point = settle(solver, evaluator, point, goal.tolerance)
    ended = verdict(evaluator, w, point, goal.tolerance, budget)
    return BackendResult(
        evaluator,
        point.w,
        point.multipliers,
        ended.message,
        ended.status,
        spent + point.iterations,
        log=(*lines, *point.log),
        nfev=point.evaluations,
        costates=point.costates,
        one_step=program.one_step,
        formulation="lifted",
        elsewhere=ended.message == WORDS[CONTRADICTION],
    )


def starting_states(evaluator: ReducedEvaluator, w: Flat) -> np.ndarray:
    """The states of w (size,), (L+1, N, entries); the free term where they have left float64.

    States are unknowns of the lifted program: its start need not fulfil the state equation.
    """
    free = evaluator.discrete.free_terms
    states = evaluator.states(w).reshape(free.shape)
    with np.errstate(invalid="ignore"):
        lost = ~(np.abs(states) <= LARGEST_START * (1.0 + np.abs(free)))
    gone = np.logical_or.accumulate(lost.any(axis=2), axis=0)
    return np.where(gone[:, :, None], free, states)


def condensed(
    discrete: DiscreteProblem, start: StartingPoint, goal: Goal, verbose: bool
) -> BackendResult:
    """States eliminated: dense Newton, or IPOPT on the reduced functions with constraints."""
    budget = Budget.of(goal)
    reduced = ReducedEvaluator(discrete)
    point = minimise(
        reduced, start.w, goal.tolerance, budget, verbose, cold=start.cold, mu=start.mu
    )
    ended = verdict(reduced, start.w, point, goal.tolerance, budget)
    lam, zbar, _ = reduced.point(point.w).adjoint(point.multipliers)
    one_step = discrete.problem.dynamics.is_ode
    return BackendResult(
        reduced,
        point.w,
        point.multipliers,
        ended.message,
        ended.status,
        point.iterations,
        log=point.log,
        costates=zbar if one_step else lam,
        one_step=one_step,
        formulation="condensed",
        elsewhere=ended.message == WORDS[CONTRADICTION],
    )
