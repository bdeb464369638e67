"""What may be planted in the figures and arrays of a solution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import dnlcontrol as dnl
from tests.certificates.cases import consistent, flat, shifted, with_controls
from tests.planted_solution import (
    alike,
    bare,
    control,
    moved,
    multiplier,
    plant,
)


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
