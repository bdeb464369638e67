"""Extensions of control samples to functions on the continuum, and the way between depths.

- piecewise constant: the value of the cell;
- piecewise linear Î_L: on the triangle bilinear between the cell centres of the array mirrored
  across the diagonal, constant in the outer half cells; on the path linear between the samples,
  constant outside. Samples at the nodes reach the ends of the axes: there are no outer half cells.

Prolongation samples Î_L at the finer sites; restriction takes the cell averages of the
piecewise-constant mirrored array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.discretisation.space.layout import Layout

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Weights: TypeAlias = "Callable[[np.ndarray, np.ndarray], csr_matrix]"
"""(line (side,), points (m,)) -> (m, side): what each sample adds to the value at each point."""


@dataclass(frozen=True)
class Extension:
    """A control of a solution, callable as its piecewise-linear extension.

    ``control(t, s)`` on the triangle 0 <= s <= t <= T, ``control(t)`` on the path, ``control()``
    for constants; arrays of times broadcast, the result has shape (*times, *control shape).
    ``piecewise_constant`` is the other extension, ``.at`` a sample, ``.array()`` dense.
    """

    name: str
    layout: Layout
    values: np.ndarray

    def __call__(self, *times: ArrayLike) -> np.ndarray:
        return self._evaluate(times, linear_weights)

    def piecewise_constant(self, *times: ArrayLike) -> np.ndarray:
        """The value of the cell that contains the point, (*times, *shape)."""
        return self._evaluate(times, nearest_weights)

    def at(self, l: int, s: int | None = None) -> np.ndarray:
        """The sample w^{l,s} (0 <= s < l <= L; at the nodes s <= l), or v^l, (*shape)."""
        sample: np.ndarray = self.values[self.layout.index(l, s)].copy()
        return sample

    def array(self) -> np.ndarray:
        """(L, L, *shape), entry [l-1, s], NaN for s >= l; (samples, *shape) on the path; (*shape).

        With samples at the nodes (trapezoidal rule) (L+1, L+1, *shape) with entry [l, s] and NaN
        for s > l.
        """
        return self.layout.dense(self.values)

    @property
    def positions(self) -> tuple[np.ndarray, ...]:
        """The coordinates of the packed ``values``."""
        return self.layout.positions

    def _evaluate(self, times: tuple[ArrayLike, ...], weights: Weights) -> np.ndarray:
        expected = {"ts": 2, "t": 1, "const": 0}[self.layout.on]
        if len(times) != expected:
            names = {2: "(t, s)", 1: "(t)", 0: "no argument"}[expected]
            checks.reject(f"control {self.name!r}", f"{len(times)} times", names)
        if expected == 0:
            constant: np.ndarray = self.values[0].copy()
            return constant
        arrays = [checks.array_of(f"control {self.name!r}", t, "numbers as times") for t in times]
        try:
            grids = np.broadcast_arrays(*arrays)
        except ValueError:
            checks.reject(
                f"control {self.name!r}",
                f"times of shapes {[a.shape for a in arrays]}",
                "shapes that broadcast",
            )
        self._check_domain(grids)
        shape = self.values.shape[1:]
        flat = [g.reshape(-1) for g in grids]
        if expected == 1:
            out = weights(self.layout.line, flat[0]) @ self.values.reshape(len(self.values), -1)
        else:
            square = self.layout.mirrored(self.values)
            left, right = weights(self.layout.line, flat[0]), weights(self.layout.line, flat[1])
            out = _pairs(left, right, square.reshape(*square.shape[:2], -1))
        return np.asarray(out).reshape((*grids[0].shape, *shape))

    def _check_domain(self, times: Sequence[np.ndarray]) -> None:
        horizon = self.layout.grid.horizon
        slack = 1e-12 * horizon
        for value in times:
            if not np.all((value >= -slack) & (value <= horizon + slack)):
                bad = value[~((value >= -slack) & (value <= horizon + slack))].flat[0]
                checks.reject(
                    f"control {self.name!r}", f"time {bad:g}", f"times from 0 to {horizon:g}"
                )
        if len(times) == 2 and np.any(times[1] > times[0] + slack):
            checks.reject(
                f"control {self.name!r}", "s > t", "points of the triangle 0 <= s <= t <= T"
            )


def linear_weights(line: np.ndarray, x: np.ndarray) -> csr_matrix:
    """Sparse (points, samples): linear interpolation between ``line``, constant outside."""
    from scipy import sparse

    n = len(line)
    if n == 1:
        return sparse.csr_matrix(np.ones((len(x), 1)))
    i = np.clip(np.searchsorted(line, x) - 1, 0, n - 2)
    theta = np.clip((x - line[i]) / (line[i + 1] - line[i]), 0.0, 1.0)
    rows = np.tile(np.arange(len(x)), 2)
    entries = (np.concatenate([1 - theta, theta]), (rows, np.concatenate([i, i + 1])))
    return sparse.csr_matrix(entries, shape=(len(x), n))


def nearest_weights(line: np.ndarray, x: np.ndarray) -> csr_matrix:
    """Sparse (points, samples): each point's cell, bounded halfway between samples."""
    from scipy import sparse

    edges = 0.5 * (line[1:] + line[:-1])
    i = np.searchsorted(edges, x, side="right")
    return sparse.csr_matrix((np.ones(len(x)), (np.arange(len(x)), i)), shape=(len(x), len(line)))


