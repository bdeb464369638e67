"""The lifted transcription: controls and states are unknowns, the state equation is a set of rows.

    Volterra      x^l - G(t_l, g(t_l), z^l, v^l) = 0,   l = 0..L,   z^l the rule's sum of k(t_l,
    t_s, y^s, w^{l,s}) one-step      x^{l+1} - x^l - (g(t_{l+1}) - g(t_l)) - (z^{l+1} - z^l) = 0,
    x^0 - g(0) = 0

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

from dnlcontrol.backends.exact.condensed.traced import Traced, blocks
from dnlcontrol.backends.exact.lifted.sides import Sides
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.discrete import DiscreteProblem
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

    # -- controls and states at nodes
    # ------------------------------------------------------------------------------
    def _control_sites(self) -> dict[str, Any]:
        """name -> matrix with one column of flat components per site."""
        return {
            b.name: ca.reshape(self.w[b.offset : b.offset + b.size], b.components, b.layout.count)
            for b in self.discrete.space
        }

    def _traced(self, formula: Formula, target: np.ndarray | None = None) -> Traced:
        return Traced(
            formula, self.problem.horizon, {} if target is None else {"target": target[0]}
        )

    def _values(
        self,
        formula: Formula,
        layers: np.ndarray,
        samples: np.ndarray,
        pairs: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """The controls that a formula reads at many nodes: on the path at ``layers``, on the
        triangle at ``pairs``.
        """
        out = {}
        for block in self.discrete.space:
            if block.name in formula.reads:
                index = {"ts": pairs, "t": layers, "const": np.zeros(len(layers), dtype=int)}[
                    block.layout.on
                ]
                out[block.name] = blocks(
                    self._sites[block.name][:, [int(i) for i in index]], block.control.shape
                )  # type: ignore[union-attr]
        return out

    def _columns(self, layers: np.ndarray, samples: np.ndarray) -> list[int]:
        return [int(i) for i in layers * self.samples + samples]

    def _states(self, layers: np.ndarray, samples: np.ndarray) -> Any:
        return blocks(self.x[:, self._columns(layers, samples)], self.problem.state_shape)

    def _grid(self, layers: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All (l, n), layer by layer."""
        return np.repeat(layers, len(samples)), np.tile(samples, len(layers))

    def _times(self, layers: np.ndarray) -> Any:
        return ca.DM(self.grid.nodes[layers]).T

    def _targets(self, target: np.ndarray, samples: np.ndarray) -> Any:
        rows = target[samples].reshape(len(samples), -1)
        return blocks(ca.DM(rows.T), target.shape[1:])

    # -- the state equation
    # ------------------------------------------------------------------------------------------
    def _state_rows(self) -> Any:
        f = self.problem.formulas
        N = self.samples
        L = self.depth
        everyone = np.arange(N)
        layers, samples = self._grid(self.grid.path, everyone)
        y = self._states(layers, samples)
        if f.feature:
            y = self._traced(f.feature)(
                len(layers),
                {"s": self._times(layers), "x": y, **self._values(f.feature, layers, samples)},
            )
        else:
            y = self.x[:, self._columns(layers, samples)]
        z = self._integrals(y)
        if self.one_step:
            steps = [self.x[:, :N] - ca.DM(self.discrete.free_terms[0].T)]
            for l in range(L):
                a, b = slice(l * N, (l + 1) * N), slice((l + 1) * N, (l + 2) * N)
                steps.append(
                    self.x[:, b]
                    - self.x[:, a]
                    - ca.DM((self.discrete.free_terms[l + 1] - self.discrete.free_terms[l]).T)
                    - z[l + 1]
                )
            return ca.horzcat(*steps)
        if f.outer is None:
            right = ca.horzcat(*(ca.DM(self.discrete.free_terms[l].T) + z[l] for l in range(L + 1)))
        else:
            layers, samples = self._grid(np.arange(L + 1), everyone)
            g = blocks(
                ca.DM(self.discrete.free_terms.reshape(len(layers), -1).T),
                f.free_term.shape if f.free_term else self.problem.state_shape,
            )
            values = {
                "t": self._times(layers),
                "g": g,
                "z": blocks(ca.horzcat(*z), self.problem.integral_shape),
            }
            right = self._traced(f.outer)(
                len(layers), {**values, **self._values(f.outer, layers, samples)}
            )
        return self.x - right

    def _integrals(self, y: Any) -> list[Any]:
        """z^0..z^L, each (size, N); for one-step rows only the increments z^l - z^{l-1}. ``y``:
        columns (l, n).
        """
        f = self.problem.formulas
        N = self.samples
        L = self.depth
        layers, sources = self.grid.pairs(self.one_step)
        pairs, _ = self._grid(np.arange(len(layers)), np.arange(N))
        l, samples = self._grid(layers, np.arange(N))
        s = sources[pairs]
        values = {
            "t": self._times(l),
            "s": self._times(s),
            "y": blocks(y[:, self._columns(s, samples)], self.problem.feature_shape),
        }
        k = self._traced(f.kernel)(len(l), {**values, **self._values(f.kernel, s, samples, pairs)})
        size = int(np.prod(self.problem.integral_shape, dtype=int))
        z = [ca.SX.zeros(size, N) for _ in range(L + 1)]
        for i, (layer, weight) in enumerate(
            zip(layers, self._pair_weights(layers, sources), strict=True)
        ):
            if weight:
                z[layer] = z[layer] + weight * k[:, i * N : (i + 1) * N]
        return z

    def _pair_weights(self, layers: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Of k(t_l, t_s) in z^l, or in z^l - z^{l-1} for one-step rows."""
        weights = self.grid.pair_weights(layers, sources)
        if self.one_step:
            weights -= np.where(layers > sources, self.grid.own[sources], 0.0)
        return weights

    # -- cost and constraints
    # -----------------------------------------------------------------------------------------
    def _cost(self) -> Any:
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

    def _terminal(self, formula: Formula, target: np.ndarray | None, samples: np.ndarray) -> Any:
        last = np.full(len(samples), self.depth)
        values = {"x": self._states(last, samples), **self._values(formula, last, samples)}
        if target is not None:
            values["target"] = self._targets(target, samples)
        return self._traced(formula, target)(len(samples), values)

    def _over_path(self, formula: Formula, target: np.ndarray | None, samples: np.ndarray) -> Any:
        """Values at the layers of the path for the samples, one column for each (l, n)."""
        layers, rows = self._grid(self.grid.path, samples)
        values = {
            "t": self._times(layers),
            "x": self._states(layers, rows),
            **self._values(formula, layers, rows),
        }
        if target is not None:
            values["target"] = self._targets(target, rows)
        return self._traced(formula, target)(len(layers), values)

    def _penalty(self) -> Any:
        total = ca.SX(0)
        for block in self.discrete.space:
            if block.penalty is not None:
                Q = ca.DM(block.penalty)
                for row in ca.vertsplit(self._sites[block.name]):
                    total += 0.5 * ca.bilin(Q, row.T, row.T)
        return total

    def _constraint_rows(self) -> Any:
        """The constraints other than state bounds, each block in the order of its (layers, samples,
        *shape).
        """
        parts = [self._block_rows(b) for b in self.discrete.rows.blocks if b.formula is not None]
        return ca.vertcat(*parts) if parts else ca.SX(0, 1)

    def _block_rows(self, block: RowBlock) -> Any:
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
