"""A sound solution, and 72 kinds of what may be planted in it: each a function of the solution.

Every part of the solution is at work: two samples, a control inside its bounds and one at them, an
equality, active and inactive sides, kinds of constraints of every sort.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.extension import Extension
from tests.certificates.cases import consistent, flat, shifted, with_controls

EPS = 1e-8
DEPTH = 3
BASES = [(b, rule) for rule in ("left", "trapezoid") for b in ("exact", "adjoint")]

Plant = Callable[[dnl.Solution], dnl.Solution]
PLANTS: dict[str, Plant] = {}


def plant(function: Plant) -> Plant:
    """Enter a kind into the list."""
    assert function.__name__ not in PLANTS
    PLANTS[function.__name__] = function
    return function


def problem(
    ceiling: float = 0.32,
    budget: float = 0.4,
    arrive: float = 0.9,
    weight: float = 0.05,
    lowest: float = -0.3,
    early: float = 0.0,
    target: float = 0.5,
    **more: Any,
) -> dnl.ControlProblem:
    """A Volterra equation with two path controls under one constraint of every kind."""

    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t + early) * (u.v + 0.5 * u.q - y**2)

    given = {
        "name": "planted",
        "x0": [0.0, 0.2],
        "dynamics": dnl.Volterra(kernel),
        "controls": {
            "v": dnl.Control((), initial=0.5),
            "q": dnl.Control((), lower=lowest, upper=2.0),
        },
        "running": lambda t, x, u: (
            0.5 * (x - 1) ** 2 + 0.1 * u.v**2 + 0.2 * u.q**2 + 0.2 * u.q - 0.6 * t * u.v
        ),
        "terminal": dnl.cost(lambda x, c, y: 0.1 * (x - y) ** 2, target=[0.3, target]),
        "regularisers": [dnl.L2("v", weight)],
        "constraints": [
            dnl.path_constraint(lambda t, x, u: u.v + 0.2 * x, upper=0.55, name="push"),
            dnl.integral_constraint(lambda t, x, u: u.v, budget, budget, name="budget"),
            dnl.state_bounds(-0.1, ceiling, name="ceiling", samples=[1]),
            dnl.terminal_constraint(lambda x, c: x, 0.1, arrive, name="arrive"),
        ],
    }
    return dnl.ControlProblem(**{**given, **more})


@cache
def sound(backend: str, rule: str) -> dnl.Solution:
    """Solved further than it is certified."""
    found = dnl.solve(problem(), DEPTH, backend, rule=rule, tolerance=1e-10)
    assert found.success, found.message
    return replace(found, tolerance=EPS)


@cache
def stopped(backend: str, rule: str) -> dnl.Solution:
    """Not solved: after one iteration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        found = dnl.solve(problem(), DEPTH, backend, rule=rule, max_iterations=1)
    assert not found.success
    return found


def alike(s: dnl.Solution) -> dnl.Solution:
    """The unsolved solution of the same backend and rule."""
    return stopped(s.backend, s.rule)


def moved(s: dnl.Solution, by: np.ndarray | float) -> dnl.Solution:
    """Other controls, everything else as it would be there."""
    return with_controls(s, flat(s) + by)


def control(s: dnl.Solution, name: str, values: np.ndarray) -> dnl.Solution:
    """Other samples of one control, everything else as it would be there."""
    there = Extension(name, s.controls[name].layout, np.ascontiguousarray(values))
    return consistent(replace(s, controls={**s.controls, name: there}))


def bare(s: dnl.Solution, name: str, values: np.ndarray) -> dnl.Solution:
    """Other samples of one control, and nothing else changed."""
    there = Extension(name, s.controls[name].layout, np.ascontiguousarray(values))
    return replace(s, controls={**s.controls, name: there})


def multiplier(s: dnl.Solution, name: str, change: Callable[[np.ndarray], Any]) -> dnl.Solution:
    """Another multiplier, with the costates and measures that it would have."""
    values = np.asarray(change(np.array(s.multipliers[name])))
    return consistent(replace(s, multipliers={**s.multipliers, name: values}))


def of(s: dnl.Solution, **changed: Any) -> dnl.Solution:
    """The same solution as one of another problem, everything else as it would be there."""
    return consistent(replace(s, problem=problem(**changed)))


def option(s: dnl.Solution, **changed: Any) -> dnl.Solution:
    return replace(s, options={**s.options, **changed})


def other(backend: str) -> str:
    return "adjoint" if backend == "exact" else "exact"


# -- value and measures --------------------------------------------------------------------------
@plant
def value_too_low(s):
    return replace(s, value=s.value - 1e-6)


@plant
def value_too_high(s):
    return replace(s, value=s.value + 1e-6)


