"""Coarse-grid correction: the compact part of the Hessian, known from a coarser level, in the preconditioner.

In the metric the Hessian is the bulk B (the penalties' share, a multiple of A for each control) plus a compact part,
whose eigenvectors v of H v = λ B v are smooth: those of a coarse level, carried over by splines, are nearly those
of the fine one. With them, orthonormal in B,

    Ĥ = B + Σ (|λ| - 1) (Bv)(Bv)ᵀ,     Ĥ^{-1} = B^{-1} + Σ (1/|λ| - 1) v vᵀ,

positive definite whatever the sign of λ. On a face of the bounds the matching block of Ĥ is inverted, again by
B_FF^{-1} and a small matrix (Woodbury's identity). Conjugate gradients then see eigenvalues near 1 only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from dnlcontrol.backends.adjoint.curvature import Map, ritz_pairs
from dnlcontrol.space.control_space import ControlSpace
from dnlcontrol.space.faces import Face
from dnlcontrol.space.prolongation import Samples

STEPS, PAIRS = 70, 40  # Lanczos steps at the coarse level, eigenpairs carried to the fine one
NEAR, RESIDUAL, COUPLING = 0.2, 0.3, 0.1  # pairs with |log|λ|| below NEAR stay in the bulk
SHALLOWEST, DEEPEST, RATIO = 8, 32, 8


@dataclass(frozen=True)
class Correction:
    """Ĥ from B = scale·A and pairs (λ, v), v orthonormal in B.

    ``scale`` is flat, constant on each control; ``vectors`` (k, size), ``values`` |λ| (k,).
    """

    space: ControlSpace
    scale: np.ndarray
    vectors: np.ndarray
    values: np.ndarray

    def on(self, face: Face) -> Map:
        """r -> Ĥ_FF^{-1} r_F."""
        if face.whole:
            V, c = self.vectors, 1.0 / self.values - 1.0
            return lambda r: face.riesz(r / self.scale) + V.T @ (c * (V @ r))
        U = np.stack([face.restrict(self.scale * self.space.metric(v)) for v in self.vectors])
        Z = np.stack([face.riesz(u / self.scale) for u in U])
        D = self.values - 1.0
        # (B + U D Uᵀ)^{-1} = B^{-1} - Z (I + D UᵀZ)^{-1} D Zᵀ, Z = B^{-1} U; the small matrix is symmetric
        small = np.linalg.solve(np.eye(len(D)) + D[:, None] * (U @ Z.T), np.diag(D))
        small = 0.5 * (small + small.T)
        return lambda r: face.riesz(r / self.scale) - Z.T @ (small @ (Z @ r))


def bulk(space: ControlSpace) -> np.ndarray:
    """The share of each control's penalty in its metric, flat; 1 where there is no penalty."""
    parts = {}
    for block in space:
        share = 0.0 if block.penalty is None else block.penalty.diagonal().sum() / block.metric.diagonal.sum()
        parts[block.name] = np.full((block.layout.count, block.components), share if share > 0 else 1.0)
    return space.assemble(parts)


def correction(space: ControlSpace, coarse: ControlSpace, product: Callable[[np.ndarray, np.ndarray], np.ndarray],
               w: np.ndarray) -> Correction | None:  # fmt: skip
    """From the Hessian products ``product(w, d)`` of a coarse level at its controls w; None if nothing stands out.

    Without penalties on every control the bulk is not known beforehand; the median Ritz value stands for it.
    """
    scale = bulk(coarse)
    start = coarse.riesz(np.random.default_rng(25).standard_normal(coarse.size) / scale)
    values, vectors, residuals = ritz_pairs(
        partial(product, w), lambda r: coarse.riesz(r / scale), lambda v: scale * coarse.metric(v),
        start, min(STEPS, coarse.size), COUPLING)  # fmt: skip
    if not len(values) or not np.all(np.isfinite(values)):
        return None
    level = 1.0
    if any(b.penalty is None for b in coarse):
        level = float(np.median(np.abs(values)))
        if level == 0.0:
            return None
    size = np.abs(values) / level
    known = (residuals <= RESIDUAL * np.maximum(np.abs(values), level)) & (size > 0)
    distance = np.where(known, np.abs(np.log(np.where(size > 0, size, 1.0))), 0.0)
    chosen = np.argsort(-distance)[:PAIRS]
    chosen = chosen[distance[chosen] > NEAR]
    if not len(chosen):
        return None
    fine = np.stack([Samples.of(coarse, v).on(space) for v in vectors[chosen]])
    return orthonormal(space, level * bulk(space), fine, size[chosen])


def orthonormal(space: ControlSpace, scale: np.ndarray, vectors: np.ndarray, values: np.ndarray) -> Correction | None:
    """Vectors made orthonormal in B, the stiffest disturbed least (Cholesky in their order); None if dependent."""
    gram = vectors @ np.stack([scale * space.metric(v) for v in vectors]).T
    try:
        factor = np.linalg.cholesky(0.5 * (gram + gram.T))
    except np.linalg.LinAlgError:
        return None
    return Correction(space, scale, np.linalg.solve(factor, vectors), values)


def coarse_depth(depth: int) -> int | None:
    """Where the pairs are computed: a level that costs little beside one product of the fine level."""
    found = min(max(depth // RATIO, SHALLOWEST), DEEPEST)
    return found if 2 * found <= depth else None