def _pairs(left: csr_matrix, right: csr_matrix, square: np.ndarray) -> np.ndarray:
    """Σ_ij left[p, i] right[p, j] square[i, j], point by point."""
    out = np.zeros((left.shape[0], square.shape[2]))
    li, ri = left.tocsr(), right.tocsr()
    for a in range(int(np.diff(li.indptr).max())):
        ia, wa = _entry(li, a)
        for b in range(int(np.diff(ri.indptr).max())):
            ib, wb = _entry(ri, b)
            out += (wa * wb)[:, None] * square[ia, ib]
    return out


def _entry(matrix: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k-th stored entry of every row (weight 0 where there is none)."""
    start, stop = matrix.indptr[:-1], matrix.indptr[1:]
    there = start + k < stop
    where = np.where(there, start + k, np.maximum(stop - 1, 0))
    return matrix.indices[where], np.where(there, matrix.data[where], 0.0)


def tensor_values(
    layout: Layout, values: np.ndarray, x: np.ndarray, slope: int | None = None
) -> np.ndarray:
    """Î_L, or its derivative along axis ``slope``, on x × x in the square, or on x on the path.

    Shape (len(x), len(x), components) or (len(x), components).
    """
    flat = values.reshape(len(values), -1)
    line = layout.line
    B = linear_weights(line, x)
    D = B if slope is None else slope_weights(line, x)
    if layout.on == "t":
        return np.asarray(D @ flat)
    square = layout.mirrored(flat)
    left = D if slope == 0 else B
    right = D if slope == 1 else B
    half = np.tensordot(left.toarray(), square, (1, 0))
    return np.tensordot(right.toarray(), half, (1, 1)).transpose(1, 0, 2)


def slope_weights(line: np.ndarray, x: np.ndarray) -> csr_matrix:
    """Sparse (points, samples): the slope of linear interpolation, 0 in the outer half cells."""
    from scipy import sparse

    n = len(line)
    if n == 1:
        return sparse.csr_matrix((len(x), 1))
    i = np.clip(np.searchsorted(line, x) - 1, 0, n - 2)
    inside = ((x > line[0]) & (x < line[-1])) / (line[i + 1] - line[i])
    rows = np.tile(np.arange(len(x)), 2)
    entries = (np.concatenate([-inside, inside]), (rows, np.concatenate([i, i + 1])))
    return sparse.csr_matrix(entries, shape=(len(x), n))


def prolong(source: Layout, values: np.ndarray, target: Layout) -> np.ndarray:
    """Samples (target sites, *shape) of the piecewise-linear extension of the source's."""
    if source.on == "const":
        return values.copy()
    return Extension("prolonged", source, values)(*target.positions)


def restrict(source: Layout, values: np.ndarray, target: Layout) -> np.ndarray:
    """Averages (target sites, *shape) of the mirrored piecewise-constant extension over cells.

    Samples at nodes (of the trapezoidal rule, or of a path control read by the outer map) stand for
    no cell: they are interpolated.
    """
    if source.on == "const":
        return values.copy()
    if source.side > source.grid.depth or target.side > target.grid.depth:
        return prolong(source, values, target)
    A = _overlaps(source.grid.depth, target.grid.depth)
    flat = values.reshape(len(values), -1)
    if source.on == "t":
        return np.asarray(A @ flat).reshape(-1, *values.shape[1:])
    averaged = np.einsum("ai,bj,ijc->abc", A, A, source.mirrored(flat), optimize=True)
    return target.packed(averaged).reshape(-1, *values.shape[1:])


def cell_averages(
    function: Callable[..., ArrayLike], layout: Layout, points: int = 4
) -> np.ndarray:
    """The recovery sequence: averages of a function of (t, s) over the cells, (sites, *shape).

    The function is extended by reflection. A cell reaches half a step to both sides of its sample,
    as far as [0, T] goes. Gauss quadrature with ``points`` per direction; diagonal cells use the
    mirrored function.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    nodes, weights = 0.5 * (nodes + 1.0), 0.5 * weights  # on [0, 1]
    if layout.on == "const":
        return np.asarray(function())[None]
    half, line = 0.5 * layout.grid.step, layout.line
    low = np.maximum(line - half, 0.0)
    width = np.minimum(line + half, layout.grid.horizon) - low
    pairs = [
        (p, q, u * v)
        for p, u in zip(nodes, weights, strict=True)
        for q, v in zip(nodes, weights, strict=True)
    ]
    if layout.on == "t":
        return np.asarray(
            sum(
                w * np.asarray(function(low + width * p))
                for p, w in zip(nodes, weights, strict=True)
            )
        )
    i, j = layout.index_pairs
    t = low[i]
    s = low[j]
    a = width[i]
    b = width[j]
    whole = np.asarray(
        sum(
            w * np.asarray(function(t + a * p, np.minimum(s + b * q, t + a * p)))
            for p, q, w in pairs
        )
    )
    # on the diagonal: the average over the half cell s <= t, with s = t_0 + hpq and the area
    # element 2p dp dq
    near = layout.diagonal
    start, h = t[near], a[near]
    whole[near] = sum(
        2.0 * p * w * np.asarray(function(start + h * p, start + h * p * q)) for p, q, w in pairs
    )
    return whole


def _overlaps(source: int, target: int) -> np.ndarray:
    """Row a: the share of the target's cell a (of [0, 1]) that each source cell covers."""
    edges, cuts = np.arange(source + 1) / source, np.arange(target + 1) / target
    low = np.maximum(edges[None, :-1], cuts[:-1, None])
    high = np.minimum(edges[None, 1:], cuts[1:, None])
    return np.asarray(np.maximum(high - low, 0.0) * target)
