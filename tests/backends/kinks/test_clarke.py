"""Clarke stationarity on problems whose kinked minimisers are known in closed form."""

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.kinks.clarke import kinked_point, lowest_curvature, steepest_kink
from dnlcontrol.backends.kinks.finish import finish
from dnlcontrol.backends.kinks.kinked_function import KinkedFunction, applies


def shrinkage(target, weight=1.0, sign=1.0):
    """min ½ u² - target u + sign·weight |u| of one constant u, as a terminal cost."""

    def cost(x, c):
        return 0.5 * c.u**2 - target * c.u + sign * weight * abs(c.u) + 0.0 * x[0]

    return dnl.ControlProblem(
        x0=np.zeros((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: 0.0 * x),
        controls={"u": dnl.Control((), on="const", initial=0.3)},
        terminal=cost,
    )


@pytest.mark.parametrize("target", [-2.5, -0.7, 0.0, 0.4, 1.75])
def test_the_distance_to_the_subdifferential_of_the_absolute_value(target):
    """At u = 0 it is max(|target| - 1, 0): ∂(|u|) = [-1, 1]."""
    point = kinked_point(dnl.discretise(shrinkage(target), 1), np.zeros(1), 1e-8)
    assert point.count == 1
    assert point.stationarity == pytest.approx(max(abs(target) - 1.0, 0.0), abs=1e-12)


def test_the_side_is_the_multiplier():
    """0 = -target + (2θ - 1): θ = ½ (1 + target)."""
    point = kinked_point(dnl.discretise(shrinkage(0.4), 1), np.zeros(1), 1e-8)
    assert point.theta[0] == pytest.approx(0.7, abs=1e-12)
    assert steepest_kink(point, 1e-8)[0] == 0.0


def test_a_kink_that_points_upwards_is_stationary_and_no_minimiser():
    """½ u² - |u| at 0: 0 is a generalised gradient, and both directions lower it with slope -1."""
    point = kinked_point(dnl.discretise(shrinkage(0.0, sign=-1.0), 1), np.zeros(1), 1e-8)
    slope, direction = steepest_kink(point, 1e-8)
    assert point.stationarity <= 1e-12
    assert slope == pytest.approx(-1.0, abs=1e-3)
    assert abs(direction[0]) == pytest.approx(1.0)


def test_away_from_kinks_it_is_the_gradient():
    """At u = 2: u - target + 1, no active kink."""
    point = kinked_point(dnl.discretise(shrinkage(0.5), 1), np.array([2.0]), 1e-8)
    assert point.count == 0
    assert point.stationarity == pytest.approx(2.5, abs=1e-12)


@pytest.mark.parametrize("target", [-2.5, -0.7, 0.4, 1.75])
def test_newton_on_the_active_kinks_finds_the_shrinkage(target):
    """u* = sign(target) max(|target| - 1, 0), from a wrong active set, too."""
    discrete = dnl.discretise(shrinkage(target), 1)
    function = KinkedFunction(discrete)
    found = finish(function, np.array([1e-3]), np.array([0.6]), np.array([True]), 1e-10)
    expected = np.sign(target) * max(abs(target) - 1.0, 0.0)
    assert found.converged
    assert found.w[0] == pytest.approx(expected, abs=1e-10)


def test_curvature_is_that_of_the_directions_that_keep_the_kink():
    """One control held by its kink leaves none; away from the kink the curvature is 1."""
    discrete = dnl.discretise(shrinkage(0.4), 1)
    assert lowest_curvature(kinked_point(discrete, np.zeros(1), 1e-8)) == np.inf
    away = kinked_point(discrete, np.array([2.0]), 1e-8)
    assert lowest_curvature(away) == pytest.approx(1.0)


def test_sides_are_kept_for_kinked_problems_without_rows():
    smooth = dnl.ControlProblem(x0=np.ones((1, 1)), dynamics=dnl.ResNet(1))
    rows = dnl.ControlProblem(
        x0=np.ones((1, 1)), dynamics=dnl.ResNet(1, dnl.relu), constraints=[dnl.state_bounds(0.0)]
    )
    assert not applies(dnl.discretise(smooth, 2))
    assert not applies(dnl.discretise(rows, 2))
    assert applies(dnl.discretise(shrinkage(0.1), 2))
