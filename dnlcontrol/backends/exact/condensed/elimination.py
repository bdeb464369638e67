"""The reduced problem: J and the constraints as functions of the controls alone, states eliminated.

    first      λ^s = L_x + Σ_l φ_xᵀ z̄^l,   z̄^l = ψ_zᵀ λ^l,
               dJ/dq = Σ φ_qᵀ z̄ + ψ_qᵀ λ + L_q
    states     S^l = dx^l/dw = ψ_z Σ_{s<l} (φ_x S^s + φ_q E) + ψ_q E
    second     H = Σ [S; E]ᵀ (Hessians of L, of z̄ᵀφ and of λᵀψ) [S; E] + Q

Where a rule is implicit, the pair (l, l) couples x^l with z^l: states by Newton's method, and all
recursions then solve with I - ψ_z φ_x of the layer. E picks the controls that a node reads. The
controls are ordered by the first layer that they act on, so that S^l has as many columns as there
are controls up to layer l; H is built with matrix products over these leading blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnlcontrol.backends.exact.condensed.assembly import HessianBuilder
from dnlcontrol.backends.exact.condensed.implicit_layer import ImplicitLayer
from dnlcontrol.backends.exact.condensed.structure import Reduced, Term
from dnlcontrol.discretisation.space.flat import Flat, RowVector

Second = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Curvature:
    """Second derivatives (xx, qx, qq) of z̄ᵀφ at the pairs, of the terms, and of λᵀψ at the layers.

    Shapes as :meth:`NodeFunction.second` returns them.
    """

    kernel: Second
    terms: list[tuple[Term, Second]]
    outer: Second | None


def scatter(out: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """out[index] += values, entries that come twice included."""
    if index.size:
        out += np.bincount(index.ravel(), values.ravel(), minlength=len(out))


def _curved(
    second: Second, dx: np.ndarray, dq: np.ndarray, out: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Node Hessians times (δx, δq), (nodes, N, n) and (nodes, m).

    Returns the state part (nodes, N, n); the control part is added to ``out`` (size,).
    """
    xx, qx, qq = second
    scatter(out, index, np.einsum("pnji,pni->pj", qx, dx) + np.einsum("pij,pj->pi", qq, dq))
    return np.einsum("pnij,pnj->pni", xx, dx) + np.einsum("pnji,pj->pni", qx, dq)


