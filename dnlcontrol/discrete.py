"""The discrete problem (P_L) and its slow reference evaluation, loop by loop as it is defined."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.engines import numpy_engine
from dnlcontrol.formula import Formula
from dnlcontrol.grid import Grid
from dnlcontrol.problem import ControlProblem
from dnlcontrol.rows import Rows
from dnlcontrol.space.control_space import ControlSpace


class DiscreteProblem:
    """A problem on a grid: x^l = G(t_l, g(t_l), τ Σ_{s<l} k(t_l, t_s, y^s, w^{l,s}), v^l), y^s = F(t_s, x^s, v^s).

    J_L = (1/N) Σ_n [Φ(x_n^L) + τ Σ_{l<L} ℓ(t_l, x_n^l, v^l)] + R_L. Controls are flat vectors of ``space``,
    constraints flat vectors of ``rows``. The methods here are the reference evaluator (NumPy, loops): use a
    backend for speed.

    >>> import numpy as np, dnlcontrol as dnl
    >>> growth = dnl.ControlProblem(
    ...     x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: x), terminal=lambda x, c: x
    ... )
    >>> float(dnl.discretise(growth, 2).value(np.zeros(0)))
    2.25
    """

    def __init__(self, problem: ControlProblem, grid: Grid) -> None:
        self.problem = problem
        self.grid = grid
        self.space = ControlSpace(problem, grid)
        self.rows = Rows(problem, grid)

    @property
    def depth(self) -> int:
        return self.grid.depth

    @cached_property
    def free_terms(self) -> np.ndarray:
        """g(t_l, x0_n), flattened per sample: (L+1, N, size)."""
        p, t = self.problem, self.grid.nodes
        formula = p.formulas.free_term
        if formula is None:
            rows = p.x0.reshape(1, p.samples, -1)
            return np.broadcast_to(rows, (len(t), *rows.shape[1:]))
        values = [[formula(numpy_engine(), time, x) for x in p.x0] for time in t]
        return np.asarray(values, dtype=float).reshape(len(t), p.samples, -1)

    def controls_at(self, w: np.ndarray, formula: Formula, node: int, source: int | None = None) -> dict[str, Any]:
        """What ``formula`` reads: w^{node, source}; on the path the control at ``node``, in a kernel at ``source``."""
        values = {}
        for block in self.space:
            if block.name not in formula.reads:
                continue
            sites = block.values(w)
            if block.layout.on == "ts":
                values[block.name] = sites[block.layout.index(node, source)]
            else:
                path = node if source is None else source
                values[block.name] = sites[path if block.layout.on == "t" else 0]
        return values

    def states(self, w: np.ndarray) -> np.ndarray:
        """(L+1, N, *state shape)."""
        f, p, t, e = self.problem.formulas, self.problem, self.grid.nodes, numpy_engine()
        x = np.empty((self.depth + 1, p.samples, *p.state_shape))
        y = np.empty((self.depth + 1, p.samples, *p.feature_shape))
        for l in range(self.depth + 1):
            for n in range(p.samples):
                z: Any = np.zeros(p.integral_shape)
                for s in range(l):
                    weight = self.grid.kernel_weights(s)[l - s - 1]
                    z = z + weight * f.kernel(e, t[l], t[s], y[s, n], self.controls_at(w, f.kernel, l, s))
                g = f.free_term(e, t[l], p.x0[n]) if f.free_term else p.x0[n]
                x[l, n] = f.outer(e, t[l], g, z, self.controls_at(w, f.outer, l)) if f.outer else g + z
                if l < self.depth:
                    y[l, n] = f.feature(e, t[l], x[l, n], self.controls_at(w, f.feature, l)) if f.feature else x[l, n]
        return x

    def value(self, w: np.ndarray) -> float:
        """J_L, the cost with its penalties."""
        return self.data_cost(w, self.states(w)) + self.space.penalty(w)

    def data_cost(self, w: np.ndarray, x: np.ndarray) -> float:
        """The mean over the samples of terminal and running cost at the states x."""
        f, p, t, e = self.problem.formulas, self.problem, self.grid.nodes, numpy_engine()
        total = 0.0
        for n in range(p.samples):
            if f.terminal is not None and p.terminal is not None:
                extra = [] if p.terminal.target is None else [p.terminal.target[n]]
                total += float(f.terminal(e, x[-1, n], self.controls_at(w, f.terminal, self.depth), *extra))
            if f.running is not None and p.running is not None:
                extra = [] if p.running.target is None else [p.running.target[n]]
                for l in range(self.depth):
                    value = f.running(e, t[l], x[l, n], self.controls_at(w, f.running, l), *extra)
                    total += self.grid.running_weights[l] * float(value)
        return total / p.samples

    def constraint_values(self, w: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The flat vector c of ``rows`` at the states x."""
        t, e = self.grid.nodes, numpy_engine()
        out = np.empty(self.rows.size)
        for block in self.rows.blocks:
            values = np.zeros(block.full_shape)
            for j, n in enumerate(block.samples):
                if block.formula is None:
                    values[:, j] = x[1:, n]
                elif block.constraint.kind == "terminal":
                    extra = [] if block.constraint.target is None else [block.constraint.target[n]]
                    values[0, j] = block.formula(e, x[-1, n], self.controls_at(w, block.formula, self.depth), *extra)
                else:
                    every = [
                        block.formula(e, t[l], x[l, n], self.controls_at(w, block.formula, l))
                        for l in range(self.depth)
                    ]
                    integral = block.constraint.kind == "integral"
                    values[:, j] = np.tensordot(self.grid.running_weights[:-1], every, 1) if integral else every
            out[block.part] = values.ravel()
        return out


def discretise(problem: ControlProblem, depth: int, rule: str = "left") -> DiscreteProblem:
    """The problem at one depth L with step T/L."""
    if not isinstance(problem, ControlProblem):
        checks.reject_type("problem", problem, "a ControlProblem")
    return DiscreteProblem(problem, Grid(depth, problem.horizon, rule))
