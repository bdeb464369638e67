"""The exact backend where nothing is curved, where rows depend on each other, where bounds move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

import dnlcontrol as dnl
from tests.backends.exact.rockets import rocket

RULES = ("left", "trapezoid")
FORMULATIONS = ("lifted", "condensed")
L, T = 40, 3.0


def fuel() -> dnl.ControlProblem:
    """Rest to rest over the distance 1 in T = 3, |u| <= 1 as u = p - m, minimal ∫ p + m."""

    def shift(t, x, u):
        return dnl.namespace(x).stack([x[1], u.p - u.m])

    return dnl.ControlProblem(
        horizon=T,
        x0=[[0.0, 0.0]],
        dynamics=dnl.ODE(shift),
        running=lambda t, x, u: u.p + u.m,
        controls={k: dnl.Control((), lower=0, upper=1) for k in "pm"},
        constraints=[dnl.terminal_constraint(lambda x, c: x, [1, 0], [1, 0], name="end")],
    )


def least_fuel(rule: str) -> float:
    """The same discrete problem as a linear program, by HiGHS."""
    h = T / L
    left = rule == "left"
    share = np.array([h, 0.0]) if left else np.array([h / 2, h / 2])
    speed, place = np.zeros((2, L + 1, L + 1))
    for l in range(L):
        speed[l + 1] = speed[l]
        speed[l + 1, l : l + 2] += share
        place[l + 1] = place[l] + share @ speed[l : l + 2]
    weights = np.full(L + 1, h)
    weights[[0, -1]] = (h, 0.0) if left else (h / 2, h / 2)
    ends = np.vstack([place[-1], speed[-1]])
    program = linprog(
        np.concatenate([weights, weights]),
        A_eq=np.hstack([ends, -ends]),
        b_eq=[1.0, 0.0],
        bounds=(0, 1),
    )
    return float(program.fun)


def follows_a_moving_bound() -> dnl.ControlProblem:
    """max x(1), x' = u, 0 <= u <= sin(πt): the sum of the bounds in the rule's weights."""
    return dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), lower=0)},
        terminal=lambda x, c: -x,
        constraints=[
            dnl.path_constraint(
                lambda t, x, u: u.u - dnl.namespace(t).sin(np.pi * t), upper=0.0, name="moves"
            )
        ],
    )


def only_feasible() -> dnl.ControlProblem:
    """No cost at all: any control with x(1) = 0."""
    return dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        constraints=[dnl.terminal_constraint(lambda x, c: x, 0, 0, name="end")],
    )


def pushed_left() -> dnl.ControlProblem:
    """min x(1), x'' = u, |u| <= 1: u = -1 throughout."""
    return dnl.ControlProblem(
        x0=[[0.0, 0.0]],
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).stack([x[1], u.u])),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        terminal=lambda x, c: x[0],
    )


def constant_drift() -> dnl.ControlProblem:
    """x' = 1 and a linear cost of the control alone: the kernel has no derivative at all."""
    return dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: 1.0 + 0.0 * x),
        controls={"u": dnl.Control((), lower=-2, upper=1)},
        running=lambda t, x, u: u.u,
    )


LINEAR: dict[str, tuple[Any, Any]] = {
    "fuel": (fuel, least_fuel),
    "moving bound": (
        follows_a_moving_bound,
        lambda rule: -np.sin(np.pi * np.arange(L) / L).sum() / L,  # 0 at both ends
    ),
    "feasible": (only_feasible, lambda rule: 0.0),
    # -½ τ² L (L - 1) by the left rule, -½ by the trapezoidal one
    "pushed": (pushed_left, lambda rule: -0.5 * (1 - 1 / L) if rule == "left" else -0.5),
    "drift": (constant_drift, lambda rule: -2.0),
}


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LINEAR)
def test_problems_without_second_derivatives_are_solved(name, rule, formulation):
    make, right = LINEAR[name]
    solution = dnl.solve(make(), L, rule=rule, formulation=formulation)
    assert solution.success, solution.message
    # HiGHS and IPOPT both end with 1e-9 in the sums of L values of size 1
    assert solution.value == pytest.approx(right(rule), abs=1e-7)


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_depend_on_bounds_have_multipliers(rule):
    """v >= 0 throughout and v(T) = 0: the last bound and the terminal row say the same.

    Their multipliers are not unique, the KKT matrix of the active set is singular by its pattern;
    the structural rank of it takes a time that is exponential in L.
    """
    solution = dnl.solve(rocket(rests=True), 70, rule=rule)
    assert solution.success, solution.message
    # the apogee by the explicit (implicit) rule, both formulations agreeing
    other = dnl.solve(rocket(rests=True), 70, rule=rule, start=solution)
    assert other.value == pytest.approx(solution.value, rel=1e-9)
    assert solution.nit <= 200


@pytest.mark.parametrize("rule", RULES)
def test_a_rocket_with_free_end_time_returns(rule):
    """Without the terminal speed: at the apogee it is 0 of its own accord, and J the same."""
    free, rests = (dnl.solve(rocket(rests=r), 70, rule=rule) for r in (False, True))
    assert free.success, free.message
    # dJ/dT = -v(T) = 0 at the apogee
    assert free.value == pytest.approx(rests.value, abs=1e-5)


def test_a_start_that_leaves_float64_is_no_obstacle_to_the_lifted_program():
    """x' = 5 x² + u from x = 4 explodes under u = 0; states are unknowns, and start at x0."""
    problem = dnl.ControlProblem(
        x0=[4.0],
        dynamics=dnl.ODE(lambda t, x, u: 5.0 * x**2 + u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: x**2 + 1e-4 * u.u**2,
    )
    assert not np.isfinite(dnl.simulate(problem, 100)).all()
    solution = dnl.solve(problem, 100, formulation="lifted")
    assert solution.success, solution.message
