"""Printed NumPy is CasADi's graph: every instruction, every extent, every sum."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest

from dnlcontrol.backends.adjoint.printed.source import INSTRUCTIONS, NotPrintable, printed

M, N = 4, 3

UNARY = {
    "neg": lambda x: -x,
    "sq": lambda x: x**2,
    "inv": lambda x: 1 / x,
    "sqrt": ca.sqrt,
    "fabs": ca.fabs,
    "sign": ca.sign,
    "exp": ca.exp,
    "log": ca.log,
    "expm1": ca.expm1,
    "log1p": ca.log1p,
    "sin": ca.sin,
    "cos": ca.cos,
    "tan": ca.tan,
    "asin": ca.asin,
    "acos": ca.acos,
    "atan": ca.atan,
    "sinh": ca.sinh,
    "cosh": ca.cosh,
    "tanh": ca.tanh,
    "asinh": ca.asinh,
    "acosh": lambda x: ca.acosh(1 + x),
    "atanh": ca.atanh,
    "floor": lambda x: ca.floor(3 * x),
    "ceil": lambda x: ca.ceil(3 * x),
    "not": lambda x: ca.logic_not(x > 0.5),
    "constant power": lambda x: x**2.5,
    "twice": lambda x: x + x,
}
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "pow": lambda x, y: x**y,
    "atan2": ca.atan2,
    "fmin": ca.fmin,
    "fmax": ca.fmax,
    "hypot": ca.hypot,
    "fmod": lambda x, y: ca.fmod(3 * x, y),
    "copysign": ca.copysign,
    "if else": lambda x, y: ca.if_else(x < y, ca.log(y - x), ca.log(x - y)),
    "le": lambda x, y: x <= y,
    "eq": lambda x, y: (x == y) + 2 * (x != y),
    "and": lambda x, y: ca.logic_and(x > 0.5, y > 0.5) + 2 * ca.logic_or(x > 0.5, y > 0.5),
}
EXTENTS = ("", "m", "n", "mn")
SHAPES = {"": (), "m": (M, 1), "n": (N,), "mn": (M, N)}


def evaluated(function: ca.Function, *arguments: np.ndarray) -> np.ndarray:
    """CasADi's own values at every layer and sample, (M, N)."""
    full = [np.broadcast_to(a, (M, N)).ravel() for a in arguments]
    return function.map(M * N)(*(a[None] for a in full)).full().reshape(M, N)


def drawn(rng: np.random.Generator, extent: str) -> np.ndarray:
    return np.asarray(rng.uniform(0.1, 0.9, SHAPES[extent]))


@pytest.mark.parametrize("name", UNARY)
def test_instructions_of_one_operand(name):
    x = ca.SX.sym("x")
    function = ca.Function("f", [x], [ca.densify(UNARY[name](x))])
    at = drawn(np.random.default_rng(1), "mn")
    (got,) = printed(function, "mn", ["mn"], [None])(M, N, [at])[0]
    assert np.allclose(got, evaluated(function, at), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("extents", [(a, b) for a in EXTENTS for b in EXTENTS])
@pytest.mark.parametrize("name", BINARY)
def test_instructions_of_two_operands_over_every_extent(name, extents):
    """Each varies as far as its operands do, and no further."""
    x, y = ca.SX.sym("x"), ca.SX.sym("y")
    function = ca.Function("f", [x, y], [ca.densify(BINARY[name](x, y))])
    rng = np.random.default_rng(2)
    at = [drawn(rng, extent) for extent in extents]
    with np.errstate(all="ignore"):
        (got,) = printed(function, "mn", extents, [None])(M, N, *([a] for a in at))[0]
    expected = evaluated(function, *at)
    assert np.allclose(np.broadcast_to(got, (M, N)), expected, rtol=1e-15, atol=1e-15)
    assert np.shape(got) == np.broadcast_shapes(*(SHAPES[e] for e in extents))


@pytest.mark.parametrize("extent", EXTENTS)
@pytest.mark.parametrize("wanted", EXTENTS)
def test_sums_count_every_layer_and_sample(extent, wanted):
    """An entry that does not vary along an axis counts once for each place on it."""
    x = ca.SX.sym("x")
    function = ca.Function("f", [x], [x + 1])
    at = drawn(np.random.default_rng(3), extent)
    (got,) = printed(function, "mn", [extent], [wanted])(M, N, [at])[0]
    over = tuple(k for k, axis in enumerate("mn") if axis not in wanted)
    expected = np.broadcast_to(at + 1, (M, N)).sum(axis=over, keepdims=False)
    assert np.allclose(np.broadcast_to(got, np.shape(expected)), expected, rtol=1e-14, atol=0)


def test_sums_over_samples_alone():
    x = ca.SX.sym("x")
    function = ca.Function("f", [x], [x, ca.densify(ca.SX(2.0))])
    at = drawn(np.random.default_rng(4), "n")
    (kept,), (counted,) = printed(function, "n", ["n"], ["", ""])(1, N, [at])
    assert np.isclose(kept, at.sum(), rtol=1e-15)
    assert counted == 2.0 * N


def test_zeros_are_left_out_of_sums_only():
    x = ca.SX.sym("x", 2)
    function = ca.Function("f", [x], [ca.densify(ca.vertcat(0 * x[0], x[1]))] * 2)
    at = drawn(np.random.default_rng(5), "mn")
    values, summed = printed(function, "mn", ["mn"], [None, "n"])(M, N, [at, at])
    assert values[0] == 0.0
    assert summed[0] is None
    assert np.allclose(summed[1], at.sum(0), rtol=1e-14)


def test_constants_that_are_not_finite():
    x = ca.SX.sym("x")
    function = ca.Function("f", [x], [ca.vertcat(ca.fmin(x, ca.inf), ca.fmax(x, -ca.inf))])
    at = drawn(np.random.default_rng(6), "mn")
    for entry in printed(function, "mn", ["mn"], [None])(M, N, [at])[0]:
        assert np.array_equal(entry, at)


def test_an_instruction_without_a_word_is_told():
    x = ca.SX.sym("x")
    with pytest.raises(NotPrintable, match="instruction"):
        printed(ca.Function("f", [x], [ca.erfinv(x)]), "mn", ["mn"], [None])


def test_a_wrong_word_is_noticed(monkeypatch):
    """What is printed is compared with CasADi when it is made."""
    x = ca.SX.sym("x")
    function = ca.Function("f", [x], [ca.sin(x)])
    monkeypatch.setitem(INSTRUCTIONS, ca.OP_SIN, "cos({0})")
    with pytest.raises(NotPrintable, match="differs from CasADi"):
        printed(function, "mn", ["mn"], [None])