@plant
def value_without_the_penalty(s):
    space = dnl.discretise(s.problem, s.depth, s.rule).space
    return replace(s, value=s.value - space.penalty(flat(s)))


@plant
def value_of_the_sum(s):
    return replace(s, value=2 * s.value)


@plant
def value_that_is_no_number(s):
    return replace(s, value=np.nan)


@plant
def stationarity_too_large(s):
    return replace(s, stationarity=1e-3)


@plant
def stationarity_that_is_no_number(s):
    return replace(s, stationarity=np.nan)


@plant
def stationarity_of_a_solved_one(s):
    return replace(alike(s), stationarity=s.stationarity)


@plant
def feasibility_too_large(s):
    return replace(s, feasibility=1e-3)


@plant
def feasibility_below_zero(s):
    return replace(s, feasibility=-1.0)


@plant
def complementarity_too_large(s):
    return replace(s, complementarity=1e-3)


# -- states and costates -------------------------------------------------------------------------
@plant
def state_entry(s):
    return replace(s, states=shifted(s.states, (1, 1), 1e-6))


@plant
def final_state(s):
    return replace(s, states=shifted(s.states, (-1, 0), -1e-6))


@plant
def initial_state(s):
    return replace(s, states=shifted(s.states, (0, 0), 1e-6))


@plant
def states_of_exchanged_samples(s):
    return replace(s, states=s.states[:, ::-1])


@plant
def states_one_layer_late(s):
    return replace(s, states=np.concatenate([s.states[:1], s.states[:-1]]))


@plant
def state_that_is_no_number(s):
    return replace(s, states=shifted(s.states, (2, 0), np.nan))


@plant
def states_of_another_start(s):
    return replace(s, states=alike(s).states)


@plant
def costates_of_another_sign(s):
    return replace(s, costates=-s.costates)


@plant
def costates_one_layer_early(s):
    return replace(s, costates=np.concatenate([s.costates[1:], s.costates[-1:]]))


@plant
def costates_of_the_sum(s):
    return replace(s, costates=s.costates / 2)


@plant
def costates_without_the_step(s):
    return replace(s, costates=s.costates / s.depth)


@plant
def costate_entry(s):
    return replace(s, costates=shifted(s.costates, (1, 0), 1e-6))


@plant
def final_costate(s):
    return replace(s, costates=shifted(s.costates, (-1, 1), 1e-6))


@plant
def costate_that_is_infinite(s):
    return replace(s, costates=shifted(s.costates, (0, 0), np.inf))


@plant
def terminal_gradient_entry(s):
    return replace(s, terminal_gradient=shifted(s.terminal_gradient, 0, 1e-6))


@plant
def terminal_gradient_of_another_sign(s):
    return replace(s, terminal_gradient=-s.terminal_gradient)


@plant
def terminal_gradient_of_exchanged_samples(s):
    return replace(s, terminal_gradient=s.terminal_gradient[::-1])


# -- multipliers ---------------------------------------------------------------------------------
@plant
def multipliers_of_another_sign(s):
    return consistent(replace(s, multipliers={k: -v for k, v in s.multipliers.items()}))


@plant
def multipliers_forgotten(s):
    return consistent(replace(s, multipliers={k: 0 * v for k, v in s.multipliers.items()}))


@plant
def multipliers_of_the_sum(s):
    return consistent(replace(s, multipliers={k: 2 * v for k, v in s.multipliers.items()}))


@plant
def multiplier_of_an_equality(s):
    return multiplier(s, "budget", lambda mu: mu + 1e-6)


@plant
def multiplier_of_a_state_bound(s):
    return multiplier(s, "ceiling", lambda mu: mu * 1.001)


@plant
def multiplier_of_an_inactive_side(s):
    return multiplier(s, "arrive", lambda mu: mu + 1e-3)


@plant
def multiplier_of_the_wrong_side(s):
    return multiplier(s, "ceiling", lambda mu: -mu)


@plant
def multipliers_one_layer_early(s):
    return multiplier(s, "ceiling", lambda mu: np.roll(mu, -1, axis=0))


@plant
def multiplier_that_is_no_number(s):
    mu = np.full_like(s.multipliers["budget"], np.nan)
    return replace(s, multipliers={**s.multipliers, "budget": mu})


# -- controls ------------------------------------------------------------------------------------
@plant
def controls_all_moved(s):
    return moved(s, 1e-6)


@plant
def control_entry_moved(s):
    return moved(s, 1e-6 * np.eye(s.size)[1])


@plant
def controls_of_the_guess(s):
    return control(s, "v", np.full_like(s.controls["v"].values, 0.5))


