"""The column sweep: states forward, exact discrete gradient backward, products by its tangent.

Once x^s is known, its contributions to all later layers are one batched kernel call, column s.
Forward accumulates z column by column; backward recomputes column s and pulls the cotangents
z̄^{s+1..L} back through it. Only the states are kept: O(L·N·d) memory. Samples are taken in chunks.

A kernel σ(W y + b) takes the products of affine_columns.py (one-step networks: affine_chain.py),
with the feature and outer maps of affine_maps.py; any other torch.func.

Second order: the same code run on dual numbers (forward-mode AD) gives the derivative of the
gradient in a direction, exact and with the memory of the sweep; affine_tangent.py is its form for
σ(W y + b).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike

from dnlcontrol.backends.adjoint.printed.printed_formulas import PrintedFormulas
from dnlcontrol.backends.adjoint.printed.printed_passes import PrintedPasses
from dnlcontrol.backends.adjoint.sweep.affine_chain import affine_chain
from dnlcontrol.backends.adjoint.sweep.affine_columns import affine_columns
from dnlcontrol.backends.adjoint.sweep.affine_maps import feature_map, outer_map
from dnlcontrol.backends.adjoint.sweep.implicit_stage import Stage
from dnlcontrol.backends.adjoint.sweep.vectorised import (
    Pull,
    Tensor,
    Tensors,
    Vectorised,
    differentiated,
    value_and_pull,
)
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.resources.sizes import chunk_size
from dnlcontrol.problem.engines import numpy_engine
from dnlcontrol.problem.formula import Formula

Inputs = tuple[Tensors, Tensors, Tensors]


@dataclass
class Data:
    """The rows of a chunk of samples."""

    free: Tensor  # (L+1, n, *g), or (1, n, *g) when it does not depend on t
    index: slice

    def at(self, l: int) -> Tensor:
        """g^l, (n, *g)."""
        return self.free[l if len(self.free) > 1 else 0]


class Sweep:
    """Forward and backward passes through the state equation for stacked samples."""

    def __init__(
        self, discrete: DiscreteProblem, vectorised: Vectorised, chunk: int | None
    ) -> None:
        self.discrete, self.formulas = discrete, vectorised
        self.problem = discrete.problem
        self.grid = discrete.grid
        self.space = discrete.space
        self.depth = discrete.depth
        self.dtype, self.device = vectorised.dtype, vectorised.device
        self.markov = self.problem.markov
        self.nodes = self.tensor(self.grid.nodes)
        self.triangular = {b.name: b for b in self.space if b.control.on == "ts"}
        self.columns = affine_columns(discrete, vectorised)
        self.feature_map = feature_map(vectorised, self.columns)
        self.outer_map = outer_map(vectorised, self.columns)
        self.chain = affine_chain(discrete, self.columns)
        chunk = chunk or chunk_size(discrete, self.dtype.itemsize)
        self.chunks = [self._data(i, chunk) for i in range(0, self.problem.samples, chunk)]

    @cached_property
    def everyone(self) -> Data:
        """All samples in one chunk."""
        return self.chunks[0] if len(self.chunks) == 1 else self._data(0, self.problem.samples)

    def tensor(self, array: ArrayLike) -> Tensor:
        """A copy on the device, of the same shape."""
        return torch.as_tensor(np.array(array, dtype=float), dtype=self.dtype, device=self.device)

    def _data(self, start: int, chunk: int) -> Data:
        rows = slice(start, min(start + chunk, self.problem.samples))
        x0, formula = self.problem.x0[rows], self.problem.formulas.free_term
        if formula is None:
            return Data(self.tensor(x0)[None], rows)
        times = self.grid.nodes if "t" in formula.reads else self.grid.nodes[:1]
        return Data(self.tensor([[formula(numpy_engine(), t, x) for x in x0] for t in times]), rows)

    @cached_property
    def printed(self) -> PrintedPasses | None:
        """The same passes in printed NumPy, where formulas are short, in float64 on the CPU."""
        plain = self.device.type == "cpu" and self.dtype == torch.float64
        own = self.columns is not None or self.problem.dynamics.batched is not None
        if not plain or own or not self.formulas.batched:
            return None
        maps = PrintedFormulas.of(self.problem)
        return None if maps is None else PrintedPasses(self.discrete, maps)

    # -- pieces ----------------------------------------------------------------------------------
    def shared(self, u: Tensors, formula: Formula, l: int) -> dict[str, Tensor]:
        """The path controls at l and the constants that a formula reads."""
        out = {}
        for name, values in u.items():
            on = self.problem.controls[name].on
            if name in formula.reads and on != "ts":
                out[name] = values[l if on == "t" else 0]
        return out

    def inputs(self, u: Tensors, s: int, own: bool = False) -> Inputs:
        """What column s reads: later triangular samples, or w^{s,s} (``own``), shared controls."""
        f = self.problem.formulas
        sites = {
            k: b.layout.own(s) if own else b.layout.later(s) for k, b in self.triangular.items()
        }
        ts = {k: u[k][part] for k, part in sites.items() if k in f.kernel.reads}
        return ts, self.shared(u, f.kernel, s), self._feature_reads(u, s)

    def _feature_reads(self, u: Tensors, s: int) -> dict[str, Tensor]:
        feature = self.problem.formulas.feature
        return self.shared(u, feature, s) if feature else {}

    def _feature(self, s: int, x: Tensor, own: Tensors) -> Tensor:
        return self.formulas.feature(self.nodes[s], x, own) if self.formulas.feature else x

    def column(self, s: int, x: Tensor, ts: Tensors, shared: Tensors, own: Tensors) -> Tensor:
        """c_s k(t_l, t_s, F(t_s, x), w^{l,s}) for l = s+1..L (Markov: only l = s+1), (m, n, *z)."""
        rows = self.nodes[s + 1 : s + 2] if self.markov else self.nodes[s + 1 :]
        return self.grid.later[s] * self.formulas.kernel(
            rows, self.nodes[s], self._feature(s, x, own), ts, shared
        )

    def diagonal(self, l: int, x: Tensor, ts: Tensors, shared: Tensors, own: Tensors) -> Tensor:
        """k(t_l, t_l, F(t_l, x), w^{l,l}), (n, *z)."""
        return self.formulas.kernel(
            self.nodes[l : l + 1], self.nodes[l], self._feature(l, x, own), ts, shared
        )[0]

    def state(self, l: int, g: Tensor, z: Tensor, shared: Tensors) -> Tensor:
        """G(t_l, g, z, v^l)."""
        return self.formulas.outer(self.nodes[l], g, z, shared) if self.formulas.outer else g + z

    def stage(self, u: Tensors, data: Data, l: int) -> Stage:
        """The right side of the state equation at layer l in x^l, z and all controls it reads."""
        outer, weight = self.problem.formulas.outer, self.grid.own[l]
        shared = self.shared(u, outer, l) if outer else {}
        if not weight:
            return Stage(
                lambda x, z, shared: self.state(l, data.at(l), z, shared), (shared,), implicit=False
            )

        def right(x: Tensor, z: Tensor, shared: Tensors, inputs: Inputs) -> Tensor:
            return self.state(l, data.at(l), z + weight * self.diagonal(l, x, *inputs), shared)

        return Stage(right, (shared, self.inputs(u, l, own=True)), implicit=True)

    # -- passes ----------------------------------------------------------------------------------
    def states(self, u: Tensors, data: Data) -> tuple[Tensor, Tensor]:
        """x (L+1, n, *state) and z (L+1, n, *integral), the part of z^l from earlier layers."""
        if self.chain is not None:
            found = self.chain.forward(u, data.free[0].T, fresh=True).states.transpose(1, 2)
            return found, found - data.free
        if self.printed is not None and not differentiated(u.values()):
            return self.printed.states(u, data.free)
        n = data.free.shape[1]
        x, z = self._zeros(n, self.problem.state_shape), self._zeros(n, self.problem.integral_shape)
        for l in range(self.depth + 1):
            if self.outer_map is not None and not self.grid.own[l]:
                self.outer_map.value(u, l, data.at(l).T, z[l].T, x[l].T)
            else:
                x[l] = self.stage(u, data, l).solve(x[l - 1], z[l])
            if l == self.depth:
                break
            self._add_column(u, l, x[l], z[self.rows(l)])
            if self.markov:
                z[l + 1] += z[l]
        return x, z

    def passing_states(self, u: Tensors, data: Data) -> Tensor:
        """x (L+1, n, *state), valid until the next pass."""
        if self.chain is None:
            return self.states(u, data)[0]
        return self.chain.forward(u, data.free[0].T).states.transpose(1, 2)

    def rows(self, s: int) -> slice:
        """The later layers that column s reaches directly."""
        return slice(s + 1, s + 2 if self.markov else self.depth + 1)

    def _zeros(self, n: int, shape: tuple[int, ...]) -> Tensor:
        """(L+1, n, *shape), samples last in memory where affine_columns.py wants them there."""
        if self.columns is None:
            return torch.zeros(self.depth + 1, n, *shape, dtype=self.dtype, device=self.device)
        return torch.zeros(
            self.depth + 1, *shape, n, dtype=self.dtype, device=self.device
        ).transpose(1, 2)

    def _add_column(self, u: Tensors, s: int, x: Tensor, later: Tensor) -> None:
        """Add column s to the later layers' z, in place."""
        if self.columns is None:
            later += self.column(s, x, *self.inputs(u, s))
        else:
            if self.feature_map is not None:
                y = self.feature_map.value(x.T)
            else:
                y = self._feature(s, x, self._feature_reads(u, s)).T.contiguous()
            self.columns.add(_flat(later), y, self.columns.read(u, s), self.grid.later[s])

    def _pull_column(self, u: Tensors, s: int, x: Tensor, zbar: Tensor, out: Tensors) -> Tensor:
        """The cotangent of x^s from those of the later layers' z.

        Those of the controls are added into ``out``.
        """
        if self.columns is None:
            inputs = self.inputs(u, s)
            _, pull = value_and_pull(lambda x, *i: self.column(s, x, *i), x, *inputs)
            xbar, ts, *shared = pull(zbar)
            self.add(out, ts, s, own=False)
            for parts in shared:
                self.add_shared(out, parts, s)
            return xbar
        y, pull = self._source(u, s, x)
        ybar, read = torch.zeros_like(y), self.columns.read
        self.columns.pull(_flat(zbar), y, read(u, s), self.grid.later[s], ybar, read(out, s))
        xbar, own = pull(ybar)
        self.add_shared(out, own, s)
        return xbar

    def _source(self, u: Tensors, s: int, x: Tensor) -> tuple[Tensor, Pull]:
        """y^s (e, n) and the map from its cotangent to those of x^s and the feature's controls.

        The cotangent may be overwritten.
        """
        if (known := self.feature_map) is None:
            y, pull = self.pulled_feature(s, x, self._feature_reads(u, s))
            return y.T.contiguous(), lambda ybar: pull(ybar.T)
        y = known.value(x.T)
        return y, lambda ybar: (known.pull(ybar, y).T, {})

    def pulled_feature(self, s: int, x: Tensor, own: Tensors) -> tuple[Tensor, Pull]:
        """y^s and the map from its cotangent to those of x^s and of the feature's controls."""
        if self.formulas.feature is None:
            return x, lambda ybar: (ybar, {})
        return value_and_pull(lambda x, own: self._feature(s, x, own), x, own)

    def integrals(self, u: Tensors, x: Tensor, z: Tensor) -> Tensor:
        """z^l with the layer's own source, (L+1, n, *integral)."""
        own = [l for l in range(self.depth + 1) if self.grid.own[l]]
        if not own:
            return z
        added = [
            self.grid.own[l] * self.diagonal(l, x[l], *self.inputs(u, l, own=True)) for l in own
        ]
        return z.index_add(0, torch.tensor(own, device=z.device), torch.stack(added))

    def pull_back(
        self, u: Tensors, data: Data, x: Tensor, z: Tensor, direct: Tensor, out: Tensors
    ) -> tuple[Tensor, Tensor]:
        """Costates λ^l = dJ/dx^l and z̄^l = dJ/dz^l from the direct derivatives ∂J/∂x^l.

        Adds dJ/du into ``out``.

        λ^l is the multiplier of the state equation at layer l: the derivative with respect to a
        change of its right side. ``direct`` is (L+1, n, *state), or (1, n, *state) where only x^L
        has one.
        """
        lam, zbar = torch.zeros_like(x), torch.zeros_like(z)
        lam[-len(direct) :] = direct
        for l in reversed(range(self.depth + 1)):
            if l < self.depth:
                lam[l] += self._pull_column(u, l, x[l], zbar[self.rows(l)], out)
            if self.outer_map is not None and not self.grid.own[l]:
                self.outer_map.pull(u, l, z[l].T, lam[l].T, zbar[l].T, out)
            elif self.problem.formulas.outer is None and not self.grid.own[l]:
                zbar[l] = lam[l]  # x = g + z
            else:
                stage = self.stage(u, data, l)
                lam[l], zbar[l], (added, *own) = stage.pull_back(x[l], z[l], lam[l])
                self.add_shared(out, added, l)
                for ts, *shared in own:
                    self.add(out, ts, l, own=True)
                    for parts in shared:
                        self.add_shared(out, parts, l)
            if self.markov and l < self.depth:
                zbar[l] += zbar[l + 1]
        return lam, zbar

    def add(self, out: Tensors, parts: Tensors, s: int, own: bool) -> None:
        """Add cotangents of the triangular controls of column s, or of w^{s,s}, into ``out``."""
        for name, value in parts.items():
            layout = self.triangular[name].layout
            out[name][layout.own(s) if own else layout.later(s)] += value

    def add_shared(self, out: Tensors, parts: Tensors, l: int) -> None:
        """Add cotangents of the path controls at l and of the constants into ``out``."""
        for name, value in parts.items():
            out[name][l if self.problem.controls[name].on == "t" else 0] += value


def _flat(later: Tensor) -> Tensor:
    """(m, n, d), samples last in memory, as (m·d, n)."""
    return later.transpose(1, 2).view(-1, later.shape[1])
