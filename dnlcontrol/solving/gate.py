"""No route says "solved" at a saddle: a point that is no minimiser is left, and the solve goes on.

Where a backend stops at a stationary point that certificates/verdict.py refuses, the lowest
curvature of the critical cone is followed to a lower value of the Lagrangian, and the backend
starts again there. Where that leads nowhere lower, the result says so (status NO_MINIMISER).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from dnlcontrol.backends.found import NO_MINIMISER, BackendResult
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.certificates.verdict import REFUSED, Verdict, examine
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.results.assemble import Measures, generalised

# from a start, with what so many iterations leave of the goal; None where nothing is left
Run = Callable[[StartingPoint, int], BackendResult | None]

ESCAPES = 5  # points left in one solve
TRIALS = 3  # solves from beside one such point
# lengths 1, ½, ..., 2^{-11} are tried along a negative curvature: h² = 2.4e-7 of the first decrease
LENGTHS = 12
# of 1 + |J|: a value must be lower by so much for a point to be another one
LOWER = 1e-10


@dataclass(frozen=True)
class Gate:
    """One discrete problem, how its backend is run, and what counts as solved."""

    discrete: DiscreteProblem
    run: Run
    tolerance: float
    known: Samples | None = None  # the lowest curvature of a coarser level

    def passed(self, found: BackendResult) -> tuple[BackendResult, Trajectory, Samples | None]:
        """The result, or a better one that is a minimiser; its trajectory; its lowest curvature."""
        known = None if self.known is None else self.known.on(self.discrete.space)
        for escapes in range(ESCAPES + 1):
            at = self._trajectory(found)
            if found.refused or not self._stationary(found, at):
                return found, at, None
            point = self._point(found, at)
            with np.errstate(all="ignore"):
                verdict = examine(point, known, found.ends)
            if verdict.passed:
                space, lowest = self.discrete.space, verdict.lowest
                return found, at, Samples.of(space, lowest) if lowest.any() else None
            better = None if escapes == ESCAPES else self._left(found, point, verdict)
            if better is None:
                words = f"{REFUSED}: {verdict.words}; start elsewhere"
                return replace(found, status=NO_MINIMISER, message=words), at, None
            found, known = better, None
        raise AssertionError("the last round returns")

    def _trajectory(self, found: BackendResult) -> Trajectory:
        """States and gradients of a result, at kinks on the sides that make it stationary."""
        at = found.evaluator.trajectory(found.w, Multipliers(found.multipliers))
        return generalised(self.discrete, found.w, at, self.tolerance)

    def _stationary(self, found: BackendResult, at: Trajectory) -> bool:
        """Whether first order, feasibility and complementarity hold: else there is no question."""
        measures = Measures.at(self.discrete, found.w, found.multipliers, at)
        return bool(np.isfinite(at.value)) and not measures.above(self.tolerance)

    def _point(self, found: BackendResult, at: Trajectory) -> StoredPoint:
        multipliers = Multipliers(found.multipliers)
        return StoredPoint(found.evaluator, found.w, multipliers, at, self.tolerance)

    def _left(
        self, found: BackendResult, point: StoredPoint, verdict: Verdict
    ) -> BackendResult | None:
        """A stationary point with a lower value, from beside this one; None where none is found."""
        before = found
        for tried, w in enumerate(self._beside(point, verdict)):
            if tried == TRIALS:
                break
            then = self.run(StartingPoint(w), before.nit)
            if then is None:
                break
            again = merged(before, then)
            at = self._trajectory(again)
            here = cost(found, point.at)
            lower = cost(again, at) < here - LOWER * (1 + abs(here))
            if lower and self._stationary(again, at):
                left = "after leaving a stationary point that is no minimiser"
                return replace(again, message=f"{again.message} ({left})")
            before = again
        return None

    def _beside(self, point: StoredPoint, verdict: Verdict) -> Iterator[Flat]:
        """Controls along the direction, both ways, where the Lagrangian is lower.

        A step of length h should lower it by ½|λ|h²; a quarter of that is asked for.
        """
        space, multipliers, d = self.discrete.space, point.multipliers, verdict.direction
        if not d.any():
            return
        d = d if point.at.gradient @ d <= 0 else -d
        value = point.evaluator.value(point.w, multipliers)
        for sign in (1.0, -1.0):
            for h in 0.5 ** np.arange(LENGTHS):
                trial: Flat = np.clip(point.w + sign * h * d, *space.bounds)
                there = point.evaluator.value(trial, multipliers)
                if there < value + 0.125 * verdict.curvature * h**2:
                    yield trial
                    break


def cost(found: BackendResult, at: Trajectory) -> float:
    """J of a result, from its Lagrangian J + μᵀc."""
    mu = found.multipliers
    return at.value - (float(mu @ at.constraints) if mu.any() else 0.0)


def merged(first: BackendResult, then: BackendResult) -> BackendResult:
    """The later result, with the work of both."""
    counts = then.evaluator.counts
    if first.evaluator is not then.evaluator:
        for f in fields(counts):
            before = getattr(first.evaluator.counts, f.name)
            setattr(counts, f.name, getattr(counts, f.name) + before)
    nfev = None if then.nfev is None else then.nfev + (first.nfev or 0)
    return replace(then, nit=first.nit + then.nit, nfev=nfev, log=(*first.log, *then.log))