class ReducedPoint:
    """The reduced problem at one control w (size,): states, gradients, the dense Hessian.

    ``x`` (L+1, N, dx) and ``z`` (L+1, N, dz) are states and integrals, flat per sample. Whatever
    else is asked for is formed at first use and kept; μ (rows.size,) are the multipliers in
    J + μᵀc, None for J.
    """

    def __init__(self, reduced: Reduced, w: Flat) -> None:
        self.reduced, self.w = reduced, w
        self._curvature: tuple[bytes, Curvature] | None = None
        self._adjoint: tuple[bytes, Second] | None = None
        self._forward()

    def _forward(self) -> None:
        """Set x and z, column by column (a one-step recursion: all at once)."""
        r = self.reduced
        dx, dz = r.widths
        if r.march is not None:
            q = self.w[r.pair_index]
            self.z = r.march(r.pairs.weights, r.pair_data(slice(None))[:, 0], r.free[: r.depth], q)
            self.x = r.free + self.z
            return
        self.x = np.zeros((r.depth + 1, r.samples, dx))
        self.z = np.zeros((r.depth + 1, r.samples, dz))
        for l in range(self._marched(), r.depth + 1):
            before = self.z[l].copy()
            if r.grid.own[l]:
                self._implicit(l)
            else:
                self.x[l] = self._outer(l, self.z[l])
            if l < r.depth:
                column = r.pairs.columns[l]
                q = self.w[r.pair_index[column]]
                x = np.broadcast_to(self.x[l], (len(q), *self.x[l].shape))
                k = r.nodes.kernel.value(r.pair_data(column), x, q)
                k = r.pairs.weights[column, None, None] * k
                self.z[r.pairs.reached(l)] += k + before if r.markov else k

    def _marched(self) -> int:
        """How many implicit layers of a one-step recursion were found at once, in x and z."""
        found = self.reduced.stages(self.w)
        if found is None:
            return 0
        n = found.settled
        self.x[:n], self.z[: n + 1] = found.x[:n], found.z[: n + 1]
        return n

    def _outer(self, l: int, z: np.ndarray) -> np.ndarray:
        """G(t_l, g, z), (N, dx)."""
        r = self.reduced
        if r.nodes.outer is None:
            return np.asarray(r.free[l] + z)
        one = np.array([l])
        return np.asarray(
            r.nodes.outer.value(r.node_data(one), z[None], self.w[r.node_index[one]])[0]
        )

    def _implicit(self, l: int) -> None:
        """x = G(t_l, g, z + d_l k(t_l, t_l, F(x))) by Newton's method from the layer before.

        Sets x^l and z^l; NaN in x^l where no root continues that state.
        """
        stage = ImplicitLayer(self.reduced, l, self.w, self.z[l])
        self.x[l] = stage.root(self.x[l - 1])
        self.z[l] += stage.source(self.x[l])

    # -- values ----------------------------------------------------------------------------------
    @cached_property
    def outputs(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Value (layers, N, o) and Jacobians (layers, N, o, dx), (layers, N, o, m) of the terms."""
        return [
            t.function.first(t.data, self.x[t.layers], self.w[t.index]) for t in self.reduced.terms
        ]

    @cached_property
    def value(self) -> float:
        """J with its penalties."""
        costs = [
            (t.weight * t.function.value(t.data, self.x[t.layers], self.w[t.index])).sum()
            for t in self.reduced.terms
            if t.weight is not None
        ]
        return float(sum(costs)) + self.reduced.discrete.space.penalty(self.w)

    @cached_property
    def constraints(self) -> np.ndarray:
        """c, (rows.size,)."""
        r = self.reduced
        c = np.empty(r.discrete.rows.size)
        terms = {
            id(t.block): values for t, (values, _, _) in zip(r.terms, self.outputs, strict=True)
        }
        for block in r.discrete.rows.blocks:
            if block.formula is None:
                values = self.x[1:, block.samples]
            else:
                values = terms[id(block)][:, block.samples]
                if block.constraint.kind == "integral":
                    values = np.tensordot(r.grid.running_weights[r.grid.path], values, 1)
            c[block.part] = values.ravel()
        return c

    # -- first order -----------------------------------------------------------------------------
    @cached_property
    def kernel_derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """τφ_x (pairs, N, dz, dx) and τφ_q (pairs, N, dz, m)."""
        r = self.reduced
        _, fx, fq = r.nodes.kernel.first(
            r.pair_data(slice(None)), self.x[r.pairs.sources], self.w[r.pair_index]
        )
        weights = r.pairs.weights[:, None, None, None]
        return weights * fx, weights * fq

    @cached_property
    def outer_derivatives(self) -> tuple[np.ndarray, np.ndarray] | None:
        """ψ_z (L+1, N, dx, dz) and ψ_q (L+1, N, dx, m), None for g + z."""
        r = self.reduced
        if r.nodes.outer is None:
            return None
        return r.nodes.outer.first(
            r.node_data(np.arange(r.depth + 1)), self.z, self.w[r.node_index]
        )[1:]

    @cached_property
    def slope(self) -> np.ndarray | None:
        """I - ψ_z φ_x of the pairs (l, l), (L+1, N, dx, dx); None where there are none."""
        r, outer = self.reduced, self.outer_derivatives
        if r.pairs.own is None:
            return None
        through = self.kernel_derivatives[0][r.pairs.own]
        return np.eye(through.shape[-1]) - (through if outer is None else outer[0] @ through)

    def adjoint(self, mu: RowVector | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """λ (L+1, N, dx), z̄ (L+1, N, dz) and the gradient of J + μᵀc; the last ones are kept."""
        key = b"" if mu is None else mu.tobytes()
        if self._adjoint is None or self._adjoint[0] != key:
            self._adjoint = key, self._sweep(mu)
        return tuple(v.copy() for v in self._adjoint[1])  # type: ignore[return-value]

    def _sweep(self, mu: RowVector | None) -> Second:
        r = self.reduced
        gradient = np.zeros(r.size)
        lam = np.zeros_like(self.x)
        for term, (_, fx, fq) in zip(r.terms, self.outputs, strict=True):
            c = r.cotangent(term, mu)
            if c is not None:
                lam[term.layers] += np.einsum("lno,lnoi->lni", c, fx)
                scatter(gradient, term.index, np.einsum("lno,lnoj->lj", c, fq))
        if mu is not None:
            for block in r.discrete.rows.blocks:
                if block.formula is None:
                    lam[1:, block.samples] += mu[block.part].reshape(
                        r.depth, len(block.samples), -1
                    )
        zbar = self._recursion(lam, np.zeros_like(self.z))
        self._add_reads(gradient, lam, zbar)
        r.discrete.space.add_penalty_gradient(self.w, gradient)
        return lam, zbar, gradient

    def _recursion(self, lam: np.ndarray, zbar: np.ndarray) -> np.ndarray:
        """λ^s += Σ_l φ_xᵀ z̄^l in place, z̄^l += ψ_zᵀ λ^l, backwards; returns z̄."""
        r, outer = self.reduced, self.outer_derivatives
        fx, _ = self.kernel_derivatives
        for l in reversed(range(r.depth + 1)):
            if l < r.depth:
                lam[l] += np.einsum(
                    "mnij,mni->nj", fx[r.pairs.columns[l]], zbar[r.pairs.reached(l)]
                )
            if r.pairs.own is not None and self.slope is not None:
                right = lam[l] + np.einsum("nij,ni->nj", fx[r.pairs.own[l]], zbar[l])
                lam[l] = np.linalg.solve(self.slope[l].transpose(0, 2, 1), right[..., None])[..., 0]
            zbar[l] += lam[l] if outer is None else np.einsum("nij,ni->nj", outer[0][l], lam[l])
            if r.markov and l < r.depth:
                zbar[l] += zbar[l + 1]
        return zbar

    def _add_reads(self, out: np.ndarray, lam: np.ndarray, zbar: np.ndarray) -> None:
        """Add φ_qᵀ z̄ and ψ_qᵀ λ to the entries of the controls that were read."""
        r, outer = self.reduced, self.outer_derivatives
        scatter(
            out,
            r.pair_index,
            np.einsum("pnij,pni->pj", self.kernel_derivatives[1], r.pairs.cotangents(zbar)),
        )
        if outer is not None:
            scatter(out, r.node_index, np.einsum("lnij,lni->lj", outer[1], lam))

    @cached_property
    def sensitivities(self) -> tuple[np.ndarray, np.ndarray]:
        """S = dx/dw (N, L+1, dx, size) and dz/dw (N, L+1, dz, size; the same array for g + z).

        Controls in the order of ``order``.
        """
        r = self.reduced
        dx, dz = r.widths
        _, place, prefix = r.order
        fx, fq = self.kernel_derivatives
        outer = self.outer_derivatives
        X = np.zeros((r.samples, r.depth + 1, dx, r.size))
        Z = X if outer is None else np.zeros((r.samples, r.depth + 1, dz, r.size))
        earlier = r.pairs.sources < r.pairs.layers
        by_layer = [np.flatnonzero((r.pairs.layers == l) & earlier) for l in range(r.depth + 1)]
        before = np.zeros_like(Z[:, 0])  # dz/dw of the layer before, without its own source
        for l in range(r.depth + 1):
            p = prefix[l]
            if l:
                pairs = by_layer[l]
                left = fx[pairs].transpose(1, 2, 0, 3).reshape(r.samples, dz, -1)
                s = r.pairs.sources[pairs]
                states = X[:, s[0] : s[-1] + 1, :, : prefix[l - 1]].reshape(
                    r.samples, len(pairs) * dx, -1
                )
                Z[:, l, :, : prefix[l - 1]] = left @ states
                if r.markov:
                    Z[:, l, :, :p] += before[:, :, :p]
                for pair in pairs:
                    Z[:, l, :, place[r.pair_index[pair]]] += fq[pair].transpose(2, 0, 1)
            if r.markov:
                before[:] = Z[:, l]
            if r.pairs.own is not None:
                own = r.pairs.own[l]
                Z[:, l, :, place[r.pair_index[own]]] += fq[own].transpose(2, 0, 1)
            if outer is not None:
                X[:, l, :, :p] = outer[0][l] @ Z[:, l, :, :p]
                X[:, l, :, place[r.node_index[l]]] += outer[1][l].transpose(2, 0, 1)
            if r.pairs.own is not None and self.slope is not None:
                X[:, l, :, :p] = np.linalg.solve(self.slope[l], X[:, l, :, :p])
                if outer is not None:  # else x = g + z, and both are one array
                    Z[:, l, :, :p] += fx[r.pairs.own[l]] @ X[:, l, :, :p]
        return X, Z

    @cached_property
    def jacobian(self) -> np.ndarray:
        """dc/dw, (rows, size)."""
        r = self.reduced
        order, place, _ = r.order
        X, _ = self.sensitivities
        J = np.zeros((r.discrete.rows.size, r.size))
        for block in r.discrete.rows.blocks:
            if block.formula is None:
                J[block.part] = (
                    X[block.samples, 1:].transpose(1, 0, 2, 3).reshape(block.size, r.size)
                )
        for term, (_, fx, fq) in zip(r.terms, self.outputs, strict=True):
            if term.block is None:
                continue
            block = term.block
            rows = np.einsum(
                "lnoi,nlij->lnoj", fx[:, block.samples], X[block.samples][:, term.layers]
            )
            for k, index in enumerate(term.index):
                rows[k][:, :, place[index]] += fq[k, block.samples]
            if block.constraint.kind == "integral":
                rows = np.tensordot(r.grid.running_weights[r.grid.path], rows, 1)
            J[block.part] = rows.reshape(block.size, r.size)
        out = np.empty_like(J)
        out[:, order] = J
        return out

    # -- second order ----------------------------------------------------------------------------
    def curvature(self, mu: RowVector | None = None) -> Curvature:
        """The second derivatives at all nodes for the multipliers μ; the last ones are kept."""
        key = b"" if mu is None else mu.tobytes()
        if self._curvature is None or self._curvature[0] != key:
            self._curvature = key, self._second(mu)
        return self._curvature[1]

    def _second(self, mu: RowVector | None) -> Curvature:
        r = self.reduced
        lam, zbar, _ = self.adjoint(mu)
        c = r.pairs.weights[:, None, None] * r.pairs.cotangents(zbar)
        kernel = r.nodes.kernel.second(
            r.pair_data(slice(None)), self.x[r.pairs.sources], self.w[r.pair_index], c
        )
        terms = []
        for term in r.terms:
            weight = r.cotangent(term, mu)
            if weight is not None:
                x, q = self.x[term.layers], self.w[term.index]
                terms.append((term, term.function.second(term.data, x, q, weight)))
        outer = None
        if r.nodes.outer is not None:
            outer = r.nodes.outer.second(
                r.node_data(np.arange(r.depth + 1)), self.z, self.w[r.node_index], lam
            )
        return Curvature(kernel, terms, outer)

    def product(self, d: Flat, mu: RowVector | None = None) -> np.ndarray:
        """H d, (size,), without forming H: the derivative of the adjoint recursion along d."""
        r, at = self.reduced, self.curvature(mu)
        dx, dz = self._tangent(d)
        out = np.zeros(r.size)
        dlam = np.zeros_like(self.x)
        extra = np.zeros_like(self.z)
        for term, second in at.terms:
            dlam[term.layers] += _curved(second, dx[term.layers], d[term.index], out, term.index)
        curved = _curved(at.kernel, dx[r.pairs.sources], d[r.pair_index], out, r.pair_index)
        dlam[: r.grid.side] += np.add.reduceat(curved, r.pairs.starts, axis=0)
        if at.outer is not None:
            extra += _curved(at.outer, dz, d[r.node_index], out, r.node_index)
        self._add_reads(out, dlam, self._recursion(dlam, extra))
        r.discrete.space.add_penalty_gradient(d, out)
        return out

    def _tangent(self, d: Flat) -> tuple[np.ndarray, np.ndarray]:
        """(δx, δz) along δw = d, (L+1, N, dx) and (L+1, N, dz)."""
        r, outer = self.reduced, self.outer_derivatives
        fx, fq = self.kernel_derivatives
        dx, dz = np.zeros_like(self.x), np.zeros_like(self.z)
        forced = np.einsum("pnij,pj->pni", fq, d[r.pair_index])
        for l in range(r.depth + 1):
            before = dz[l].copy()
            if r.pairs.own is not None:
                dz[l] += forced[r.pairs.own[l]]
            if outer is None:
                dx[l] = dz[l]
            else:
                dx[l] = (
                    np.einsum("nij,nj->ni", outer[0][l], dz[l]) + outer[1][l] @ d[r.node_index[l]]
                )
            if r.pairs.own is not None and self.slope is not None:
                dx[l] = np.linalg.solve(self.slope[l], dx[l][..., None])[..., 0]
                dz[l] += np.einsum("nij,nj->ni", fx[r.pairs.own[l]], dx[l])
            if l < r.depth:
                column = r.pairs.columns[l]
                added = np.einsum("mnij,nj->mni", fx[column], dx[l]) + forced[column]
                dz[r.pairs.reached(l)] += added + before if r.markov else added
        return dx, dz

    def hessian(self, mu: RowVector | None = None) -> np.ndarray:
        """The exact Hessian of J + μᵀc in the controls, (size, size), penalties included."""
        r, at = self.reduced, self.curvature(mu)
        order, _, _ = r.order
        builder = HessianBuilder(r)
        X, Z = self.sensitivities
        xx, qx, qq = at.kernel
        states = np.zeros((r.depth + 1, r.samples, *xx.shape[2:]))
        states[: r.grid.side] += np.add.reduceat(xx, r.pairs.starts, axis=0)
        ends = [*r.pairs.starts[1:], len(r.pairs)]
        for s, (start, end) in enumerate(zip(r.pairs.starts, ends, strict=True)):
            builder.add_mixed(X, s, r.pair_index[start:end], qx[start:end])
        builder.add_controls(r.pair_index, qq)
        for term, (xx, qx, qq) in at.terms:
            states[term.layers] += xx
            for k, l in enumerate(term.layers):
                builder.add_mixed(X, l, term.index[k : k + 1], qx[k : k + 1])
            builder.add_controls(term.index, qq)
        for l in range(r.depth + 1):
            builder.add_states(X, l, states[l])
        if at.outer is not None:
            zz, qz, qq = at.outer
            for l in range(r.depth + 1):
                builder.add_states(Z, l, zz[l])
                builder.add_mixed(Z, l, r.node_index[l : l + 1], qz[l : l + 1])
            builder.add_controls(r.node_index, qq)
        H = np.empty_like(builder.H)
        H[np.ix_(order, order)] = builder.H
        return H + self.reduced.penalty
