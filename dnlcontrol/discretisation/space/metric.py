"""The metric of a control and its Riesz map.

The H¹ form with weight 1 has the matrix A, with ω = ½ on the sites s = l-1 and 1 elsewhere:

    triangle   wᵀA w = τ² Σ ω|w|² + Σ |differences|²
    path       vᵀA v = τ Σ |v|² + τ^{-1} Σ |differences|²

DCT-II diagonalises it, on the triangle that of the mirrored square. Without an H¹ term A is the L²
mass τ² or τ (ω = 1), and the identity for constants.

Samples at the nodes of a rule (trapezoidal) carry the weights m of its line, τ and τ/2 at both
ends. There the form is half the energy of the mirrored array, diagonalised by DCT-I after scaling
by m^{1/2}:

    triangle   wᵀA w = Σ ω m_l m_s |w|² + τ^{-1} Σ m |differences|²
    path       vᵀA v = Σ m |v|² + τ^{-1} Σ |differences|²

with m that of the other axis in the differences of the triangle, and ω = ½ on s = l.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.problem.regularisers import H1, Regulariser, TvG

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix, csr_matrix

# samples on a path up to which a matrix is exact enough: its rounding in J is L^{3/2} ε = 6e-11
MATRIX_SITES = 4096


@dataclass(frozen=True, eq=False)
class Mirror:
    """From the sites of the triangle to the cells of the mirrored square and back.

    ``sites``: the site of each cell, (side²,); ``cells``: the cell of each site, (sites,);
    ``before``, ``after``: factors of the sites, (sites, 1); ``inverse`` of the eigenvalues,
    (side, side, 1).
    """

    sites: np.ndarray
    cells: np.ndarray
    before: np.ndarray
    after: np.ndarray
    inverse: np.ndarray


@dataclass(frozen=True)
class Metric:
    """The matrix A between sites and its inverse; it acts on arrays (sites, components)."""

    layout: Layout
    smooth: bool

    @cached_property
    def mass(self) -> np.ndarray:
        """The diagonal L² part, (sites,)."""
        layout = self.layout
        if layout.on == "const":
            return np.ones(1)
        m = layout.line_mass
        if layout.on == "t":
            return m
        i, j = layout.index_pairs
        halved = layout.diagonal & (self.smooth or layout.grid.at_nodes)
        return np.asarray(np.where(halved, 0.5, 1.0) * m[i] * m[j])

    @cached_property
    def matrix(self) -> csc_matrix:
        """A as a scipy.sparse CSC matrix, (sites, sites)."""
        from scipy import sparse

        mass = sparse.diags(self.mass)
        if not self.smooth or self.layout.on == "const":
            return mass.tocsc()
        D, weights = differences(self.layout)
        return (mass + D.T @ sparse.diags(weights / self.layout.grid.step) @ D).tocsc()

    @cached_property
    def diagonal(self) -> np.ndarray:
        """The diagonal of A, (sites,)."""
        return np.asarray(self.matrix.diagonal())

    def apply(self, values: np.ndarray) -> np.ndarray:
        """A w for w of shape (sites, components)."""
        return np.asarray(self.matrix @ values)

    def solve(self, values: np.ndarray) -> np.ndarray:
        """The Riesz map A^{-1} r for r of shape (sites, components)."""
        if not self.smooth or self.layout.on == "const":
            return np.asarray(values / self.mass[:, None])
        from scipy import fft

        layout, kind = self.layout, 1 if self.layout.grid.at_nodes else 2
        root = np.sqrt(layout.line_mass)
        if layout.on == "t":
            spectrum = (
                fft.dct(values / root[:, None], kind, axis=0, norm="ortho")
                / self._eigenvalues[:, None]
            )
            return np.asarray(fft.idct(spectrum, kind, axis=0, norm="ortho") / root[:, None])
        mirror = self._mirror
        shape = layout.side, layout.side, values.shape[1]
        # each array is new, and may be overwritten
        square = np.take(mirror.before * values, mirror.sites, axis=0).reshape(shape)
        spectrum = fft.dctn(square, kind, axes=(0, 1), norm="ortho", overwrite_x=True)
        spectrum *= mirror.inverse
        solved = fft.idctn(spectrum, kind, axes=(0, 1), norm="ortho", overwrite_x=True)
        out = np.take(solved.reshape(-1, values.shape[1]), mirror.cells, axis=0)
        out *= mirror.after
        return np.asarray(out)

    @cached_property
    def _mirror(self) -> Mirror:
        layout = self.layout
        i, j = layout.index_pairs
        root = np.sqrt(layout.line_mass)
        both = (root[i] * root[j])[:, None]
        return Mirror(
            sites=layout.mirrored(np.arange(layout.count)).ravel(),
            cells=i * layout.side + j,
            before=np.where(layout.diagonal, 1.0, 0.5)[:, None] / both,
            after=2.0 / both,
            inverse=1.0 / self._eigenvalues[:, :, None],
        )

    @cached_property
    def _eigenvalues(self) -> np.ndarray:
        """Of the mirrored form over its mass: one plus second differences, natural ends."""
        n = self.layout.side
        angle = np.pi * np.arange(n) / (2 * (n - 1 if self.layout.grid.at_nodes else n))
        second = 4.0 * np.sin(angle) ** 2 / self.layout.grid.step**2
        return 1.0 + (second if self.layout.on == "t" else np.add.outer(second, second))


def differences(layout: Layout) -> tuple[csr_matrix, np.ndarray]:
    """First differences of neighbouring sites, sparse (edges, sites), and weights (edges,).

    The weight is that of the sample on the other axis; 1 on the path.
    """
    from scipy import sparse

    n = layout.count
    if layout.on == "t":
        return sparse.diags(
            [-np.ones(n - 1), np.ones(n - 1)], [0, 1], shape=(n - 1, n)
        ).tocsr(), np.ones(n - 1)
    number = np.full((layout.side, layout.side), -1)
    number[layout.index_pairs] = np.arange(n)
    line = np.broadcast_to(layout.line_mass, number.shape)
    edges, weights = [], []
    for left, right, m in (
        (number[:-1], number[1:], line[:-1]),
        (number[:, :-1], number[:, 1:], line.T[:, :-1]),
    ):
        both = (left >= 0) & (right >= 0)
        edges.append(np.stack([left[both], right[both]], axis=1))
        weights.append(m[both])
    pairs = np.concatenate(edges)
    rows = np.repeat(np.arange(len(pairs)), 2)
    values = np.tile([-1.0, 1.0], len(pairs))
    matrix = sparse.csr_matrix((values, (rows, pairs.ravel())), shape=(len(pairs), n))
    return matrix, np.concatenate(weights)


def penalty_matrix(layout: Layout, regularisers: list[Regulariser]) -> csc_matrix | None:
    """Q with R = ½ wᵀQ w for the penalties of one control, sparse (sites, sites), or None."""
    from scipy import sparse

    total = None
    for item in regularisers:
        if isinstance(item, TvG):
            D, _ = differences(layout)
            first = sparse.csc_matrix(([1.0], ([0], [0])), shape=(layout.count, layout.count))
            part = 2.0 * item.weight * (D.T @ D / layout.grid.step + item.tau * first)
        else:
            part = item.weight * Metric(layout, isinstance(item, H1)).matrix
        total = part if total is None else total + part
    if total is not None:
        total = total.tocsc()
        total.sort_indices()
    return total


@dataclass(frozen=True)
class LongPath:
    """Q v on a path by differences first, mass ⊙ v + stiffness·Dᵀ(D v), for many sites.

    The matrix adds entries of size v/τ to one of size τv: its rounding, of L^{3/2} ε in J, is then
    more than what Newton's method has left to gain.
    """

    mass: np.ndarray
    stiffness: float

    def __matmul__(self, values: np.ndarray) -> np.ndarray:
        out: np.ndarray = self.mass[:, None] * values
        slopes = self.stiffness * np.diff(values, axis=0)
        out[:-1] -= slopes
        out[1:] += slopes
        return out


def long_path(layout: Layout, regularisers: list[Regulariser]) -> LongPath | None:
    """The penalties of a control on a path of more than MATRIX_SITES sites; else None."""
    if layout.on != "t" or layout.count <= MATRIX_SITES or not regularisers:
        return None
    mass, stiffness = np.zeros(layout.count), 0.0
    for item in regularisers:
        if isinstance(item, TvG):
            stiffness += 2.0 * item.weight / layout.grid.step
            mass[0] += 2.0 * item.weight * item.tau
        else:
            mass += item.weight * layout.line_mass
            stiffness += item.weight / layout.grid.step if isinstance(item, H1) else 0.0
    return LongPath(mass, stiffness)


def is_smooth(regularisers: list[Regulariser]) -> bool:
    """Whether a control's metric is H¹: it has an H1 or TvG term of positive weight."""
    return any(isinstance(r, (H1, TvG)) and r.weight > 0 for r in regularisers)
