"""Constraints other than control bounds: the method of multipliers around a bound-constrained
minimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.active_set import STEPS, TIGHTER, KKTPoint, newton_on_active
from dnlcontrol.minimise.evaluator import Products
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.outcome import Iterate, Outcome, Progress, SmoothFunction
from dnlcontrol.minimise.preconditioner import Preconditioner

ROUNDS = 40
GROWTH = 10.0
DECREASE = 0.25
LARGEST = 1e8
STUCK = 0.9
# violations from which the active constraints can be told, and where a few steps may tell
CLOSE, NEAR = 1e-3, 0.1
# Multipliers of another depth: Newton steps on the rows that they hold active; where those do not
# close in, the method of multipliers takes them up at a weight of at least CARRIED_WEIGHT.
WARM_STEPS = 10
WARM_GROWTH = 2.0
CARRIED_WEIGHT = 10.0
Minimiser = Callable[..., Outcome]


class Evaluator(Products, Protocol):
    """Products and the value, of the plain or the augmented Lagrangian."""

    def value(self, w: np.ndarray, multipliers: Multipliers | None = None) -> float: ...


# the augmented Lagrangian of an evaluator at fixed multipliers, its models preconditioned
Kind = Callable[[Evaluator, Multipliers, Preconditioner | None], SmoothFunction]


@dataclass(frozen=True)
class Constrained:
    """The last inner outcome, the multipliers μ of the plain Lagrangian, and the violation
    reached.
    """

    outcome: Outcome
    multipliers: np.ndarray
    feasibility: float
    rounds: int
    iterations: int
    inner: int
    message: str


@dataclass(frozen=True)
class Round:
    """What a round starts from: controls, μ, ρ, the gap before, what was spent, the accuracy asked
    of the minimiser.
    """

    number: int
    w: np.ndarray
    mu: np.ndarray
    rho: float
    previous: float
    spent: int
    inner: int
    accuracy: float


def augmented_lagrangian(
    evaluator: Evaluator,
    minimiser: Minimiser,
    start: np.ndarray,
    multipliers: np.ndarray | None,
    tolerance: float,
    max_iterations: int,
    kind: Kind,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    preconditioner: Preconditioner | None = None,
) -> Constrained:
    """Minimise J + Σ ρ_i/2 dist(c_i + μ_i/ρ_i, [lower, upper])², update μ, raise ρ where violations
    fall too slowly.

    ρ_i is one number times the row's weight in the integral over t and the mean over samples, so
    that neither the kinks of the penalty nor the number of updates depends on the mesh.

    The inner accuracy follows the violation down to ``tolerance`` (Conn, Gould, Toint 1991). μ > 0
    pushes against an upper side, μ < 0 against a lower one. With ``multipliers`` carried from
    another solve Newton steps on the active set come first, and these updates only where they fail.
    ``kind`` says which matrix the models have, ``preconditioner`` what is known of the plain
    Lagrangian's Hessian: Newton steps on the active set improve it, and the models begin with it.
    ``checkpoint``: the checkpoint to go on from.
    """
    rows = evaluator.rows
    target, kept = TIGHTER * tolerance, resumed(checkpoint, "rounds")
    if multipliers is not None and not kept:
        exact = newton_on_active(
            evaluator,
            start,
            multipliers,
            0.0,
            0.1 * tolerance,
            WARM_STEPS,
            WARM_GROWTH,
            preconditioner,
        )
        if exact is not None:
            outcome = Outcome(exact.w, exact.value, np.zeros(0), exact.stationarity, True, "", ())
            return _polished(exact, outcome, tolerance, 0, 0, 0)
    models = None if preconditioner is None else preconditioner.branched()
    begin = Round(**kept) if kept else _first(evaluator, start, multipliers, tolerance)
    w = begin.w
    mu = begin.mu
    rho = begin.rho
    previous = begin.previous
    spent = begin.spent
    inner = begin.inner
    accuracy = begin.accuracy
    for k in range(begin.number, ROUNDS):
        # that would forget the minimiser's state in this round
        if checkpoint and not (kept and k == begin.number):
            checkpoint.offer("rounds", vars(Round(k, w, mu, rho, previous, spent, inner, accuracy)))
        at = Multipliers(mu, rho * rows.weights)
        outcome = minimiser(
            kind(evaluator, at, models),
            w,
            accuracy,
            share(max_iterations, spent),
            progress,
            checkpoint=checkpoint,
        )
        spent = spent + outcome.iterations
        inner = inner + outcome.inner
        w = outcome.w
        c = evaluator.constraint_values(w)
        updated = at.updated(c, rows.bounds)
        # the distance of c to its side, also where an inactive multiplier is still being released
        gap = float(np.max(np.abs(updated - mu) / at.rho, initial=0.0))
        mu = updated
        exact = None
        if gap <= NEAR:
            steps = (STEPS, np.inf) if gap <= CLOSE else (WARM_STEPS, WARM_GROWTH)
            exact = newton_on_active(
                evaluator, w, mu, at.rho, 0.1 * tolerance, *steps, preconditioner
            )
        if exact is not None:
            return _polished(exact, outcome, tolerance, k + 1, spent, inner)
        stuck = gap > STUCK * previous and (rho >= LARGEST or gap <= tolerance)
        if gap <= target or (stuck and accuracy <= target) or spent >= max_iterations:
            break
        if gap > DECREASE * previous and rho < LARGEST:
            rho *= GROWTH
        previous = gap
        accuracy = max(target, min(0.1 * accuracy, 0.1 * gap))
    violation = float(np.max(rows.violation(c), initial=0.0))
    if gap <= tolerance:
        message = f"{outcome.message}, violation {violation:.1e}"
    elif rho >= LARGEST:
        message = (
            f"infeasible as far as seen ({rows.worst(c)}); loosen that constraint or start "
            "elsewhere"
        )
    else:
        seen = f"{outcome.message}; {rows.worst(c) or 'feasible'}"
        message = f"stopped after {k + 1} multiplier updates ({seen}); raise max_iterations"
    return Constrained(outcome, mu, violation, k + 1, spent, inner, message)


def _first(
    evaluator: Evaluator, start: np.ndarray, multipliers: np.ndarray | None, tolerance: float
) -> Round:
    rho, mu = initial_weight(evaluator, start), np.zeros(evaluator.rows.size)
    if multipliers is not None:
        rho, mu = max(rho, CARRIED_WEIGHT), multipliers.copy()
    return Round(0, start, mu, rho, np.inf, 0, 0, max(tolerance, 1e-3))


def _polished(
    exact: KKTPoint, outcome: Outcome, tolerance: float, rounds: int, spent: int, inner: int
) -> Constrained:
    """The point that Newton steps on the active set reached; their lines follow those of the last
    round.
    """
    first = len(outcome.log)
    steps = [
        Iterate(first + k, value, norm, 0.0, used)
        for k, (value, norm, used) in enumerate(exact.log)
    ]
    outcome = replace(
        outcome,
        w=exact.w,
        value=exact.value,
        stationarity=exact.stationarity,
        converged=True,
        log=(*outcome.log, *steps),
    )
    message = (
        f"stationarity {exact.stationarity:.1e}, violation {exact.residual:.1e} <= {tolerance:.0e}"
    )
    return Constrained(outcome, exact.mu, exact.residual, rounds, spent, inner, message)


def share(max_iterations: int, spent: int) -> int:
    """Inner iterations of one round: a round that zigzags between kinks must leave some for new
    multipliers.
    """
    return max(min(max_iterations - spent, max_iterations // 10), 1)


def initial_weight(evaluator: Evaluator, w: np.ndarray) -> float:
    """ρ so that the penalty of the present violation is about the value, between 0.1 and 1000."""
    weights = evaluator.rows.weights
    c = evaluator.constraint_values(w)
    violation = evaluator.rows.violation(c)
    value = abs(evaluator.value(w))
    scale = float(weights @ violation**2)
    return float(np.clip(2.0 * max(value, 1.0) / scale if scale > 0 else 10.0, 0.1, 1e3))
