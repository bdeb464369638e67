"""No route says "solved" at a saddle: a point that is no minimiser is left, and the solve goes on.

Where a backend stops at a stationary point that certificates/verdict.py refuses, the lowest
curvature of the critical cone is followed to a lower value of the Lagrangian, and the backend
starts again there; so it does where other values of a control at single nodes lower the cost
(certificates/minimum_principle/needles.py). Where that leads nowhere lower, the result says so
(status NO_MINIMISER).
Nor does one say "infeasible" from a single start, which may be a saddle of the violation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from dnlcontrol.backends.found import INFEASIBLE, LIMIT, NO_MINIMISER, BackendResult
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.certificates.minimum_principle.needles import (
    SAMPLE,
    WARM_SAMPLE,
    NodeHamiltonian,
    lowered,
)
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.certificates.verdict import REFUSED, Verdict, examine
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.results.assemble import Measures, generalised

# from a start, with what so many iterations leave of the goal, at this trial to leave a point; None
# where nothing is left
Run = Callable[[StartingPoint, int, int], BackendResult | None]

ESCAPES = 5  # points left in one solve
TRIALS = 3  # solves from beside one such point
# lengths 1, ½, ..., 2^{-11} are tried along a negative curvature: h² = 2.4e-7 of the first decrease
LENGTHS = 12
RESTARTS = 2  # from elsewhere, before infeasible is said
MIXED = 0.3  # of all directions, beside the one that bends down most
SEED = 28  # of their shares
TINY = 1e-300
# how leaving such a point ended
NOWHERE = "no lower value was found along it; start elsewhere"
OUT_OF = "the limit of iterations or time was reached before it could be left; give more"
BESIDE = "a solve from beside it did not end"
BACK = "solves from beside it led back, or nowhere; start elsewhere"
# of 1 + |J|: a value must be lower by so much for a point to be another one
LOWER = 1e-10


NEEDLE = "other values of a control at single nodes lower the cost"


@dataclass(frozen=True)
class Doubt:
    """Why a stationary point is no minimiser, in words, and lower points near it to go on from."""

    words: str
    starts: Iterator[Flat]


@dataclass(frozen=True)
class Gate:
    """One discrete problem, how its backend is run, and what counts as solved.

    ``hamiltonian``: at other values of a control, at a point; None where it cannot be formed.
    ``warm``: the start is a solution of the branch, at which these were tried.
    """

    discrete: DiscreteProblem
    run: Run
    tolerance: float
    known: Samples | None = None  # the lowest curvature of a coarser level
    hamiltonian: Callable[[StoredPoint], NodeHamiltonian] | None = None
    warm: bool = False

    def passed(self, found: BackendResult) -> tuple[BackendResult, Trajectory, Samples | None]:
        """The result, or a better one that is a minimiser; its trajectory; its lowest curvature."""
        known = None if self.known is None else self.known.on(self.discrete.space)
        found = self._feasible(found)
        for escapes in range(ESCAPES + 1):
            at = self._trajectory(found)
            if found.refused or not self._stationary(found, at):
                return found, at, None
            point = self._point(found, at)
            with np.errstate(all="ignore"):
                verdict = examine(point, known, found.ends)
                doubt = self._doubt(point, verdict, escapes)
            if doubt is None:
                space, lowest = self.discrete.space, verdict.lowest
                return found, at, Samples.of(space, lowest) if lowest.any() else None
            better, ended = None, f"{ESCAPES} such points were left before"
            if escapes < ESCAPES:
                better, ended = self._left(found, point, doubt)
            if better is None:
                words = f"{REFUSED}: {doubt.words}; {ended}"
                return replace(found, status=NO_MINIMISER, message=words), at, None
            found, known = better, None
        raise AssertionError("the last round returns")

    def _feasible(self, found: BackendResult) -> BackendResult:
        """Of a result that is infeasible, one from other starts that is not.

        A saddle or a maximum of the violation is stationary as well: a row whose gradient vanishes
        at the start is none that cannot be met. Infeasible is said where the other starts agree.
        """
        if found.status != INFEASIBLE or found.elsewhere or not np.all(np.isfinite(found.w)):
            return found
        space, rng = self.discrete.space, np.random.default_rng(SEED)
        first, starts = found, 1
        for _ in range(RESTARTS):
            noise = space.riesz(rng.standard_normal(space.size))
            noise /= np.sqrt(max(noise @ space.metric(noise), TINY))
            then = self.run(StartingPoint(np.clip(first.w + noise, *space.bounds)), found.nit, 1)
            if then is None:
                break
            found, starts = merged(found, then), starts + 1
            if then.status != INFEASIBLE:
                text = f"{found.message} (from another start: the first is locally infeasible)"
                return replace(found, message=text)
        text = f"{first.message}; so from {starts} starts" if starts > 1 else first.message
        counts = found.evaluator if starts > 1 else first.evaluator
        return replace(first, message=text, nit=found.nit, nfev=found.nfev, evaluator=counts)

    def _doubt(self, point: StoredPoint, verdict: Verdict, escapes: int) -> Doubt | None:
        """Why the point is no minimiser; None where it is one as far as this sees."""
        if not verdict.passed:
            return Doubt(verdict.words, self._beside(point, verdict, mixed=escapes > 0))
        if self.hamiltonian is None or point.evaluator.rows.size:
            return None
        w = lowered(point, self.hamiltonian, WARM_SAMPLE if self.warm else SAMPLE)
        return None if w is None else Doubt(NEEDLE, iter([w]))

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
        self, found: BackendResult, point: StoredPoint, doubt: Doubt
    ) -> tuple[BackendResult | None, str]:
        """A stationary point with a lower value, from beside this one; else None and why."""
        before, ended = found, NOWHERE
        for trial, w in enumerate(islice(doubt.starts, TRIALS)):
            then = self.run(StartingPoint(w), before.nit, trial)
            if then is None:
                return None, OUT_OF
            again = merged(before, then)
            at = self._trajectory(again)
            here = cost(found, point.at)
            lower = cost(again, at) < here - LOWER * (1 + abs(here))
            if lower and self._stationary(again, at):
                left = "after leaving a stationary point that is no minimiser"
                return replace(again, message=f"{again.message} ({left})"), ""
            ended = f"{BESIDE}: {then.message}" if then.status == LIMIT else BACK
            before = again
        return None, ended

    def _beside(self, point: StoredPoint, verdict: Verdict, mixed: bool) -> Iterator[Flat]:
        """Controls along the direction where the Lagrangian is lower; then with all mixed in.

        Where several directions bend down, one of them may lead to the next saddle: the further
        starts, or all where ``mixed``, are moved by a seeded share of every direction.
        """
        space, d = self.discrete.space, verdict.direction
        if not d.any():
            return
        d = d if point.at.gradient @ d <= 0 else -d
        noise = self._every_way(point)
        noise *= MIXED * np.sqrt((d @ space.metric(d)) / max(noise @ space.metric(noise), TINY))
        for direction in (noise + d, d, noise - d) if mixed else (d, noise + d, noise - d):
            w = self._lower(point, direction, verdict.curvature)
            if w is not None:
                yield w

    def _every_way(self, point: StoredPoint) -> Flat:
        """A seeded direction (size,) in all that a gradient does not hold, off the bounds."""
        space = self.discrete.space
        w, r = point.w, point.at.gradient
        pushed = np.abs(r) > point.tolerance * np.sqrt(space.metric_diagonal)
        face = Face(space, held_entries(space, w, r) & pushed)
        noise = face.riesz(face.restrict(np.random.default_rng(SEED).standard_normal(space.size)))
        lower, upper = space.bounds
        noise = np.where(w <= lower, np.abs(noise), noise)
        return np.where(w >= upper, -np.abs(noise), noise)

    def _lower(self, point: StoredPoint, d: Flat, curvature: float) -> Flat | None:
        """The farthest point along d where the Lagrangian is lower; None where it is not.

        A step of length h should lower it by ½|λ|h²; a quarter of that is asked for. One within the
        rows is taken, if there is one.
        """
        space, evaluator = self.discrete.space, point.evaluator
        multipliers = point.multipliers
        value = evaluator.value(point.w, multipliers)
        outside: Flat | None = None
        for h in 0.5 ** np.arange(LENGTHS):
            trial: Flat = np.clip(point.w + h * d, *space.bounds)
            if evaluator.value(trial, multipliers) >= value + 0.125 * curvature * h**2:
                continue
            if not evaluator.rows.size or self._within(evaluator.constraint_values(trial)):
                return trial
            outside = trial if outside is None else outside
        return outside

    def _within(self, c: RowVector) -> bool:
        """Whether values c (rows.size,) are inside their sides."""
        return bool(np.max(self.discrete.rows.violation(c), initial=0.0) <= self.tolerance)


def cost(found: BackendResult, at: Trajectory) -> float:
    """J of a result, from its Lagrangian J + μᵀc."""
    mu = found.multipliers
    return at.value - (float(mu @ at.constraints) if mu.any() else 0.0)


def merged(first: BackendResult, then: BackendResult) -> BackendResult:
    """The later result, with the work of both."""
    if first.evaluator is not then.evaluator:
        then.evaluator.counts.add(first.evaluator.counts)
    nfev = None if then.nfev is None else then.nfev + (first.nfev or 0)
    return replace(then, nit=first.nit + then.nit, nfev=nfev, log=(*first.log, *then.log))
