"""Constraints other than control bounds: the method of multipliers around a minimiser in a box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.active_set import (
    PATIENT,
    ROW_ACCURACY,
    KKTPoint,
    Patience,
    newton_on_active,
)
from dnlcontrol.minimise.evaluator import Products
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.outcome import Iterate, Outcome, Progress, SmoothFunction
from dnlcontrol.minimise.preconditioner import Preconditioner

# ρ grows by WEIGHT_GROWTH where the gap has not fallen by GAP_DECREASE (chosen, as is usual), up to
# LARGEST_WEIGHT: there rounding of the gradient of the penalty, ρ ε, is 2e-8.
WEIGHT_GROWTH = 10.0
GAP_DECREASE = 0.25
LARGEST_WEIGHT = 1e8
STUCK_DECREASE = 0.9  # a gap that falls by less no longer falls
# ρ grows at most 9 times from LEAST_FIRST_WEIGHT to LARGEST_WEIGHT; 31 more rounds, each with a gap
# of a quarter of the last, are more digits than float64 has.
MOST_ROUNDS = 40
FIRST_ACCURACY = 1e-3  # of the first minimisation: more would be lost when μ changes [chosen]
# Gaps from which the active constraints can be told, and where a few steps may tell.
TELLING_GAP = 1e-3
PROMISING_GAP = 0.1
# Multipliers of another depth: Newton steps on the rows that they hold active; where those do not
# close in, the method of multipliers takes them up at a weight of at least CARRIED_WEIGHT.
BRIEF = Patience(steps=10, growth=2.0)
CARRIED_WEIGHT = 10.0
# ρ at the start lies between these, FIRST_WEIGHT where nothing is violated.
LEAST_FIRST_WEIGHT = 0.1
MOST_FIRST_WEIGHT = 1e3
FIRST_WEIGHT = 10.0
# One round may take this part of ``max_iterations``: the others are left for new multipliers.
ROUND_SHARE = 10

Minimiser = Callable[..., Outcome]
"""(objective, start, tolerance, max_iterations, progress, checkpoint=...) -> outcome; what else a
minimiser takes is bound beforehand."""

E = TypeVar("E", bound=Products)

Kind = Callable[[E, Multipliers, Preconditioner | None], SmoothFunction]
"""The augmented Lagrangian of an evaluator at fixed multipliers, its models preconditioned."""


@dataclass(frozen=True)
class Constrained:
    """The last inner outcome, multipliers μ of the plain Lagrangian, and the violation reached.

    μ is (rows.size,). ``iterations`` are those of all ``rounds``, ``inner`` their inner iterations.
    """

    outcome: Outcome
    mu: RowVector
    feasibility: float
    rounds: int
    iterations: int
    inner: int
    message: str


@dataclass(frozen=True)
class Round:
    """What a round starts from.

    Controls, μ, ρ, the gap before, what was spent, the accuracy asked of the minimiser. A
    checkpoint holds these fields by their names.
    """

    number: int
    w: Flat
    mu: RowVector
    rho: float
    previous: float
    spent: int
    inner: int
    accuracy: float


@dataclass(frozen=True)
class Ended:
    """How a round ended: its outcome, c there, the updated μ, what all rounds spent.

    ``gap`` is the largest distance of c to its side, also where an inactive multiplier is still
    being released.
    """

    outcome: Outcome
    c: RowVector
    at: Multipliers
    mu: RowVector
    gap: float
    rounds: int
    spent: int
    inner: int


@dataclass(frozen=True)
class Rounds(Generic[E]):
    """The method of multipliers: what stays the same from round to round."""

    evaluator: E
    minimiser: Minimiser
    kind: Kind[E]
    tolerance: float
    max_iterations: int
    progress: Progress | None
    checkpoint: Checkpoint | None
    models: Preconditioner | None

    @property
    def target(self) -> float:
        """The gap asked for."""
        return ROW_ACCURACY * self.tolerance

    def first(self, start: Flat, mu: RowVector | None) -> Round:
        """The first round, from multipliers that are carried or from none."""
        rho, zero = initial_weight(self.evaluator, start), np.zeros(self.evaluator.rows.size)
        accuracy = max(self.tolerance, FIRST_ACCURACY)
        if mu is None:
            return Round(0, start, zero, rho, np.inf, 0, inner=0, accuracy=accuracy)
        rho = max(rho, CARRIED_WEIGHT)
        return Round(0, start, mu.copy(), rho, np.inf, 0, inner=0, accuracy=accuracy)

    def minimised(self, now: Round) -> Ended:
        """A minimiser of the augmented Lagrangian at μ and ρ, and the updated μ."""
        rows = self.evaluator.rows
        at = Multipliers(now.mu, now.rho * rows.weights)
        outcome = self.minimiser(
            self.kind(self.evaluator, at, self.models),
            now.w,
            now.accuracy,
            self.most(now),
            self.progress,
            checkpoint=self.checkpoint,
        )
        c = self.evaluator.constraint_values(outcome.w)
        mu = at.updated(c, rows.bounds)
        return Ended(
            outcome,
            c,
            at,
            mu,
            gap=float(np.max(np.abs(mu - now.mu) / at.rho, initial=0.0)),
            rounds=now.number + 1,
            spent=now.spent + outcome.iterations,
            inner=now.inner + outcome.inner,
        )

    def most(self, now: Round) -> int:
        """Iterations of a round: all that are left where the last asked for no new multipliers."""
        if now.previous <= self.target:
            return max(self.max_iterations - now.spent, 1)
        return share(self.max_iterations, now.spent)

    def exact(self, end: Ended, preconditioner: Preconditioner | None) -> KKTPoint | None:
        """The solution by Newton steps on the active rows, where the gap lets them be told."""
        if end.gap > PROMISING_GAP:
            return None
        return newton_on_active(
            self.evaluator,
            end.outcome.w,
            end.mu,
            end.at.rho,
            0.1 * self.tolerance,
            patience=PATIENT if end.gap <= TELLING_GAP else BRIEF,
            preconditioner=preconditioner,
        )

    def over(self, now: Round, end: Ended) -> bool:
        """Whether more rounds would gain nothing, or may not be made."""
        no_fall = end.gap > STUCK_DECREASE * now.previous
        stuck = no_fall and (now.rho >= LARGEST_WEIGHT or end.gap <= self.tolerance)
        cut = not end.outcome.converged and end.spent - now.spent >= self.most(now)
        met = (
            end.gap <= self.target and not cut
        )  # a round cut short says nothing of its multipliers
        done = met or (stuck and now.accuracy <= self.target)
        return done or end.spent >= self.max_iterations

    def following(self, now: Round, end: Ended) -> Round:
        """The next round: from the updated μ, with a larger ρ where the gap fell too little."""
        rho = now.rho
        if end.gap > GAP_DECREASE * now.previous and rho < LARGEST_WEIGHT:
            rho *= WEIGHT_GROWTH
        return Round(
            end.rounds,
            end.outcome.w,
            end.mu,
            rho,
            previous=end.gap,
            spent=end.spent,
            inner=end.inner,
            accuracy=max(self.target, min(0.1 * now.accuracy, 0.1 * end.gap)),
        )

    def stopped(self, end: Ended, rho: float) -> Constrained:
        """The result of the last round, in words."""
        rows = self.evaluator.rows
        violation = float(np.max(rows.violation(end.c), initial=0.0))
        if end.gap <= self.tolerance:
            message = f"{end.outcome.message}, violation {violation:.1e}"
        elif rho >= LARGEST_WEIGHT:
            message = (
                f"infeasible as far as seen ({rows.worst(end.c)}); loosen that constraint or start "
                "elsewhere"
            )
        else:
            seen = f"{end.outcome.message}; {rows.worst(end.c) or 'feasible'}"
            message = (
                f"stopped after {end.rounds} multiplier updates ({seen}); raise max_iterations"
            )
        return Constrained(
            end.outcome,
            end.mu,
            violation,
            rounds=end.rounds,
            iterations=end.spent,
            inner=end.inner,
            message=message,
        )


def augmented_lagrangian(
    evaluator: E,
    minimiser: Minimiser,
    start: Flat,
    mu: RowVector | None,
    tolerance: float,
    max_iterations: int,
    kind: Kind[E],
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    preconditioner: Preconditioner | None = None,
) -> Constrained:
    """Minimise J + Σ ρ_i/2 dist(c_i + μ_i/ρ_i, [lower, upper])² and update μ, by turns.

    ρ is raised where violations fall too slowly. ρ_i is one number times the row's weight in the
    integral over t and the mean over samples, so that neither the kinks of the penalty nor the
    number of updates depends on the mesh.

    The inner accuracy follows the violation down to ``tolerance`` (Conn, Gould, Toint 1991). μ > 0
    pushes against an upper side, μ < 0 against a lower one. With multipliers ``mu``, (rows.size,),
    carried from another solve Newton steps on the active set come first, and these updates only
    where they fail. ``start`` is (space.size,).

    ``kind`` says which matrix the models have, ``preconditioner`` what is known of the plain
    Lagrangian's Hessian: Newton steps on the active set improve it, and the models begin with it.
    ``checkpoint``: the checkpoint to go on from.

    Solved where ``feasibility`` is at most the tolerance; the message holds "infeasible" where
    violations stay at the largest ρ, and else says after how many updates it stopped.
    """
    kept = resumed(checkpoint, "rounds")
    if mu is not None and not kept:
        exact = newton_on_active(
            evaluator,
            start,
            mu,
            0.0,
            0.1 * tolerance,
            patience=BRIEF,
            preconditioner=preconditioner,
        )
        if exact is not None:
            return _polished(exact, None, tolerance)
    rounds = Rounds(
        evaluator,
        minimiser,
        kind,
        tolerance,
        max_iterations,
        progress=progress,
        checkpoint=checkpoint,
        models=None if preconditioner is None else preconditioner.branched(),
    )
    now = Round(**kept) if kept else rounds.first(start, mu)
    begun = now.number if kept else None
    while now.number < MOST_ROUNDS:
        # that would forget the minimiser's state in the round that it goes on with
        if checkpoint and now.number != begun:
            checkpoint.offer("rounds", vars(now))
        end = rounds.minimised(now)
        exact = rounds.exact(end, preconditioner)
        if exact is not None:
            return _polished(exact, end, tolerance)
        if rounds.over(now, end):
            break
        now = rounds.following(now, end)
    return rounds.stopped(end, now.rho)


def _polished(exact: KKTPoint, end: Ended | None, tolerance: float) -> Constrained:
    """The point that Newton steps on the active set reached.

    Their lines follow those of the last round, if there was one.
    """
    log = () if end is None else end.outcome.log
    steps = [
        Iterate(len(log) + k, value, norm, 0.0, used)
        for k, (value, norm, used) in enumerate(exact.log)
    ]
    return Constrained(
        Outcome(
            exact.w,
            exact.value,
            np.zeros(0) if end is None else end.outcome.gradient,
            exact.stationarity,
            converged=True,
            message="" if end is None else end.outcome.message,
            log=(*log, *steps),
        ),
        exact.mu,
        exact.residual,
        rounds=0 if end is None else end.rounds,
        iterations=0 if end is None else end.spent,
        inner=0 if end is None else end.inner,
        message=(
            f"stationarity {exact.stationarity:.1e}, violation {exact.residual:.1e} "
            f"<= {tolerance:.0e}"
        ),
    )


def share(max_iterations: int, spent: int) -> int:
    """Inner iterations of one round.

    A round that zigzags between kinks must leave some for new multipliers.
    """
    return max(min(max_iterations - spent, max_iterations // ROUND_SHARE), 1)


def initial_weight(evaluator: Products, w: Flat) -> float:
    """ρ so that the penalty of the present violation is about the value, between 0.1 and 1000."""
    weights = evaluator.rows.weights
    c = evaluator.constraint_values(w)
    violation = evaluator.rows.violation(c)
    value = abs(evaluator.value(w))
    scale = float(weights @ violation**2)
    first = 2.0 * max(value, 1.0) / scale if scale > 0 else FIRST_WEIGHT
    return float(np.clip(first, LEAST_FIRST_WEIGHT, MOST_FIRST_WEIGHT))
