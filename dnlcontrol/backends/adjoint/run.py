"""The adjoint backend: one discrete problem to a minimiser."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dnlcontrol.backends.adjoint.augmented import Minimiser, augmented_lagrangian
from dnlcontrol.backends.adjoint.coarse import Preconditioner
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.lbfgs import lbfgs
from dnlcontrol.backends.adjoint.nested import Nested
from dnlcontrol.backends.adjoint.newton import newton
from dnlcontrol.backends.adjoint.objective import Objective, Outcome
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, SOLVED, STALLED, Found
from dnlcontrol.discrete import DiscreteProblem
from dnlcontrol.space.prolongation import Samples

LIMITS = {"newton": 200, "lbfgs": 5000}
CONSTRAINED_LIMIT = 1000  # over all multiplier updates together


def run(discrete: DiscreteProblem, w: np.ndarray, tolerance: float, limit: int | None, method: str, device: str,
        dtype: str, chunk: int, progress: Any, levels: Sequence[Samples] = (),
        bend: float = np.inf, preconditioner: Any = None) -> Found:  # fmt: skip
    """Minimise from the controls w, or from what the coarser ``levels`` of a branch tell.

    A cold start (no levels) may lie on a symmetry, so that saddles are looked for; any other is near a minimiser, so
    that Newton's method is preconditioned by the Hessian of a coarse level there. ``bend``: see :func:`newton`.
    """
    cold = not levels
    evaluator, nested = Evaluator(discrete, device, dtype, chunk), Nested(discrete, device, dtype, chunk)
    began = time.perf_counter()
    if levels:
        w = nested.start(levels, evaluator)
    evaluator.counts.coarse_seconds += time.perf_counter() - began
    minimiser: Minimiser = newton if method == "newton" else lbfgs
    if not discrete.rows.size:
        limit = limit or LIMITS[method]
        if method == "newton":
            minimiser = partial(newton, leave_saddles=cold, bend=bend)
        known = preconditioner if isinstance(preconditioner, Preconditioner) else None
        preconditioner = None if cold else nested.preconditioner(w, known)
        outcome = minimiser(Objective(evaluator, None, preconditioner), w, tolerance, limit, progress)
        status = SOLVED if outcome.converged else LIMIT if outcome.iterations >= limit else STALLED
        return Found(
            evaluator,
            outcome.w,
            np.zeros(0),
            outcome.message,
            status,
            outcome.iterations,
            lines(outcome),
            preconditioner=preconditioner,
        )
    result = augmented_lagrangian(evaluator, minimiser, w, None, tolerance, limit or CONSTRAINED_LIMIT, progress)
    status = SOLVED if result.feasibility <= tolerance else INFEASIBLE if "infeasible" in result.message else LIMIT
    return Found(evaluator, result.outcome.w, result.multipliers, result.message, status, result.iterations,
                 lines(result.outcome))  # fmt: skip


def lines(outcome: Outcome) -> tuple[Any, ...]:
    """The log as plain tuples (iteration, value, stationarity, radius, inner)."""
    return tuple((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in outcome.log)
