"""Gauss-Newton: the curvature of cost and constraints, composed with first-order states.

    H_GN = Q + [X; I]ᵀ (Hessian of the Lagrangian's L(x, u) in x and u at the nodes) [X; I]
       X = dx/du

The Hessian leaves out Σ z̄ᵀ∇²k and λᵀ∇²G. H_GN is positive semidefinite where costs are convex,
never less smooth than the Hessian, and close to it where costates are small; away from that it
costs the last steps their quadratic rate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.backends.adjoint.sweep.affine_tangent import AffineTangent
from dnlcontrol.backends.adjoint.sweep.vectorised import value_and_pull
from dnlcontrol.backends.adjoint.vectors import to_numpy
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.quadratic_model import QuadraticModel, Step


@dataclass(frozen=True)
class GaussNewtonObjective(Objective):
    """An objective whose model has the Gauss-Newton matrix; its Hessian products stay exact."""

    def solve_model(
        self,
        w: np.ndarray,
        g: np.ndarray,
        face: Face,
        radius: float,
        accuracy: float,
        max_products: int,
    ) -> Step:
        """By conjugate gradients with Gauss-Newton products."""
        model = QuadraticModel(self.space, partial(self.product, w), w, g, face)
        return model.minimise(radius, accuracy, max_products)

    def product(self, w: Flat, d: Flat) -> Flat:
        """H_GN d (size,), timed and counted as a Hessian product."""
        self.evaluator.watch.check()
        counts, began = self.evaluator.counts, time.perf_counter()
        found = gauss_newton_product(self.evaluator, w, d, self.multipliers)
        counts.hessians += 1
        counts.hessian_seconds += time.perf_counter() - began
        return found


def gauss_newton_product(
    evaluator: Evaluator, w: Flat, d: Flat, multipliers: Multipliers | None = None
) -> Flat:
    """H_GN d (size,): tangents forward, the Lagrangian's curvature at the nodes, a sweep back."""
    sweep, vectors = evaluator.sweep, evaluator.vectors
    total = vectors.zeros()
    primal, along = vectors.controls(w), vectors.controls(d)
    out = vectors.views(total)
    with turn(), torch.no_grad(), forward_ad.dual_level():
        u = vectors.views(forward_ad.make_dual(vectors.tensor(w), vectors.tensor(d)))
        tangents = (
            AffineTangent(sweep, evaluator.lagrangian, primal, along) if sweep.columns else None
        )
        for data in sweep.chunks:
            x, z = tangents.dual_states(data) if tangents else sweep.states(u, data)
            value, pull = value_and_pull(
                lambda x, u, data=data: evaluator.lagrangian.value(x, u, data, multipliers),
                x,
                evaluator.lagrangian.visible(u),
            )
            direct, parts = pull(torch.ones_like(value))
            for name, part in parts.items():
                tangent = forward_ad.unpack_dual(part).tangent
                if tangent is not None:
                    out[name] += tangent
            tangent = forward_ad.unpack_dual(direct).tangent
            if tangent is not None:
                at, integrals = (forward_ad.unpack_dual(v).primal for v in (x, z))
                sweep.pull_back(primal, data, at, integrals, tangent, out)
    product = to_numpy(total)
    evaluator.space.add_penalty_gradient(d, product)
    return product
