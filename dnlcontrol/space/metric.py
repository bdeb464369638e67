"""The metric of a control and its Riesz map.

The H¹ form with weight 1 has the matrix A, with ω = ½ on the sites s = l-1 and 1 elsewhere:

    triangle   wᵀA w = τ² Σ ω|w|² + Σ |differences|²          (diagonalised by DCT-II on the mirrored square)
    path       vᵀA v = τ Σ |v|² + τ^{-1} Σ |differences|²     (diagonalised by DCT-II)

Without an H¹ term A is the L² mass τ² or τ (ω = 1), and the identity for constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dnlcontrol.regularisers import H1, Regulariser, TvG
from dnlcontrol.space.layout import Layout


@dataclass(frozen=True)
class Metric:
    """The matrix A between sites and its inverse; it acts on arrays (sites, components)."""

    layout: Layout
    smooth: bool

    @cached_property
    def mass(self) -> np.ndarray:
        """The diagonal L² part."""
        tau = self.layout.grid.step
        if self.layout.on == "const":
            return np.ones(1)
        if self.layout.on == "t":
            return np.full(self.layout.count, tau)
        near = self.layout.layers - self.layout.sources == 1
        return tau**2 * (np.where(near, 0.5, 1.0) if self.smooth else np.ones(self.layout.count))

    @cached_property
    def matrix(self) -> Any:
        """A as a scipy.sparse CSC matrix, (sites, sites)."""
        from scipy import sparse

        mass = sparse.diags(self.mass)
        if not self.smooth or self.layout.on == "const":
            return mass.tocsc()
        D = differences(self.layout)
        weight = 1.0 if self.layout.on == "ts" else 1.0 / self.layout.grid.step
        return (mass + weight * (D.T @ D)).tocsc()

    @cached_property
    def diagonal(self) -> np.ndarray:
        return np.asarray(self.matrix.diagonal())

    def apply(self, values: np.ndarray) -> np.ndarray:
        """A w for w of shape (sites, components)."""
        return np.asarray(self.matrix @ values)

    def solve(self, values: np.ndarray) -> np.ndarray:
        """The Riesz map A^{-1} r for r of shape (sites, components)."""
        if not self.smooth or self.layout.on == "const":
            return values / self.mass[:, None]
        from scipy import fft

        if self.layout.on == "t":
            spectrum = fft.dct(values, axis=0, norm="ortho") / self._eigenvalues[:, None]
            return np.asarray(fft.idct(spectrum, axis=0, norm="ortho"))
        near = self.layout.layers - self.layout.sources == 1
        halves = np.where(near, 1.0, 0.5)[:, None] * values
        square = self.layout.mirrored(halves)
        spectrum = fft.dctn(square, axes=(0, 1), norm="ortho") / self._eigenvalues[:, :, None]
        solved = fft.idctn(spectrum, axes=(0, 1), norm="ortho")
        return 2.0 * np.asarray(solved[self.layout.layers - 1, self.layout.sources])

    @cached_property
    def _eigenvalues(self) -> np.ndarray:
        """Of the whole array's form: mass plus second differences with natural boundary conditions."""
        tau = self.layout.grid.step
        n = len(self.layout.line)
        second = 4.0 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2
        if self.layout.on == "t":
            return tau + second / tau
        return tau**2 + np.add.outer(second, second)


def differences(layout: Layout) -> Any:
    """First differences between neighbouring sites, a sparse matrix (edges, sites)."""
    from scipy import sparse

    n = layout.count
    if layout.on == "t":
        return sparse.diags([-np.ones(n - 1), np.ones(n - 1)], [0, 1], shape=(n - 1, n)).tocsr()
    number = np.full((layout.grid.depth + 1, layout.grid.depth + 1), -1)
    number[layout.layers, layout.sources] = np.arange(n)
    edges = []
    for left, right in ((number[:-1], number[1:]), (number[:, :-1], number[:, 1:])):
        both = (left >= 0) & (right >= 0)
        edges.append(np.stack([left[both], right[both]], axis=1))
    pairs = np.concatenate(edges)
    rows = np.repeat(np.arange(len(pairs)), 2)
    values = np.tile([-1.0, 1.0], len(pairs))
    return sparse.csr_matrix((values, (rows, pairs.ravel())), shape=(len(pairs), n))


def penalty_matrix(layout: Layout, regularisers: list[Regulariser]) -> Any:
    """Q with R = ½ wᵀQ w for the penalties of one control, a sparse matrix (sites, sites), or None."""
    from scipy import sparse

    total = None
    for item in regularisers:
        if isinstance(item, TvG):
            D = differences(layout)
            first = sparse.csc_matrix(([1.0], ([0], [0])), shape=(layout.count, layout.count))
            part = 2.0 * item.weight * (D.T @ D / layout.grid.step + item.tau * first)
        else:
            part = item.weight * Metric(layout, isinstance(item, H1)).matrix
        total = part if total is None else total + part
    if total is not None:
        total = total.tocsc()
        total.sort_indices()
    return total


def is_smooth(regularisers: list[Regulariser]) -> bool:
    """Whether a control's metric is H¹: it has an H1 or TvG term of positive weight."""
    return any(isinstance(r, (H1, TvG)) and r.weight > 0 for r in regularisers)
