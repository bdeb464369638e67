"""What an exact solve says agrees with its flag, and nothing else is printed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.ending import falls_without_bound

RULES = ("left", "trapezoid")
FORMULATIONS = ("lifted", "condensed")
ODE = dnl.ODE(lambda t, x, u: u.u)
FREE = {"u": dnl.Control((), initial=0.1)}


def falling(**more) -> dnl.ControlProblem:
    """x' = u, min x(1): no bound below."""
    return dnl.ControlProblem(
        **{
            "x0": [0.0],
            "dynamics": ODE,
            "controls": FREE,
            "terminal": lambda x, c: x,
            **more,
        }
    )


def concave() -> dnl.ControlProblem:
    """∫ u² - 2 x(1)² falls along every constant control."""
    return falling(x0=[1.0], running=lambda t, x, u: u.u**2, terminal=lambda x, c: -2 * x**2)


def one_sided() -> dnl.ControlProblem:
    """Bounded on one side only, by a constraint on the path."""
    rows = [dnl.path_constraint(lambda t, x, u: u.u, upper=1.0, name="above")]
    return falling(constraints=rows)


def solved(problem: dnl.ControlProblem, depth: int, **how) -> dnl.Solution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        return dnl.solve(problem, depth, **how)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [concave, one_sided])
def test_unbounded_is_said_where_it_was_seen(make, rule, formulation):
    solution = solved(make(), 10, rule=rule, formulation=formulation)
    assert not solution.success
    assert "falls without bound" in solution.message


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_unbounded_is_seen_before_rounding_holds_the_steps_back(formulation):
    """x' = u - x, ∫ x + 0.3 u: the steps triple until rounding of the rows stops them at 1e18.

    1e14 is passed after 25 to 35 of them.
    """
    endless = falling(
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u - x),
        terminal=None,
        running=lambda t, x, u: x + 0.3 * u.u,
    )
    with pytest.warns(dnl.ConvergenceWarning, match="falls without bound"):
        solution = dnl.solve(endless, 16, formulation=formulation)
    assert solution.nit < 100


def test_a_direction_of_descent_without_bound_is_one_along_which_every_fall_is_larger():
    linear = ReducedEvaluator(dnl.discretise(falling(), 4))
    one = np.ones(4)
    assert falls_without_bound(linear, 0 * one, -one)
    assert not falls_without_bound(linear, 0 * one, one), "it rises"
    assert not falls_without_bound(linear, one, one), "no direction"
    bounded = falling(controls={"u": dnl.Control((), lower=-1e3)})
    assert not falls_without_bound(ReducedEvaluator(dnl.discretise(bounded, 4)), 0 * one, -one)
    # e^{-x} falls for ever, and is bounded below
    flat = falling(terminal=lambda x, c: dnl.namespace(x).exp(-x))
    assert not falls_without_bound(ReducedEvaluator(dnl.discretise(flat, 4)), 0 * one, one)


@pytest.mark.parametrize("k", [1e3, 1e5])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_step_too_long_is_not_called_unbounded(k, formulation):
    """x' = -k (x - u), a cost of squares, τk = 10 and 1000: the trapezoidal rule solves it."""
    stiff = falling(
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: -k * (x - u.u)),
        controls={"u": dnl.Control((), lower=-2, upper=2)},
        terminal=None,
        running=lambda t, x, u: (x - dnl.namespace(x).cos(3 * t)) ** 2 + 1e-3 * u.u**2,
    )
    solution = solved(stiff, 100, formulation=formulation)
    assert not solution.success
    assert "larger depth" in solution.message
    assert "bound along" not in solution.message
    better = solved(stiff, 100, rule="trapezoid", formulation=formulation)
    # as k grows x = u, and the integrand is minimised point by point
    assert better.value == pytest.approx(4.7623e-4, abs=1e-7)


def minimum_time(T: float) -> dnl.ControlProblem:
    """x'' = u, |u| <= 1, from 1 to rest at 0 in the least time, 2; T a constant control."""
    return dnl.ControlProblem(
        x0=[[1.0, 0.0]],
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).stack([u.T * x[1], u.T * u.u])),
        controls={
            "u": dnl.Control((), lower=-1, upper=1),
            "T": dnl.Control((), on="const", lower=0, initial=T),
        },
        terminal=lambda x, c: c.T,
        constraints=[dnl.terminal_constraint(lambda x, c: x, [0, 0], [0, 0], name="rest")],
    )


@pytest.mark.parametrize("rule", RULES)
def test_the_clean_up_that_holds_every_control_prints_nothing(rule, capfd):
    """CasADi counts equality constraints against the unknowns that are left."""
    solution = dnl.solve(minimum_time(1.0), 70, rule=rule)
    assert solution.success
    assert solution.value == pytest.approx(2.0, abs=5e-4)  # of second order in 1/70
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_states_that_overflow_raise_no_warning_of_numpy(formulation, capfd):
    """x' = 50 x³ + u from 3 by the left rule."""
    exploding = falling(
        x0=[3.0],
        dynamics=dnl.ODE(lambda t, x, u: 50.0 * x**3 + u.u),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        running=lambda t, x, u: x**2 + u.u**2,
        terminal=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        solution = solved(exploding, 50, formulation=formulation)
    assert "the state is inf at layer 6" in solution.message
    assert "take a larger depth" in solution.message
    assert solution.status == 3
    said = capfd.readouterr()
    assert said.err == ""


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_contradicting_bounds_are_infeasible_not_an_error(formulation):
    sides = [dnl.state_bounds(lower=1.0, name="a"), dnl.state_bounds(upper=0.5, name="b")]
    solution = solved(
        falling(running=lambda t, x, u: u.u**2, constraints=sides), 10, formulation=formulation
    )
    assert solution.status == 2
    assert not solution.success


def test_a_message_does_not_say_converged_beside_a_failure():
    solution = solved(rising_only(), 50, formulation="lifted")
    assert not solution.success
    assert not solution.message.startswith("IPOPT converged;")


def rising_only() -> dnl.ControlProblem:
    """x' = 50 x³ + u from 3 without bounds: figures of size 1e4, whose gradients keep 1e-7."""
    return falling(
        x0=[3.0],
        dynamics=dnl.ODE(lambda t, x, u: 50.0 * x**3 + u.u),
        running=lambda t, x, u: x**2 + u.u**2,
        terminal=None,
    )
