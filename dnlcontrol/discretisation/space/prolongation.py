"""Controls of one depth at another by cubic splines, and starts extrapolated from levels.

The piecewise-linear extension is off by O(τ) in the H¹ norm, which the Hessian αA + compact sees in
full: a start prolonged that way begins with a gradient of size αO(τ) in all high frequencies, and
prolonged eigenvectors are off by as much. Minimisers of an H¹-penalised problem are smooth on the
triangle and on the mirrored square (their normal derivative on the diagonal is 0), so that
tensor-product cubic splines through the samples of the mirrored array lose nothing. A control
without an H¹ term may jump: there the piecewise-linear extension is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.extension import prolong
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.layout import Layout


@dataclass(frozen=True)
class Samples:
    """The controls of one depth: name -> layout, name -> values (sites, *shape)."""

    layouts: Mapping[str, Layout]
    values: Mapping[str, np.ndarray]

    @property
    def depth(self) -> int:
        """The largest depth of the layouts."""
        return max((layout.grid.depth for layout in self.layouts.values()), default=0)

    @staticmethod
    def of(space: ControlSpace, w: Flat) -> Samples:
        """The samples in a flat vector (space.size,)."""
        return Samples({b.name: b.layout for b in space}, space.split(w))

    def on(self, space: ControlSpace) -> Flat:
        """A flat vector (space.size,) of another depth's space; not clipped to its bounds."""
        return space.assemble(
            {
                b.name: resample(
                    self.layouts[b.name], self.values[b.name], b.layout, b.metric.smooth
                )
                for b in space
            }
        )


def resample(source: Layout, values: np.ndarray, target: Layout, smooth: bool) -> np.ndarray:
    """Samples (target sites, *shape), of the cubic spline where ``smooth``, else of Î_L."""
    if source == target or source.on == "const":
        return values.copy()
    degree = min(3, len(source.line) - 1)
    if not smooth or degree < 1:
        return prolong(source, values, target)
    flat = values.reshape(len(values), -1)
    if source.on == "t":
        found = splined(source.line, flat, target.line, degree)
    else:
        M = spline_matrix(source, target, degree)
        found = np.moveaxis(M @ np.moveaxis(source.mirrored(flat), -1, 0) @ M.T, 0, -1)
    return target.packed(found).reshape(-1, *values.shape[1:])


def splined(line: np.ndarray, values: np.ndarray, x: np.ndarray, degree: int) -> np.ndarray:
    """The not-a-knot spline through values (line, ...) at x, (x, ...); its ends go on outside."""
    from scipy.interpolate import make_interp_spline

    return np.asarray(make_interp_spline(line, values, k=degree)(x))


@lru_cache(maxsize=4)
def spline_matrix(source: Layout, target: Layout, degree: int) -> np.ndarray:
    """The spline along an axis as a matrix (target side, source side): many vectors are moved."""
    return splined(source.line, np.eye(len(source.line)), target.line, degree)


def extrapolated(depths: Sequence[int], sampled: Sequence[Flat], space: ControlSpace) -> Flat:
    """The polynomial in 1/L through levels of one branch, at the depth of ``space``, clipped.

    ``sampled``: the levels of these ``depths``, each (space.size,) as the result.
    """
    h = 1.0 / np.array(depths, dtype=float)
    w = np.zeros(space.size)
    for i, values in enumerate(sampled):
        others = np.delete(h, i)
        w += np.prod((1.0 / space.grid.depth - others) / (h[i] - others)) * values
    return np.clip(w, *space.bounds)
