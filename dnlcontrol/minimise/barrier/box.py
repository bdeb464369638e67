"""A vector in a box with the multipliers of its sides, as the interior-point method keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# A start is put so far inside its bounds: in units of the bound's size, and of the box's width
# (Wächter, Biegler 2006, section 3.6).
PUSH = 1e-2
# multipliers stay within this factor of barrier / distance (the same, equation 16)
MULTIPLIER_RANGE = 1e10


@dataclass(frozen=True)
class Box:
    """``at`` strictly between ``lower`` and ``upper``; ``below`` and ``above`` >= 0 push back."""

    at: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    below: np.ndarray
    above: np.ndarray

    @staticmethod
    def inside(at: np.ndarray, lower: np.ndarray, upper: np.ndarray, barrier: float) -> Box:
        """The nearest point that is clearly inside, with the multipliers of the barrier there."""
        width = np.where(np.isfinite(upper - lower), upper - lower, np.inf)

        def push(side: np.ndarray) -> np.ndarray:
            size = np.where(np.isfinite(side), np.maximum(1.0, np.abs(side)), 1.0)
            return np.asarray(PUSH * np.minimum(size, width))

        at = np.maximum(at, np.where(np.isfinite(lower), lower + push(lower), -np.inf))
        at = np.minimum(at, np.where(np.isfinite(upper), upper - push(upper), np.inf))
        return Box(
            at, lower, upper, barrier / (at - lower), barrier / (upper - at)
        )  # 0 for an infinite side

    @property
    def sigma(self) -> np.ndarray:
        """The primal-dual barrier's diagonal."""
        low, high = self.at - self.lower, self.upper - self.at
        return np.asarray(self.below / low + self.above / high)

    @property
    def pressure(self) -> np.ndarray:
        """What the sides' multipliers add to a gradient."""
        return np.asarray(self.above - self.below)

    def gradient(self, barrier: float) -> np.ndarray:
        """Of the barrier function."""
        low, high = self.at - self.lower, self.upper - self.at
        return np.asarray(barrier / high - barrier / low)

    def logs(self) -> float:
        """Σ log of the distances to finite sides, -inf where rounding left none."""
        total = 0.0
        for distance in (self.at - self.lower, self.upper - self.at):
            finite = distance[np.isfinite(distance)]
            if not np.all(finite > 0):
                return -np.inf
            total += float(np.sum(np.log(finite)))
        return total

    def longest(self, d: np.ndarray, share: float) -> float:
        """The largest step <= 1 that keeps 1 - share of each distance."""
        low = np.where(d < 0, share * (self.at - self.lower) / -np.where(d < 0, d, -1.0), np.inf)
        high = np.where(d > 0, share * (self.upper - self.at) / np.where(d > 0, d, 1.0), np.inf)
        return float(min(1.0, np.min(low, initial=1.0), np.min(high, initial=1.0)))

    def dual_steps(self, d: np.ndarray, barrier: float) -> tuple[np.ndarray, np.ndarray]:
        """Newton steps of ``below`` and ``above`` with the step d."""
        low, high = self.at - self.lower, self.upper - self.at
        below = (barrier - self.below * d) / low - self.below
        return below, (barrier + self.above * d) / high - self.above

    def longest_dual(self, d: np.ndarray, barrier: float, share: float) -> float:
        """The largest step <= 1 that keeps 1 - share of each multiplier."""
        step = 1.0
        for z, dz in zip((self.below, self.above), self.dual_steps(d, barrier), strict=True):
            falling = (dz < 0) & (z > 0)
            step = min(step, float(np.min(share * z[falling] / -dz[falling], initial=1.0)))
        return step

    def moved(self, d: np.ndarray, length: float) -> Box:
        """At ``at`` + length·d, clear of the sides by rounding; the multipliers stay."""
        return replace(self, at=self.at + length * d)

    def with_duals(self, before: Box, d: np.ndarray, length: float, barrier: float) -> Box:
        """With the multipliers of ``before`` moved along their steps, within their range."""
        below, above = before.dual_steps(d, barrier)
        low, high = self.at - self.lower, self.upper - self.at
        return replace(
            self,
            below=_ranged(before.below + length * below, barrier, low),
            above=_ranged(before.above + length * above, barrier, high),
        )

    def complementarity(self, barrier: float) -> float:
        """The largest |multiplier · distance - barrier|."""
        worst = 0.0
        for z, distance in ((self.below, self.at - self.lower), (self.above, self.upper - self.at)):
            finite = np.isfinite(distance)
            worst = max(
                worst, float(np.max(np.abs(z[finite] * distance[finite] - barrier), initial=0.0))
            )
        return worst


def _ranged(z: np.ndarray, barrier: float, distance: np.ndarray) -> np.ndarray:
    here = np.where(np.isfinite(distance), barrier / distance, 0.0)
    return np.asarray(np.clip(z, here / MULTIPLIER_RANGE, here * MULTIPLIER_RANGE))
