"""Penalties of long paths: differences first, so that rounding stays below what Newton gains."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space import metric

WEIGHT = 0.75  # a binary fraction, as the samples are: their penalty is known exactly


def on_a_path(depth: int, rule: str, *regularisers):
    problem = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: -x * u.u[0]),
        controls={"u": dnl.Control((2,), initial=lambda t: [1.0 + t * t, t])},
        regularisers=regularisers,
    )
    return dnl.discretise(problem, depth, rule).space


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize(
    "regularisers",
    [
        [dnl.H1("u", 0.3)],
        [dnl.L2("u", 0.3)],
        [dnl.L2("u", 0.3), dnl.H1("u", 0.1)],
        [dnl.TvG("u", 0.2)],
    ],
)
def test_differences_give_what_the_matrix_gives(rule: str, regularisers, monkeypatch):
    matrix = on_a_path(200, rule, *regularisers)
    monkeypatch.setattr(metric, "MATRIX_SITES", 10)
    long = on_a_path(200, rule, *regularisers)
    assert matrix.blocks["u"].long is None
    assert long.blocks["u"].long is not None
    w = matrix.initial()
    size = np.max(np.abs(matrix.blocks["u"].penalty.diagonal()))  # rounding is relative to Q w
    assert np.max(np.abs(long.penalty_gradient(w) - matrix.penalty_gradient(w))) < 1e-14 * size
    rounding = w.size * np.finfo(float).eps * size
    assert abs(long.penalty(w) - matrix.penalty(w)) < rounding


def test_a_long_path_is_exact_to_rounding():
    """Against fractions: 1e-12 of R at L = 20,000, where the matrix is off by 1e-10 and more."""
    depth = 20_000
    space = on_a_path(depth, "left", dnl.H1("u", WEIGHT))
    block = space.blocks["u"]
    rng = np.random.default_rng(3)
    w = np.cumsum(rng.standard_normal(space.size)) / 512 + 1.0
    v = [[Fraction(float(x)) for x in row] for row in block.view(w)]
    mass = sum(x * x for row in v for x in row) / depth
    slopes = sum((b - a) ** 2 for p, q in pairwise(v) for a, b in zip(p, q, strict=True))
    expected = Fraction(WEIGHT) / 2 * (mass + slopes * depth)
    assert abs(space.penalty(w) / float(expected) - 1.0) < 1e-12
