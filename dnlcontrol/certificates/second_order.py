"""The smallest eigenvalue of the Lagrangian's Hessian on the critical cone's linear hull.

It is relative to the metric. The hull holds the directions that leave strongly held controls alone
and lie in the null space of the gradients of the strongly active constraints; weakly active ones
(their multiplier is below the tolerance) restrict nothing in it. λ_min > 0 makes the point a strict
local minimiser; λ_min < 0 with no weakly active side makes it none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol.certificates.certificate import Check, at_least
from dnlcontrol.certificates.kinks import PieceProducts
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.minimise.faces import Face, held_entries

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    Products = Evaluator | PieceProducts

DENSE = 400  # free entries up to which the whole Hessian is formed
ROW_LIMIT = 1000  # active constraints whose gradients are held
LANCZOS_ACCURACY = 1e-3
LANCZOS_LIMIT = 300  # restarts of ARPACK
# of the largest eigenvalue: below it Lanczos iterations cannot tell a cluster from zero
RESOLVED = 1e-4


def second_order(point: StoredPoint, products: Products, rng: np.random.Generator) -> Check:
    """One row; ``products`` forms the Hessian products. What cannot be decided does not pass."""
    face, weak = critical_face(point)
    rows, weak_rows = active_rows(point)
    note = f", {weak + weak_rows} weakly active sides let free" if weak + weak_rows else ""
    if len(rows) > ROW_LIMIT:
        note += f", {len(rows)} active constraints left out"
        rows = rows[:0]
    gradients = constraint_gradients(point, products, face, rows)
    if isinstance(products, PieceProducts):
        kept = [face.restrict(c) for c in products.kept()]
        gradients = np.concatenate([gradients, np.reshape(kept, (-1, gradients.shape[1]))])
    dense = int(face.free.sum()) <= DENSE
    try:
        low, high, dimension = (_dense if dense else _lanczos)(
            point, products, face, gradients, rng
        )
    except RuntimeError as error:  # ARPACK's
        what = f"undecided: the eigenvalues did not converge ({' '.join(str(error).split())[:80]})"
        return at_least("second order", np.nan, 0.0, what)
    allowed = -point.tolerance * max(1.0, abs(high))
    if dimension == 0:
        what = "no direction is left free"
    else:
        kind = "dense" if dense else "Lanczos"
        what = f"smallest eigenvalue of the Hessian in the metric, {dimension} directions, {kind}"
        strict = low > (-allowed if dense else RESOLVED * abs(high))
        what += ": strict" if strict else ": singular" if dense and low >= allowed else ""
    return at_least("second order", low, allowed, what + note)


def critical_face(point: StoredPoint) -> tuple[Face, int]:
    """All entries but the strongly held, and the number of the weakly held."""
    space, r = point.evaluator.space, point.at.gradient
    held = held_entries(space, point.w, r)
    lower, upper = space.bounds
    strong = held & (
        (np.abs(r) > point.tolerance * np.sqrt(space.metric_diagonal)) | (lower == upper)
    )
    return Face(space, strong), int(np.count_nonzero(held & ~strong))


def active_rows(point: StoredPoint) -> tuple[np.ndarray, int]:
    """The equalities and strongly active constraints among the rows, as indices (k,).

    Beside them the number of the weakly active.
    """
    c, (lower, upper) = point.at.constraints, point.evaluator.rows.bounds
    at_side = (np.abs(c - lower) <= point.tolerance) | (np.abs(c - upper) <= point.tolerance)
    strong = (lower == upper) | (at_side & (np.abs(point.multipliers.mu) > point.tolerance))
    return np.flatnonzero(strong), int(np.count_nonzero(at_side & ~strong))


def constraint_gradients(
    point: StoredPoint, products: Products, face: Face, rows: np.ndarray
) -> np.ndarray:
    """∇c_i on the free entries, (rows, size)."""
    C = np.zeros((len(rows), point.evaluator.space.size))
    for k, i in enumerate(rows):
        unit = np.zeros(point.evaluator.rows.size)
        unit[i] = 1.0
        C[k] = face.restrict(products.constraint_gradient(point.w, unit))
    return C


def _dense(
    point: StoredPoint,
    products: Products,
    face: Face,
    C: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float, int]:
    """Both ends of the spectrum of ZᵀHZ relative to ZᵀAZ, and its dimension.

    Z is a basis of the directions.
    """
    from scipy.linalg import eigh, null_space

    free = np.flatnonzero(face.free)
    units = np.eye(len(face.free))[free]
    H = np.array([products.hessian_product(point.w, e, point.multipliers)[free] for e in units])
    A = np.array([point.evaluator.space.metric(e)[free] for e in units])
    if not np.all(np.isfinite(H)):
        return np.nan, np.nan, len(free)
    Z = null_space(C[:, free]) if len(C) and len(free) else np.eye(len(free))
    if not Z.shape[1]:
        return np.inf, 0.0, 0
    values = eigh(Z.T @ (0.5 * (H + H.T)) @ Z, Z.T @ A @ Z, eigvals_only=True)
    return float(values[0]), float(values[-1]), len(values)


@dataclass(frozen=True)
class _Tangent:
    """The directions d on the free entries with C d = 0, among flat vectors (size,).

    P = I - Zᵀ (C Zᵀ)⁺ C projects onto them, orthogonally in the metric: the rows of Z are the Riesz
    representatives of those of C, (rows, size) both.
    """

    face: Face
    C: np.ndarray
    Z: np.ndarray
    inverse: np.ndarray

    @classmethod
    def of(cls, face: Face, C: np.ndarray) -> _Tangent:
        Z = np.array([face.riesz(c) for c in C]).reshape(len(C), len(face.free))
        if not len(C):
            return cls(face, C, Z, np.zeros((0, 0)))
        return cls(face, C, Z, np.linalg.pinv(C @ Z.T, rcond=1e-13, hermitian=True))

    @property
    def dimension(self) -> int:
        free = int(np.count_nonzero(self.face.free))
        return free - int(np.linalg.matrix_rank(self.C @ self.Z.T)) if len(self.C) else free

    def project(self, d: np.ndarray) -> np.ndarray:
        """P d, (size,)."""
        return d - self.Z.T @ (self.inverse @ (self.C @ d)) if len(self.C) else d

    def pull(self, r: np.ndarray) -> np.ndarray:
        """Pᵀ r, (size,), for r that is 0 off the free entries."""
        return r - self.C.T @ (self.inverse @ (self.Z @ r)) if len(self.C) else r


def _lanczos(
    point: StoredPoint,
    products: Products,
    face: Face,
    C: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, float, int]:
    """The same by Lanczos iterations in the metric.

    The start is random, the residuals are below LANCZOS_ACCURACY. On the orthogonal complement of
    the directions H is replaced by σA, σ a Rayleigh quotient on the directions: no smaller than
    λ_min.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    space, tangent = point.evaluator.space, _Tangent.of(face, C)
    free = np.flatnonzero(face.free)
    n = len(free)

    def full(v: np.ndarray) -> np.ndarray:
        out = np.zeros(len(face.free))
        out[free] = np.ravel(v)
        return out

    start = tangent.project(face.riesz(full(rng.standard_normal(n))))
    sigma = float(start @ products.hessian_product(point.w, start, point.multipliers)) / float(
        start @ space.metric(start)
    )

    def hessian(v: np.ndarray) -> np.ndarray:
        d = full(v)
        p = tangent.project(d)
        Hp = products.hessian_product(point.w, p, point.multipliers)
        if not len(C):
            return np.asarray(Hp[free])
        return np.asarray((tangent.pull(face.restrict(Hp)) + sigma * space.metric(d - p))[free])

    def operator(fn: Callable[[np.ndarray], np.ndarray]) -> LinearOperator:
        return LinearOperator((n, n), matvec=fn, dtype=float)

    values = eigsh(
        operator(hessian),
        k=2,
        which="BE",
        M=operator(lambda v: space.metric(full(v))[free]),
        v0=start[free],
        tol=LANCZOS_ACCURACY,
        Minv=operator(lambda v: face.riesz(full(v))[free]),
        maxiter=LANCZOS_LIMIT,
        return_eigenvectors=False,
    )
    return float(min(values)), float(max(values)), tangent.dimension
