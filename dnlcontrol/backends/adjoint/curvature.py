"""The lowest curvature at a stationary point, by Lanczos in the metric: is it a minimiser or a saddle?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dnlcontrol.space.faces import Face

STEPS = 20  # H is a multiple of A plus a compact part: an eigenvalue below its bulk is found in a few steps
NEGATIVE = 1e-6  # of the largest curvature seen: below, a sign is not told from rounding


def lowest_curvature(product: Callable[[np.ndarray], np.ndarray], face: Face) -> tuple[float, np.ndarray]:
    """The smallest Ritz value of H v = λ A v on the free entries, with its vector (‖v‖_A = 1).

    Lanczos with full orthogonalisation from a seeded random vector; 0 with a zero vector where λ is not negative
    beyond NEGATIVE.
    """
    size = face.space.size
    free = int(np.count_nonzero(face.free))
    q = face.riesz(face.restrict(np.random.default_rng(24).standard_normal(size)))
    first = 0.0
    basis: list[np.ndarray] = []
    products: list[np.ndarray] = []
    for _ in range(min(STEPS, free)):
        length = np.sqrt(max(float(q @ face.space.metric(q)), 0.0))
        first = first or length
        if length <= 1e-10 * first:
            break  # the Krylov space is invariant, or nothing is free
        basis.append(q / length)
        products.append(face.restrict(product(basis[-1])))
        Q = np.stack(basis)
        q = face.riesz(products[-1])
        for _ in range(2):
            q = q - Q.T @ (Q @ face.space.metric(q))
    if not basis:
        return 0.0, np.zeros(size)
    Q, U = np.stack(basis), np.stack(products)
    T = Q @ U.T
    values, vectors = np.linalg.eigh(0.5 * (T + T.T))
    if values[0] >= -NEGATIVE * np.abs(values).max():
        return 0.0, np.zeros(size)
    return float(values[0]), Q.T @ vectors[:, 0]
