"""Every formula with its first and second derivatives at one node, as CasADi Functions of flat
vectors.

A node function has the arguments (t[, s], x, q[, target]) with x the state (or z) and q the
controls that the formula reads, both flattened row-major. Evaluated for many nodes and samples at
once: q is shared by the samples of a node, and second derivatives in q alone are summed over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.problem.engines import casadi_engine
from dnlcontrol.problem.formula import Formula, Shape, compare


def shaped(flat: Any, shape: Shape) -> Any:
    """A formula's array from a flat symbol."""
    if len(shape) == 2:
        flat = ca.reshape(flat, shape[1], shape[0]).T
    return casadi_engine().make(flat, shape)  # type: ignore[attr-defined]


def flat(array: Any) -> Any:
    """A formula's result as a flat column, row-major."""
    value = ca.SX(array.to_casadi())
    return ca.vec(value.T) if len(array.shape) == 2 else ca.vec(value)


def count(shape: Shape) -> int:
    return int(np.prod(shape, dtype=int))


class NodeFunction:
    """f(data, x, q) with its Jacobians and the Hessian of cᵀf, mapped over nodes and samples.

    ``data`` are the arguments that are not differentiated, one row for each node and sample.
    """

    def __init__(self, data: list[Any], x: Any, q: Any, value: Any, samples: int) -> None:
        self.samples = samples
        self.outputs = value.numel()
        self.inputs = x.numel()
        self.reads = q.numel()
        packed = ca.vertcat(*(ca.vec(d) for d in data)) if data else ca.SX(0, 1)
        self.arguments, self.expression = [packed, x, q], value
        self._value = ca.Function("value", self.arguments, [ca.densify(value)])
        self._mapped: dict[tuple[str, int], Any] = {}

    @cached_property
    def _first(self) -> Any:
        _, x, q = self.arguments
        jacobians = [ca.densify(ca.jacobian(self.expression, v)) for v in (x, q)]
        return ca.Function("first", self.arguments, [ca.densify(self.expression), *jacobians])

    @cached_property
    def _second(self) -> Any:
        _, x, q = self.arguments
        c, n = ca.SX.sym("c", self.outputs), self.inputs
        gradient = ca.gradient(ca.dot(c, self.expression), ca.vertcat(x, q))
        second = ca.jacobian(gradient, ca.vertcat(x, q))
        parts = [ca.densify(second[:n, :n]), ca.densify(second[n:, :n]), ca.densify(second[n:, n:])]
        return ca.Function("second", [*self.arguments, c], parts)

    def _map(self, name: str, nodes: int) -> Any:
        key = name, nodes
        if key not in self._mapped:
            fn = getattr(self, name)
            reduced = [2] if name == "_second" else []
            inner = fn.map("samples", "serial", self.samples, [2], reduced)
            self._mapped[key] = Buffered(inner.map(nodes) if nodes > 1 else inner)
        return self._mapped[key]

    def _call(self, name: str, *arguments: np.ndarray) -> list[np.ndarray]:
        """data (nodes, N, k), x (nodes, N, n), q (nodes, m), ...: results column by column,
        (columns, rows).
        """
        return list(self._map(name, len(arguments[2]))(*arguments))

    def value(self, data: np.ndarray, x: np.ndarray, q: np.ndarray) -> np.ndarray:
        """(nodes, N, outputs)."""
        return self._call("_value", data, x, q)[0].reshape(len(q), self.samples, self.outputs)

    def first(
        self, data: np.ndarray, x: np.ndarray, q: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """f (nodes, N, o), f_x (nodes, N, o, n), f_q (nodes, N, o, m)."""
        value, fx, fq = self._call("_first", data, x, q)
        shape = (len(q), self.samples)
        return (
            value.reshape(*shape, -1),
            _blocks(fx, shape, self.inputs),
            _blocks(fq, shape, self.reads),
        )

    def second(
        self, data: np.ndarray, x: np.ndarray, q: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of cᵀf: xx (nodes, N, n, n), qx (nodes, N, m, n), and qq summed over the samples (nodes,
        m, m).
        """
        xx, qx, qq = self._call("_second", data, x, q, c)
        shape = (len(q), self.samples)
        return (
            _blocks(xx, shape, self.inputs),
            _blocks(qx, shape, self.inputs),
            _blocks(qq, (len(q),), self.reads),
        )


class Buffered:
    """A CasADi Function with dense results that reads and writes NumPy memory; no matrix is made on
    the way.

    Called with arrays whose memory, in C order, is the column-major memory of its arguments;
    returns new arrays (columns, rows), one for each result.
    """

    def __init__(self, function: Any) -> None:
        self.shapes = [function.size_out(i)[::-1] for i in range(function.n_out())]
        self.buffer, self.evaluate = function.buffer()

    def __call__(self, *arguments: np.ndarray) -> list[np.ndarray]:
        given = [np.require(a, dtype=float, requirements=["C", "W"]) for a in arguments]
        results = [np.zeros(shape) for shape in self.shapes]
        for set_place, arrays in ((self.buffer.set_arg, given), (self.buffer.set_res, results)):
            for i, array in enumerate(arrays):
                if array.size:
                    set_place(i, array.reshape(-1).data)
        self.evaluate()
        return results


def _blocks(stacked: np.ndarray, shape: tuple[int, ...], columns: int) -> np.ndarray:
    """Horizontally stacked (rows, columns) blocks, given as (all columns, rows), as (*shape, rows,
    columns).
    """
    rows = stacked.shape[1]
    blocks = stacked.reshape(int(np.prod(shape)), columns, rows)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(*shape, rows, columns)


class Nodes:
    """The node functions of one discrete problem, built once."""

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete, self.problem = discrete, discrete.problem
        self.samples = discrete.problem.samples
        f = self.problem.formulas
        self.kernel = self._kernel()
        self.outer = self._outer() if f.outer else None
        self.running = self._cost(f.running, self.problem.running) if f.running else None
        self.terminal = self._cost(f.terminal, self.problem.terminal) if f.terminal else None
        self.rows = [
            None if b.formula is None else self._cost(b.formula, b.constraint)
            for b in discrete.rows.blocks
        ]

    # -- building
    # ---------------------------------------------------------------------------------------------
    def _q(self, names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        shapes = {k: self.problem.controls[k].shape for k in names}
        q = ca.SX.sym("q", sum(count(s) for s in shapes.values()))
        start = 0
        views = {}
        for name, shape in shapes.items():
            views[name] = shaped(q[start : start + count(shape)], shape)
            start += count(shape)
        return q, views

    def _symbols(self, *shapes: tuple[str, Shape]) -> tuple[list[Any], list[Any]]:
        raw = [ca.SX.sym(name, count(shape)) for name, shape in shapes]
        return raw, [shaped(v, shape) for v, (_, shape) in zip(raw, shapes, strict=True)]

    def reads(self, *formulas: Formula | None) -> list[str]:
        """The controls that any of the formulas reads, in the order of the space."""
        return [
            b.name
            for b in self.discrete.space
            if any(f is not None and b.name in f.reads for f in formulas)
        ]

    def _kernel(self) -> NodeFunction:
        """φ = k(t, s, F(s, x, q), q)."""
        p = self.problem
        f = self.problem.formulas
        e = casadi_engine()
        (t, s, x), (ta, sa, xa) = self._symbols(("t", ()), ("s", ()), ("x", p.state_shape))
        q, u = self._q(self.reads(f.kernel, f.feature))
        y = f.feature(e, sa, xa, f.feature.only(u)) if f.feature else xa
        return self._made(
            [t, s], x, q, f.kernel(e, ta, sa, y, f.kernel.only(u)), f.kernel, f.feature
        )

    def _outer(self) -> NodeFunction:
        """ψ = G(t, g, z, q)."""
        p = self.problem
        f = self.problem.formulas
        e = casadi_engine()
        assert f.outer is not None
        shape = f.free_term.shape if f.free_term else p.state_shape
        (t, g, z), (ta, ga, za) = self._symbols(("t", ()), ("g", shape), ("z", p.integral_shape))
        q, u = self._q(self.reads(f.outer))
        return self._made([t, g], z, q, f.outer(e, ta, ga, za, u), f.outer)

    def _cost(self, formula: Formula, owner: Any) -> NodeFunction:
        """A cost or constraint of (t, x, q[, target]) or (x, q[, target])."""
        e, p = casadi_engine(), self.problem
        (t, x), (ta, xa) = self._symbols(("t", ()), ("x", p.state_shape))
        q, u = self._q(self.reads(formula))
        data, extra = [t], list[Any]()
        if owner.target is not None:
            (y,), extra = self._symbols(("y", owner.target.shape[1:]))
            data.append(y)
        head = [ta, xa] if "t" in formula.shapes else [xa]
        return self._made(data, x, q, formula(e, *head, u, *extra), formula, owner=owner)

    def _made(
        self,
        data: list[Any],
        x: Any,
        q: Any,
        value: Any,
        *formulas: Formula | None,
        owner: Any = None,
    ) -> NodeFunction:
        for formula in formulas:
            if formula is not None:
                target = (
                    {} if owner is None or owner.target is None else {"target": owner.target[0]}
                )
                compare(
                    formula, casadi_engine(), _casadi_value(formula), self.problem.horizon, target
                )
        return NodeFunction(data, x, q, flat(value), self.samples)

    # -- where the controls of a node lie in the flat vector
    # ----------------------------------------------------
    def index(
        self, names: Sequence[str], path: np.ndarray, layers: np.ndarray | None = None
    ) -> np.ndarray:
        """(nodes, m): entries of w for the named controls: v^path on the path, w^{layers, path} on
        the triangle.
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


def _casadi_value(formula: Formula) -> Callable[..., np.ndarray]:
    """A formula traced by CasADi and evaluated at one point, for the comparison with NumPy."""
    symbols: list[Any] = []

    def symbol(shape: Shape) -> Any:
        symbols.append(ca.SX.sym("v", count(shape)))
        return shaped(symbols[-1], shape)

    arguments = [
        {k: symbol(v) for k, v in shape.items() if k in formula.reads}
        if isinstance(shape, Mapping)
        else symbol(shape)
        for shape in formula.shapes.values()
    ]
    function = ca.Function("at", symbols, [ca.densify(flat(formula(casadi_engine(), *arguments)))])

    def evaluate(*point: Any) -> np.ndarray:
        values: list[Any] = []
        for value in point:
            values += (
                [value[k] for k in value if k in formula.reads]
                if isinstance(value, Mapping)
                else [value]
            )
        result = function.call([ca.DM(np.reshape(v, -1).tolist()) for v in values])[0]
        return np.asarray(result.full()).reshape(formula.shape)

    return evaluate
