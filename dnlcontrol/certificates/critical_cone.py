"""The critical cone at a point, and the directions in it along which the Lagrangian bends down.

    d_i = 0 where a control is strongly held, ∇c_i · d = 0 for equalities and strongly active rows:
    the hull;  s_i d_i >= 0 and s_j ∇c_j · d >= 0 on weakly held controls and weakly active rows,
    s pointing inwards: the cone

A side is strong where its multiplier is above the tolerance. The second-order condition of a local
minimiser is dᵀHd >= 0 on the cone; dᵀHd > 0 there is sufficient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dnlcontrol.certificates.kinks import PieceProducts
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.multipliers import Multipliers

PROJECTIONS = 200  # sweeps of Hildreth's method; each reduces the distance to the cone
POWER_STEPS = 40  # of σA - H in the cone, per start
RANDOM_STARTS = 4  # beside the eigenvector, both signs
SETTLED_QUOTIENT = 1e-6  # relative change of a Rayleigh quotient below which it stands still
# relative to the largest one: below, a multiplier of the Gram matrix is rounding
DEPENDENT = 1e-13


@dataclass(frozen=True)
class Cone:
    """The critical cone: a face of strongly held entries, rows C (k, size), weak sides W (m, size).

    d is in it where C d = 0 and W d >= 0 on the free entries of the face.
    """

    face: Face
    C: np.ndarray
    W: np.ndarray
    left_out: int = 0  # active rows beyond ROW_LIMIT

    @property
    def weak(self) -> int:
        """The number of weak sides."""
        return len(self.W)


@dataclass(frozen=True)
class Tangent:
    """The directions d on the free entries with C d = 0, among flat vectors (size,).

    P = I - Zᵀ (C Zᵀ)⁺ C projects onto them, orthogonally in the metric: the rows of Z are the Riesz
    representatives of those of C, (rows, size) both.
    """

    face: Face
    C: np.ndarray
    Z: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, face: Face, C: np.ndarray) -> Tangent:
        Z = np.array([face.riesz(c) for c in C]).reshape(len(C), len(face.free))
        if not len(C):
            return cls(face, C, Z, np.zeros((0, 0)))
        return cls(face, C, Z, np.linalg.pinv(C @ Z.T, rcond=DEPENDENT, hermitian=True))

    @property
    def dimension(self) -> int:
        free = int(np.count_nonzero(self.face.free))
        return free - int(np.linalg.matrix_rank(self.C @ self.Z.T)) if len(self.C) else free

    def project(self, d: Flat) -> Flat:
        """P d, (size,)."""
        return d - self.Z.T @ (self.inverse @ (self.C @ d)) if len(self.C) else d

    def pull(self, r: Flat) -> Flat:
        """Pᵀ r, (size,), for r that is 0 off the free entries."""
        return r - self.C.T @ (self.inverse @ (self.Z @ r)) if len(self.C) else r


class SecondProducts(Protocol):
    """What the second-order conditions are formed from, at flat controls (size,)."""

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None = None) -> Flat:
        """The Lagrangian's Hessian times d, (size,)."""

    def constraint_gradient(self, w: Flat, weights: RowVector) -> Flat:
        """(dc/dw)ᵀ times weights (rows.size,), (size,)."""


def critical_cone(point: StoredPoint, products: SecondProducts, row_limit: int) -> Cone:
    """The cone at a point; ``products`` forms the gradients of the active rows."""
    space, r = point.evaluator.space, point.at.gradient
    held = held_entries(space, point.w, r)
    lower, upper = space.bounds
    strong = held & (
        (np.abs(r) > point.tolerance * np.sqrt(space.metric_diagonal)) | (lower == upper)
    )
    face = Face(space, strong)
    equal, weak_rows, sides = _active_rows(point)
    left_out = max(len(equal) - row_limit, 0)
    if left_out:
        equal = equal[:0]
    C = _gradients(point, products, face, equal)
    if isinstance(products, PieceProducts):
        kept = [face.restrict(c) for c in products.kept()]
        C = np.concatenate([C, np.reshape(kept, (-1, space.size))])
    weak = np.flatnonzero(held & ~strong)
    entries = np.zeros((len(weak), space.size))
    nearer = np.where(point.w - lower <= upper - point.w, 1.0, -1.0)
    entries[np.arange(len(weak)), weak] = nearer[weak]
    rows = sides[:, None] * _gradients(point, products, face, weak_rows)
    return Cone(face, C, np.concatenate([entries, rows]), left_out)


