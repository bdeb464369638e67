"""A discrete optimum as the expansions of its value read it.

Loads, and limits of states and controls at the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.faces import held_entries
from dnlcontrol.problem.engines import numpy_engine
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.regularisers import Regulariser

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.minimise.evaluator import Trajectory


@dataclass(frozen=True)
class Optimum:
    """A discrete optimum with its costates, and the limits of states and controls at the nodes.

    w, mu : flat controls and multipliers.
    """

    discrete: DiscreteProblem
    evaluator: Evaluator
    trajectory: Trajectory
    w: np.ndarray
    mu: np.ndarray

    @property
    def problem(self) -> ControlProblem:
        return self.discrete.problem

    @property
    def depth(self) -> int:
        return self.discrete.depth

    @property
    def step(self) -> float:
        return self.discrete.grid.step

    @property
    def triangular(self) -> list[ControlBlock]:
        return [b for b in self.discrete.space if b.layout.on == "ts"]

    @property
    def on_last_layer(self) -> list[ControlBlock]:
        """Controls without a difference penalty whose last samples only x^L reads.

        None where the rule has nodes.
        """
        if self.discrete.grid.at_nodes:
            return []
        return [
            b
            for b in self.discrete.space
            if not b.metric.smooth and (b.layout.on == "ts" or b.layout.at_nodes)
        ]

    @cached_property
    def loads(self) -> np.ndarray:
        """z̄^l, the derivative of the Lagrangian in z^l alone, (L+1, N, *integral shape)."""
        zbar = self.trajectory.integral_costates
        if not self.problem.markov:
            return zbar
        own = zbar.copy()  # z^{l+1} = z^l + τ k carries z̄^{l+1} into z̄^l
        own[:-1] -= zbar[1:]
        return own

    @cached_property
    def data_gradient(self) -> np.ndarray:
        """dL/dw without the penalties, flat (size,)."""
        return np.asarray(self.trajectory.gradient - self.discrete.space.penalty_gradient(self.w))

    @cached_property
    def held(self) -> np.ndarray:
        """The entries held at a bound, flat (size,)."""
        return held_entries(self.discrete.space, self.w, self.trajectory.gradient)

    @cached_property
    def states(self) -> np.ndarray:
        """x at the nodes, (L+1, N, *state shape).

        x(T) is the limit from l < L where the discrete x^L jumps.
        """
        x = self.trajectory.states
        return np.concatenate([x[:-1], ahead(x[:-1])]) if self.on_last_layer else x

    @cached_property
    def at_nodes(self) -> dict[str, np.ndarray]:
        """Path controls and constants at the nodes, (L+1, *shape) by name."""
        return {b.name: self._at_nodes(b) for b in self.discrete.space if b.layout.on != "ts"}

    def _at_nodes(self, block: ControlBlock) -> np.ndarray:
        v = block.values(self.w)
        if block.layout.on == "const":
            return np.repeat(v, self.depth + 1, axis=0)
        if self.discrete.grid.at_nodes:
            return v if block.metric.smooth else _mended(v)
        if block.layout.at_nodes:
            return v if block.metric.smooth else np.concatenate([v[:-1], ahead(v[:-1])])
        inside = 0.5 * (v[1:] + v[:-1])  # from the cell centres
        nodes = np.concatenate([ahead(v[::-1], 0.5), inside, ahead(v, 0.5)])
        return np.asarray(np.clip(nodes, block.control.lower, block.control.upper))

    def read(self, formula: Formula, node: int) -> dict[str, np.ndarray]:
        """The path controls and constants at a node that a formula reads, name -> (*shape)."""
        return {
            name: values[node] for name, values in self.at_nodes.items() if name in formula.reads
        }

    def rise(self, formula: Formula, sample: int, *extra: np.ndarray) -> np.ndarray:
        """[fn(t, x, u)]_0^T of one sample, of the formula's shape."""
        end = self.value_at(formula, self.depth, sample, *extra)
        return np.asarray(end - self.value_at(formula, 0, sample, *extra))

    def value_at(self, formula: Formula, node: int, sample: int, *extra: np.ndarray) -> np.ndarray:
        """fn(t, x, u) of one sample at a node."""
        t = self.discrete.grid.nodes[node]
        x = self.states[node, sample]
        u = self.read(formula, node)
        return np.asarray(formula(numpy_engine(), t, x, u, *extra), dtype=float)

    def kernel(self, l: int, s: int) -> np.ndarray:
        """The kernel per sample for s <= l, (N, *integral shape).

        It is k(t_l, t_s, F(t_s, x(t_s), v(t_s)), w(t_l, t_s)).
        """
        import torch

        with torch.no_grad():
            return np.asarray(self._kernel(l, s)(self.evaluator.sweep.nodes[s]).cpu())

    def kernel_slope(self) -> np.ndarray:
        """∂_s k(T, s, y, w) at s = T with everything else held, (N, *integral shape)."""
        import torch
        from torch.func import jvp

        end = self.evaluator.sweep.nodes[-1]
        with turn(), torch.no_grad():
            return np.asarray(
                jvp(self._kernel(self.depth, self.depth), (end,), (torch.ones_like(end),))[1].cpu()
            )

    def _kernel(self, l: int, s: int) -> Callable[[Any], Any]:
        """k(t_l, ., ...) as a function of its second time.

        States and controls are those of the sources s.
        """
        formulas = self.problem.formulas
        mapped = self.evaluator.vectorised
        tensor = self.evaluator.sweep.tensor
        nodes = tensor(self.discrete.grid.nodes)

        def shared(formula: Formula) -> dict[str, Any]:
            return {name: tensor(value) for name, value in self.read(formula, s).items()}

        triangular = {}
        for block in self.triangular:
            # at cell centres the diagonal is w^{l, l-1}
            site = block.layout.index(l, min(s, l - block.layout.first))
            if block.name in formulas.kernel.reads:
                triangular[block.name] = tensor(block.values(self.w)[site])[None]
        y = tensor(self.states[s])
        if formulas.feature is not None and mapped.feature is not None:
            y = mapped.feature(nodes[s], y, shared(formulas.feature)).detach()
        return lambda time: mapped.plain(
            nodes[l : l + 1], time, y, triangular, shared(formulas.kernel)
        )[0]


def ahead(values: np.ndarray, cells: float = 1.0) -> np.ndarray:
    """The linear extrapolation (1, *shape) by some cells past the last sample of (n, *shape)."""
    return np.asarray(values[-1:] + cells * (values[-1:] - values[-2:-1]))


def _mended(values: np.ndarray) -> np.ndarray:
    """Samples at the nodes with both ends replaced by the parabola through the three next to them.

    A control without a difference penalty sees the costate half a step away there, an error O(1/L).
    """
    if len(values) < 5:
        return values
    first, last = (3 * v[1:2] - 3 * v[2:3] + v[3:4] for v in (values, values[::-1]))
    return np.concatenate([first, values[1:-1], last])


def mass(problem: ControlProblem, block: ControlBlock, *kinds: type[Regulariser]) -> float:
    """The weights of a control's penalties of these kinds together."""
    return sum(
        item.weight for item in problem.regularisers_of(block.name) if isinstance(item, kinds)
    )
