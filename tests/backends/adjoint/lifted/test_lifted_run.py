"""Constrained and bounded one-step problems on the adjoint backend: few products, right values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import dnlcontrol as dnl

RULES = ("left", "trapezoid")
MOST_PRODUCTS = 60


def double_integrator(t, x, u):
    return dnl.namespace(x).stack([x[1], u.u])


def pendulum(t, x, u):
    xp = dnl.namespace(x)
    return xp.stack([x[1], u.u - xp.sin(x[0])])


def terminal_equality() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="terminal equality",
        horizon=2.0,
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        running=lambda t, x, u: x**2,
        constraints=[dnl.terminal_constraint(lambda x, c: x, 0.5, 0.5, name="end")],
    )


def swing_up() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="pendulum",
        horizon=5.0,
        x0=[[0.0, 0.0]],
        dynamics=dnl.ODE(pendulum),
        controls={"u": dnl.Control((), lower=-1.5, upper=1.5)},
        running=lambda t, x, u: 0.1 * u.u**2,
        terminal=lambda x, c: (x[0] - np.pi) ** 2 + x[1] ** 2,
    )


def minimum_time(start: float) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="minimum time",
        x0=[[-1.0, 0.0]],
        dynamics=dnl.ODE(lambda t, x, u: u.T * double_integrator(t, x, u)),
        controls={
            "u": dnl.Control((), lower=-1, upper=1),
            "T": dnl.Control((), on="const", lower=0, initial=start),
        },
        terminal=lambda x, c: c.T,
        constraints=[dnl.terminal_constraint(lambda x, c: x, 0, 0, name="end")],
    )


def corridor() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="corridor",
        horizon=2.0,
        x0=[[1.0, 0.0]],
        dynamics=dnl.ODE(pendulum),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        running=lambda t, x, u: 0.5 * (x[0] ** 2 + x[1] ** 2 + u.u**2),
        constraints=[dnl.state_bounds(lower=[-0.2, -0.5], upper=[2.0, 1.0], name="states")],
    )


def mixed() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="mixed",
        horizon=2.0,
        x0=[[1.0, 0.0]],
        dynamics=dnl.ODE(pendulum),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * (x[0] ** 2 + x[1] ** 2 + 0.1 * u.u**2),
        constraints=[dnl.path_constraint(lambda t, x, u: u.u + x[0], -0.3, 0.4, name="mixed")],
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [terminal_equality, swing_up, corridor, mixed])
def test_equals_the_exact_backend(make, rule: str):
    """The same minimiser, below MOST_PRODUCTS; values are second order in stationarity 1e-8."""
    exact, adjoint = (dnl.solve(make(), 30, backend, rule=rule) for backend in ("exact", "adjoint"))
    assert adjoint.success
    assert adjoint.value == pytest.approx(exact.value, abs=1e-10)
    assert adjoint.nhev <= MOST_PRODUCTS


@pytest.mark.parametrize(("rule", "value"), [("left", 0.378775), ("trapezoid", 0.375025005)])
def test_terminal_equality_in_the_depth_of_the_case(rule: str, value: float):
    """By CasADi and IPOPT, to the digits given there."""
    found = dnl.solve(terminal_equality(), 200, "adjoint", rule=rule)
    assert found.success
    assert found.value == pytest.approx(value, abs=1e-8)
    assert found.nhev <= MOST_PRODUCTS


@pytest.mark.parametrize("start", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("rule", RULES)
def test_minimum_time(rule: str, start: float):
    """T = 2 in continuous time; at T = 0 the violation is stationary, but the problem feasible."""
    found = dnl.solve(minimum_time(start), 50, "adjoint", rule=rule)
    assert found.success
    assert found.value == pytest.approx(2.0, abs=1e-6 if rule == "left" else 1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_infeasible_is_said_with_its_certificate(rule: str):
    """x(1) = 2 from 0 with |u| <= 1: the least violation is 1."""
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        running=lambda t, x, u: u.u**2,
        constraints=[dnl.terminal_constraint(lambda x, c: x, 2.0, 2.0, name="end")],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        found = dnl.solve(problem, 20, "adjoint", rule=rule)
    assert not found.success
    assert found.status == 2
    assert "locally infeasible: the violation is stationary at 3 points" in found.message
    assert found.feasibility == pytest.approx(1.0, abs=1e-4)


def test_held_controls_stand_on_their_bounds():
    """Not a rounding away from them."""
    found = dnl.solve(terminal_equality(), 20, "adjoint")
    assert found.controls["u"].values.min() == -1.0


def test_iterations_are_told_and_limited():
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        found = dnl.solve(
            swing_up(), 20, "adjoint", max_iterations=3, progress=lambda i: seen.append(i.iteration)
        )
    assert seen == [0, 1, 2, 3]
    assert found.status == 1
    assert "raise max_iterations" in found.message