def _active_rows(point: StoredPoint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of equalities and strongly active rows, of weakly active ones, and their sides.

    A side is +1 at a lower bound, -1 at an upper one: it points inwards.
    """
    c, (lower, upper) = point.at.constraints, point.evaluator.rows.bounds
    at_lower = np.abs(c - lower) <= point.tolerance
    at_side = at_lower | (np.abs(c - upper) <= point.tolerance)
    strong = (lower == upper) | (at_side & (np.abs(point.multipliers.mu) > point.tolerance))
    weak = np.flatnonzero(at_side & ~strong)
    return np.flatnonzero(strong), weak, np.where(at_lower[weak], 1.0, -1.0)


def _gradients(
    point: StoredPoint, products: SecondProducts, face: Face, rows: np.ndarray
) -> np.ndarray:
    """∇c_i on the free entries, (rows, size)."""
    C = np.zeros((len(rows), point.evaluator.space.size))
    for k, i in enumerate(rows):
        unit = np.zeros(point.evaluator.rows.size)
        unit[i] = 1.0
        C[k] = face.restrict(products.constraint_gradient(point.w, unit))
    return C


def lowest_in_cone(
    cone: Cone, product: Callable[[Flat], Flat], v: Flat, high: float, rng: np.random.Generator
) -> tuple[float, Flat]:
    """The smallest dᵀHd / dᵀAd that a search in the cone finds, with its d (size,).

    Power steps with σA - H, σ above the largest eigenvalue ``high``, each followed by the
    projection onto the cone, from the eigenvector v of the hull with both signs and from seeded
    vectors. Each step lowers the quotient; what they end at is a local minimum of it.
    """
    tangent = Tangent.of(cone.face, cone.C)
    project = _projection(cone, tangent)
    metric = cone.face.space.metric
    size = len(v)
    starts = [
        v,
        -v,
        *(
            tangent.project(cone.face.riesz(cone.face.restrict(r)))
            for r in rng.standard_normal((RANDOM_STARTS, size))
        ),
    ]
    best = (np.inf, np.zeros(size))
    shift = 1.01 * max(abs(high), 1e-300)
    for start in starts:
        d, quotient = project(start), np.inf
        for _ in range(POWER_STEPS):
            norm = float(np.sqrt(max(d @ metric(d), 0.0)))
            if norm == 0.0:
                break
            d = d / norm
            Hd = product(d)
            before, quotient = quotient, float(d @ Hd)
            if quotient < best[0]:
                best = (quotient, d)
            if before - quotient <= SETTLED_QUOTIENT * shift:
                break
            d = project(d - tangent.project(cone.face.riesz(cone.face.restrict(Hd))) / shift)
    return best


def _projection(cone: Cone, tangent: Tangent) -> Callable[[Flat], Flat]:
    """The projection onto the cone in the metric: d + Σ ν_j z_j, ν >= 0 (Hildreth's method)."""
    W = np.array([tangent.pull(cone.face.restrict(row)) for row in cone.W])
    Z = np.array([tangent.project(cone.face.riesz(row)) for row in W])
    gram = W @ Z.T
    diagonal = np.diag(gram)
    usable = np.flatnonzero(diagonal > DEPENDENT * max(float(diagonal.max(initial=0.0)), 1e-300))

    def project(d: Flat) -> Flat:
        d = tangent.project(np.where(cone.face.free, d, 0.0))
        slack = W @ d
        nu = np.zeros(len(W))
        for _ in range(PROJECTIONS):
            largest = 0.0
            for j in usable:
                step = max(-nu[j], -slack[j] / diagonal[j])
                if step:
                    nu[j] += step
                    slack += step * gram[:, j]
                    largest = max(largest, abs(step))
            if largest <= DEPENDENT * (1.0 + float(np.abs(nu).max(initial=0.0))):
                break
        return d + Z.T @ nu

    return project
