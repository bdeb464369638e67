"""The adjoint backend: one discrete problem to a minimiser."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dnlcontrol.backends.adjoint.augmented import Minimiser, augmented_lagrangian
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.lbfgs import lbfgs
from dnlcontrol.backends.adjoint.newton import newton
from dnlcontrol.backends.adjoint.objective import Objective, Outcome
from dnlcontrol.backends.adjoint.stochastic import RATES, MiniBatches, refuse_constraints, stochastic
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, SOLVED, STALLED, Found
from dnlcontrol.discrete import DiscreteProblem

LIMITS = {"newton": 200, "lbfgs": 5000}
CONSTRAINED_LIMIT = 1000  # over all multiplier updates together


def run(discrete: DiscreteProblem, w: np.ndarray, tolerance: float, limit: int | None, method: str, device: str,
        dtype: str, chunk: int | None, progress: Any, cold: bool, mu: np.ndarray | None = None,
        batches: MiniBatches | None = None) -> Found:  # fmt: skip
    """Minimise from controls w and multipliers μ; a ``cold`` start may lie on a symmetry: saddles are looked for."""
    evaluator = Evaluator(discrete, device, dtype, chunk)
    if method in RATES:
        return _run_batches(evaluator, w, tolerance, limit, method, batches or MiniBatches(), progress, cold)
    minimiser: Minimiser = newton if method == "newton" else lbfgs
    if not discrete.rows.size:
        limit = limit or LIMITS[method]
        if method == "newton":
            minimiser = partial(newton, leave_saddles=cold)
        outcome = minimiser(Objective(evaluator), w, tolerance, limit, progress)
        status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= limit else STALLED
        return Found(evaluator, outcome.w, np.zeros(0), outcome.message, status, outcome.iterations, lines(outcome))
    result = augmented_lagrangian(evaluator, minimiser, w, mu, tolerance, limit or CONSTRAINED_LIMIT, progress)
    status = SOLVED if result.feasibility <= tolerance else INFEASIBLE if "infeasible" in result.message else LIMIT
    return Found(evaluator, result.outcome.w, result.multipliers, result.message, status, result.iterations,
                 lines(result.outcome))  # fmt: skip


def run_distributed(discrete: DiscreteProblem, w: np.ndarray, tolerance: float, limit: int | None, method: str,
                    device: str, dtype: str, chunk: int | None, progress: Any, cold: bool) -> Found:  # fmt: skip
    """:func:`run` with a share of the samples on every rank; ``progress`` is called on rank 0."""
    from dnlcontrol.backends.adjoint import distributed

    distributed.join()
    evaluator = distributed.SharedEvaluator(discrete, device, dtype, chunk)
    limit = limit or LIMITS[method]
    minimiser: Minimiser = partial(newton, leave_saddles=cold) if method == "newton" else lbfgs
    outcome = distributed.minimise(evaluator, lambda all_: minimiser(all_, w, tolerance, limit, progress))
    status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= limit else STALLED
    return Found(evaluator, outcome.w, np.zeros(0), outcome.message, status, outcome.iterations, lines(outcome))


def _run_batches(evaluator: Evaluator, w: np.ndarray, tolerance: float, limit: int | None, method: str,
                 batches: MiniBatches, progress: Any, cold: bool) -> Found:  # fmt: skip
    refuse_constraints(evaluator, method)
    limit = limit or LIMITS["newton"]
    outcome = stochastic(evaluator, w, method, batches, tolerance, limit, progress, cold)
    most = batches.epochs + (limit if batches.polish else 0)
    status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= most else STALLED
    return Found(evaluator, outcome.w, np.zeros(0), outcome.message, status, outcome.iterations, lines(outcome))


def lines(outcome: Outcome) -> tuple[Any, ...]:
    """The log as plain tuples (iteration, value, stationarity, radius, inner)."""
    return tuple((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in outcome.log)
