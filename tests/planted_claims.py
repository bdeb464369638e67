"""What may be planted in what a solution says of itself, and of its problem."""

from __future__ import annotations

from dataclasses import replace

from dnlcontrol.discretisation.grid import Grid
from tests.planted_solution import (
    DEPTH,
    EPS,
    alike,
    moved,
    of,
    option,
    other,
    plant,
    problem,
)


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
