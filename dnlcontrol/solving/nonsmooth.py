"""Minimisers at kinks: what is added to a solve of a problem whose formulas have them.

1. The backend's own minimiser. Where it ends at a point that no direction lowers, that is all.
2. A start that only kinks or a symmetry hold in place (every unit of a ReLU network at its kink) is
   left by seeded random controls: several are tried on the softened problem at small depth.
3. Smoothed continuation: the backend's minimiser on softened problems, ε -> 0, warm.
4. Newton's method on the kinks that are active then.

The result is certified by generalised gradients (backends/kinks/clarke.py), or refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.backends.found import LIMIT, SOLVED, STALLED, BackendResult
from dnlcontrol.backends.kinks.clarke import (
    KinkedPoint,
    kinked_point,
    lowest_curvature,
    steepest_kink,
)
from dnlcontrol.backends.kinks.finish import finish
from dnlcontrol.backends.kinks.kinked_function import KinkedFunction, applies
from dnlcontrol.backends.options import EVERY, Adjoint, Exact, Goal, Newton
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.certificates.taylor import DIRECTIONS, taylor_at
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.resources.sizes import forecast
from dnlcontrol.discretisation.space.control_space import sample
from dnlcontrol.discretisation.space.extension import prolong
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.outcome import reached
from dnlcontrol.problem.controls import smooth_random
from dnlcontrol.problem.kinks.softened import softened
from dnlcontrol.results.assemble import Measures
from dnlcontrol.solving.request import Request

FIRST_WIDTH = 0.1  # ε of the first softened problem, in units of the arguments' root mean square
WIDTHS = 0.25  # ratio of one ε to the one before
FINISHED_FROM = 2e-3  # ε, in the same units, from which Newton on the active kinks is tried
LAST_WIDTH = 1e-7  # in the same units
STAGE = 1e-2  # a softened problem is solved to this share of ε
UNSURE = 1e-3  # sides from here to 1 minus this are those of active kinks
EXPLORED = 32  # random controls tried from a start that kinks hold in place
PERTURBED = 1.0  # their scale
EXPLORED_DEPTH = 8
EXPLORED_ITERATIONS = 30
EXPLORED_TOLERANCE = 1e-3
PURSUED = 6  # of them, the lowest, that go on
PURSUED_ITERATIONS = 150
EXACT_ITERATIONS = 300
SECOND_ORDER = 1.95  # an order of remainders from which no kink is seen
TAYLOR_STEPS = (1e-2, 1e-3)  # the shorter where higher orders or kinks show at the longer
SEED = 29  # of the directions
REMEDY = "start elsewhere (start={name: dnl.smooth_random(seed, 1.0)}) or take a smooth activation"

Find = Callable[[DiscreteProblem, StartingPoint, Request, Checkpoint | None], BackendResult]


def found_at_kinks(
    find: Find,
    discrete: DiscreteProblem,
    begin: StartingPoint,
    request: Request,
    checkpoint: Checkpoint | None = None,
) -> BackendResult:
    """What the backend finds, and for a problem with kinks what is left to do there.

    The checkpoint is of the backend's own run. A distributed solve ends with that: its problem is
    one rank's share.
    """
    options, kinks = request.options, discrete.problem.kinks
    if not kinks or (isinstance(options, Adjoint) and options.distributed):
        return find(discrete, begin, request, checkpoint)
    found = find(discrete, begin, _limited(request), checkpoint)
    if not np.all(np.isfinite(found.w)):
        return found
    if not applies(discrete):
        known = found.status == SOLVED or _smooth_there(found, discrete, request.goal.tolerance)
        return found if known else _named(found, discrete)
    search = _Search(find, discrete, _by_newton(request), KinkedFunction(discrete))
    point = search.point(found.w)
    slope, _ = search.descent(point)
    if point is not None and point.stationarity <= request.goal.tolerance and slope == 0.0:
        return _accepted(found, point, request, "") if point.count else found
    note = ""
    w = found.w
    if begin.cold and (slope < 0.0 or search.held(begin.w)):
        w, note = search.explored(w)
    return search.continued(found, w, note)


@dataclass(frozen=True)
class _Search:
    """One solve at kinks."""

    find: Find
    discrete: DiscreteProblem
    request: Request
    function: KinkedFunction

    @property
    def tolerance(self) -> float:
        return self.request.goal.tolerance

    def point(self, w: Flat) -> KinkedPoint | None:
        return kinked_point(self.discrete, w, self.tolerance, self.function)

    def held(self, w: Flat) -> bool:
        """Whether most kinks are active at a start, as every unit of a network of zeros is."""
        a = self.function.arguments(w)
        return bool(np.mean(np.abs(a[np.isfinite(a)]) <= self.tolerance) > 0.5)

    def descent(self, point: KinkedPoint | None) -> tuple[float, Flat]:
        """The lowest slope at a point on kinks; 0 where no kink is active."""
        if point is None or not point.count:
            return 0.0, np.zeros(self.discrete.space.size)
        return steepest_kink(point, self.tolerance)

    def explored(self, w: Flat) -> tuple[Flat, str]:
        """The best of several random starts on the softened problem, at small depth."""
        depth, problem = min(self.discrete.depth, EXPLORED_DEPTH), self.discrete.problem
        coarse = discretise(softened(problem, FIRST_WIDTH), depth, self.discrete.grid.rule)
        space = coarse.space
        starts = []
        for seed in range(EXPLORED):
            parts = {b.name: sample(b, smooth_random(seed, PERTURBED)) for b in space}
            starts.append((seed, np.clip(space.assemble(parts), *space.bounds)))
        ends = sorted(self._runs(coarse, starts, EXPLORED_ITERATIONS))[:PURSUED]
        again = [(seed, at) for _, seed, at in ends]
        ends = sorted(self._runs(coarse, again, PURSUED_ITERATIONS))
        if not ends:
            return w, ""
        _, chosen, best = ends[0]
        parts = {
            b.name: prolong(c.layout, c.values(best), b.layout)
            for b, c in zip(self.discrete.space, space, strict=True)
        }
        note = f"the start, held by kinks, was left by a random perturbation (seed {chosen})"
        w = np.clip(self.discrete.space.assemble(parts), *self.discrete.space.bounds)
        return w, note

    def _runs(
        self, coarse: DiscreteProblem, starts: list[tuple[int, Flat]], most: int
    ) -> Iterator[tuple[float, int, Flat]]:
        """(value, seed, controls) after so many iterations from each start, where finite."""
        quick = forecast(coarse).better == "lifted"
        options = Exact() if quick else Adjoint()
        request = replace(self.request, options=options, goal=Goal(EXPLORED_TOLERANCE, most))
        for seed, start in starts:
            found = self.find(coarse, StartingPoint(start), request, None)
            value = found.evaluator.value(found.w)
            if np.isfinite(value):
                yield value, seed, found.w

    def continued(self, found: BackendResult, w: Flat, note: str) -> BackendResult:
        """Smoothed continuation from w, and Newton's method on the active kinks."""
        unit = _typical(self.function.arguments(w))
        width, spent = FIRST_WIDTH * unit, found.nit
        while width >= LAST_WIDTH * unit:
            smooth = discretise(
                softened(self.discrete.problem, width), self.discrete.depth, self.discrete.grid.rule
            )
            goal = Goal(
                max(self.tolerance, min(1e-3, STAGE * width)), self.request.goal.max_iterations
            )
            stage = self.find(smooth, StartingPoint(w), replace(self.request, goal=goal), None)
            spent += stage.nit
            found = _with_work(found, stage)
            if not np.all(np.isfinite(stage.w)):
                break
            w = stage.w
            if width <= FINISHED_FROM * unit:
                point, steps = self._finished(w, width)
                spent += steps
                if point is not None:
                    at = replace(found, w=point.w, nit=spent, costates=None)
                    return _accepted(at, point, self.request, note)
            width *= WIDTHS
        lower = self.function.plain.value(w) < self.function.plain.value(found.w)
        best = replace(found, w=w, nit=spent, costates=None) if lower else found
        return _named(best, self.discrete, note)

    def _finished(self, w: Flat, width: float) -> tuple[KinkedPoint | None, int]:
        """A certified point by Newton's method on the active kinks, and its steps."""
        a = self.function.arguments(w)
        soft = np.where(np.isfinite(a), 0.5 * (1.0 + a / np.sqrt(a * a + width**2)), 0.0)
        active = (soft > UNSURE) & (soft < 1.0 - UNSURE)
        theta = np.where(active, soft, np.round(soft))
        ended = finish(self.function, w, theta, active, 0.1 * self.tolerance)
        if not ended.converged:
            return None, ended.iterations
        point = self.point(ended.w)
        return (point if self.minimal(point) else None), ended.iterations

    def minimal(self, point: KinkedPoint | None) -> bool:
        """Stationary, no kink lowers J, and no negative curvature where kinks are kept."""
        return (
            point is not None
            and point.stationarity <= self.tolerance
            and self.descent(point)[0] == 0.0
            and lowest_curvature(point) >= -self.tolerance
        )


