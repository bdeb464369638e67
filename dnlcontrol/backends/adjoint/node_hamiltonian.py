"""The discrete Hamiltonian: the lifted problem's Lagrangian in one control at one node.

States x, costates λ = dJ/dx, z̄ = dJ/dz and all other controls are held. A path control v at the
node s enters

    h^s(v) = ω_s ℓ(t_s, x^s, v) + Σ_{l>=s} z̄^lᵀ c k(t_l, t_s, F(t_s, x^s, v), v)
             + λ^sᵀ G(t_s, g, z^s, v) + ½ q |v|²

and a control on the triangle, which only the kernel reads,

    h^{l,s}(w) = z̄^lᵀ c k(t_l, t_s, y^s, w) + ½ q |w|²,

with the rule's weights ω and c (left: τ, none for l = s).

λ and z̄ hold the mean over the samples; constraint terms μᵀc that read v belong to h^s. ∂h/∂v is
the gradient of the reduced problem. h over the mass of a cell, τ or τ², is the Hamiltonian of
theory section 5 up to terms without v. Only for controls whose penalty is a diagonal: differences
would couple the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.func import grad, jvp, vmap

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.sweep.columnwise import Inputs
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers

Function = Callable[[Tensor], Tensor]


class Hamiltonian:
    """h of every node at w (size,), for the multipliers' Lagrangian; ``at``: its trajectory."""

    def __init__(
        self, evaluator: Evaluator, w: Flat, multipliers: Multipliers, at: Trajectory
    ) -> None:
        self.evaluator = evaluator
        self.sweep = evaluator.sweep
        self.multipliers = multipliers
        self.problem, self.depth = self.sweep.problem, self.sweep.depth
        self.u = {k: self.sweep.tensor(v) for k, v in evaluator.space.split(w).items()}
        self.data = self.sweep.everyone
        with torch.no_grad():
            self.x, z = self.sweep.states(self.u, self.data)
            self.z = self.sweep.integrals(self.u, self.x, z)
        self.lam, self.zbar = (
            self.sweep.tensor(at.costates),
            self.sweep.tensor(at.integral_costates),
        )
        # of z^l alone: in the Markov case z̄^l also carries the later layers
        self.own_zbar = self.zbar.clone()
        if self.sweep.markov:
            self.own_zbar[:-1] -= self.zbar[1:]
        f = self.problem.formulas
        self.in_costs = frozenset().union(
            *(g.reads for g in (f.running, *f.constraints) if g is not None)
        )

    def nodes(self, block: ControlBlock) -> range:
        """The source layers s: their sites make up the control."""
        return range(block.layout.side if block.layout.on == "ts" else block.layout.count)

    def sites(self, block: ControlBlock, s: int) -> slice:
        """Column s on the triangle, v^s on the path."""
        return block.layout.column(s) if block.layout.on == "ts" else slice(s, s + 1)

    def values(self, block: ControlBlock, s: int, candidates: np.ndarray) -> np.ndarray:
        """h at candidates (m, sites of s, components), each site on its own; (m, sites of s)."""
        with torch.no_grad():
            return np.asarray(vmap(self._function(block, s))(self._shaped(block, candidates)))

    def every(self, block: ControlBlock, candidates: np.ndarray) -> np.ndarray:
        """The same at all sites: candidates (m, sites, components), (m, sites)."""
        out = np.empty(candidates.shape[:2])
        for s in self.nodes(block):
            part = self.sites(block, s)
            out[:, part] = self.values(block, s, candidates[:, part])
        return out

    def gradient(self, block: ControlBlock, s: int) -> np.ndarray:
        """∂h/∂v at the control, (sites of s, components)."""
        function, v = self._function(block, s), self.u[block.name][self.sites(block, s)]
        return np.asarray(grad(lambda v: function(v).sum())(v)).reshape(len(v), -1)

    def second_derivatives(self, block: ControlBlock, s: int, directions: np.ndarray) -> np.ndarray:
        """dᵀ h_vv d along d (m, sites of s, components) at the control; (m, sites of s)."""
        function, v = self._function(block, s), self.u[block.name][self.sites(block, s)]
        zero, one = v.new_zeros(()), v.new_ones(())

        def along(d: Tensor) -> Tensor:
            def slope(a: Tensor) -> Tensor:
                return jvp(lambda b: function(v + b * d), (a,), (one,))[1]

            return jvp(slope, (zero,), (one,))[1]

        with turn(), torch.no_grad():
            return np.asarray(vmap(along)(self._shaped(block, directions)))

    def _shaped(self, block: ControlBlock, values: np.ndarray) -> Tensor:
        return self.sweep.tensor(values).reshape(*values.shape[:2], *block.control.shape)

    def _function(self, block: ControlBlock, s: int) -> Function:
        """v (sites of s, *shape) -> h (sites of s,)."""
        part = self.sites(block, s)
        data_part = self._column(block, s) if block.layout.on == "ts" else self._path(block, s)
        if block.penalty is None:
            return data_part
        q = self.sweep.tensor(block.penalty.diagonal()[part])
        return lambda v: data_part(v) + 0.5 * q * (v**2).reshape(len(v), -1).sum(1)

    def _contributions(self, s: int, change: Callable[[Inputs, bool], Inputs]) -> Tensor:
        """z̄^lᵀ c k(t_l, t_s, y^s, ·) of column s, (layers,); ``change``: of what it reads."""
        parts, sweep = [], self.sweep
        if sweep.grid.at_nodes:
            own = sweep.diagonal(s, self.x[s], *change(sweep.inputs(self.u, s, own=True), True))
            parts.append(sweep.grid.own[s] * (own * self.own_zbar[s]).sum()[None])
        if s < self.depth:
            column = sweep.column(s, self.x[s], *change(sweep.inputs(self.u, s), False))
            cotangents = self.zbar[s + 1 : s + 2] if sweep.markov else self.zbar[s + 1 :]
            parts.append((column * cotangents).flatten(1).sum(1))
        return torch.cat(parts)

    def _column(self, block: ControlBlock, s: int) -> Function:
        first = self.sweep.grid.at_nodes  # the sites after w^{s,s}

        def h(w: Tensor) -> Tensor:
            def change(inputs: Inputs, own: bool) -> Inputs:
                return {**inputs[0], block.name: w[:1] if own else w[first:]}, *inputs[1:]

            return self._contributions(s, change)

        return h

    def _path(self, block: ControlBlock, s: int) -> Function:
        name = block.name
        f = self.problem.formulas
        sweep = self.sweep
        parts: list[Function] = []
        if s < sweep.grid.side and (
            name in f.kernel.reads or (f.feature and name in f.feature.reads)
        ):

            def kernel(v: Tensor) -> Tensor:
                def change(inputs: Inputs, own: bool) -> Inputs:
                    ts, *read = inputs
                    here, there = (
                        {k: v[0] if k == name else c for k, c in part.items()} for part in read
                    )
                    return ts, here, there

                return self._contributions(s, change).sum()

            parts.append(kernel)
        if f.outer and name in f.outer.reads:
            outer = sweep.shared(self.u, f.outer, s)
            parts.append(
                lambda v: (
                    self.lam[s] * sweep.state(s, self.data.at(s), self.z[s], {**outer, name: v[0]})
                ).sum()
            )
        if s < sweep.grid.side and name in self.in_costs:
            parts.append(partial(self._costs, name, s))
        zero = self.x.new_zeros(())
        return lambda v: sum((part(v) for part in parts), zero)[None]

    def _costs(self, name: str, s: int, v: Tensor) -> Tensor:
        """Cost and constraint terms with v (1, *shape) at one node: all that moves with it."""
        lagrangian, running = self.evaluator.lagrangian, self.problem.formulas.running
        if self.evaluator.rows.size or lagrangian.running is None or running is None:
            values = self.u[name]
            changed = {**self.u, name: torch.cat([values[:s], v, values[s + 1 :]])}
            return lagrangian.value(self.x, changed, self.data, self.multipliers)
        target = lagrangian.targets["running"]
        path = {
            k: v if k == name else self.u[k][s : s + 1]
            for k in running.reads
            if k in self.u and self.problem.controls[k].on == "t"
        }
        constants = lagrangian.constants(self.u, running)
        extra = [] if target is None else [target]
        time, x = self.sweep.nodes[s : s + 1], self.x[s : s + 1]
        total = lagrangian.running(time, x, path, constants, *extra).sum()
        return self.multipliers.cost * lagrangian.weights[s] * total / self.problem.samples
