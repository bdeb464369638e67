"""Implicit stages: the root that continues the state before, each entry by its own scale."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.polynomial import Polynomial

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.discretisation.stage_root import (
    chosen,
    continued_root,
    doubtful,
    rough,
    solved,
    unsettled,
)

EPS = float(np.finfo(float).eps)


def quadratic(a, b):
    """r(x) = a + b x² of each entry and I - r_x, a and b (n, d)."""

    def linearised(x):
        slope = np.eye(x.shape[-1]) - 2.0 * (b * x)[..., None] * np.eye(x.shape[-1])
        return a + b * x**2, slope

    return linearised


def test_the_root_of_a_quadratic_that_continues_its_start():
    """x = a + b x² has (1 - √(1 - 4ab))/(2b) as the root that tends to a as b tends to 0."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 200, 1))
    b = np.where(4 * a * b < 0.98, b, 0.2 * b)
    found = continued_root(quadratic(a, b), a, EPS)
    closed = 2 * a / (1 + np.sqrt(1 - 4 * a * b))  # without cancellation
    # at the smallest discriminant √0.02 the corrections end at 1e-6, then the square of it
    np.testing.assert_allclose(found, closed, rtol=1e-6)


def test_behind_a_fold_there_is_no_root():
    """x = θ (1 + 3/8 (1 + x²)) + (1 - θ) has a negative discriminant before θ = 1."""
    found = continued_root(
        quadratic(np.full((1, 1), 1.375), np.full((1, 1), 0.375)), np.ones((1, 1)), EPS
    )
    assert np.isnan(found).all()


def test_samples_without_a_root_leave_the_others_alone():
    a, b = np.array([[1.375], [0.2]]), np.array([[0.375], [1.0]])
    found = continued_root(quadratic(a, b), np.array([[1.0], [0.2]]), EPS)
    assert np.isnan(found[0]).all()
    assert found[1, 0] == pytest.approx(0.2763932022500210, rel=1e-6)  # (1 - √0.2)/2


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_units_of_an_entry_do_not_matter(scale):
    """With y_2 = scale · x_2 the root is the same in the new unit."""
    a, b = np.array([[0.3, 0.2]]), np.array([[0.5, 0.9]])
    unit = np.array([[1.0, scale]])
    plain = continued_root(quadratic(a, b), a, EPS)
    other = continued_root(quadratic(a * unit, b / unit), a * unit, EPS)
    np.testing.assert_allclose(other, plain * unit, rtol=1e-9)


def test_steps_that_do_not_halve_are_doubted():
    start, x = np.zeros((3, 1)), np.ones((3, 1))
    steps = [np.array([[1.0], [1.0], [1.0]]), np.array([[0.4], [0.6], [np.nan]])]
    assert doubtful(steps, start, x).tolist() == [False, True, False]
    x[2] = np.nan
    assert doubtful(steps, start, x).tolist() == [False, True, True]
    start[2] = np.nan  # nothing continues what is no number
    assert doubtful(steps, start, x).tolist() == [False, True, False]


def test_small_entries_are_judged_by_their_own_scale():
    x = np.array([[1.0, 1e-6]])
    small = [np.array([[1e-8, 1e-8]]), np.array([[1e-14, 1e-14]])]
    # the next step is 1e-14 · (1e-8/1e-2): below the rounding of both entries
    assert not rough(small, x, EPS)[0]
    assert rough([np.array([[1e-14, 1e-14]])], x, EPS)[0]
    assert not rough([np.array([[1e-14, 1e-19]])], x, EPS)[0]


def test_a_residual_is_measured_by_the_terms_of_its_row():
    """Of x_2 = 1e6 x_1 - 1e6 x_1 + 1e-3 the terms are 1e6: 1e-10 is rounding of them."""
    x, slope = np.array([[1.0, 1e-3]]), np.array([[[1.0, 0.0], [-1e6, 1.0]]])
    residual = np.array([[0.0, 1e-10]])
    assert not unsettled(residual, x, slope, x, EPS)[0]
    assert unsettled(residual, x, np.eye(2)[None], x, EPS)[0]


