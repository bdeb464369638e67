"""The interior-point method with a filter (Wächter, Biegler 2006) on a lifted program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dnlcontrol.minimise.barrier.system import BarrierPoint, BarrierSystem, Frame, KKTStep

# Numbers of the method as in Wächter, Biegler 2006, sections 2 and 3.
FIRST_BARRIER = 0.1
BARRIER_LINEAR = 0.2
BARRIER_POWER = 1.5
BARRIER_ERROR = 10.0  # a barrier problem is solved to this times the barrier parameter
LEAST_SHARE = 0.99  # of the distance to a side
VIOLATION_DECREASE = 1e-5
MERIT_DECREASE = 1e-8
ARMIJO = 1e-8
SWITCH_VIOLATION = 1.1
SWITCH_SLOPE = 2.3
LARGEST_VIOLATION = 1e4
SMALL_VIOLATION = 1e-4
CORRECTIONS = 4
CORRECTION_DECREASE = 0.99
SHIFT_FALL = 3.0
# changes of φ below this share of it are rounding
MERIT_ROUNDING = 1e-14
# steps shorter than 2^{-30} change nothing: the method is stuck
LEAST_STEP = 2.0**-30


@dataclass
class Filter:
    """Pairs (θ, φ) that no iterate may be dominated by."""

    largest: float
    pairs: list[tuple[float, float]] = field(default_factory=list)

    def lets(self, violation: float, merit: float) -> bool:
        """Whether a point is better than every pair in one of its two numbers."""
        if not violation <= self.largest:
            return False
        return all(violation < v or merit < m for v, m in self.pairs)

    def add(self, violation: float, merit: float) -> None:
        """Leave a margin to a point that is left behind."""
        margin = VIOLATION_DECREASE * violation
        self.pairs.append((violation - margin, merit - MERIT_DECREASE * violation))


@dataclass(frozen=True)
class Stopped:
    """Where the method stopped: ``why`` is "converged", "iterations" or "stuck"."""

    at: BarrierPoint
    why: str
    iterations: int
    error: float
    barrier: float


Told = Callable[[BarrierPoint, float, float], None]
"""(iterate, error, barrier) after each iteration."""


@dataclass
class InteriorPointMethod:
    """One run on a frame, to ``tolerance`` in the largest error.

    ``stop``: ends it at an iterate; ``cap``: no violation above it is accepted; ``shift``: the last
    that made a matrix definite.
    """

    frame: Frame
    tolerance: float
    max_iterations: int
    told: Told | None = None
    stop: Callable[[BarrierPoint], bool] | None = None
    cap: float = np.inf
    shift: float = 0.0

    def run(self, at: BarrierPoint, barrier: float = FIRST_BARRIER) -> Stopped:
        """From an iterate until the conditions hold, or no step is accepted."""
        self._restart(at)
        for k in range(self.max_iterations + 1):
            newton = self.frame.model(at)
            error = newton.error(0.0)
            if self.told is not None:
                self.told(at, error, barrier)
            if error <= self.tolerance or (self.stop is not None and self.stop(at)):
                return Stopped(at, "converged", k, error, barrier)
            if k == self.max_iterations:
                break
            while newton.error(barrier) <= BARRIER_ERROR * barrier:
                smaller = self._smaller(barrier)
                if smaller == barrier:
                    break
                barrier = smaller
                self._restart(at)
            after = self._step(newton, barrier)
            if after is None:
                return Stopped(at, "stuck", k, error, barrier)
            at = after
        return Stopped(at, "iterations", self.max_iterations, error, barrier)

    def _smaller(self, barrier: float) -> float:
        following = min(BARRIER_LINEAR * barrier, float(barrier**BARRIER_POWER))
        return max(self.tolerance / BARRIER_ERROR, following)

    def _restart(self, at: BarrierPoint) -> None:
        """A new filter, for a new barrier problem."""
        size = max(1.0, at.violation)
        self.filter = Filter(min(LARGEST_VIOLATION * size, max(self.cap, at.violation)))
        self.small = SMALL_VIOLATION * size

    def _step(self, newton: BarrierSystem, barrier: float) -> BarrierPoint | None:
        """The next iterate; None where no step is accepted."""
        if not newton.prepare(barrier, self.shift / SHIFT_FALL):
            return None
        self.shift = newton.shift or self.shift
        share = max(LEAST_SHARE, 1.0 - barrier)
        at = newton.at
        move = newton.move(at.values.defects, at.residuals(at.values))
        merit, violation = self.frame.merit(at, barrier), at.violation
        slope = newton.slope(move)
        longest = newton.longest(move, share)
        length = longest
        while length >= LEAST_STEP * longest:
            trial = newton.trial(move, length)
            verdict = self._verdict(trial, barrier, (violation, merit), slope, length)
            if verdict:
                return self._taken(newton, trial, move, length, verdict)
            if length == longest and trial.values.finite and trial.violation >= violation:
                corrected = self._corrected(newton, trial, move, longest, barrier)
                if corrected is not None:
                    return corrected
            length *= 0.5
        return None

    def _taken(
        self,
        newton: BarrierSystem,
        trial: BarrierPoint,
        move: KKTStep,
        length: float,
        verdict: str,
    ) -> BarrierPoint:
        share = max(LEAST_SHARE, 1.0 - newton.barrier)
        if verdict == "violation":
            merit = self.frame.merit(newton.at, newton.barrier)
            self.filter.add(newton.at.violation, merit)
        return newton.accepted(trial, move, length, share)

    def _verdict(
        self,
        trial: BarrierPoint,
        barrier: float,
        before: tuple[float, float],
        slope: float,
        length: float,
    ) -> str:
        """What a trial point improves, merit or violation; empty where it is refused."""
        if not trial.values.finite:
            return ""
        violation, merit = trial.violation, self.frame.merit(trial, barrier)
        if not np.isfinite(merit) or not self.filter.lets(violation, merit):
            return ""
        rounding = MERIT_ROUNDING * max(1.0, abs(before[1]))
        falls = slope < 0 and length * (-slope) ** SWITCH_SLOPE > before[0] ** SWITCH_VIOLATION
        if before[0] <= self.small and falls:
            enough = merit - before[1] - rounding <= ARMIJO * length * slope
            return "merit" if enough else ""
        better = violation <= (1 - VIOLATION_DECREASE) * before[0]
        lower = merit - rounding <= before[1] - MERIT_DECREASE * before[0]
        return "violation" if better or lower else ""

    def _corrected(
        self,
        newton: BarrierSystem,
        trial: BarrierPoint,
        move: KKTStep,
        longest: float,
        barrier: float,
    ) -> BarrierPoint | None:
        """Second-order corrections of a full step that was refused for its violation."""
        at = newton.at
        share = max(LEAST_SHARE, 1.0 - barrier)
        defects, rows = at.values.defects, at.residuals(at.values)
        before = at.violation, self.frame.merit(at, barrier)
        slope = newton.slope(move)
        last, length = before[0], longest
        for _ in range(CORRECTIONS):
            defects = length * defects + trial.values.defects
            rows = length * rows + trial.residuals(trial.values)
            corrected = newton.move(defects, rows)
            length = newton.longest(corrected, share)
            trial = newton.trial(corrected, length)
            verdict = self._verdict(trial, barrier, before, slope, longest)
            if verdict:
                return self._taken(newton, trial, corrected, length, verdict)
            if not trial.values.finite or trial.violation > CORRECTION_DECREASE * last:
                return None
            last = trial.violation
        return None
