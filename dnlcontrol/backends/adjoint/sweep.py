"""The column sweep: states forward, exact discrete gradient backward, Hessian products by its tangent.

Once x^s is known, its contributions to all later layers are one batched kernel call, column s. Forward
accumulates z column by column; backward recomputes column s and pulls the cotangents z̄^{s+1..L} back
through it. Only the states are kept: O(L·N·d) memory. Samples are taken in chunks.

Second order: the same code run on dual numbers (forward-mode AD) gives the derivative of the gradient in a
direction, exact and with the memory of the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from dnlcontrol.backends.adjoint.vectorised import Tensor, Tensors, Vectorised, value_and_pull
from dnlcontrol.discrete import DiscreteProblem
from dnlcontrol.engines import numpy_engine


@dataclass
class Data:
    """The rows of a chunk of samples."""

    free: Tensor  # (L+1, n, *g), or (1, n, *g) when it does not depend on t
    index: slice

    def at(self, l: int) -> Tensor:
        return self.free[l if len(self.free) > 1 else 0]


class Sweep:
    """Forward and backward passes through the state equation for stacked samples."""

    def __init__(self, discrete: DiscreteProblem, vectorised: Vectorised, chunk: int) -> None:
        self.discrete, self.formulas = discrete, vectorised
        self.problem, self.grid, self.space = discrete.problem, discrete.grid, discrete.space
        self.depth = discrete.depth
        self.dtype, self.device = vectorised.dtype, vectorised.device
        self.markov = self.problem.markov
        self.nodes = self.tensor(self.grid.nodes)
        self.columns = {b.name: b for b in self.space if b.control.on == "ts"}
        self.chunks = [self._data(i, chunk) for i in range(0, self.problem.samples, chunk)]

    @cached_property
    def everyone(self) -> Data:
        """All samples in one chunk."""
        return self.chunks[0] if len(self.chunks) == 1 else self._data(0, self.problem.samples)

    def tensor(self, array: Any) -> Tensor:
        return torch.as_tensor(np.array(array, dtype=float), dtype=self.dtype, device=self.device)

    def _data(self, start: int, chunk: int) -> Data:
        rows = slice(start, min(start + chunk, self.problem.samples))
        x0, formula = self.problem.x0[rows], self.problem.formulas.free_term
        if formula is None:
            return Data(self.tensor(x0)[None], rows)
        times = self.grid.nodes if "t" in formula.reads else self.grid.nodes[:1]
        return Data(self.tensor([[formula(numpy_engine(), t, x) for x in x0] for t in times]), rows)

    # -- pieces -----------------------------------------------------------------------------------------------
    def _shared(self, u: Tensors, formula: Any, l: int) -> dict[str, Tensor]:
        """The path controls at l and the constants that a formula reads."""
        out = {}
        for name, values in u.items():
            on = self.problem.controls[name].on
            if name in formula.reads and on != "ts":
                out[name] = values[l if on == "t" else 0]
        return out

    def _inputs(self, u: Tensors, s: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """What column s reads: its triangular controls, the kernel's and the feature map's shared controls."""
        f = self.problem.formulas
        ts = {k: u[k][b.layout.column(s)] for k, b in self.columns.items() if k in f.kernel.reads}
        return ts, self._shared(u, f.kernel, s), self._shared(u, f.feature, s) if f.feature else {}

    def column(self, s: int, x: Tensor, ts: Tensors, shared: Tensors, own: Tensors, last: bool = False) -> Tensor:
        """τ k(t_l, t_s, F(t_s, x), w^{l,s}) for l = s+1..L (Markov: only l = s+1), (m, n, *z); ``last``: k(T, T)."""
        time = self.nodes[s]
        y = self.formulas.feature(time, x, own) if self.formulas.feature else x
        rows = self.nodes[s : s + 1] if last else self.nodes[s + 1 : s + 2] if self.markov else self.nodes[s + 1 :]
        k = self.formulas.kernel(rows, time, y, ts, shared)
        return k if last else self.grid.step * k

    def _state(self, l: int, g: Tensor, z: Tensor, shared: Tensors) -> Tensor:
        return self.formulas.outer(self.nodes[l], g, z, shared) if self.formulas.outer else g + z

    # -- passes -----------------------------------------------------------------------------------------------
    def states(self, u: Tensors, data: Data) -> tuple[Tensor, Tensor]:
        """x (L+1, n, *state) and z (L+1, n, *integral)."""
        n, outer = data.free.shape[1], self.problem.formulas.outer
        z = torch.zeros(self.depth + 1, n, *self.problem.integral_shape, dtype=self.dtype, device=self.device)
        x = torch.zeros(self.depth + 1, n, *self.problem.state_shape, dtype=self.dtype, device=self.device)
        for l in range(self.depth + 1):
            x[l] = self._state(l, data.at(l), z[l], self._shared(u, outer, l) if outer else {})
            if l == self.depth:
                break
            column = self.column(l, x[l], *self._inputs(u, l))
            if self.markov:
                z[l + 1] = z[l] + column[0]
            else:
                z[l + 1 :] += column
        return x, z

    def pull_back(
        self, u: Tensors, data: Data, x: Tensor, z: Tensor, direct: Tensor, out: Tensors
    ) -> tuple[Tensor, Tensor]:
        """Costates λ^l = dJ/dx^l and z̄^l = dJ/dz^l from the direct derivatives ∂J/∂x^l; adds dJ/du into ``out``."""
        lam, zbar = torch.zeros_like(x), torch.zeros_like(z)
        outer = self.problem.formulas.outer
        for l in reversed(range(self.depth + 1)):
            lam[l] = direct[l]
            if l < self.depth:
                inputs = self._inputs(u, l)
                _, pull = value_and_pull(lambda x, *i, l=l: self.column(l, x, *i), x[l], *inputs)
                xbar, ts, shared, own = pull(zbar[l + 1 : l + 2] if self.markov else zbar[l + 1 :])
                lam[l] += xbar
                for name, value in ts.items():
                    out[name][self.columns[name].layout.column(l)] += value
                self._add_shared(out, shared, l)
                self._add_shared(out, own, l)
            if outer is None:
                zbar[l] = lam[l]
            else:
                shared = self._shared(u, outer, l)
                _, pull = value_and_pull(lambda z, c, l=l: self._state(l, data.at(l), z, c), z[l], shared)
                zbar[l], added = pull(lam[l])
                self._add_shared(out, added, l)
            if self.markov and l < self.depth:
                zbar[l] += zbar[l + 1]
        return lam, zbar

    def _add_shared(self, out: Tensors, parts: Tensors, l: int) -> None:
        for name, value in parts.items():
            out[name][l if self.problem.controls[name].on == "t" else 0] += value