def _with_work(found: BackendResult, stage: BackendResult) -> BackendResult:
    """A result with what a softened problem took added to its counts."""
    found.evaluator.counts.add(stage.evaluator.counts)
    return replace(found, nfev=None if found.nfev is None else found.nfev + (stage.nfev or 0))


def _smooth_there(found: BackendResult, discrete: DiscreteProblem, tolerance: float) -> bool:
    """Whether the conditions of first order hold at a point that no kink is near to.

    The remainder of the Lagrangian is of second order there, as a certificate asks (taylor.py).
    """
    evaluator, w = found.evaluator, found.w
    multipliers = Multipliers(found.multipliers)
    at = evaluator.trajectory(w, multipliers)
    if Measures.at(discrete, w, found.multipliers, at).above(tolerance):
        return False
    directions = np.random.default_rng(SEED).standard_normal((DIRECTIONS, len(w)))
    tests = (taylor_at(evaluator, w, directions, multipliers, h) for h in TAYLOR_STEPS)
    return any(test.gradient_rate > SECOND_ORDER for test in tests)


def _limited(request: Request) -> Request:
    """At a kink IPOPT finds no end: a few hundred iterations, unless asked for more."""
    if request.goal.max_iterations is not None or not isinstance(request.options, Exact):
        return request
    return replace(request, goal=Goal(request.goal.tolerance, EXACT_ITERATIONS))


