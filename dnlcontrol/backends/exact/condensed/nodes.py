"""The node functions of one discrete problem, and where a node's controls lie in the flat vector.

A node function has the arguments (t[, s], x, q[, target]) with x the state (or z) and q the
controls that the formula reads. Evaluated for many nodes and samples at once: q is shared by the
samples of a node, and second derivatives in q alone are summed over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.condensed.node_function import NodeFunction
from dnlcontrol.backends.traced_formula import TracedFormula, count
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.losses import Cost


class Nodes:
    """The node functions of one discrete problem, built once.

    Attributes
    ----------
    kernel : φ = k(t, s, F(s, x, q), q), data (t, s).
    outer : ψ = G(t, g, z, q), data (t, g); None for g + z.
    running, terminal : ℓ and the terminal cost, data (t[, target]); None where there is none.
    rows : one function for each block of constraint rows, None for state bounds.
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete, self.problem = discrete, discrete.problem
        self.samples = discrete.problem.samples
        p = self.problem
        f = self.problem.formulas
        self.kernel = self._kernel()
        self.outer = self._outer(f.outer) if f.outer else None
        self.running = self._cost(f.running, _target(p.running)) if f.running else None
        self.terminal = self._cost(f.terminal, _target(p.terminal)) if f.terminal else None
        self.rows = [
            None if b.formula is None else self._cost(b.formula, _target(b.constraint))
            for b in discrete.rows.blocks
        ]

    # -- building --------------------------------------------------------------------------------
    def reads(self, *formulas: Formula | None) -> list[str]:
        """The controls that any of the formulas reads, in the order of the space."""
        return [
            b.name
            for b in self.discrete.space
            if any(f is not None and b.name in f.reads for f in formulas)
        ]

    def _q(self, names: Sequence[str]) -> tuple[ca.SX, dict[str, ca.SX]]:
        """The symbol of the named controls, and each control's part of it."""
        sizes = {k: count(self.problem.controls[k].shape) for k in names}
        q = ca.SX.sym("q", sum(sizes.values()))
        start = 0
        parts = {}
        for name, size in sizes.items():
            parts[name] = q[start : start + size]
            start += size
        return q, parts

    def _traced(self, formula: Formula, target: np.ndarray | None = None) -> TracedFormula:
        return TracedFormula(formula, self.problem.horizon, first_target(target))

    def _kernel(self) -> NodeFunction:
        f = self.problem.formulas
        t = ca.SX.sym("t")
        s = ca.SX.sym("s")
        x = ca.SX.sym("x", count(self.problem.state_shape))
        q, u = self._q(self.reads(f.kernel, f.feature))
        y = self._traced(f.feature)({"s": s, "x": x, "u": u}) if f.feature else x
        value = self._traced(f.kernel)({"t": t, "s": s, "y": y, "u": u})
        return NodeFunction([t, s], x, q, value, self.samples)

    def _outer(self, formula: Formula) -> NodeFunction:
        p = self.problem
        f = p.formulas
        t = ca.SX.sym("t")
        g = ca.SX.sym("g", count(f.free_term.shape if f.free_term else p.state_shape))
        z = ca.SX.sym("z", count(p.integral_shape))
        q, u = self._q(self.reads(formula))
        value = self._traced(formula)({"t": t, "g": g, "z": z, "u": u})
        return NodeFunction([t, g], z, q, value, self.samples)

    def _cost(self, formula: Formula, target: np.ndarray | None) -> NodeFunction:
        """A cost or constraint of (t, x, q[, target]) or (x, q[, target])."""
        t = ca.SX.sym("t")
        x = ca.SX.sym("x", count(self.problem.state_shape))
        q, u = self._q(self.reads(formula))
        data = {"t": t}
        if target is not None:
            data["target"] = ca.SX.sym("y", count(target.shape[1:]))
        value = self._traced(formula, target)({**data, "x": x, "u": u, "c": u})
        return NodeFunction(list(data.values()), x, q, value, self.samples)

    # -- where the controls of a node lie in the flat vector -------------------------------------
    def index(
        self, names: Sequence[str], path: np.ndarray, layers: np.ndarray | None = None
    ) -> np.ndarray:
        """(nodes, m): entries of w for the named controls.

        v^path on the path, w^{layers, path} on the triangle.
        """
        parts = [np.zeros((len(path), 0), dtype=int)]
        for name in names:
            block = self.discrete.space.blocks[name]
            if block.layout.on == "ts":
                assert layers is not None
                site = block.layout.sites(layers, path)
            else:
                site = path if block.layout.on == "t" else np.zeros(len(path), dtype=int)
            parts.append(
                block.offset + site[:, None] * block.components + np.arange(block.components)
            )
        return np.concatenate(parts, axis=1)


def _target(owner: Cost | Constraint | None) -> np.ndarray | None:
    return None if owner is None else owner.target


def first_target(target: np.ndarray | None) -> dict[str, np.ndarray]:
    """What a formula with targets (N, *shape) is compared with NumPy at: the first of them."""
    return {} if target is None else {"target": target[0]}
