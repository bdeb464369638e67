"""The layers of a discrete problem on tensors, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dnlcontrol.backends.adjoint.sweep.implicit_stage import Stage
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, Vectorised, value_and_pull
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.problem.formula import Formula

# of a column: its triangular samples, what else the kernel reads, what the feature reads
Inputs = tuple[Tensors, Tensors, Tensors]


@dataclass(frozen=True, eq=False)
class UnrolledLayers:
    """x0 (N, *state) -> x^0..x^L, with autograd's graph.

    Attributes
    ----------
    formulas, free : the stacked formulas, and the free term (t, x0 (N, *)) -> (N, *g).
    controls : name -> packed tensor (sites, *shape).
    nodes, later, own : t_l, c_s and d_l as tensors.
    recompute : form every column again in the backward pass.
    """

    discrete: DiscreteProblem
    formulas: Vectorised
    free: Callable[..., Tensor] | None
    controls: Tensors
    nodes: Tensor
    later: Tensor
    own: Tensor
    recompute: bool

    def states(self, x0: Tensor) -> list[Tensor]:
        """x^0..x^L; z holds the running sums of the layers that are still to come."""
        problem, depth = self.discrete.problem, self.discrete.depth
        outer, implicit = problem.formulas.outer, self.discrete.grid.own > 0
        first = 1 if problem.markov else depth + 1
        z = x0.new_zeros(first, x0.shape[0], *problem.integral_shape)
        states: list[Tensor] = []
        for l in range(depth + 1):
            g = x0 if self.free is None else self.free(self.nodes[l], x0)
            shared = self._shared(outer, l) if outer else {}

            def state(
                z: Tensor, l: int = l, g: Tensor = g, shared: dict[str, Tensor] = shared
            ) -> Tensor:
                # a clone, or the graph would keep all of z for this one row
                outer_map = self.formulas.outer
                return outer_map(self.nodes[l], g, z.clone(), shared) if outer_map else g + z

            x = (
                self._solved(l, state, z[0], states[-1] if states else g)
                if implicit[l]
                else state(z[0])
            )
            states.append(x)
            if l < depth:
                column = self._column(l, x)
                z = z + column if problem.markov else z[1:] + column
        return states

    def _column(self, s: int, x: Tensor) -> Tensor:
        """c_s k(t_l, t_s, F(t_s, x), w^{l,s}) for l = s+1..L (Markov: only l = s+1), (m, N, *z)."""
        rows = self.nodes[s + 1 : s + 2] if self.discrete.problem.markov else self.nodes[s + 1 :]
        parts = self._inputs(s, own=False)
        names = [list(part) for part in parts]

        def column(x: Tensor, *flat: Tensor) -> Tensor:
            values = iter(flat)
            a, b, c = ({k: next(values) for k in part} for part in names)
            return self.later[s] * self._kernel(rows, s, x, (a, b, c))

        inputs = (x, *(value for part in parts for value in part.values()))
        return Recomputed.apply(column, *inputs) if self.recompute else column(*inputs)

    def _solved(
        self,
        l: int,
        state: Callable[[Tensor], Tensor],
        z: Tensor,
        guess: Tensor,
    ) -> Tensor:
        """x with x = G(z + d_l k(t_l, t_l, F(t_l, x), w^{l,l}))."""
        inputs, rows = self._inputs(l, own=True), self.nodes[l : l + 1]

        def right(x: Tensor, z: Tensor, inputs: Inputs) -> Tensor:
            return state(z + self.own[l] * self._kernel(rows, l, x, inputs)[0])

        return Stage(right, (inputs,), implicit=True).solve(guess, z)

    def _kernel(self, rows: Tensor, s: int, x: Tensor, inputs: Inputs) -> Tensor:
        """k(rows, t_s, F(t_s, x), ...), (rows, N, *z)."""
        ts, shared, own = inputs
        formulas, time = self.formulas, self.nodes[s]
        return formulas.kernel(
            rows, time, formulas.feature(time, x, own) if formulas.feature else x, ts, shared
        )

    def _inputs(self, s: int, own: bool) -> Inputs:
        """The triangular samples of a column, and what else the kernel and the feature read.

        ``own``: those of the column's diagonal.
        """
        f = self.discrete.problem.formulas
        ts = {
            b.name: self.controls[b.name][b.layout.own(s) if own else b.layout.later(s)]
            for b in self.discrete.space
            if b.control.on == "ts" and b.name in f.kernel.reads
        }
        return ts, self._shared(f.kernel, s), self._shared(f.feature, s) if f.feature else {}

    def _shared(self, formula: Formula, l: int) -> dict[str, Tensor]:
        """The path controls at l and the constants that a formula reads."""
        known = self.discrete.problem.controls
        kinds = {k: known[k].on for k in self.controls if k in formula.reads}
        return {k: self.controls[k][l if on == "t" else 0] for k, on in kinds.items() if on != "ts"}


class Recomputed(torch.autograd.Function):
    """function(*inputs) of tensors, of which the inputs alone are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Any, ...]:
        _, pull = value_and_pull(ctx.function, *ctx.saved_tensors)
        return None, *pull(cotangent)
