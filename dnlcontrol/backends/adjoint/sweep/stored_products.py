"""Value, gradient and products of one Lagrangian on stored derivatives (stored_jacobians.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.func import hessian, jvp, vmap

from dnlcontrol.backends.adjoint.sweep.stored_jacobians import Linearised
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, value_and_pull
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.multipliers import Multipliers


class StoredProducts:
    """The Lagrangian J + constraint terms at the control of ``at``.

    Second derivatives are formed at first use.
    """

    def __init__(self, at: Linearised, multipliers: Multipliers | None) -> None:
        self.at, self.multipliers = at, multipliers
        value, pull = value_and_pull(self._lagrangian, at.x, at.lagrangian.visible(at.u))
        direct, parts = pull(torch.ones_like(value))
        self.value = float(value)
        out = self._filled(parts)
        self.lam = direct.reshape(at.depth + 1, at.count, -1).numpy().copy()
        self.zbar = at.adjoint(self.lam, np.zeros((at.depth + 1, at.count, at.z[0, 0].numel())))
        at.add_pairs(out, self.zbar, self.lam)
        self.gradient = at.sweep.space.assemble(out)
        self._second: tuple[np.ndarray, np.ndarray | None] | None = None

    def _lagrangian(self, x: Tensor, u: dict[str, Tensor]) -> Tensor:
        return self.at.lagrangian.value(x, u, self.at.data, self.multipliers)

    def _filled(self, parts: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Every control's part, zero where the Lagrangian does not read it directly."""
        return {
            k: parts[k].numpy().copy() if k in parts else np.zeros(tuple(v.shape))
            for k, v in self.at.u.items()
        }

    def hessian_product(self, d: np.ndarray) -> np.ndarray:
        """(d²L/dw²) d without the penalties on controls: the derivative of the gradient along d."""
        at = self.at
        parts = at.sweep.space.split(d)
        dq, dp = at.pair_reads.gather(parts), at.node_reads.gather(parts)
        dx, dz = at.tangent(dq, dp)
        dlam, out = self._lagrangian_tangent(dx, parts)
        pair_curvature, node_curvature = self._curvature()
        bent = _apply(pair_curvature, dx[at.sources], dq)
        np.add.at(dlam, at.sources, bent[..., : dx.shape[-1]])
        at.pair_reads.scatter(bent[..., dx.shape[-1] :].sum(1), out)
        extra = np.zeros_like(dz)
        if node_curvature is not None:
            bent = _apply(node_curvature, dz, dp)
            extra = bent[..., : dz.shape[-1]].copy()
            at.node_reads.scatter(bent[..., dz.shape[-1] :].sum(1), out)
        at.add_pairs(out, at.adjoint(dlam, extra), dlam)
        return at.sweep.space.assemble(out)

    def _lagrangian_tangent(
        self, dx: np.ndarray, parts: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The derivative of (L_x, L_u) along (δx, δu)."""

        def gradient(x: Tensor, u: dict[str, Tensor]) -> tuple[Tensor, Tensors]:
            value, pull = value_and_pull(self._lagrangian, x, u)
            direct, parts = pull(torch.ones_like(value))
            return direct, parts

        at = self.at
        seen = at.lagrangian.visible(at.u)
        tangents = (
            at.sweep.tensor(dx).reshape(at.x.shape),
            {k: at.sweep.tensor(parts[k]) for k in seen},
        )
        with turn():
            _, (direct, out) = jvp(gradient, (at.x, seen), tangents)[:2]
        return direct.reshape(dx.shape).numpy().copy(), self._filled(out)

    def _curvature(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Hessians of z̄ᵀφ in (x, q), (pairs, n, i, i), and of λᵀψ in (z, q)."""
        if self._second is None:
            at = self.at
            pairs = _hessians(at.pair, at.pair_points(), at.pair_cotangents(self.zbar), None)
            nodes = None if at.psi_z is None else _hessians(at.node, at.node_points(), self.lam, 0)
            self._second = pairs, nodes
        return self._second


def _hessians(
    fn: Callable[..., Tensor],
    points: tuple[Tensor, ...],
    cotangents: np.ndarray,
    second: int | None,
) -> np.ndarray:
    """Hessians of cᵀfn(a, b, x, q) in (x, q) at every node and sample, (nodes, n, i, i).

    ``second`` is b's batch axis over samples.
    """
    a, b, x, q = points
    size = x.shape[-1]

    def contracted(v: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return (c * fn(a, b, v[:size], v[size:])).sum()

    v = torch.cat([x, q[:, None].expand(*x.shape[:2], q.shape[-1])], dim=-1)
    inner = vmap(hessian(contracted), in_dims=(0, None, second, 0))
    with turn():
        return np.asarray(vmap(inner)(v, a, b, torch.as_tensor(cotangents)))


def _apply(curvature: np.ndarray, x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The Hessians times (x, q), q shared by the samples."""
    v = np.concatenate([x, np.broadcast_to(q[:, None], (*x.shape[:2], q.shape[1]))], axis=-1)
    return np.einsum("pnij,pnj->pni", curvature, v)
