"""Derivatives at ties and comparisons as numbers are the same on every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.problem.engines import numpy_engine
from tests.problem.three_engines import (
    REFERENCE,
    RTOL,
    OnCasadi,
    as_formula,
    assert_same,
    on_torch,
    torch_slopes,
)

Z = np.zeros(())
ONES, FLAT = np.ones(3), np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 1.0]])
TIES: dict[str, tuple[Callable[..., Any], list[np.ndarray], list[Any]]] = {
    # name: (expression, point, the derivative in each argument); maximum(a, b) = where(a > b, a, b)
    "maximum(a, b)": (lambda xp, a, b: xp.maximum(a, b), [Z, Z], [0, 1]),
    "minimum(a, b)": (lambda xp, a, b: xp.minimum(a, b), [Z, Z], [0, 1]),
    "maximum(a, 0)": (lambda xp, a: xp.maximum(a, 0.0), [Z], [0]),
    "maximum(0, a)": (lambda xp, a: xp.maximum(0.0, a), [Z], [1]),
    "minimum(a, 0)": (lambda xp, a: xp.minimum(a, 0.0), [Z], [0]),
    "maximum(a, a)": (lambda xp, a: xp.maximum(a, a), [Z], [1]),
    "maximum broadcast": (
        lambda xp, a, b: xp.sum(xp.maximum(a, b)),
        [ONES, np.ones(())],
        [[0, 0, 0], 3],
    ),
    "max of equals": (lambda xp, a: xp.max(a), [ONES], [[0, 0, 1]]),
    "min of equals": (lambda xp, a: xp.min(a), [ONES], [[0, 0, 1]]),
    "max of two equals": (lambda xp, a: xp.max(a), [np.array([2.0, 2.0, 1.0])], [[0, 1, 0]]),
    "max over rows": (lambda xp, a: xp.sum(xp.max(a, axis=0)), [FLAT], [[0, 0, 0, 1, 1, 1]]),
    "max over columns": (lambda xp, a: xp.sum(xp.max(a, axis=1)), [FLAT], [[0, 1, 0, 0, 0, 1]]),
    "min over columns": (lambda xp, a: xp.sum(xp.min(a, axis=1)), [FLAT], [[0, 0, 1, 0, 0, 1]]),
    "max of all": (lambda xp, a: xp.max(a), [FLAT], [[0, 0, 0, 0, 0, 1]]),
    "abs": (lambda xp, a: xp.abs(a), [Z], [0]),
    "abs()": (lambda xp, a: abs(a), [Z], [0]),
    "sign": (lambda xp, a: xp.sign(a), [Z], [0]),
    "where >": (lambda xp, a: xp.where(a > 0, 2 * a, 3 * a), [Z], [3]),
    "where >=": (lambda xp, a: xp.where(a >= 0, 2 * a, 3 * a), [Z], [2]),
    "relu": (lambda xp, a: dnl.relu(a), [Z], [0]),
    "leaky relu": (lambda xp, a: dnl.leaky_relu(a, 0.25), [Z], [0.25]),
    # smooth there, but easily lost in a formula made of pieces
    "softplus": (lambda xp, a: dnl.softplus(a), [Z], [0.5]),
    "sigmoid": (lambda xp, a: dnl.sigmoid(a), [Z], [0.25]),
    "tanh": (lambda xp, a: dnl.tanh(a), [Z], [1]),
    "x**1": (lambda xp, a: a**1, [Z], [1]),
    "x**2": (lambda xp, a: a**2, [Z], [0]),
    "x**3": (lambda xp, a: a**3, [Z], [0]),
    "logsumexp of equals": (lambda xp, a: xp.logsumexp(a), [ONES], [[1 / 3, 1 / 3, 1 / 3]]),
    "logsumexp of large equals": (
        lambda xp, a: xp.logsumexp(a),
        [800 * ONES],
        [[1 / 3, 1 / 3, 1 / 3]],
    ),
    "softmax of equals": (lambda xp, a: xp.softmax(a)[0], [ONES], [[2 / 9, -1 / 9, -1 / 9]]),
}


@pytest.mark.parametrize("name", TIES)
def test_derivatives_at_ties(name):
    fn, point, expected = TIES[name]
    formula = as_formula(fn, tuple(a.shape for a in point), ())
    on_casadi = OnCasadi(formula).slopes(point)
    # softmax is formed as exp(x - logsumexp(x)), and x - logsumexp(x) is good to eps |x|
    rtol = max(RTOL, np.finfo(float).eps * np.max(np.abs(point[0])))
    for a, b, c in zip(torch_slopes(formula, point), on_casadi, expected, strict=True):
        assert_same(a.ravel(), np.ravel(c), rtol)
        assert_same(b.ravel(), np.ravel(c), rtol)


@pytest.mark.parametrize(
    "fn",
    [
        lambda xp, x: (x > 0) * x,
        lambda xp, x: (x > 0) * 0.1 * x,
        lambda xp, x: 1 - (x > 0),
        lambda xp, x: xp.sum(x > 0) * 0.1,
        lambda xp, x: (x > -1) + (x < 1) + 0 * x,
        lambda xp, x: xp.where((x > -0.5) * (x < 0.5), x, 0.0),
        lambda xp, x: xp.mean(x > 0),
    ],
    ids=[
        "mask * x",
        "mask * 0.1 * x",
        "1 - mask",
        "sum of a mask",
        "mask + mask",
        "where(mask * mask)",
        "mean of a mask",
    ],
)
def test_comparisons_count_as_one_and_zero_or_are_told(fn):
    """Either every engine gives the same numbers, with True as 1.0, or every engine rejects it."""
    point = np.array([0.3, -0.2, 0.7])

    outcomes = []
    shape = np.shape(fn(REFERENCE, point))
    formula = as_formula(fn, ((3,),), shape)
    for engine in (
        lambda: formula(numpy_engine(), point),
        lambda: on_torch(formula, [point]),
        lambda: OnCasadi(formula).value([point]),
    ):
        try:
            outcomes.append(np.asarray(engine(), dtype=float))
        except dnl.InputError:
            outcomes.append(None)
    told = [o is None for o in outcomes]
    assert all(told) or not any(told), outcomes
    if not any(told):
        for other in outcomes[1:]:
            assert_same(other, outcomes[0])
