"""Extreme curvatures of a model, by Lanczos in the metric.

Is a point a minimiser, which directions are stiff?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.faces import Face

# H is a multiple of A plus a compact part: an eigenvalue below its bulk is found in a few steps
LANCZOS_STEPS = 20
SIGN_NOISE = 1e-6  # of the largest curvature seen: below, a sign is not told from rounding
INVARIANT = 1e-10  # of the first vector's norm: what is left of a Krylov vector is rounding
Map = Callable[[Flat], Flat]
"""Linear maps of flat vectors, (space.size,) to (space.size,)."""


def ritz_pairs(
    product: Map,
    riesz: Map,
    metric: Map,
    start: Flat,
    steps: int,
    *,
    enough: float = 0.0,
    project: Map | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ritz pairs of H v = θ B v: values θ, vectors v and residuals ‖Hv - θBv‖_{B^{-1}}.

    They are k <= ``steps``: the values, (k,), ascend, the vectors, (k, size), have ‖v‖_B = 1, and
    the residuals are (k,). Lanczos with full orthogonalisation, B the ``metric`` and B^{-1} its
    ``riesz`` map; it ends early where the Krylov space is invariant, or its coupling β to the rest
    is at most ``enough``. ``project``: onto the subspace that all of it stays in; what rounding
    adds off it would grow where the coupling is small.
    """
    # rows of arrays: new memory for all at each step would cost more than the products
    basis, duals, products = (np.empty((steps, len(start))) for _ in range(3))
    q = start
    found = 0
    first = beta = 0.0
    for k in range(steps):
        Bq = metric(q)
        beta = float(np.sqrt(max(float(q @ Bq), 0.0)))
        first = first or beta
        if beta <= max(INVARIANT * first, enough if found else 0.0):
            break
        basis[k] = q / beta
        duals[k] = Bq / beta
        products[k] = product(basis[k])
        q = riesz(products[k])
        found = k + 1
        Q, D = basis[:found], duals[:found]
        for _ in range(2):
            q = q - Q.T @ (D @ q)
            if project is not None:
                q = project(q)
    if not found:
        return np.zeros(0), np.zeros((0, len(start))), np.zeros(0)
    beta = float(np.sqrt(max(float(q @ metric(q)), 0.0)))
    Q = basis[:found]
    T = Q @ products[:found].T
    values, vectors = np.linalg.eigh(0.5 * (T + T.T))
    return values, vectors.T @ Q, beta * np.abs(vectors[-1])


@dataclass(frozen=True)
class Ends:
    """Both ends of a spectrum as a few Lanczos steps saw it, and the lowest Ritz vector (size,)."""

    low: float
    high: float
    lowest: Flat

    @property
    def negative(self) -> bool:
        """Whether the low end is below zero beyond rounding."""
        return self.low < -SIGN_NOISE * max(abs(self.low), abs(self.high))


def curvatures(product: Map, face: Face) -> Ends:
    """Ends of the spectrum of H v = λ A v on the free entries, from a seeded random vector."""
    size = face.space.size
    start = face.riesz(face.restrict(np.random.default_rng(24).standard_normal(size)))
    steps = min(LANCZOS_STEPS, int(np.count_nonzero(face.free)))
    values, vectors, _ = ritz_pairs(
        lambda v: face.restrict(product(v)), face.riesz, face.space.metric, start, steps
    )
    if not len(values):
        return Ends(np.inf, 0.0, np.zeros(size))
    return Ends(float(values[0]), float(values[-1]), vectors[0])


def lowest_curvature(product: Map, face: Face) -> tuple[float, Flat]:
    """The smallest Ritz value of H v = λ A v on the free entries, with its vector (‖v‖_A = 1).

    0 with a zero vector where λ is not negative beyond SIGN_NOISE.
    """
    ends = curvatures(product, face)
    return (ends.low, ends.lowest) if ends.negative else (0.0, np.zeros(face.space.size))
