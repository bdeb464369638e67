"""Constraints other than control bounds: the method of multipliers around a bound-constrained minimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.lagrangian import Multipliers
from dnlcontrol.backends.adjoint.objective import Objective, Outcome, Progress

ROUNDS = 40
GROWTH, DECREASE, LARGEST = 10.0, 0.25, 1e8
Minimiser = Callable[..., Outcome]


@dataclass(frozen=True)
class Constrained:
    """The last inner outcome, the multipliers μ of the plain Lagrangian, and the violation reached."""

    outcome: Outcome
    multipliers: np.ndarray
    feasibility: float
    rounds: int
    iterations: int
    inner: int
    message: str


def augmented_lagrangian(evaluator: Evaluator, minimiser: Minimiser, start: np.ndarray, multipliers: np.ndarray | None,
                         tolerance: float, max_iterations: int, progress: Progress | None = None) -> Constrained:  # fmt: skip
    """Minimise J + ρ/2 |dist(c + μ/ρ, [lower, upper])|², update μ, raise ρ where the violation falls too slowly.

    The inner accuracy follows the violation down to ``tolerance`` (Conn, Gould, Toint 1991). μ > 0 pushes against
    an upper side, μ < 0 against a lower one. Multipliers carried from another solve are taken up at a larger ρ.
    """
    rows = evaluator.rows
    rho = initial_weight(evaluator, start)
    mu = np.zeros(rows.size) if multipliers is None else multipliers.copy()
    w, previous, spent, inner = start, np.inf, 0, 0
    accuracy = max(tolerance, 1e-3)
    for k in range(ROUNDS):
        outcome = minimiser(Objective(evaluator, Multipliers(mu, rho)), w, accuracy, max(max_iterations - spent, 1), progress)
        spent, inner = spent + outcome.iterations, inner + outcome.inner
        w = outcome.w
        c = evaluator.trajectory(w).constraints
        updated = Multipliers(mu, rho).updated(c, rows.bounds)
        # the distance of c to its side, also where an inactive multiplier is still being released
        gap = float(np.max(np.abs(updated - mu), initial=0.0)) / rho
        violation = float(np.max(rows.violation(c), initial=0.0))
        mu = updated
        if violation <= tolerance and gap <= tolerance and outcome.converged and accuracy <= tolerance:
            message = f"{outcome.message}, violation {violation:.1e}"
            return Constrained(outcome, mu, violation, k + 1, spent, inner, message)
        if spent >= max_iterations:
            break
        if gap > DECREASE * previous:
            if rho >= LARGEST:
                break
            rho *= GROWTH
        previous = gap
        accuracy = max(tolerance, min(0.1 * accuracy, 0.1 * gap))
    if rho >= LARGEST and violation > 1e3 * tolerance:
        message = f"infeasible as far as seen ({rows.worst(c)}); loosen that constraint or start elsewhere"
    else:
        message = f"stopped after {k + 1} multiplier updates ({outcome.message}; {rows.worst(c) or 'feasible'}); raise max_iterations"
    return Constrained(outcome, mu, violation, k + 1, spent, inner, message)


def initial_weight(evaluator: Evaluator, w: np.ndarray) -> float:
    """ρ so that the penalty of the present violation is about ten times the value, between 1 and 1000."""
    c = evaluator.trajectory(w).constraints
    violation = evaluator.rows.violation(c)
    value = abs(evaluator.value(w))
    scale = float(violation @ violation)
    return float(np.clip(20.0 * max(value, 1.0) / scale if scale > 0 else 10.0, 1.0, 1e3))
