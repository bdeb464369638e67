"""Before success is said: whether a stationary point is a local minimiser, as far as it is seen.

Second order as a certificate has it (second_order.py), with as many Hessian products as the solve
can afford; ``certify`` asks the same with all that it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.certificates.critical_cone import Cone, SecondProducts, Tangent
from dnlcontrol.certificates.kinks import at_kinks
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.certificates.second_order import DENSE, Spectrum, of_matrix, second_order
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.lanczos import Ends, ritz_pairs

# H is a multiple of A plus a compact part: an eigenvalue below its bulk is found in a few steps
COLD_STEPS = 20
# a quarter of a warm solve of six products; the direction is that of the level before
WARM_STEPS = 1
REFUSED = "stationary, but no minimiser"  # in the message of a solution that did not pass
SEED = 24  # of the vector that Lanczos begins with


@dataclass(frozen=True)
class Verdict:
    """Whether a point passed, else a direction (size,) down in the critical cone and words.

    ``lowest`` is the Ritz vector of the lowest curvature, for a finer level to begin with.
    """

    passed: bool
    curvature: float
    direction: Flat
    words: str
    lowest: Flat


def examine(point: StoredPoint, known: Flat | None = None, ends: Ends | None = None) -> Verdict:
    """The verdict on a point that is stationary, feasible and complementary within its tolerance.

    ``known``: the direction (size,) of lowest curvature at a coarser level of the same branch, from
    which one product tells. ``ends``: the curvatures on the free entries, where the minimiser
    looked at them at this point.
    """
    point, piece = at_kinks(point)
    products: SecondProducts = piece or point.evaluator
    if piece is not None:  # what is known is of the function without sides
        known = ends = None

    def spectrum(
        point: StoredPoint, products: SecondProducts, cone: Cone, rng: np.random.Generator
    ) -> Spectrum:
        dense = getattr(products, "hessian", None)
        free = np.flatnonzero(cone.face.free)
        if ends is not None and not len(cone.C) and not cone.weak:
            return _of_ends(ends, len(free))
        if dense is not None and len(free) <= DENSE:
            H = dense(point.w, point.multipliers.mu if len(point.multipliers.mu) else None)
            inner = H[np.ix_(free, free)]
            if not len(cone.C) and definite(inner):
                return Spectrum(0.0, 0.0, len(free), np.zeros(len(point.w)), "dense")
            return of_matrix(point, cone, inner)
        return krylov(point, products, cone, rng, known)

    if not point.evaluator.space.size:
        return Verdict(True, np.inf, np.zeros(0), "", np.zeros(0))
    rng = np.random.default_rng(SEED)
    found = second_order(point, products, rng, spectrum)
    passed = found.check.passed
    words = "" if passed else f"curvature {found.low:.1e} along a direction that is free"
    if not np.isfinite(found.low) and not passed:
        words = "the Hessian is not finite"
    return Verdict(passed, found.low, found.direction, words, found.direction)


def definite(H: np.ndarray) -> bool:
    """Whether H (n, n) is positive definite: its Cholesky factor exists."""
    try:
        np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        return False
    return bool(np.all(np.isfinite(H)))


def _of_ends(ends: Ends, dimension: int) -> Spectrum:
    """What a minimiser saw; a sign that is noise is 0."""
    low = ends.low if ends.negative else max(ends.low, 0.0)
    return Spectrum(low, ends.high, dimension, ends.lowest, "Lanczos")


def krylov(
    point: StoredPoint,
    products: SecondProducts,
    cone: Cone,
    rng: np.random.Generator,
    known: Flat | None,
) -> Spectrum:
    """Both ends of the spectrum on the hull, by a few Lanczos steps; a sign that is noise is 0."""
    space, face = point.evaluator.space, cone.face
    tangent = Tangent.of(face, cone.C)
    start = face.riesz(face.restrict(rng.standard_normal(space.size)))
    if known is not None:
        start = face.restrict(known)
    start = tangent.project(start)
    most = COLD_STEPS if known is None else WARM_STEPS

    def product(v: Flat) -> Flat:
        Hv = products.hessian_product(point.w, v, point.multipliers)
        return tangent.pull(face.restrict(Hv))

    def riesz(r: Flat) -> Flat:
        return tangent.project(face.riesz(r))

    # a step beyond the dimension would normalise rounding
    steps = min(most, tangent.dimension)
    values, vectors, _ = ritz_pairs(
        product, riesz, space.metric, start, steps, project=tangent.project
    )
    if not len(values):
        return Spectrum(np.inf, 0.0, 0, np.zeros(space.size), "Lanczos")
    if known is not None and values[0] < 0:  # what the coarser level knew no longer holds
        return krylov(point, products, cone, rng, None)
    return _of_ends(Ends(float(values[0]), float(values[-1]), vectors[0]), tangent.dimension)
