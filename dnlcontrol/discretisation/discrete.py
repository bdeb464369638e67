"""The discrete problem (P_L) and its slow reference evaluation, loop by loop as it is defined."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.constraint_rows import Rows
from dnlcontrol.discretisation.diagonal import refuse_singular
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.resources.counts import Structure
from dnlcontrol.discretisation.resources.room import refuse_beyond
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.problem.engines import numpy_engine
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.problem import ControlProblem


class DiscreteProblem:
    """A problem on a grid, with the weights of its rule (left rule: c = τ, d = 0):

        x^l = G(t_l, g(t_l), z^l, v^l),    y^s = F(t_s, x^s, v^s)
        z^l = Σ_{s<l} c_s k(t_l, t_s, y^s, w^{l,s}) + d_l k(t_l, t_l, y^l, w^{l,l})
        J_L = (1/N) Σ_n [Φ(x_n^L) + Σ_l ω_l ℓ(t_l, x_n^l, v^l)] + R_L

    Controls are flat vectors of ``space``, constraints flat vectors of ``rows``. The methods here
    are the reference evaluator (NumPy, loops): use a backend for speed.

    >>> import numpy as np, dnlcontrol as dnl
    >>> growth = dnl.ControlProblem(
    ...     x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: x), terminal=lambda x, c: x
    ... )
    >>> float(dnl.discretise(growth, 2).value(np.zeros(0)))
    2.25
    """

    def __init__(self, problem: ControlProblem, grid: Grid) -> None:
        self.space = ControlSpace(problem, grid)
        self.problem = problem
        self.grid = grid
        self.rows = Rows(problem, grid)

    @property
    def depth(self) -> int:
        """L."""
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

    def controls_at(
        self, w: Flat, formula: Formula, node: int, source: int | None = None
    ) -> dict[str, Any]:
        """The controls that ``formula`` reads, name -> array of the control's shape.

        w^{node, source} on the triangle; on the path v at ``node``, in a kernel at ``source``.
        """
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

    def states(self, w: Flat) -> np.ndarray:
        """x at the controls w, (L+1, N, *state shape)."""
        p = self.problem
        c = self.grid.later
        d = self.grid.own
        x = np.empty((self.depth + 1, p.samples, *p.state_shape))
        for l in range(self.depth + 1):
            for n in range(p.samples):
                z = np.zeros(p.integral_shape)
                for s in range(l):
                    z = z + c[s] * self._kernel(w, l, s, x[s, n])
                if not d[l]:
                    x[l, n] = self._outer(w, l, n, z)
                else:
                    x[l, n] = self._implicit(w, l, n, z, x[l - 1, n])
        return x

    def _kernel(self, w: Flat, l: int, s: int, x: np.ndarray) -> Any:
        """k(t_l, t_s, F(t_s, x), w^{l,s})."""
        f = self.problem.formulas
        t = self.grid.nodes
        e = numpy_engine()
        y = f.feature(e, t[s], x, self.controls_at(w, f.feature, s)) if f.feature else x
        return f.kernel(e, t[l], t[s], y, self.controls_at(w, f.kernel, l, s))

    def _outer(self, w: Flat, l: int, n: int, z: np.ndarray) -> Any:
        """G(t_l, g, z, v^l)."""
        f = self.problem.formulas
        p = self.problem
        t = self.grid.nodes
        e = numpy_engine()
        g = f.free_term(e, t[l], p.x0[n]) if f.free_term else p.x0[n]
        return f.outer(e, t[l], g, z, self.controls_at(w, f.outer, l)) if f.outer else g + z

    def _implicit(self, w: Flat, l: int, n: int, z: np.ndarray, guess: np.ndarray) -> np.ndarray:
        """The root of x = G(t_l, g, z + d_l k(t_l, t_l, F(x)), v^l), by a general root finder."""
        from scipy.optimize import root

        def residual(flat: np.ndarray) -> np.ndarray:
            x = flat.reshape(guess.shape)
            return np.ravel(
                x - self._outer(w, l, n, z + self.grid.own[l] * self._kernel(w, l, l, x))
            )

        found = root(residual, guess.ravel(), tol=1e-14)
        return np.asarray(found.x).reshape(guess.shape)

    def value(self, w: Flat) -> float:
        """J_L at the controls w, with its penalties."""
        return self.data_cost(w, self.states(w)) + self.space.penalty(w)

    def data_cost(self, w: Flat, x: np.ndarray) -> float:
        """The mean over the samples of terminal and running cost at states x (L+1, N, *shape)."""
        f = self.problem.formulas
        p = self.problem
        t = self.grid.nodes
        e = numpy_engine()
        total = 0.0
        for n in range(p.samples):
            if f.terminal is not None and p.terminal is not None:
                extra = [] if p.terminal.target is None else [p.terminal.target[n]]
                total += float(
                    f.terminal(e, x[-1, n], self.controls_at(w, f.terminal, self.depth), *extra)
                )
            if f.running is not None and p.running is not None:
                extra = [] if p.running.target is None else [p.running.target[n]]
                for l in self.grid.path:
                    value = f.running(e, t[l], x[l, n], self.controls_at(w, f.running, l), *extra)
                    total += self.grid.running_weights[l] * float(value)
        return total / p.samples

    def constraint_values(self, w: Flat, x: np.ndarray) -> RowVector:
        """The flat vector c of ``rows``, (rows.size,), at states x (L+1, N, *shape)."""
        t, e = self.grid.nodes, numpy_engine()
        out = np.empty(self.rows.size)
        for block in self.rows.blocks:
            values = np.zeros(block.full_shape)
            for j, n in enumerate(block.samples):
                if block.formula is None:
                    values[:, j] = x[1:, n]
                elif block.constraint.kind == "terminal":
                    extra = [] if block.constraint.target is None else [block.constraint.target[n]]
                    values[0, j] = block.formula(
                        e, x[-1, n], self.controls_at(w, block.formula, self.depth), *extra
                    )
                else:
                    every = [
                        block.formula(e, t[l], x[l, n], self.controls_at(w, block.formula, l))
                        for l in self.grid.path
                    ]
                    integral = block.constraint.kind == "integral"
                    values[:, j] = (
                        np.tensordot(self.grid.running_weights[self.grid.path], every, 1)
                        if integral
                        else every
                    )
            out[block.part] = values.ravel()
        return out


def discretise(problem: ControlProblem, depth: int, rule: str = "left") -> DiscreteProblem:
    """The problem at one depth L with step T/L.

    Raises InputError for what is no problem, a depth below 1 or beyond the memory that is there, an
    unknown rule, or a kernel that is not finite where the rule evaluates it.
    """
    grid = grid_of(problem, depth, rule)
    least = Structure(problem, grid).least_mb
    refuse_beyond(least, depth, "its discrete problem", "take a smaller depth")
    return discretised(problem, grid)


def grid_of(problem: ControlProblem, depth: int, rule: str) -> Grid:
    """The grid of a problem at a depth: nothing of its size yet.

    Raises InputError for what is no problem, a depth below 1 or an unknown rule.
    """
    checks.instance("problem", problem, ControlProblem, "a ControlProblem")
    return Grid(depth, problem.horizon, rule)


def discretised(problem: ControlProblem, grid: Grid) -> DiscreteProblem:
    """The problem on a grid, whatever its size.

    Raises InputError for a kernel that is not finite where the rule evaluates it.
    """
    refuse_singular(problem, grid)
    return DiscreteProblem(problem, grid)
