"""Minimisers at kinks on both backends: networks from zero, tracking with |x - a|, refusals."""

import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.solving import nonsmooth


def relu_network(activation=dnl.relu):
    """Twelve points of two classes by the sign of x1 x2, as in the case of the null network."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(12, 2))
    y = np.sign(X[:, 0] * X[:, 1]) * 0.8
    return dnl.ControlProblem(
        x0=X,
        dynamics=dnl.ResNet(2, activation=activation),
        terminal=dnl.losses.squared(y[:, None], head=dnl.head(1, 2, initial=0.3)),
        regularisers=[
            dnl.H1("K", 1e-3),
            dnl.H1("b", 1e-3),
            dnl.L2("head_W", 1e-3),
            dnl.L2("head_c", 1e-3),
        ],
    )


def tracking():
    """∫ |x - t/2| + 0.02 u², x' = u, x(0) = 1: the path reaches the target and stays there."""
    return dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: abs(x - 0.5 * t) + 0.02 * u.u**2,
    )


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_a_relu_network_leaves_the_null_network(backend):
    """K = 0, b = 0 has J = 0.584745, and gradient 0 by convention; J <= 0.055 is reached."""
    solution = dnl.solve(relu_network(), 8, backend)
    assert solution.success
    assert solution.value <= 0.055
    assert solution.stationarity <= 1e-8
    assert "held by kinks" in solution.message
    certificate = dnl.certify(solution, seed=0)
    assert certificate.passed, certificate.table()


@pytest.mark.parametrize("activation", [dnl.relu, dnl.leaky_relu])
def test_from_a_smooth_random_start_training_ends_at_active_kinks(activation):
    """Clarke stationarity 1e-8 where the plain gradient is above 1e-3, and a passed certificate."""
    start = {"K": dnl.smooth_random(1, 0.5), "b": dnl.smooth_random(10, 0.5)}
    solution = dnl.solve(relu_network(activation), 8, start=start)
    assert solution.success
    assert solution.value <= 0.2
    assert solution.stationarity <= 1e-8
    assert dnl.certify(solution, seed=1).passed


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
def test_tracking_stays_on_its_target(rule):
    """x^l = t_l/2 from some layer on, to rounding: active kinks, their sides multipliers."""
    solution = dnl.solve(tracking(), 8, rule=rule)
    off = solution.states[:, 0] - 0.5 * solution.grid.nodes
    assert solution.success
    assert np.count_nonzero(np.abs(off) <= 1e-11) >= 4
    assert "active kinks" in solution.message
    certificate = dnl.certify(solution, seed=0)
    assert certificate.passed, certificate.table()


def test_both_backends_find_the_same_tracking():
    values = [dnl.solve(tracking(), 6, backend).value for backend in ("exact", "adjoint")]
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_a_kink_that_cannot_be_certified_is_named(monkeypatch):
    """Without the finish: not solved, the kink in the message, no word of looser tolerances."""
    monkeypatch.setattr(nonsmooth, "LAST_WIDTH", 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = dnl.solve(tracking(), 6)
    assert not solution.success
    assert "kink" in solution.message
    assert "abs" in solution.message
    assert "loosen" not in solution.message


def test_the_null_network_is_never_called_solved(monkeypatch):
    """Its gradient is 0 by convention, and no more: the verdict is not taken from the measures."""
    monkeypatch.setattr(nonsmooth, "LAST_WIDTH", 1.0)
    monkeypatch.setattr(nonsmooth._Search, "explored", lambda self, w: (w, ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = dnl.solve(relu_network(), 4, "adjoint")
    assert solution.value == pytest.approx(0.584745, abs=1e-6)
    assert not solution.success
    assert not dnl.certify(solution, seed=0)["kinks"].passed


def test_problems_that_are_smooth_where_they_end_are_left_alone():
    """An L1 cost whose minimiser keeps off its kink: the backend's own message and steps."""
    problem = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u - x),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * u.u**2 + 0.2 * abs(u.u),
        terminal=lambda x, c: 2 * (x + 0.2) ** 2,
    )
    solution = dnl.solve(problem, 8, "adjoint")
    assert solution.success
    assert solution.nit <= 3
    assert "kink" not in solution.message
