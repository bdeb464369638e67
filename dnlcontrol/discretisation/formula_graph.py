"""A formula as the graph of its operations, and one digest of that graph.

One more engine carries the vocabulary out on nodes in place of numbers. A node's digest is that of
its operation, its shape, its constants to the last bit and its operands' digests: no name, no
object and no version enters, so that it is the same in every process. The graph is the formula as
written: x + y and y + x differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol.problem.array import broadcast_shape
from dnlcontrol.problem.engines import ARITHMETIC, FUNCTIONS, Engine, Native
from dnlcontrol.problem.formula import Formula, Shape


class Node:
    """The result of one operation: its shape, and the digest of all that it was made from."""

    __slots__ = ("digest", "shape")
    digest: str
    shape: Shape

    def __init__(self, operation: str, shape: Shape, *operands: Node) -> None:
        self.shape = shape
        parts = [operation, repr(shape), *(node.digest for node in operands)]
        self.digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    # what the seam does with native arrays itself (array.py, namespace.py, switches.py)
    def __add__(self, other: Native) -> Node:
        return _binary("add", self, other)

    def __sub__(self, other: Native) -> Node:
        return _binary("sub", self, other)

    def __mul__(self, other: Native) -> Node:
        return _binary("mul", self, other)

    def __rmul__(self, other: Native) -> Node:
        return _binary("mul", other, self)

    def __truediv__(self, other: Native) -> Node:
        return _binary("truediv", self, other)

    def __gt__(self, other: Native) -> Node:
        return _binary("gt", self, other)

    def __neg__(self) -> Node:
        return Node("neg", self.shape, self)


class GraphEngine(Engine):
    """Nodes in place of numbers; shapes are NumPy's."""

    name = "graph"

    def __init__(self) -> None:
        self.unary = {name: _unary(name) for name in FUNCTIONS}
        self.binary = {name: _operation(name) for name in ARITHMETIC}

    def owns(self, x: object) -> bool:
        return isinstance(x, Node)

    def asarray(self, x: Native) -> Node:
        return _lifted(x)

    def full(self, shape: Shape, value: float) -> Node:
        return _lifted(np.full(shape, value))

    def where(self, condition: Native, a: Native, b: Native) -> Node:
        return Node("where", _lifted(a).shape, *map(_lifted, (condition, a, b)))

    def maximum(self, a: Native, b: Native) -> Node:
        return _binary("maximum", a, b)

    def minimum(self, a: Native, b: Native) -> Node:
        return _binary("minimum", a, b)

    def broadcast(self, x: Native, shape: Shape) -> Node:
        node = _lifted(x)
        return node if node.shape == shape else Node("broadcast", shape, node)

    def sum(self, x: Node, axis: int) -> Node:
        return _reduced("sum", x, axis)

    def logsumexp(self, x: Node, axis: int) -> Node:
        return _reduced("logsumexp", x, axis)

    def stack(self, arrays: Sequence[Node], axis: int) -> Node:
        joined = np.stack([_empty(a) for a in arrays], axis=axis)
        return Node(f"stack {axis}", joined.shape, *arrays)

    def concat(self, arrays: Sequence[Node], axis: int) -> Node:
        joined = np.concatenate([_empty(a) for a in arrays], axis=axis)
        return Node(f"concat {axis}", joined.shape, *arrays)

    def reshape(self, x: Node, shape: Shape) -> Node:
        return Node("reshape", tuple(shape), x)

    def transpose(self, x: Node) -> Node:
        return Node("transpose", x.shape[::-1], x)

    def getitem(self, x: Node, keys: tuple[int | slice, ...]) -> Node:
        words = [
            f"{k.start}:{k.stop}:{k.step}" if isinstance(k, slice) else str(int(k)) for k in keys
        ]
        return Node(f"getitem {','.join(words)}", _empty(x)[keys].shape, x)


def digest_of(formula: Formula | None) -> str:
    """The digest of a formula's graph, its arguments' names and shapes; '' for none.

    Raises InputError where the formula fails, as on any engine.
    """
    if formula is None:
        return ""

    def argument(name: str, shape: object) -> Native:
        if isinstance(shape, dict):
            return {k: argument(f"{name}.{k}", v) for k, v in shape.items()}
        assert isinstance(shape, tuple)
        return Node(f"argument {name}", shape)

    arguments = [argument(name, shape) for name, shape in formula.shapes.items()]
    return str(formula(GRAPH, *arguments).digest)


def digest_of_numbers(values: ArrayLike) -> str:
    """The digest of numbers: their shape and every bit as float64."""
    array = np.asarray(values, dtype=np.float64)
    found = hashlib.sha256(repr(array.shape).encode())
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _lifted(x: Native) -> Node:
    """A number or an ndarray as a constant node."""
    if isinstance(x, Node):
        return x
    return Node(f"constant {digest_of_numbers(x)}", np.shape(x))


def _empty(x: Node) -> np.ndarray:
    """An array of the node's shape without memory."""
    return np.broadcast_to(0.0, x.shape)


def _unary(name: str) -> Callable[[Native], Node]:
    return lambda x: Node(name, _lifted(x).shape, _lifted(x))


def _operation(name: str) -> Callable[[Native, Native], Node]:
    return lambda a, b: _binary(name, a, b)


def _binary(name: str, a: Native, b: Native) -> Node:
    left, right = _lifted(a), _lifted(b)
    if name == "matmul":
        shape = (_empty(left) @ _empty(right)).shape
    else:
        shape = broadcast_shape(left.shape, right.shape)
    return Node(name, shape, left, right)


def _reduced(name: str, x: Node, axis: int) -> Node:
    return Node(f"{name} {axis}", x.shape[:axis] + x.shape[axis + 1 :], x)


GRAPH = GraphEngine()
