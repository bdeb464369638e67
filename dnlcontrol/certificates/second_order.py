"""Second order: the smallest eigenvalue of the Lagrangian's Hessian, relative to the metric.

On the hull of the critical cone (critical_cone.py) λ_min > 0 makes the point a strict local
minimiser; λ_min < 0 with no weak side makes it none. With weak sides the cone itself is searched:
a direction in it along which the Lagrangian bends down makes the point no minimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from dnlcontrol.certificates.certificate import Check, at_least
from dnlcontrol.certificates.critical_cone import (
    Cone,
    SecondProducts,
    Tangent,
    critical_cone,
    lowest_in_cone,
)
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.space.flat import Flat

DENSE = 400  # free entries up to which the whole Hessian is formed
ROW_LIMIT = 1000  # active constraints whose gradients are held
LANCZOS_ACCURACY = 1e-3
LANCZOS_LIMIT = 300  # restarts of ARPACK
# of the largest eigenvalue: below it Lanczos iterations cannot tell a cluster from zero
RESOLVED = 1e-4


@dataclass(frozen=True)
class Spectrum:
    """Both ends of the spectrum on the hull, and the eigenvector (size,) of the lowest.

    ``how`` says how they were found; low is NaN where they were not.
    """

    low: float
    high: float
    dimension: int
    lowest: Flat
    how: str


@dataclass(frozen=True)
class LowestCurvature:
    """The lowest curvature on the critical cone, what is allowed, and the direction it is along."""

    low: float
    allowed: float
    direction: Flat
    what: str

    @property
    def check(self) -> Check:
        """The row of a certificate; what cannot be decided does not pass."""
        return at_least("second order", self.low, self.allowed, self.what)


def second_order(
    point: StoredPoint,
    products: SecondProducts,
    rng: np.random.Generator,
    spectrum: Callable[..., Spectrum] | None = None,
) -> LowestCurvature:
    """The lowest curvature at a point; ``products`` forms the Hessian products.

    ``spectrum``: of (point, products, cone, rng), in place of the whole spectrum.
    """
    cone = critical_cone(point, products, ROW_LIMIT)
    note = f", {cone.weak} weakly active sides" if cone.weak else ""
    if cone.left_out:
        note += f", {cone.left_out} active constraints left out"
    dense = int(cone.face.free.sum()) <= DENSE
    try:
        found = (spectrum or (_dense if dense else _lanczos))(point, products, cone, rng)
    except RuntimeError as error:  # ARPACK's
        what = f"undecided: the eigenvalues did not converge ({' '.join(str(error).split())[:80]})"
        return LowestCurvature(np.nan, 0.0, np.zeros(len(cone.face.free)), what)
    allowed = -point.tolerance * max(1.0, abs(found.high))
    low, direction = found.low, found.lowest
    if cone.weak and low < allowed:
        low, direction = lowest_in_cone(
            cone, _product(point, products), found.lowest, found.high, rng
        )
        note += ", searched in the cone"
    elif cone.weak:
        note += " let free"
    return LowestCurvature(low, allowed, direction, _words(found, low, allowed) + note)


def _words(found: Spectrum, low: float, allowed: float) -> str:
    if found.dimension == 0:
        return "no direction is left free"
    what = "smallest eigenvalue of the Hessian in the metric"
    resolved = -allowed if found.how == "dense" else RESOLVED * abs(found.high)
    singular = found.how == "dense" and low >= allowed
    kind = ": strict" if low > resolved else ": singular" if singular else ""
    return f"{what}, {found.dimension} directions, {found.how}{kind}"


def _product(point: StoredPoint, products: SecondProducts) -> Callable[[Flat], Flat]:
    return lambda d: products.hessian_product(point.w, d, point.multipliers)


def _dense(
    point: StoredPoint, products: SecondProducts, cone: Cone, rng: np.random.Generator
) -> Spectrum:
    """Both ends of the spectrum of ZᵀHZ relative to ZᵀAZ, Z a basis of the directions."""
    free = np.flatnonzero(cone.face.free)
    product = _product(point, products)
    H = np.array([product(e)[free] for e in _units(cone)]).reshape(len(free), len(free))
    return of_matrix(point, cone, H)


def _units(cone: Cone) -> Iterator[Flat]:
    """The unit vectors (size,) of the free entries, one by one."""
    for i in np.flatnonzero(cone.face.free):
        unit = np.zeros(len(cone.face.free))
        unit[i] = 1.0
        yield unit


def of_matrix(point: StoredPoint, cone: Cone, H: np.ndarray) -> Spectrum:
    """The same from the Hessian's free rows and columns H."""
    from scipy.linalg import eigh, null_space

    free = np.flatnonzero(cone.face.free)
    size = len(cone.face.free)
    metric, C = point.evaluator.space.metric, cone.C
    if not np.all(np.isfinite(H)):
        return Spectrum(np.nan, np.nan, len(free), np.zeros(size), "dense")
    A = np.array([metric(e)[free] for e in _units(cone)]).reshape(len(free), len(free))
    Z = null_space(C[:, free]) if len(C) and len(free) else np.eye(len(free))
    if not Z.shape[1]:
        return Spectrum(np.inf, 0.0, 0, np.zeros(size), "dense")
    values, vectors = eigh(Z.T @ (0.5 * (H + H.T)) @ Z, Z.T @ A @ Z)
    lowest = np.zeros(size)
    lowest[free] = Z @ vectors[:, 0]
    return Spectrum(float(values[0]), float(values[-1]), len(values), lowest, "dense")


def _lanczos(
    point: StoredPoint, products: SecondProducts, cone: Cone, rng: np.random.Generator
) -> Spectrum:
    """The same by Lanczos iterations in the metric, with residuals below LANCZOS_ACCURACY.

    From a random start. On the orthogonal complement of the directions H is replaced by σA, σ a
    Rayleigh quotient on the directions: no smaller than λ_min.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    space = point.evaluator.space
    face, C = cone.face, cone.C
    tangent, product = Tangent.of(face, C), _product(point, products)
    free = np.flatnonzero(face.free)
    n = len(free)

    def full(v: np.ndarray) -> Flat:
        out = np.zeros(len(face.free))
        out[free] = np.ravel(v)
        return out

    start = tangent.project(face.riesz(full(rng.standard_normal(n))))
    sigma = float(start @ product(start)) / float(start @ space.metric(start))

    def hessian(v: np.ndarray) -> np.ndarray:
        d = full(v)
        p = tangent.project(d)
        Hp = product(p)
        if not len(C):
            return np.asarray(Hp[free])
        return np.asarray((tangent.pull(face.restrict(Hp)) + sigma * space.metric(d - p))[free])

    def operator(fn: Callable[[np.ndarray], np.ndarray]) -> LinearOperator:
        return LinearOperator((n, n), matvec=fn, dtype=float)

    values, vectors = eigsh(
        operator(hessian),
        k=2,
        which="BE",
        M=operator(lambda v: space.metric(full(v))[free]),
        v0=start[free],
        tol=LANCZOS_ACCURACY,
        Minv=operator(lambda v: face.riesz(full(v))[free]),
        maxiter=LANCZOS_LIMIT,
    )
    lowest = full(vectors[:, int(np.argmin(values))])
    return Spectrum(float(min(values)), float(max(values)), tangent.dimension, lowest, "Lanczos")
