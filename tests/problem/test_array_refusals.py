"""What is outside the vocabulary of a formula is told, on every engine alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import casadi as ca
import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.traced_formula import TracedFormula
from dnlcontrol.problem.engines import numpy_engine
from dnlcontrol.problem.formula import Formula, trace
from tests.problem.three_engines import torch_call

A3 = np.array([1.0, 2.0, 3.0])
A23 = np.ones((2, 3))
LIST = [1.0, 2.0, 3.0]
OUTSIDE: dict[str, tuple[Callable[[Any], Any], str]] = {
    # what a formula of x, shape (3,), may not do: (expression, what the message must say)
    "unknown name": (lambda x: dnl.namespace(x).cumsum(x), "exp, log, log1p"),
    "known to NumPy only": (lambda x: dnl.namespace(x).clip(x, 0, 1), "exp, log, log1p"),
    "constant": (lambda x: x * dnl.namespace(x).pi, "exp, log, log1p"),
    "np.tanh": (lambda x: np.tanh(x), r"namespace\(x\)"),
    "np.add": (lambda x: np.add(x, 1.0), r"namespace\(x\)"),
    "np.sum": (lambda x: np.sum(x), r"numpy.sum .* use namespace\(x\)"),
    "np.stack": (lambda x: np.stack([x, x]), r"numpy.stack .* use namespace\(x\)"),
    "np.where": (lambda x: np.where(x > 0, x, 0.0), r"numpy.where .* use namespace\(x\)"),
    "np.asarray": (lambda x: np.asarray(x), r"ndarray; use namespace\(x\)"),
    "np.array of entries": (lambda x: np.array([x[0], x[1]]), r"namespace\(x\)"),
    "torch.tanh": (lambda x: torch.tanh(x), r"torch.tanh .* use namespace\(x\)"),
    "torch.stack": (lambda x: torch.stack([x[0], x[1]]), r"torch.stack .* use namespace\(x\)"),
    "torch.as_tensor": (lambda x: torch.as_tensor(x), ""),
    "casadi.tanh": (lambda x: ca.tanh(x), "allowed in a formula"),
    "x + ndarray": (lambda x: x + A3, r"namespace\(x\).asarray"),
    "ndarray + x": (lambda x: A3 + x, r"namespace\(x\).asarray"),
    "ndarray * x": (lambda x: A3 * x, r"namespace\(x\).asarray"),
    "ndarray @ x": (lambda x: A23 @ x, r"namespace\(x\).asarray"),
    "x @ ndarray": (lambda x: x @ A3, r"namespace\(x\).asarray"),
    "ndarray ** x": (lambda x: A3**x, r"namespace\(x\).asarray"),
    "x < ndarray": (lambda x: x < A3, r"namespace\(x\).asarray"),
    "ndarray < x": (lambda x: x > A3, r"namespace\(x\).asarray"),
    "maximum(x, ndarray)": (lambda x: dnl.namespace(x).maximum(x, A3), r"namespace\(x\).asarray"),
    "where(c, x, ndarray)": (
        lambda x: dnl.namespace(x).where(x > 0, x, A3),
        r"namespace\(x\).asarray",
    ),
    "stack of ndarrays": (lambda x: dnl.namespace(x).stack([x, A3]), r"namespace\(x\).asarray"),
    "exp(ndarray)": (lambda x: dnl.namespace(x).exp(A3), r"namespace\(x\).asarray"),
    "exp(list)": (lambda x: dnl.namespace(x).exp([1.0, 2.0]), r"namespace\(x\).asarray"),
    "x + tensor": (lambda x: x + torch.ones(3), r"namespace\(x\)"),
    "tensor + x": (lambda x: torch.ones(3) + x, r"namespace\(x\)"),
    "x + SX": (lambda x: x + ca.SX.sym("a", 3), r"namespace\(x\)"),
    "SX + x": (lambda x: ca.SX.sym("a", 3) + x, r"namespace\(x\)"),
    "x + list": (lambda x: x + LIST, r"namespace\(x\)"),
    "x + complex": (lambda x: x + 1j, r"namespace\(x\)"),
    "x.sum()": (lambda x: x.sum(), r"'sum' .* functions of namespace\(x\)"),
    "x.dot(x)": (lambda x: x.dot(x), r"'dot' .* functions of namespace\(x\)"),
    "x.reshape(1, 3)": (lambda x: x.reshape(1, 3), r"'reshape' .* functions of namespace\(x\)"),
    "float(x)": (lambda x: float(x[0]), r"use namespace\(x\)"),
    "int(x)": (lambda x: int(x[0]), r"use namespace\(x\)"),
    "complex(x)": (lambda x: complex(x[0]), r"use namespace\(x\)"),
    "math.sin(x)": (lambda x: math.sin(x[0]), r"use namespace\(x\)"),
    "range(x)": (lambda x: range(x[0]), r"use namespace\(x\)"),
    "if x > 0": (lambda x: x if x[0] > 0 else 2 * x, r"use namespace\(x\).where"),
    "if x": (lambda x: x if x else 2 * x, r"use namespace\(x\).where"),
    "-1 < x < 1": (lambda x: -1.0 < x[0] < 1.0, r"use namespace\(x\).where"),
    "not x": (lambda x: not x[0], r"use namespace\(x\).where"),
    "x and y": (lambda x: x[0] and x[1], r"use namespace\(x\).where"),
    "max(x)": (lambda x: max(x), r"use namespace\(x\).where"),
    "x[None]": (lambda x: x[None], "integers and slices"),
    "x[...]": (lambda x: x[...], "integers and slices"),
    "x[x > 0]": (lambda x: x[x > 0], "integers and slices"),
    "x[x[0]]": (lambda x: x[x[0]], "integers and slices"),
    "x[mask]": (lambda x: x[np.array([True, False, True])], "integers and slices"),
    "x[list]": (lambda x: x[[0, 1]], "integers and slices"),
    "x[1.0]": (lambda x: x[1.0], "integers and slices"),
    "x[True]": (lambda x: x[True], "integers and slices"),
    "x[::-1]": (lambda x: x[::-1], "steps >= 1"),
    "x[0, 0]": (lambda x: x[0, 0], "at most 1"),
    "x[3]": (lambda x: x[3], "out of range for an axis of size 3"),
    "x[-4]": (lambda x: x[-4], "out of range for an axis of size 3"),
    "x == y": (lambda x: dnl.namespace(x).where(x == x, x, 0.0), "select with where"),
    "x != 0": (lambda x: dnl.namespace(x).where(x != 0, x, 0.0), "select with where"),
    "x in list": (lambda x: x if x[0] in [1.0, 2.0] else 2 * x, "select with where"),
    "y in x": (lambda x: x if 1.0 in x else 2 * x, "select with where"),
    "x[0] = 1": (lambda x: setitem(x), "build it with namespace"),
    "x[0] += 1": (lambda x: add_to_item(x), "build it with namespace"),
    "x // 2": (lambda x: x // 2, r"namespace\(x\)"),
    "x % 2": (lambda x: x % 2, r"namespace\(x\)"),
    "mask & mask": (lambda x: (x > 0) & (x < 1), r"namespace\(x\)"),
    "~mask": (lambda x: ~(x > 0), r"namespace\(x\)"),
    "round(x)": (lambda x: round(x[0]), r"namespace\(x\)"),
    "a dictionary key": (lambda x: {x[0]: 1.0}, r"namespace\(x\)"),
    "shapes that differ": (lambda x: x + x[:2], r"\(3,\) and \(2,\).* broadcast"),
    "matmul of a number": (lambda x: x @ 2.0, "ranks 1 or 2 with a common inner dimension"),
    "matmul of shapes": (lambda x: x @ x[:2], "common inner dimension"),
    "stack of shapes": (lambda x: dnl.namespace(x).stack([x, x[:2]]), "equal shapes of rank <= 1"),
    "stack of matrices": (
        lambda x: dnl.namespace(x).stack([dnl.namespace(x).reshape(x, (1, 3))] * 2),
        "rank <= 1",
    ),
    "stack of nothing": (lambda x: dnl.namespace(x).stack([]), "non-empty list"),
    "stack of an array": (lambda x: dnl.namespace(x).stack(x), "non-empty list"),
    "concat of ranks": (lambda x: dnl.namespace(x).concat([x, x[0]]), "equal ranks 1 or 2"),
    "concat of numbers": (lambda x: dnl.namespace(x).concat([x[0], x[1]]), "equal ranks 1 or 2"),
    "reshape to another size": (
        lambda x: dnl.namespace(x).reshape(x, (2, 2)),
        "shapes of the same size",
    ),
    "reshape to rank 3": (lambda x: dnl.namespace(x).reshape(x, (1, 3, 1)), "rank <= 2"),
    "asarray of rank 3": (lambda x: dnl.namespace(x).asarray(np.zeros((1, 1, 3))), "rank <= 2"),
    "asarray of arrays": (lambda x: dnl.namespace(x).asarray([x[0], x[1]]), "stack|namespace"),
    "asarray of text": (lambda x: dnl.namespace(x).asarray("abc"), "numbers, a list or an ndarray"),
    "axis 1 of rank 1": (lambda x: dnl.namespace(x).sum(x, axis=1), "an integer from -1 to 0"),
    "axis of a number": (lambda x: dnl.namespace(x).sum(x[0], axis=0), "allowed: None"),
    "axis True": (lambda x: dnl.namespace(x).max(x, axis=True), "an integer from -1 to 0"),
    "two axes": (lambda x: dnl.namespace(x).sum(x, axis=(0,)), "an integer from -1 to 0"),
    "keepdims": (lambda x: dnl.namespace(x).sum(x, keepdims=True), r"namespace\(x\)"),
    "a list as the result": (lambda x: [x[0], x[1], x[2]], "collect entries with namespace"),
    "nothing as the result": (lambda x: None, "a formula returned NoneType"),
    "an ndarray as the result": (lambda x: A3, r"namespace\(x\).asarray"),
}


def setitem(x: Any) -> Any:
    x[0] = 1.0
    return x


def add_to_item(x: Any) -> Any:
    x[0] += 1.0
    return x


def rejected(fn: Callable[[Any], Any]) -> Formula:
    return Formula("my formula", fn, {"x": (3,)}, (3,), frozenset({"x"}))


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_vocabulary_is_told(name):
    """On every engine, with the formula's name and with what to use instead."""
    fn, message = OUTSIDE[name]
    point = np.array([0.3, -0.2, 0.7])
    formula, told = rejected(fn), f"my formula: .*{message}"
    with pytest.raises(dnl.InputError, match=told):
        trace("my formula", fn, {"x": (3,)}, None)
    with pytest.raises(dnl.InputError, match=told):
        formula(numpy_engine(), point)
    with pytest.raises(dnl.InputError, match=told):
        torch.func.vmap(torch_call(formula))(torch.as_tensor(point[None]))
    with pytest.raises(dnl.InputError, match=told):
        TracedFormula(formula, 1.0, {})


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("float(x)", dnl.InputTypeError),
        ("x.sum()", dnl.InputTypeError),
        ("np.tanh", dnl.InputTypeError),
        ("x[None]", dnl.InputTypeError),
        ("x + ndarray", dnl.InputTypeError),
        ("x == y", dnl.InputTypeError),
        ("x[0] = 1", dnl.InputTypeError),
        ("shapes that differ", ValueError),
    ],
)
def test_wrong_operations_are_type_errors_and_wrong_shapes_value_errors(expression, kind):
    """Wrong operations are TypeErrors, wrong shapes ValueErrors; both InputErrors, one line."""
    with pytest.raises(kind) as caught:
        trace("f", OUTSIDE[expression][0], {"x": (3,)}, None)
    assert isinstance(caught.value, dnl.InputError)
    assert "\n" not in str(caught.value)
