"""A CasADi node function: differentiated at one node, mapped over nodes and samples.

Everything is flat and row-major: a value of shape (m, n) is a column of m n entries, and many
values are the columns of one matrix.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np


class NodeFunction:
    """f(data, x, q) with its Jacobians and the Hessian of cᵀf, mapped over nodes and samples.

    Parameters
    ----------
    data : arguments that are not differentiated, one row for each node and sample.
    x, q : symbols of the state (or z) and of the controls that f reads, shared by the samples.
    value : f, a column in these symbols.

    Attributes
    ----------
    arguments, expression : the symbols (data, x, q), data in one column, and f.
    outputs, inputs, reads : entries of f, x and q.
    """

    def __init__(self, data: list[ca.SX], x: ca.SX, q: ca.SX, value: ca.SX, samples: int) -> None:
        self.samples = samples
        self.outputs = value.numel()
        self.inputs = x.numel()
        self.reads = q.numel()
        packed = ca.vertcat(*data) if data else ca.SX(0, 1)
        self.arguments = [packed, x, q]
        self.expression = value
        self._mapped: dict[tuple[str, int], Buffered] = {}

    @cached_property
    def value_function(self) -> ca.Function:
        """f of (data, x, q)."""
        return ca.Function("value", self.arguments, [ca.densify(self.expression)])

    @cached_property
    def first_function(self) -> ca.Function:
        """f, f_x and f_q of (data, x, q)."""
        _, x, q = self.arguments
        jacobians = [ca.densify(ca.jacobian(self.expression, v)) for v in (x, q)]
        return ca.Function("first", self.arguments, [ca.densify(self.expression), *jacobians])

    @cached_property
    def second_function(self) -> ca.Function:
        """The xx, qx and qq parts of ∇²(cᵀf), of (data, x, q, c)."""
        _, x, q = self.arguments
        n = self.inputs
        c = ca.SX.sym("c", self.outputs)
        gradient = ca.gradient(ca.dot(c, self.expression), ca.vertcat(x, q))
        second = ca.jacobian(gradient, ca.vertcat(x, q))
        parts = [ca.densify(second[:n, :n]), ca.densify(second[n:, :n]), ca.densify(second[n:, n:])]
        return ca.Function("second", [*self.arguments, c], parts)

    def _call(self, name: str, *arguments: np.ndarray) -> list[np.ndarray]:
        """Results column by column, (columns, rows).

        Arguments: data (nodes, N, k), x (nodes, N, n), q (nodes, m), ...
        """
        key = name, len(arguments[2])
        if key not in self._mapped:
            self._mapped[key] = self._map(*key)
        return self._mapped[key](*arguments)

    def _map(self, name: str, nodes: int) -> Buffered:
        """One of the functions for all samples (q shared, qq summed), then for all nodes."""
        function = getattr(self, name)
        summed = [2] if name == "second_function" else []
        inner = function.map("samples", "serial", self.samples, [2], summed)
        return Buffered(inner.map(nodes) if nodes > 1 else inner)

    def value(self, data: np.ndarray, x: np.ndarray, q: np.ndarray) -> np.ndarray:
        """f (nodes, N, o) from data (nodes, N, k), x (nodes, N, n) and q (nodes, m)."""
        value = self._call("value_function", data, x, q)[0]
        return value.reshape(len(q), self.samples, self.outputs)

    def first(
        self, data: np.ndarray, x: np.ndarray, q: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """f (nodes, N, o), f_x (nodes, N, o, n), f_q (nodes, N, o, m)."""
        value, fx, fq = self._call("first_function", data, x, q)
        shape = (len(q), self.samples)
        return (
            value.reshape(*shape, -1),
            _blocks(fx, shape, self.inputs),
            _blocks(fq, shape, self.reads),
        )

    def second(
        self, data: np.ndarray, x: np.ndarray, q: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The second derivatives of cᵀf, c (nodes, N, o).

        xx (nodes, N, n, n), qx (nodes, N, m, n), and qq summed over the samples (nodes, m, m).
        """
        xx, qx, qq = self._call("second_function", data, x, q, c)
        shape = (len(q), self.samples)
        return (
            _blocks(xx, shape, self.inputs),
            _blocks(qx, shape, self.inputs),
            _blocks(qq, (len(q),), self.reads),
        )


class Buffered:
    """A CasADi Function with dense results that reads and writes NumPy memory, without matrices.

    Called with arrays whose memory, in C order, is the column-major memory of its arguments;
    returns new arrays (columns, rows), one for each result.
    """

    def __init__(self, function: ca.Function) -> None:
        self.shapes = [function.size_out(i)[::-1] for i in range(function.n_out())]
        # the stubs ask for a size that set_arg does not take
        self.buffer: Any
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
    """Horizontally stacked (rows, columns) blocks as (*shape, rows, columns).

    They are given as (all columns, rows).
    """
    rows = stacked.shape[1]
    blocks = stacked.reshape(int(np.prod(shape)), columns, rows)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(*shape, rows, columns)