def _by_newton(request: Request) -> Request:
    """Softened problems are solved by Newton's method, whatever ran before; no checkpoint."""
    if not isinstance(request.options, Adjoint):
        return request
    options = replace(request.options, method=Newton(), checkpoint=None, every=EVERY, restart=False)
    return replace(request, options=options)


def _typical(a: np.ndarray) -> float:
    """The root mean square of the arguments, 1 where all are 0."""
    finite = a[np.isfinite(a)]
    size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return size if size > 0.0 else 1.0


def _accepted(
    found: BackendResult, point: KinkedPoint, request: Request, note: str
) -> BackendResult:
    """Solved at active kinks."""
    text = f"{reached(point.stationarity, request.goal.tolerance)} at {point.count} active kinks"
    return replace(found, status=SOLVED, message=f"{text}; {note}" if note else text)


def _named(found: BackendResult, discrete: DiscreteProblem, note: str = "") -> BackendResult:
    """Not solved, because of a kink, which the message names."""
    kinds = ", ".join(sorted(discrete.problem.kinks))
    text = f"no minimiser was certified at a kink of the formulas ({kinds}); {REMEDY}"
    status = LIMIT if found.status == LIMIT else STALLED
    return replace(found, status=status, message=f"{text}; {note}" if note else text, refused=True)