@plant
def controls_of_an_early_iterate(s):
    return with_controls(s, flat(alike(s)))


@plant
def controls_in_half_precision(s):
    return with_controls(s, flat(s).astype(np.float16).astype(float))


@plant
def controls_backwards(s):
    return control(s, "v", s.controls["v"].values[::-1])


@plant
def controls_exchanged(s):
    q = control(s, "q", s.controls["v"].values)
    return control(q, "v", s.controls["q"].values)


@plant
def controls_of_another_sign(s):
    return with_controls(s, -flat(s))


@plant
def control_outside_its_bound(s):
    return control(s, "q", shifted(s.controls["q"].values, -1, -1e-6))


@plant
def held_control_inside(s):
    return control(s, "q", shifted(s.controls["q"].values, -1, 1e-6))


@plant
def control_at_the_other_bound(s):
    values = s.controls["q"].values.copy()
    values[-1] = 2.0
    return control(s, "q", values)


@plant
def control_that_is_no_number(s):
    return bare(s, "v", shifted(s.controls["v"].values, 0, np.nan))


@plant
def controls_without_their_states(s):
    return bare(s, "v", s.controls["v"].values + 1e-5)


# -- another problem -----------------------------------------------------------------------------
@plant
def data_of_another_sample(s):
    return replace(s, problem=problem(x0=[1e-6, 0.2]))


@plant
def another_target(s):
    return of(s, target=0.51)


@plant
def another_weight(s):
    return of(s, weight=0.051)


@plant
def another_bound(s):
    return of(s, lowest=-0.31)


@plant
def another_ceiling(s):
    return of(s, ceiling=0.319)


@plant
def another_budget(s):
    return of(s, budget=0.401)


@plant
def an_arrival_missed(s):
    return of(s, arrive=0.2)


@plant
def time_of_another_source(s):
    return replace(s, problem=problem(early=1.0 / DEPTH))


# -- what it says of itself ----------------------------------------------------------------------
@plant
def tolerance_of_ten(s):
    return replace(alike(s), tolerance=10.0, status=0)


@plant
def tolerance_a_little_loose(s):
    return replace(s, tolerance=1e-4)


@plant
def tolerance_that_was_asked_for(s):
    return option(s, tolerance=1e-2)


@plant
def tolerance_too_tight(s):
    return replace(moved(s, 2e-9), tolerance=1e-11)


@plant
def unsolved_said_solved(s):
    return replace(alike(s), status=0)


@plant
def unsolved_said_solved_in_words(s):
    return replace(alike(s), status=0, message="solved", tolerance=EPS)


@plant
def solved_said_stopped(s):
    return replace(s, status=1)


@plant
def solved_said_infeasible(s):
    return replace(s, status=2)


@plant
def solved_said_a_saddle(s):
    return replace(s, status=4)


@plant
def status_that_is_none(s):
    return replace(s, status=77)


@plant
def message_of_a_failure(s):
    return replace(s, message=alike(s).message)


@plant
def message_of_a_saddle(s):
    return replace(s, message="stationary, but no minimiser: curvature -1; start elsewhere")


@plant
def another_backend(s):
    return replace(s, backend=other(s.backend))


@plant
def backend_that_is_none(s):
    return replace(s, backend="evil", options={})


@plant
def options_of_another_backend(s):
    return option(s, backend=other(s.backend))


@plant
def another_name(s):
    return replace(s, name="another")


@plant
def options_of_another_rule(s):
    return option(s, rule="left" if s.rule == "trapezoid" else "trapezoid")


@plant
def another_rule(s):
    rule = "left" if s.rule == "trapezoid" else "trapezoid"
    return replace(s, grid=Grid(s.depth, s.grid.horizon, rule))


@plant
def another_depth(s):
    return replace(s, grid=Grid(s.depth + 1, s.grid.horizon, s.rule))


@plant
def another_horizon(s):
    return replace(s, grid=Grid(s.depth, 2.0, s.rule))


@plant
def a_million_iterations(s):
    return replace(s, nit=10**6)


@plant
def iterations_below_zero(s):
    return replace(s, nit=-1)


@plant
def values_below_zero(s):
    return replace(s, nfev=-1)


@plant
def nodes_of_another_layer(s):
    layers, samples = s.multiplier_nodes["ceiling"]
    nodes = {**s.multiplier_nodes, "ceiling": [[n - 1 for n in layers], samples]}
    return replace(s, multiplier_nodes=nodes)


@plant
def units_that_hide_the_gradient(s):
    """A cost in units of a million: the gradient of an early iterate is small in them."""
    scales = {"cost": 2.0**30, "controls": {}, "rows": {}, "states": None}
    return replace(alike(s), scales=scales, status=0, message="solved")
