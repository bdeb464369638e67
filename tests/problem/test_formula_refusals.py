"""A formula that breaks a rule is refused with one line that names the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import (
    assert_told,
    constrained,
    formula,
    noting,
    path,
    solve,
    torch,
    triangle,
    xp,
)

EYE = np.eye(2)
NAMESPACE = "namespace(x)"


def branches(t, x, u):
    if x[0] > 0:
        return u.u
    return -u.u


def assigns(t, x, u):
    x[0] = 1.0
    return u.u


def deletes(t, x, u):
    del x[0]
    return u.u


def leaves(t, x, u):
    raise RuntimeError("two\nlines")


def unpacks(t, x, u):
    _, _, third = x
    return third * u.u


class Counting:
    """A formula that gives another value at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, t, x, u):
        self.calls += 1
        return self.calls * u.u


def noisy() -> Callable[..., Any]:
    rng = np.random.default_rng(0)
    return lambda t, x, u: u.u * rng.standard_normal()


FORMULAS = {
    # what it returns
    "wrong shape": (lambda t, x, u: x[0], "a result of shape ()", "shape (2,)"),
    "list": (lambda t, x, u: [x[0], x[1]], "returned list", "namespace(x).stack"),
    "tuple": (lambda t, x, u: (x[0], x[1]), "returned tuple", "namespace(x).stack"),
    "string": (lambda t, x, u: "x", "returned str", "an array made from its arguments"),
    "None": (lambda t, x, u: None, "returned NoneType", "an array made from its arguments"),
    "ndarray": (
        lambda t, x, u: np.zeros(2),
        "a bare ndarray of shape (2,)",
        "namespace(x).asarray",
    ),
    "tensor": (
        lambda t, x, u: torch().zeros(2),
        "a bare Tensor of shape (2,)",
        "namespace(x).asarray",
    ),
    # what it calls
    "NumPy ufunc": (lambda t, x, u: np.tanh(u.u), "a NumPy function", NAMESPACE),
    "NumPy function": (lambda t, x, u: u.u * np.sum(x), "numpy.sum", NAMESPACE),
    "NumPy conversion": (lambda t, x, u: np.array([x[0], x[1]]), "into an ndarray", NAMESPACE),
    "torch function": (lambda t, x, u: torch().tanh(u.u), "torch.tanh", NAMESPACE),
    "math": (
        lambda t, x, u: u.u * math.sin(x[0]),
        "turn an array into a number (float, int, math.*)",
        NAMESPACE,
    ),
    "method": (lambda t, x, u: x.sum() * u.u, "array attribute 'sum'", "functions of namespace(x)"),
    "unknown name": (lambda t, x, u: xp(x).einsum("i,i", x, x) * u.u, "got 'einsum'", "exp, log,"),
    "unknown option": (lambda t, x, u: xp(x).sum(x, keepdims=True) * u.u, "'keepdims'", NAMESPACE),
    "axis": (lambda t, x, u: xp(x).sum(x, axis=1) * u.u, "axis 1", "an integer from -1 to 0"),
    "axis of 0-d": (lambda t, x, u: xp(x).sum(t, axis=0) * u.u, "axis 0 for a 0-d array", "None"),
    "namespace of u": (lambda t, x, u: xp(u).tanh(x), "namespace: got Values", "a formula's array"),
    "list of entries": (
        lambda t, x, u: xp(x).tanh([x[0], x[1]]),
        "namespace.tanh: got list",
        "a formula's array",
    ),
    "stack of unequal": (
        lambda t, x, u: xp(x).stack([x, x[0]]),
        "shapes [(2,), ()]",
        "equal shapes of rank <= 1",
    ),
    "stack of nothing": (lambda t, x, u: xp(x).stack([]), "got list", "a non-empty list"),
    "concat of 0-d": (
        lambda t, x, u: xp(x).concat([x[0], x[1]]),
        "shapes [(), ()]",
        "equal ranks 1 or 2",
    ),
    "reshape": (
        lambda t, x, u: xp(x).reshape(x, (3,)),
        "shape (3,) for 2 entries",
        "shapes of the same size",
    ),
    "reshape to rank 3": (lambda t, x, u: xp(x).reshape(x, (2, 1, 1)), "rank 3", "rank <= 2"),
    "constant of rank 3": (
        lambda t, x, u: xp(x).asarray(np.zeros((1, 1, 2))),
        "rank 3",
        "rank <= 2",
    ),
    "constant of strings": (
        lambda t, x, u: xp(x).asarray("a"),
        "namespace.asarray: got str",
        "numbers, a list or",
    ),
    "complex constant": (
        lambda t, x, u: xp(x).asarray(1j * EYE) @ x,
        "namespace.asarray: got ndarray",
        "numbers",
    ),
    # what it combines
    "ndarray on the left": (
        lambda t, x, u: EYE @ x,
        "a bare ndarray of shape (2, 2)",
        "namespace(x).asarray(A)",
    ),
    "ndarray on the right": (
        lambda t, x, u: u.u + EYE[0],
        "a bare ndarray of shape (2,)",
        "namespace(x).asarray(A)",
    ),
    "tensor operand": (
        lambda t, x, u: torch().ones(2) + x,
        "a bare Tensor of shape (2,)",
        "namespace(x).asarray(A)",
    ),
    "list operand": (lambda t, x, u: u.u + list(EYE[0]), "'Array' and 'list'", NAMESPACE),
    "complex number": (lambda t, x, u: u.u * 1j, "'Array' and 'complex'", NAMESPACE),
    "shapes that do not broadcast": (
        lambda t, x, u: u.u + xp(x).asarray([1, 2, 3]),
        "shapes (2,) and (3,)",
        "shapes that broadcast",
    ),
    "matmul": (
        lambda t, x, u: xp(x).asarray(np.ones((2, 3))) @ x,
        "shapes (2, 3) and (2,)",
        "a common inner dimension",
    ),
    "equality": (lambda t, x, u: xp(x).where(x == 0, x, u.u), "== between arrays", "< or >"),
    # what it does
    "if": (branches, "branch on an array's value", "namespace(x).where"),
    "max of Python": (
        lambda t, x, u: u.u * max(x[0], x[1]),
        "branch on an array's value",
        "namespace(x).where",
    ),
    "assignment": (assigns, "assign into an array", "namespace(x).stack or concat"),
    "deletion": (deletes, "__delitem__", "allowed"),
    "index out of range": (lambda t, x, u: u.u * x[2], "index 2", "allowed"),
    "too many indices": (lambda t, x, u: u.u * x[0, 0], "2 indices for shape (2,)", "at most 1"),
    "index by a list": (lambda t, x, u: x[[0, 1]], "index [0, 1]", "integers and slices"),
    "index by a mask": (lambda t, x, u: x[x > 0], "index Array", "integers and slices"),
    "reversed slice": (lambda t, x, u: x[::-1], "step -1", "steps >= 1"),
    "unpacking": (unpacks, "not enough values to unpack", "allowed"),
    "unpacking of 0-d": (lambda t, x, u: u.u * sum(t), "a 0-d array", "rank 1 or 2"),
    "raises": (leaves, "RuntimeError on numpy (two lines)", "allowed"),
    "unknown control": (lambda t, x, u: u.w, "unknown control 'w'", "allowed here: u"),
    "unknown control by item": (lambda t, x, u: u["w"], "unknown control 'w'", "allowed here: u"),
    "number of arguments": (
        lambda t, x: x,
        "takes 2 positional arguments but 3 were given",
        "its arguments",
    ),
}
ROWS = [
    noting(
        lambda: solve(formula(Counting())),
        "kernel",
        "different values on torch",
        "a deterministic function",
        "formula that counts its calls",
    ),
    noting(
        lambda: solve(formula(noisy()), backend="exact"),
        "kernel",
        "different values on",
        "a deterministic function",
        "formula that draws",
    ),
    noting(
        lambda: solve(formula(lambda t, x, u: u.u if "numpy" in repr(x) else 1 / 0)),
        "kernel",
        "ZeroDivisionError on torch",
        "allowed",
        "formula that runs on NumPy alone",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_that_breaks_a_rule_is_told(name: str):
    function, seen, allowed = FORMULAS[name]
    assert_told(lambda: formula(function), "kernel:", seen, allowed)


def nothing(*arguments: Any) -> None:
    """A formula that forgot its return."""


@pytest.mark.parametrize(
    ("place", "make"),
    {
        "kernel": lambda: triangle(dynamics=dnl.Volterra(nothing)),
        "free_term": lambda: triangle(
            dynamics=dnl.Volterra(lambda t, s, y, u: u.w, free_term=nothing)
        ),
        "feature": lambda: triangle(dynamics=dnl.Volterra(lambda t, s, y, u: u.w, feature=nothing)),
        "outer": lambda: triangle(dynamics=dnl.Volterra(lambda t, s, y, u: u.w, outer=nothing)),
        "running": lambda: path(running=nothing),
        "terminal": lambda: path(terminal=nothing),
        "speed": lambda: constrained(dnl.path_constraint(nothing, 0, 1, name="speed")),
        "budget": lambda: constrained(dnl.integral_constraint(nothing, 0, 1, name="budget")),
        "goal": lambda: constrained(dnl.terminal_constraint(nothing, 0, 1, name="goal")),
    }.items(),
)
def test_the_formula_is_named(place: str, make):
    assert_told(make, f"{place}:", "returned NoneType", "an array made from its arguments")


def test_a_wrong_type_is_a_type_error_too():
    for call in (lambda: solve(depth="2"), lambda: path(dynamics=None), lambda: formula(branches)):
        with pytest.raises(TypeError) as caught:
            call()
        assert isinstance(caught.value, dnl.InputError)
