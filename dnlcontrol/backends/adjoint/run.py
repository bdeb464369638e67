"""The adjoint backend: one discrete problem to a minimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.gauss_newton import GaussNewtonObjective
from dnlcontrol.backends.adjoint.nested import Nested
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.backends.adjoint.stochastic import (
    RATES,
    MiniBatches,
    refuse_constraints,
    stochastic,
)
from dnlcontrol.backends.adjoint.successive import refuse, successive
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, SOLVED, STALLED, BackendResult
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.minimise.augmented_lagrangian import Minimiser, augmented_lagrangian
from dnlcontrol.minimise.lbfgs import lbfgs
from dnlcontrol.minimise.newton import newton
from dnlcontrol.minimise.outcome import Outcome, lines
from dnlcontrol.minimise.preconditioner import Preconditioner, learner

LIMITS = {"newton": 200, "gauss-newton": 1000, "lbfgs": 5000, "msa": 1000, "emsa": 1000}
CONSTRAINED_LIMIT = 1000  # over all multiplier updates together


def run(
    discrete: DiscreteProblem,
    w: np.ndarray,
    tolerance: float,
    limit: int | None,
    method: str,
    device: str,
    dtype: str,
    chunk: int | None,
    progress: Any,
    levels: Sequence[Samples] = (),
    quadratic_rate: float = np.inf,
    preconditioner: Any = None,
    mu: np.ndarray | None = None,
    batches: MiniBatches | None = None,
    checkpoint: Checkpoint | None = None,
) -> BackendResult:
    """Minimise from the controls w and multipliers μ, or from what the coarser ``levels`` of a
    branch tell.

    A cold start (no levels) may lie on a symmetry, so that saddles are looked for; any other is
    near a minimiser, so that Newton's method is preconditioned by the Hessian of a coarse level
    there. ``quadratic_rate``: see :func:`newton`. ``checkpoint``: the checkpoint, which the solve
    goes on from if it holds one.
    """
    cold = not levels
    evaluator = Evaluator(discrete, device, dtype, chunk)
    progress = _with_work(progress, evaluator)
    if checkpoint:
        checkpoint.open(evaluator.counts)
    if method in RATES:
        return _run_batches(
            evaluator,
            w,
            tolerance,
            limit,
            method,
            batches or MiniBatches(),
            progress,
            cold,
            checkpoint,
        )
    nested = Nested(discrete, device, dtype, chunk)
    # carried multipliers belong to prolonged controls
    if levels and (mu is None or not discrete.rows.size):
        w = nested.start(levels, evaluator)
    minimiser: Minimiser = lbfgs if method == "lbfgs" else newton
    kind = GaussNewtonObjective if method == "gauss-newton" else Objective
    if method in ("msa", "emsa"):
        refuse(evaluator, method)
        minimiser = partial(successive, extended=method == "emsa")
    known = preconditioner if isinstance(preconditioner, Preconditioner) else None
    preconditioner = learner(discrete.space) if cold else nested.preconditioner(w, known)
    if not discrete.rows.size:
        limit = limit or LIMITS[method]
        if minimiser is newton:
            minimiser = partial(newton, cold=cold, quadratic_rate=quadratic_rate)
        objective = kind(evaluator, None, preconditioner)
        outcome = minimiser(objective, w, tolerance, limit, progress, checkpoint=checkpoint)
        status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= limit else STALLED
        return BackendResult(
            evaluator,
            outcome.w,
            np.zeros(0),
            outcome.message,
            status,
            outcome.iterations,
            lines(outcome.log),
            preconditioner=preconditioner,
        )
    result = augmented_lagrangian(
        evaluator,
        minimiser,
        w,
        mu,
        tolerance,
        limit or CONSTRAINED_LIMIT,
        kind,
        progress,
        checkpoint,
        preconditioner,
    )
    status = (
        SOLVED
        if result.feasibility <= tolerance
        else INFEASIBLE
        if "infeasible" in result.message
        else LIMIT
    )
    return BackendResult(
        evaluator,
        result.outcome.w,
        result.multipliers,
        result.message,
        status,
        result.iterations,
        lines(result.outcome.log),
        preconditioner=preconditioner,
    )


def run_distributed(
    discrete: DiscreteProblem,
    w: np.ndarray,
    tolerance: float,
    limit: int | None,
    method: str,
    device: str,
    dtype: str,
    chunk: int | None,
    progress: Any,
    cold: bool,
    checkpoint: Checkpoint | None = None,
) -> BackendResult:
    """:func:`run` with a share of the samples on every rank; ``progress`` and ``checkpoint`` belong
    to rank 0.
    """
    from dnlcontrol.backends.adjoint import distributed

    distributed.join()
    evaluator = distributed.SharedEvaluator(discrete, device, dtype, chunk)
    limit = limit or LIMITS[method]
    minimiser: Minimiser = partial(newton, cold=cold) if method == "newton" else lbfgs
    progress = _with_work(progress, evaluator)

    def minimise_here(objective: Objective) -> Outcome:
        here = checkpoint.open(evaluator.counts) if checkpoint else None
        return minimiser(objective, w, tolerance, limit, progress, checkpoint=here)

    outcome = distributed.minimise(evaluator, minimise_here)
    status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= limit else STALLED
    return BackendResult(
        evaluator,
        outcome.w,
        np.zeros(0),
        outcome.message,
        status,
        outcome.iterations,
        lines(outcome.log),
    )


def _run_batches(
    evaluator: Evaluator,
    w: np.ndarray,
    tolerance: float,
    limit: int | None,
    method: str,
    batches: MiniBatches,
    progress: Any,
    cold: bool,
    checkpoint: Checkpoint | None,
) -> BackendResult:
    refuse_constraints(evaluator, method)
    limit = limit or LIMITS["newton"]
    outcome = stochastic(
        evaluator,
        w,
        method,
        batches,
        tolerance,
        limit,
        progress=progress,
        cold=cold,
        checkpoint=checkpoint,
    )
    most = batches.epochs + (limit if batches.polish else 0)
    status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= most else STALLED
    return BackendResult(
        evaluator,
        outcome.w,
        np.zeros(0),
        outcome.message,
        status,
        outcome.iterations,
        lines(outcome.log),
    )


def _with_work(progress: Any, evaluator: Evaluator) -> Any:
    """The caller's progress, told the work so far too."""
    if progress is None:
        return None
    return lambda i: progress(replace(i, work=evaluator.counts.work().get("units", np.nan)))
