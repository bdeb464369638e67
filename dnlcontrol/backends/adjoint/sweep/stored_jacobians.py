"""Stored derivatives at one control, for problems small enough to keep them.

The sweep recomputes every column. Where all first and second derivatives of the kernel at all nodes
fit in memory (LARGEST_STORE entries), they are formed once per control by one batched call, and a
gradient or a Hessian product becomes a few small matrix products per layer. The results are those
of the sweep to rounding.

With φ(x, q) = c k(t_l, t_s, F(t_s, x), q), c the rule's weight, and ψ(z, q) = G(t_l, g, z, q), q
the controls that they read:

    forward    δz^l += φ_x δx^s + φ_q δq,    δx^l = ψ_z δz^l + ψ_q δq
    backward   λ^s = L_x + Σ_l φ_xᵀ z̄^l,     z̄^l = ψ_zᵀ λ^l (+ z̄^{l+1} in the Markov case)
    product    the derivative of both, with the Hessians of z̄ᵀφ and λᵀψ

Where a rule is implicit, the pair (l, l) couples δx^l with δz^l and λ^l with z̄^l: both recursions
then solve with I - ψ_z φ_x of the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.func import jacfwd, vmap

from dnlcontrol.backends.adjoint.sweep.columnwise import Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor
from dnlcontrol.discretisation.pairs import Pairs
from dnlcontrol.discretisation.resources.counts import LARGEST_STORE, Structure
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.formula import Formula


@dataclass(frozen=True)
class Reads:
    """The controls that a formula reads, flattened to one vector q at each of a list of nodes."""

    names: tuple[str, ...]
    sites: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    nodes: int

    def gather(self, parts: dict[str, np.ndarray]) -> np.ndarray:
        """(nodes, size of q)."""
        flat = [parts[k][self.sites[k]].reshape(self.nodes, -1) for k in self.names]
        return np.concatenate([np.zeros((self.nodes, 0)), *flat], axis=1)

    def scatter(self, q: np.ndarray, out: dict[str, np.ndarray]) -> None:
        """Add the transpose of :meth:`gather`."""
        start = 0
        for k in self.names:
            stop = start + int(np.prod(self.shapes[k], dtype=int))
            np.add.at(out[k], self.sites[k], q[:, start:stop].reshape(len(q), *self.shapes[k]))
            start = stop

    def unflatten(self, q: Tensor) -> dict[str, Tensor]:
        out, start = {}, 0
        for k in self.names:
            stop = start + int(np.prod(self.shapes[k], dtype=int))
            out[k] = q[start:stop].reshape(self.shapes[k])
            start = stop
        return out


class Linearised:
    """States and first derivatives of kernel and outer map at all nodes, at one control.

    On the CPU, in float64.
    """

    def __init__(self, sweep: Sweep, lagrangian: Lagrangian, w: np.ndarray) -> None:
        self.sweep, self.lagrangian = sweep, lagrangian
        self.problem = sweep.problem
        self.depth = sweep.depth
        self.markov = sweep.markov
        self.data = sweep.everyone
        self.parts = sweep.space.split(w)
        self.u = {k: sweep.tensor(v) for k, v in self.parts.items()}
        self.pairs = Pairs.of(sweep.grid, sweep.markov)
        self.layers = self.pairs.layers
        self.sources = self.pairs.sources
        self.own = self.pairs.own
        self.columns = self.pairs.columns
        self.weights = sweep.tensor(self.pairs.weights)
        f = self.problem.formulas
        self.pair_reads = self._reads([f.kernel, f.feature], self.sources)
        self.node_reads = self._reads([f.outer], np.arange(self.depth + 1))
        self.x, z = sweep.states(self.u, self.data)
        self.z = sweep.integrals(self.u, self.x, z)
        self.count = self.x.shape[1]
        self._first()

    @staticmethod
    def fits(sweep: Sweep) -> bool:
        """Whether the second derivatives at all nodes are few, in float64 on the CPU."""
        counts = Structure(sweep.problem, sweep.grid)
        entries = counts.pairs * counts.samples * (counts.state + counts.reads) ** 2
        small = entries <= LARGEST_STORE
        return small and sweep.device.type == "cpu" and sweep.dtype == torch.float64

    def _reads(self, formulas: list[Formula | None], path: np.ndarray) -> Reads:
        names = tuple(
            k for k in self.parts if any(f is not None and k in f.reads for f in formulas)
        )
        where = {"ts": np.arange(len(path)), "t": path, "const": np.zeros(len(path), dtype=int)}
        controls = self.problem.controls
        return Reads(
            names,
            {k: where[controls[k].on] for k in names},
            {k: controls[k].shape for k in names},
            len(path),
        )

    # -- node functions on flat vectors ----------------------------------------------------------
    def pair(self, t: Tensor, place: Tensor, x: Tensor, q: Tensor) -> Tensor:
        """φ; ``place`` is (t_s, c)."""
        s, weight = place
        f, e = self.problem.formulas, self.sweep.formulas.engine
        u = self.pair_reads.unflatten(q)
        y = x.reshape(self.problem.state_shape)
        y = f.feature(e, s, y, f.feature.only(u)) if f.feature else y
        return weight * f.kernel(e, t, s, y, f.kernel.only(u)).reshape(-1)

    def node(self, t: Tensor, g: Tensor, z: Tensor, q: Tensor) -> Tensor:
        f, e = self.problem.formulas, self.sweep.formulas.engine
        assert f.outer is not None
        return f.outer(
            e, t, g, z.reshape(self.problem.integral_shape), self.node_reads.unflatten(q)
        ).reshape(-1)

    def _over(
        self,
        fn: Callable[..., Tensor],
        derivative: Callable[..., Any],
        argnums: tuple[int, ...],
        shared: tuple[int | None, ...],
    ) -> Callable[..., tuple[Tensor, ...]]:
        """``derivative`` of a node function mapped over samples and nodes."""
        return vmap(
            vmap(derivative(fn, argnums=argnums), in_dims=shared), in_dims=(0,) * len(shared)
        )

    def pair_points(self) -> tuple[Tensor, ...]:
        flat = self.x.reshape(self.depth + 1, self.count, -1)
        q = self.sweep.tensor(self.pair_reads.gather(self.parts))
        places = torch.stack([self.sweep.nodes[self.sources], self.weights], dim=1)
        return self.sweep.nodes[self.layers], places, flat[self.sources], q

    def node_points(self) -> tuple[Tensor, ...]:
        L, free = self.depth, self.data.free
        g = free.expand(L + 1, *free.shape[1:])
        q = self.sweep.tensor(self.node_reads.gather(self.parts))
        return self.sweep.nodes, g, self.z.reshape(L + 1, self.count, -1), q

    # -- first order -----------------------------------------------------------------------------
    @in_turn
    def _first(self) -> None:
        """Form φ_x (pairs, n, dz, dx) and φ_q, ψ_z and ψ_q or None, and the slope.

        The slope is I - ψ_z φ_x of the pairs (l, l), (L+1, n, dx, dx), or None.
        """
        jacobians = self._over(self.pair, jacfwd, (2, 3), (None, None, 0, None))(
            *self.pair_points()
        )
        self.phi_x, self.phi_q = (np.asarray(j) for j in jacobians)
        self.psi_z = self.psi_q = None
        if self.problem.formulas.outer is not None:
            self.psi_z, self.psi_q = (
                np.asarray(j)
                for j in self._over(self.node, jacfwd, (2, 3), (None, 0, 0, None))(
                    *self.node_points()
                )
            )
        self.slope = None
        if self.own is not None:
            through = self.phi_x[self.own]
            self.slope = np.eye(through.shape[-1]) - (
                through if self.psi_z is None else self.psi_z @ through
            )

    def _rows(self, s: int) -> slice:
        return self.pairs.reached(s)

    def adjoint(self, lam: np.ndarray, extra: np.ndarray) -> np.ndarray:
        """Run the costate recursion in place on ``lam``; ``extra`` is added to z̄. Returns z̄."""
        zbar = extra
        for l in reversed(range(self.depth + 1)):
            if l < self.depth:
                lam[l] += np.einsum(
                    "mnij,mni->nj", self.phi_x[self.columns[l]], zbar[self._rows(l)]
                )
            if self.own is not None and self.slope is not None:
                right = lam[l] + np.einsum("nij,ni->nj", self.phi_x[self.own[l]], zbar[l])
                lam[l] = np.linalg.solve(self.slope[l].transpose(0, 2, 1), right[..., None])[..., 0]
            zbar[l] += (
                lam[l] if self.psi_z is None else np.einsum("nij,ni->nj", self.psi_z[l], lam[l])
            )
            if self.markov and l < self.depth:
                zbar[l] += zbar[l + 1]
        return zbar

    def pair_cotangents(self, zbar: np.ndarray) -> np.ndarray:
        """The cotangent of each pair's contribution, (pairs, n, dz)."""
        return self.pairs.cotangents(zbar)

    def add_pairs(self, out: dict[str, np.ndarray], zbar: np.ndarray, lam: np.ndarray) -> None:
        """Add φ_qᵀ z̄ + ψ_qᵀ λ into the gradient's parts."""
        self.pair_reads.scatter(
            np.einsum("pnij,pni->pj", self.phi_q, self.pair_cotangents(zbar)), out
        )
        if self.psi_q is not None:
            self.node_reads.scatter(np.einsum("lnij,lni->lj", self.psi_q, lam), out)

    def tangent(self, dq: np.ndarray, dp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(δx, δz) from the changes of the controls at the pairs and at the nodes."""
        n, L = self.count, self.depth
        dz, dx = (
            np.zeros((L + 1, n, self.z[0, 0].numel())),
            np.zeros((L + 1, n, self.x[0, 0].numel())),
        )
        forced = np.einsum("pnij,pj->pni", self.phi_q, dq)
        for l in range(L + 1):
            before = dz[l].copy()
            if self.own is not None:
                dz[l] += forced[self.own[l]]
            if self.psi_z is None or self.psi_q is None:
                dx[l] = dz[l]
            else:
                dx[l] = np.einsum("nij,nj->ni", self.psi_z[l], dz[l]) + self.psi_q[l] @ dp[l]
            if self.own is not None and self.slope is not None:
                dx[l] = np.linalg.solve(self.slope[l], dx[l][..., None])[..., 0]
                dz[l] += np.einsum("nij,nj->ni", self.phi_x[self.own[l]], dx[l])
            if l < L:
                added = (
                    np.einsum("mnij,nj->mni", self.phi_x[self.columns[l]], dx[l])
                    + forced[self.columns[l]]
                )
                dz[self._rows(l)] += added + before if self.markov else added
        return dx, dz
