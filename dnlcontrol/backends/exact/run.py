"""The exact backend: one discrete problem to a minimiser, lifted or condensed."""

from __future__ import annotations

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.exact.clean_up import settle
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.solver import minimise
from dnlcontrol.backends.exact.ipopt import LogLine, first_barrier
from dnlcontrol.backends.exact.lifted.interior_point import (
    InteriorPoint,
    LiftedPoint,
    Program,
    carried_point,
)
from dnlcontrol.backends.exact.lifted.node_program import NodeProgram, applies
from dnlcontrol.backends.exact.lifted.transcription import Transcription
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, STALLED, BackendResult
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.sizes import Forecast, forecast

ITERATIONS = 3000
MEMORY_LIMIT_MB = 8000.0
SECONDS_LIMIT = 3600.0


def run(
    discrete: DiscreteProblem,
    w: np.ndarray,
    tolerance: float,
    limit: int | None,
    formulation: str,
    verbose: bool,
    force: bool,
    cold: bool,
    mu: np.ndarray | None = None,
) -> BackendResult:
    """Minimise from the controls w and multipliers μ; the size is forecast, refused above the
    limits unless forced.
    """
    sizes = forecast(discrete)
    chosen = sizes.better if formulation == "auto" else formulation
    if not force:
        refuse_too_large(sizes, chosen)
    if chosen == "lifted":
        return lifted(discrete, w, tolerance, limit or ITERATIONS, verbose, mu)
    return condensed(discrete, w, tolerance, limit or ITERATIONS, verbose, cold, mu)


def refuse_too_large(sizes: Forecast, formulation: str) -> None:
    """Raise when a formulation would not fit, with what would."""
    memory, seconds = getattr(sizes, formulation).memory_mb, getattr(sizes, formulation).seconds
    if memory > MEMORY_LIMIT_MB or seconds > SECONDS_LIMIT:
        other = "condensed" if formulation == "lifted" else "lifted"
        fits = (
            getattr(sizes, other).memory_mb <= MEMORY_LIMIT_MB
            and getattr(sizes, other).seconds <= SECONDS_LIMIT
        )
        advice = f"formulation='{other}', or " if fits else ""
        checks.reject(
            "depth",
            f"a {formulation} program of about {memory:.0f} MB and {seconds:.0f} s",
            f"{advice}backend='adjoint'; force=True builds it all the same",
        )


def lifted(
    discrete: DiscreteProblem,
    w: np.ndarray,
    tolerance: float,
    limit: int,
    verbose: bool,
    mu: np.ndarray | None = None,
) -> BackendResult:
    """States as unknowns, IPOPT, then Newton's method on the active set; without multipliers where
    those do not help.

    ``mu``: multipliers to start from.
    """
    evaluator = ReducedEvaluator(discrete)
    program: Program = (
        NodeProgram(evaluator.reduced) if applies(discrete) else Transcription(discrete)
    )
    spent = 0
    lines: tuple[LogLine, ...] = ()
    point: LiftedPoint | None = None
    if mu is not None:
        carried = carried_point(evaluator, program, w, mu)
        solver = InteriorPoint(program, tolerance, limit, verbose, first_barrier(evaluator, w, mu))
        point = solver.solve(w, carried.x, warm=carried)
        if not point.converged and point.iterations < limit:
            spent = point.iterations
            lines = point.log
            point = None
    if point is None:
        solver = InteriorPoint(program, tolerance, limit, verbose)
        shape = (discrete.depth + 1, discrete.problem.samples, -1)
        point = solver.solve(w, evaluator.states(w).reshape(shape))
    if not point.infeasible and not point.out_of_iterations:
        point = settle(solver, evaluator, point, tolerance)
    status = INFEASIBLE if point.infeasible else LIMIT if point.out_of_iterations else STALLED
    return BackendResult(
        evaluator,
        point.w,
        point.multipliers,
        point.message,
        status,
        spent + point.iterations,
        log=(*lines, *point.log),
        nfev=point.evaluations,
        costates=point.costates,
        one_step=program.one_step,
        formulation="lifted",
    )


def condensed(
    discrete: DiscreteProblem,
    w: np.ndarray,
    tolerance: float,
    limit: int,
    verbose: bool,
    cold: bool,
    mu: np.ndarray | None = None,
) -> BackendResult:
    """States eliminated: dense Newton, or IPOPT on the reduced functions where there are
    constraints.
    """
    reduced = ReducedEvaluator(discrete)
    point = minimise(reduced, w, tolerance, limit, verbose, cold=cold, mu=mu)
    lam, zbar, _ = reduced.point(point.w).adjoint(point.multipliers)
    one_step = discrete.problem.dynamics.is_ode
    status = INFEASIBLE if point.infeasible else LIMIT if point.out_of_iterations else STALLED
    return BackendResult(
        reduced,
        point.w,
        point.multipliers,
        point.message,
        status,
        point.iterations,
        log=point.log,
        costates=zbar if one_step else lam,
        one_step=one_step,
        formulation="condensed",
    )
