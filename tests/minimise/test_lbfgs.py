"""L-BFGS on quadratics and Rosenbrock's function in a box."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.lbfgs import Memory, lbfgs
from dnlcontrol.minimise.newton import newton
from dnlcontrol.minimise.outcome import NOT_FINITE

from .functions import Function, definite, dense, quadratic, rosenbrock, space_of


def test_a_quadratic_is_solved_as_by_a_dense_solve():
    """H >= I and A <= 5: a stationarity of δ is a distance of at most √5 δ."""
    rng = np.random.default_rng(1)
    space = space_of(constants=4, path=6)
    H, b = definite(rng, 10), rng.standard_normal(10)
    outcome = lbfgs(quadratic(space, H, b), np.zeros(10), 1e-9)
    A = dense(space.metric, 10)
    distance = np.linalg.norm(outcome.w - np.linalg.solve(H, b))
    assert outcome.converged
    assert distance <= np.sqrt(np.linalg.eigvalsh(A)[-1]) * 1e-9


@pytest.mark.parametrize("upper", [np.inf, 0.8, 0.5])
def test_rosenbrock_in_a_box_ends_where_newton_ends(upper):
    """Two stationarities of 1e-8 at a least curvature above 0.1: 2e-7 apart."""
    space = space_of(constants=4, lower=-2.0, upper=upper)
    function, start = rosenbrock(space), np.full(4, 0.3)
    outcome, theirs = lbfgs(function, start, 1e-8), newton(function, start, 1e-8)
    assert outcome.converged
    assert theirs.converged
    np.testing.assert_allclose(outcome.w, theirs.w, atol=2e-7)
    assert np.all(np.diff([i.value for i in outcome.log]) <= 0)


def bfgs(pairs, H0):
    """The dense inverse of BFGS: H⁺ = (I - s yᵀ/sᵀy) H (I - y sᵀ/sᵀy) + s sᵀ/sᵀy."""
    H = H0
    for s, y in pairs:
        V = np.eye(len(s)) - np.outer(y, s) / (s @ y)
        H = V.T @ H @ V + np.outer(s, s) / (s @ y)
    return H


def test_the_two_loops_are_the_dense_inverse():
    rng = np.random.default_rng(5)
    space = space_of(constants=3, path=5)
    H, A = definite(rng, 8), dense(space.metric, 8)
    memory = Memory(Face(space, np.zeros(8, dtype=bool)))
    for s in rng.standard_normal((4, 8)):
        memory.learn(s, H @ s)
    s, y = memory.pairs[-1]
    first = np.linalg.inv(A) * (s @ y) / (y @ np.linalg.solve(A, y))
    expected, g = bfgs(memory.pairs, first), rng.standard_normal(8)
    np.testing.assert_allclose(memory.solve(g), expected @ g, rtol=1e-11, atol=1e-12)


def test_pairs_without_curvature_and_those_of_another_face_are_forgotten():
    space = space_of(constants=3, lower=-1.0, upper=1.0)
    memory = Memory(Face(space, np.zeros(3, dtype=bool)))
    s = np.array([1.0, 2.0, 3.0])
    memory.learn(s, -s)
    assert not memory.pairs
    memory.learn(s, s)
    assert memory.on(np.zeros(3, dtype=bool)) is memory
    assert len(memory.pairs) == 1
    assert not memory.on(np.array([True, False, False])).pairs


def test_it_says_why_it_stopped():
    space = space_of(constants=3)
    few = lbfgs(rosenbrock(space), np.full(3, -1.0), 1e-9, 2)
    assert not few.converged
    assert few.message.startswith("stopped after 2 iterations")
    nan = Function(space, lambda w: np.nan, lambda w: w, lambda w: np.eye(3))
    assert lbfgs(nan, np.ones(3), 1e-9).message == NOT_FINITE
    wrong = Function(space, lambda w: w @ w, lambda w: -2 * w, lambda w: 2 * np.eye(3))
    stuck = lbfgs(wrong, np.ones(3), 1e-9)
    assert not stuck.converged
    assert "found no decrease" in stuck.message
