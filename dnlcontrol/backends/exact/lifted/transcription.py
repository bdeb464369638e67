"""The lifted transcription: controls and states are unknowns, the state equation is a set of rows.

    Volterra      x^l - G(t_l, g(t_l), z^l, v^l) = 0,   l = 0..L,
                  z^l the rule's sum of k(t_l, t_s, y^s, w^{l,s})
    one-step      x^{l+1} - x^l - (g(t_{l+1}) - g(t_l)) - (z^{l+1} - z^l) = 0,   x^0 - g(0) = 0

(left rule: z^{l+1} - z^l = τ k(t_{l+1}, t_l, y^l, v^l); trapezoidal: the mean of the values at both
nodes.)

The one-step rows are used when the kernel reads neither t nor a triangular control and the outer
map is g + z. With CasADi's Lagrangian f + lamᵀg the costate of a row is -lam: λ^l for the first,
ψ^l for the second.
"""

from __future__ import annotations

from typing import Any

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.condensed.nodes import first_target
from dnlcontrol.backends.exact.lifted.sides import Sides
from dnlcontrol.backends.traced_formula import Columns, TracedFormula
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.pairs import Pairs
from dnlcontrol.problem.formula import Formula


class Transcription:
    """Symbols and expressions of the nonlinear program of one discrete problem.

    ``w`` are the controls in the order of the control space, ``x`` the states (L+1, N, *shape) in
    row-major order; ``rows`` the state equation in the same order, ``constraints`` the rows of
    every constraint but the state bounds, which are bounds on ``x``.
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete, self.problem = discrete, discrete.problem
        self.grid = discrete.grid
        self.depth = discrete.depth
        self.samples = discrete.problem.samples
        self.state_size = int(np.prod(self.problem.state_shape, dtype=int))
        self.one_step = self.problem.markov and self.problem.formulas.outer is None
        self.w = ca.SX.sym("w", discrete.space.size)
        self.x = ca.SX.sym("x", self.state_size, (self.depth + 1) * self.samples)  # column (l, n)
        self._sites = self._control_sites()
        self.rows = self._state_rows()
        self.objective = self._cost() + self._penalty()
        self.constraints = self._constraint_rows()
        self.sides = Sides(discrete)

    @property
    def nlp(self) -> dict[str, Any]:
        """Unknowns (w, x), objective and rows, as ``casadi.nlpsol`` takes them."""
        rows = ca.vertcat(ca.vec(self.rows), self.constraints)
        return {"x": ca.vertcat(self.w, ca.vec(self.x)), "f": self.objective, "g": rows}

    @property
    def derivatives(self) -> dict[str, Any]:
        """Options for ``casadi.nlpsol``: none, it differentiates the symbolic graph."""
        return {}

    # -- controls and states at nodes ------------------------------------------------------------
    def _control_sites(self) -> dict[str, ca.SX]:
        """name -> matrix with one column of flat components per site."""
        return {
            b.name: ca.reshape(self.w[b.offset : b.offset + b.size], b.components, b.layout.count)
            for b in self.discrete.space
        }

    def _traced(self, formula: Formula, target: np.ndarray | None = None) -> TracedFormula:
        return TracedFormula(formula, self.problem.horizon, first_target(target))

    def _values(
        self, formula: Formula, layers: np.ndarray, pairs: np.ndarray | None = None
    ) -> dict[str, ca.SX]:
        """The controls that a formula reads at many nodes, (components, nodes) each.

        On the path at ``layers``, on the triangle at ``pairs``.
        """
        out = {}
        for block in self.discrete.space:
            if block.name in formula.reads:
                if block.layout.on == "ts":
                    assert pairs is not None
                    index = pairs
                else:
                    index = layers if block.layout.on == "t" else np.zeros_like(layers)
                out[block.name] = self._sites[block.name][:, index.tolist()]
        return out

    def _states(self, layers: np.ndarray, samples: np.ndarray) -> ca.SX:
        """x^l_n at many (l, n), (entries, nodes)."""
        return self.x[:, (layers * self.samples + samples).tolist()]

    def _every(self, layers: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All (l, n), layer by layer."""
        return np.repeat(layers, len(samples)), np.tile(samples, len(layers))

    def _times(self, layers: np.ndarray) -> ca.DM:
        return ca.DM(self.grid.nodes[layers]).T

    def _targets(self, target: np.ndarray, samples: np.ndarray) -> ca.DM:
        return ca.DM(target[samples].reshape(len(samples), -1).T)

    # -- the state equation ----------------------------------------------------------------------
    def _state_rows(self) -> ca.SX:
        z = self._integrals(self._features())
        free = [ca.DM(g.T) for g in self.discrete.free_terms]
        if self.one_step:
            x = ca.horzsplit(self.x, self.samples)
            steps = [x[0] - free[0]]
            for l in range(self.depth):
                steps.append(x[l + 1] - x[l] - (free[l + 1] - free[l]) - z[l + 1])
            return ca.horzcat(*steps)
        outer = self.problem.formulas.outer
        if outer is None:
            return self.x - ca.horzcat(*(g + own for g, own in zip(free, z, strict=True)))
        layers, _ = self._every(np.arange(self.depth + 1), np.arange(self.samples))
        values: dict[str, Columns] = {
            "t": self._times(layers),
            "g": ca.horzcat(*free),
            "z": ca.horzcat(*z),
            "u": self._values(outer, layers),
        }
        return self.x - self._traced(outer)(values, len(layers))

    def _features(self) -> ca.SX:
        """y at the layers of the path, column (l, n)."""
        feature = self.problem.formulas.feature
        layers, samples = self._every(self.grid.path, np.arange(self.samples))
        x = self._states(layers, samples)
        if feature is None:
            return x
        values: dict[str, Columns] = {
            "s": self._times(layers),
            "x": x,
            "u": self._values(feature, layers),
        }
        return self._traced(feature)(values, len(layers))

    def _integrals(self, y: ca.SX) -> list[ca.SX]:
        """z^0..z^L, each (size, N); for one-step rows only the increments z^l - z^{l-1}.

        ``y``: columns (l, n).
        """
        kernel = self.problem.formulas.kernel
        N = self.samples
        pairs = Pairs.of(self.grid, self.one_step)
        place, samples = self._every(np.arange(len(pairs)), np.arange(N))
        l = pairs.layers[place]
        s = pairs.sources[place]
        values: dict[str, Columns] = {
            "t": self._times(l),
            "s": self._times(s),
            "y": y[:, (s * N + samples).tolist()],
            "u": self._values(kernel, s, place),
        }
        k = ca.horzsplit(self._traced(kernel)(values, len(l)), N)
        weights = pairs.increments if self.one_step else pairs.weights
        size = int(np.prod(self.problem.integral_shape, dtype=int))
        z = [ca.SX.zeros(size, N) for _ in range(self.depth + 1)]
        for layer, weight, value in zip(pairs.layers, weights, k, strict=True):
            if weight:
                z[layer] = z[layer] + weight * value
        return z

    # -- cost and constraints --------------------------------------------------------------------
    def _cost(self) -> ca.SX:
        f = self.problem.formulas
        p = self.problem
        N = self.samples
        total, everyone = ca.SX(0), np.arange(N)
        if f.terminal is not None and p.terminal is not None:
            total += ca.sum2(self._terminal(f.terminal, p.terminal.target, everyone))
        if f.running is not None and p.running is not None:
            values = self._over_path(f.running, p.running.target, everyone)
            weights = np.repeat(self.grid.running_weights[self.grid.path], N)
            total += ca.mtimes(values, ca.DM(weights))
        return total / N

    def _terminal(self, formula: Formula, target: np.ndarray | None, samples: np.ndarray) -> ca.SX:
        """Values at x^L for the samples, one column each."""
        return self._at(formula, target, np.full(len(samples), self.depth), samples)

    def _over_path(self, formula: Formula, target: np.ndarray | None, samples: np.ndarray) -> ca.SX:
        """Values at the layers of the path for the samples, one column for each (l, n)."""
        return self._at(formula, target, *self._every(self.grid.path, samples))

    def _at(
        self,
        formula: Formula,
        target: np.ndarray | None,
        layers: np.ndarray,
        samples: np.ndarray,
    ) -> ca.SX:
        """A cost's or constraint's values at many (l, n), one column each."""
        controls = self._values(formula, layers)
        values: dict[str, Columns] = {
            "t": self._times(layers),
            "x": self._states(layers, samples),
            "u": controls,
            "c": controls,
        }
        if target is not None:
            values["target"] = self._targets(target, samples)
        return self._traced(formula, target)(values, len(layers))

    def _penalty(self) -> ca.SX:
        total = ca.SX(0)
        for block in self.discrete.space:
            if block.penalty is not None:
                Q = ca.DM(block.penalty)
                for row in ca.vertsplit(self._sites[block.name]):
                    total += 0.5 * ca.bilin(Q, row.T, row.T)
        return total

    def _constraint_rows(self) -> ca.SX:
        """Constraints but state bounds, each block in the order of (layers, samples, *shape)."""
        parts = [self._block_rows(b) for b in self.discrete.rows.blocks if b.formula is not None]
        return ca.vertcat(*parts) if parts else ca.SX(0, 1)

    def _block_rows(self, block: RowBlock) -> ca.SX:
        assert block.formula is not None
        if block.constraint.kind == "terminal":
            return ca.vec(self._terminal(block.formula, block.constraint.target, block.samples))
        values = self._over_path(block.formula, None, block.samples)
        if block.constraint.kind == "path":
            return ca.vec(values)
        count = len(block.samples)
        weights = self.grid.running_weights
        return ca.vec(
            sum(weights[l] * values[:, l * count : (l + 1) * count] for l in self.grid.path)
        )
