"""Newton's method on quadratics, Rosenbrock's function and double wells in a box."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import Bounds, minimize

from dnlcontrol.minimise.faces import complementarity, stationarity
from dnlcontrol.minimise.newton import forcing, newton
from dnlcontrol.minimise.outcome import NOT_FINITE

from .functions import Function, definite, dense, double_well, quadratic, rosenbrock, space_of


def test_a_quadratic_is_solved_as_by_a_dense_solve():
    """H >= I and A <= 5: a stationarity of δ is a distance of at most √5 δ."""
    rng = np.random.default_rng(1)
    space = space_of(constants=4, path=6)
    H, b = definite(rng, 10), rng.standard_normal(10)
    outcome = newton(quadratic(space, H, b), np.zeros(10), 1e-10)
    A = dense(space.metric, 10)
    distance = np.linalg.norm(outcome.w - np.linalg.solve(H, b))
    assert outcome.converged
    assert distance <= np.sqrt(np.linalg.eigvalsh(A)[-1]) * 1e-10


@pytest.mark.parametrize(("upper", "seed"), [(np.inf, 2), (0.8, 3), (0.5, 4)])
def test_rosenbrock_in_a_box_ends_where_scipy_ends(upper, seed):
    """Ours is a minimiser to 1e-9 over a least curvature above 0.3; scipy's barrier leaves 1e-6."""
    space = space_of(constants=4, lower=-2.0, upper=upper)
    function = rosenbrock(space)
    start = np.random.default_rng(seed).uniform(0.0, 0.4, 4)
    outcome = newton(function, start, 1e-9)
    theirs = minimize(
        function.f,
        start,
        jac=function.gradient,
        hess=function.hessian,
        method="trust-constr",
        bounds=Bounds(*space.bounds),
        options={"gtol": 1e-12, "xtol": 1e-14, "barrier_tol": 1e-14, "maxiter": 3000},
    )
    assert outcome.converged
    assert np.all(outcome.w <= upper)
    assert np.all(outcome.w >= -2.0)
    np.testing.assert_allclose(outcome.w, theirs.x, atol=1e-6)
    assert outcome.value <= function.f(theirs.x) + 1e-12
    g = function.gradient(outcome.w)
    assert stationarity(space, outcome.w, g) == outcome.stationarity <= 1e-9
    assert complementarity(space, outcome.w, g) <= 1e-9


def test_near_a_minimiser_every_step_gains_a_digit():
    """A model is solved to a tenth of the gradient or better, and what is left out is quadratic."""
    outcome = newton(rosenbrock(space_of(constants=3)), np.full(3, 0.9), 1e-12)
    norms = np.array([i.stationarity for i in outcome.log])
    last = norms[norms.tolist().index(norms[norms < 1e-3][0]) :]
    assert len(last) >= 3
    assert np.all(last[1:] <= 0.1 * last[:-1])


def test_no_accepted_step_raises_the_value():
    outcome = newton(rosenbrock(space_of(constants=6)), np.full(6, -1.0), 1e-9)
    values = [i.value for i in outcome.log]
    assert outcome.converged
    assert np.all(np.diff(values) <= 0)


@pytest.mark.parametrize("cold", [False, True])
def test_only_a_cold_start_leaves_a_saddle(cold):
    """At 0 the gradient of the double wells is 0 and every curvature negative; minima are ±1."""
    space = space_of(constants=3)
    outcome = newton(double_well(space), np.zeros(3), 1e-9, cold=cold)
    assert outcome.converged
    np.testing.assert_allclose(np.abs(outcome.w), np.full(3, float(cold)), atol=1e-9)


def test_saddles_are_left_so_often_and_no_more(monkeypatch):
    monkeypatch.setattr("dnlcontrol.minimise.newton.ESCAPES", 0)
    outcome = newton(double_well(space_of(constants=3)), np.zeros(3), 1e-9, cold=True)
    assert outcome.converged
    assert not outcome.w.any()


def test_it_says_that_the_iterations_are_used_up():
    outcome = newton(rosenbrock(space_of(constants=4)), np.full(4, -1.0), 1e-9, 2)
    assert not outcome.converged
    assert outcome.iterations == 2
    assert outcome.message.startswith("stopped after 2 iterations; raise max_iterations")


def test_it_says_that_the_start_is_not_finite():
    space = space_of(constants=2)
    broken = Function(space, lambda w: np.nan, lambda w: w, lambda w: np.eye(2))
    outcome = newton(broken, np.ones(2), 1e-9)
    assert not outcome.converged
    assert outcome.message == NOT_FINITE
    assert outcome.stationarity == np.inf


def test_it_says_that_no_decrease_can_be_resolved():
    """A gradient of the wrong sign: no step lowers f, and the radius shrinks to rounding."""
    space = space_of(constants=2)
    wrong = Function(space, lambda w: w @ w, lambda w: -2 * w, lambda w: 2 * np.eye(2))
    outcome = newton(wrong, np.ones(2), 1e-9)
    assert not outcome.converged
    assert "no further decrease can be resolved" in outcome.message


def test_progress_is_told_every_line_of_the_log():
    told = []
    outcome = newton(rosenbrock(space_of(constants=3)), np.zeros(3), 1e-9, 100, told.append)
    assert tuple(told) == outcome.log
    assert outcome.log[0].iteration == 0


def test_models_are_solved_more_exactly_near_the_end():
    """min(0.1, ‖r‖^{1/2}) ‖r‖ while nothing is known of the rate."""
    assert forcing(1.0, np.inf, 1e-9) == pytest.approx(0.1)
    assert forcing(1e-4, np.inf, 1e-9) == pytest.approx(1e-6)
    assert forcing(1e-9, np.inf, 1e-9) == pytest.approx(1e-10)
