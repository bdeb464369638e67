"""One implicit layer of the printed sweep: x = G(t, g, z + d k(t, t, F(x), w), v), solved for x.

Newton's method with the slope I - d G_z k_y F_x of every sample, to the root that continues the
state before (stage_root.py).
"""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.adjoint.printed.printed_layers import Controls, PrintedLayers
from dnlcontrol.discretisation.stage_root import (
    chosen,
    continued_root,
    doubtful,
    rough,
    solved,
    unsettled,
)

# Newton's method doubles its digits once it is close; more means that the stage has no root nearby
NEWTON_STEPS = 50
# a Newton step of so many units of rounding of the state is noise
NOISE_UNITS = 4.0
# further steps for entries that are small beside the largest: each doubles their digits
REFINEMENTS = 3
EPS = float(np.finfo(float).eps)


class PrintedStage:
    """The equation at layer l for n samples; states are (entries, n), rows (n, entries)."""

    def __init__(
        self, sweep: PrintedLayers, u: Controls, l: int, g: np.ndarray, z: np.ndarray
    ) -> None:
        self.sweep, self.u = sweep, u
        self.l = l
        self.g, self.z = g, z

    def integral(self, x: np.ndarray) -> np.ndarray:
        """ζ = z + d k(t, t, F(x), w), (entries, n)."""
        sweep, n = self.sweep, x.shape[-1]
        y = sweep.source(self.u, self.l, x)
        values = sweep.maps.kernel.value((1, n), sweep.column(self.u, self.l, y, own=True))
        found = self.z.copy()[None]
        for i, entry in enumerate(values):
            found[:, i] += sweep.own[self.l] * entry
        return np.asarray(found[0])

    def linearised(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """r (n, d) and I - r_x (n, d, d) at states (n, d)."""
        x = np.ascontiguousarray(rows.T)
        zeta = self.integral(x)
        return self.sweep.outer(self.u, self.l, self.g, zeta).T, self.slope(x, zeta)

    def slope(self, x: np.ndarray, zeta: np.ndarray) -> np.ndarray:
        """I - d G_z k_y F_x, (n, d, d)."""
        sweep, n = self.sweep, x.shape[-1]
        maps = sweep.maps
        y = sweep.source(self.u, self.l, x)
        at = sweep.column(self.u, self.l, y, own=True)
        through = sweep.own[self.l] * maps.kernel.jacobian(n, at, "y")
        if maps.feature is not None:
            args = sweep.source_arguments(self.u, self.l, x)
            through = through @ maps.feature.jacobian(n, args, "x")
        if maps.outer is not None:
            args = sweep.outer_arguments(self.u, self.l, self.g, zeta)
            through = maps.outer.jacobian(n, args, "z") @ through
        return np.asarray(np.eye(through.shape[-1]) - through)

    def solved(self, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and ζ; NaN in samples where Newton's method does not settle."""
        x = np.ascontiguousarray(self._root(guess.T).T)
        return x, self.integral(x)

    def costate(self, x: np.ndarray, xbar: np.ndarray) -> np.ndarray:
        """λ = (I - r_x)^{-T} x̄ at the solved state, (d, n)."""
        slope = self.slope(x, self.integral(x))
        return solved(slope.transpose(0, 2, 1), xbar.T).T

    def change(self, x: np.ndarray, forced: np.ndarray) -> np.ndarray:
        """δx = (I - r_x)^{-1} δr of the explicit changes, (d, n)."""
        return solved(self.slope(x, self.integral(x)), forced.T).T

    def _root(self, start: np.ndarray) -> np.ndarray:
        x, steps = self._newton(start)
        if not np.any(doubtful(steps, start, x)):
            return self._refined(x, steps)
        further, steps = self._newton(continued_root(self.linearised, start, EPS))
        return chosen(x, self._refined(further, steps), start)

    def _newton(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """The states (n, d) where the steps are rounding, NaN where they never are; the steps."""
        steps: list[np.ndarray] = []
        for _ in range(NEWTON_STEPS):
            value, slope = self.linearised(x)
            steps.append(solved(slope, x - value))
            x = x - steps[-1]
            moved = _size(steps[-1]) > NOISE_UNITS * EPS * (1.0 + _size(x))
            if len(steps) > 1:  # the next step would be about size² / before
                size, before = _size(steps[-1]), _size(steps[-2])
                moved &= size * size > NOISE_UNITS * EPS * (1.0 + _size(x)) * before
            if not np.any(moved):  # NaN compares as settled, and stays NaN
                return x, steps
        return np.where(moved[:, None], np.nan, x), steps

    def _refined(self, x: np.ndarray, steps: list[np.ndarray]) -> np.ndarray:
        """Newton steps until every entry, the small ones too, solves its row to rounding."""
        if not np.any(rough(steps, x, EPS)):
            return x
        for _ in range(REFINEMENTS):
            value, slope = self.linearised(x)
            if not np.any(unsettled(x - value, value, slope, x, EPS)):
                break
            x = x - solved(slope, x - value)
        return x


def _size(rows: np.ndarray) -> np.ndarray:
    """The largest entry of each sample, (n,)."""
    return np.asarray(np.max(np.abs(rows), axis=1))
