"""One implicit layer of the reduced problem: x = G(t_l, g, z + d_l k(t_l, t_l, F(x)))."""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.exact.condensed.structure import Reduced
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.stage_root import (
    chosen,
    continued_root,
    doubtful,
    rough,
    solved,
    unsettled,
)

# Newton's method for an implicit layer converges quadratically or, after 50 steps, not at all; it
# has settled where a step is a few units of rounding
LAYER_STEPS = 50
LAYER_ROUNDING = 4.0
# further steps for entries that are small beside the largest: each doubles their digits
LAYER_REFINEMENTS = 3
EPS = float(np.finfo(float).eps)


class ImplicitLayer:
    """The layer l at controls w (size,), z (N, dz) the part of its integral from earlier layers."""

    def __init__(self, reduced: Reduced, l: int, w: Flat, z: np.ndarray) -> None:
        assert reduced.pairs.own is not None
        pair = slice(reduced.pairs.own[l], reduced.pairs.own[l] + 1)
        self.nodes, self.z = reduced.nodes, z
        self.l = l
        self.free, self.weight = reduced.free[l], reduced.grid.own[l]
        self.pair_data, self.pair_reads = reduced.pair_data(pair), w[reduced.pair_index[pair]]
        one = np.array([l])
        self.node_data, self.node_reads = reduced.node_data(one), w[reduced.node_index[one]]

    def source(self, x: np.ndarray) -> np.ndarray:
        """d_l k(t_l, t_l, F(x)), (N, dz)."""
        value = self.nodes.kernel.value(self.pair_data, x[None], self.pair_reads)[0]
        return np.asarray(self.weight * value)

    @np.errstate(all="ignore")
    def root(self, start: np.ndarray) -> np.ndarray:
        """The root that continues ``start``, (N, dx); NaN in samples where there is none."""
        x, steps = self._newton(start)
        if not np.any(doubtful(steps, start, x)):
            return self._refined(x, steps)
        found = continued_root(self._linearised, start, EPS)
        further, steps = self._newton(found)
        return chosen(x, self._refined(further, steps), start)

    def _linearised(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """r(x) (N, dx) and I - r_x (N, dx, dx)."""
        first = self.nodes.kernel.first(self.pair_data, x[None], self.pair_reads)
        k, through = (self.weight * v[0] for v in first[:2])
        if self.nodes.outer is None:
            value = self.free + (self.z + k)
        else:
            z = (self.z + k)[None]
            outer = self.nodes.outer.first(self.node_data, z, self.node_reads)
            value, through = outer[0][0], outer[1][0] @ through
        return value, np.eye(x.shape[-1]) - through

    def _newton(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Where Newton's method from x settles, NaN where it does not, and its steps."""
        steps: list[np.ndarray] = []
        for _ in range(LAYER_STEPS):
            value, slope = self._linearised(x)
            steps.append(solved(slope, x - value))
            x = x - steps[-1]
            small = LAYER_ROUNDING * EPS * (1.0 + np.abs(x).max(-1))
            moved = np.abs(steps[-1]).max(-1) > small
            if not np.any(moved):
                return x, steps
        return np.where(moved[:, None], np.nan, x), steps

    def _refined(self, x: np.ndarray, steps: list[np.ndarray]) -> np.ndarray:
        """Newton steps until every entry, the small ones too, solves its row to rounding."""
        if not np.any(rough(steps, x, EPS)):
            return x
        for _ in range(LAYER_REFINEMENTS):
            value, slope = self._linearised(x)
            if not np.any(unsettled(x - value, value, slope, x, EPS)):
                break
            x = x - solved(slope, x - value)
        return x