def test_equal_roots_keep_the_bits_of_newton():
    newton, start = np.array([[1.0, 1e-5], [1.0, -1e-5]]), np.ones((2, 2))
    again = np.array([[1.0, 1e-5 * (1 + 1e-9)], [1.0, 2.0]])
    np.testing.assert_array_equal(chosen(newton, again, start), [newton[0], again[1]])
    none = np.full((2, 2), np.nan)
    np.testing.assert_array_equal(chosen(newton, none, start), newton)


def test_singular_systems_are_no_numbers_and_the_others_are_solved():
    matrix = np.array([np.eye(2), np.zeros((2, 2)), 2 * np.eye(2), np.full((2, 2), np.nan)])
    found = solved(matrix, np.ones((4, 2)))
    np.testing.assert_array_equal(found[[0, 2]], [[1, 1], [0.5, 0.5]])
    assert np.isnan(found[[1, 3]]).all()


# -- Robertson's kinetics: states of the sizes 1, 1e-5 and 1 --------------------------------------
def robertson(horizon):
    def rates(t, x, u):
        first, second, third = 0.04 * x[0] * (1.0 + u.u), 1e4 * x[1] * x[2], 3e7 * x[1] * x[1]
        return dnl.namespace(x).stack([second - first, first - second - third, third])

    return dnl.ControlProblem(
        name="robertson",
        x0=np.array([[1.0, 0.0, 0.0]]),
        horizon=horizon,
        dynamics=dnl.ODE(rates),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: (x[2] - 0.1) ** 2,
        regularisers=[dnl.L2("u", 1e-3)],
    )


def roots(x, h):
    """All real x_2 of the trapezoidal step from x, by elimination of x_1 and x_3: a cubic."""
    f = np.array([0.0, 0.0, 3e7 * x[1] ** 2])
    f[0] = 1e4 * x[1] * x[2] - 0.04 * x[0]
    f[1] = -f[0] - f[2]
    z, b = x + 0.5 * h * f, Polynomial([0.0, 1.0])
    c = z[2] + 0.5 * h * 3e7 * b**2
    a = (z[0] + 0.5 * h * 1e4 * b * c) * (1.0 / (1.0 + 0.02 * h))
    found = (b - z[1] - 0.5 * h * (0.04 * a - 1e4 * b * c - 3e7 * b**2)).roots()
    return np.sort(found[np.abs(found.imag) <= 1e-9 * np.abs(found)].real)


STEPS = [(0.3, 4), (0.3, 40), (4.0, 10), (4.0, 100), (40.0, 40)]


@pytest.mark.parametrize("kind", [Evaluator, ReducedEvaluator])
@pytest.mark.parametrize(("horizon", "depth"), STEPS)
def test_stiff_kinetics_stay_on_the_positive_root(kind, horizon, depth):
    """Every step ends at a root of its cubic, at a positive one wherever there is one."""
    discrete = dnl.discretise(robertson(horizon), depth, "trapezoid")
    x = kind(discrete).states(np.zeros(discrete.space.size))[:, 0]
    for before, after in pairwise(x):
        possible = roots(before, horizon / depth)
        # a companion matrix of entries 1e-5..1 leaves eight digits of a root
        assert np.min(np.abs(possible - after[1])) <= 1e-8 * np.abs(after[1])
        assert after[1] > 0 or np.max(possible) < 0
    np.testing.assert_allclose(x.sum(axis=1), 1.0, rtol=1e-12)  # the rates sum to 0


def test_the_whole_path_tends_to_the_exact_one():
    """At T = 40 by Radau's method, tolerance 1e-12: 0.715827069, 9.18553476e-6, 0.284163746."""
    x = dnl.simulate(robertson(40.0), 1000, rule="trapezoid")[-1, 0]
    np.testing.assert_allclose(x, [0.715827069, 9.18553476e-6, 0.284163746], rtol=2e-4)


def test_both_backends_have_one_value_and_gradient_for_stiff_kinetics():
    discrete = dnl.discretise(robertson(4.0), 40, "trapezoid")
    w = 0.2 * np.cos(np.arange(discrete.space.size) / 10.0)
    exact, adjoint = (
        kind(discrete).value_and_gradient(w) for kind in (ReducedEvaluator, Evaluator)
    )
    assert exact[0] == pytest.approx(adjoint[0], rel=1e-10)
    np.testing.assert_allclose(exact[1], adjoint[1], rtol=1e-6, atol=1e-9)
