"""certify rejects every kind of damage at ten times what it allows.

A sharp damage has a size in units of what the certificate allows: at ten times it is rejected, by
the row that it is meant for, and at a tenth of it the solution still passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.multipliers import Multipliers
from tests.certificates.cases import (
    EPS,
    allowed,
    at_zero,
    concave,
    consistent,
    constrained,
    flat,
    network,
    shifted,
    solved,
    stacked,
    two_wells,
    with_controls,
)


def off_by(solution: dnl.Solution, direction: np.ndarray, size: float) -> dnl.Solution:
    """Controls moved along a direction until their stationarity is size times the tolerance."""
    discrete = dnl.discretise(solution.problem, solution.depth)
    evaluator, at = Evaluator(discrete), Multipliers(stacked(solution))
    w = flat(solution)
    held = held_entries(discrete.space, w, evaluator.trajectory(w, at).gradient)
    d = np.where(held, 0.0, direction)
    norm = Face(discrete.space, held).dual_norm(evaluator.hessian_product(w, d, at))
    return with_controls(solution, w + size * EPS / norm * d)


Damage = Callable[[float], tuple[dnl.Solution, str]]


def smooth_step(size: float) -> tuple[dnl.Solution, str]:
    s = solved("network")
    return off_by(s, np.ones(s.size), size), "stationarity"


def rough_step(size: float) -> tuple[dnl.Solution, str]:
    s = solved("network", "exact")
    return off_by(s, np.eye(s.size)[7], size), "stationarity"


def one_node(size: float) -> tuple[dnl.Solution, str]:
    s = solved("bounded")
    return off_by(s, np.eye(s.size)[-2], size), "stationarity"


def states_entry(size: float) -> tuple[dnl.Solution, str]:
    s = solved("network")
    return replace(s, states=shifted(s.states, (1, 2, 0), size * allowed(s, "states"))), "states"


def final_state(size: float) -> tuple[dnl.Solution, str]:
    s = solved("bounded")
    return replace(s, states=shifted(s.states, (-1, 1), -size * allowed(s, "states"))), "states"


def initial_state(size: float) -> tuple[dnl.Solution, str]:
    """The data of another run: one row of x0."""
    s = solved("network")
    x0 = shifted(s.problem.x0, (3, 1), size * allowed(s, "states"))
    return replace(s, problem=network(x0=x0)), "states"


def value(size: float) -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return replace(s, value=s.value + size * allowed(s, "value")), "value"


def penalty_weight(size: float) -> tuple[dnl.Solution, str]:
    """The same data, another weight: the value is not this problem's."""
    s = solved("network")
    space = dnl.discretise(s.problem, s.depth).space
    weight = 0.1 * (1 + size * allowed(s, "value") / space.penalty(flat(s)))
    return replace(
        s, problem=network(regularisers=[dnl.H1("W", weight), dnl.H1("b", weight)])
    ), "value"


def costate_entry(size: float) -> tuple[dnl.Solution, str]:
    s = solved("bounded", "exact")
    return replace(
        s, costates=shifted(s.costates, (2, 0), size * allowed(s, "costates"))
    ), "costates"


def final_costate(size: float) -> tuple[dnl.Solution, str]:
    s = solved("network", "exact")
    return replace(
        s, costates=shifted(s.costates, (-1, 0, 1), size * allowed(s, "costates"))
    ), "costates"


def terminal_gradient(size: float) -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    by = size * allowed(s, "terminal gradient")
    return replace(s, terminal_gradient=shifted(s.terminal_gradient, 1, by)), "terminal gradient"


def multiplier_off(name: str) -> Damage:
    """The multiplier of an equality or of an active side, moved.

    It is moved until the stationarity is size times the tolerance.
    """

    def damage(size: float) -> tuple[dnl.Solution, str]:
        s = solved("constrained")
        mu = s.multipliers[name]
        index = np.unravel_index(np.argmax(np.abs(mu)), mu.shape)
        assert abs(mu[index]) > 1e-3
        discrete = dnl.discretise(s.problem, s.depth)
        unit = {k: np.zeros_like(v) for k, v in s.multipliers.items()}
        unit[name][index] = 1.0
        weights = stacked(replace(s, multipliers=unit))
        gradient = Evaluator(discrete).constraint_gradient(flat(s), weights)
        by = size * EPS / Face(discrete.space, np.zeros(s.size, dtype=bool)).dual_norm(gradient)
        multipliers = {**s.multipliers, name: shifted(mu, index, by)}
        return consistent(replace(s, multipliers=multipliers)), "stationarity"

    return damage


def slack_multiplier(size: float) -> tuple[dnl.Solution, str]:
    """A small multiplier on a side that is far away."""
    s = solved("constrained")
    index = (2, 0, ...)  # sample 1, layer 3
    distance = 0.385 - s.states[3, 1]
    mu = shifted(s.multipliers["ceiling"], index, size * EPS / distance)
    return consistent(
        replace(s, multipliers={**s.multipliers, "ceiling": mu})
    ), "complementary: ceiling"


def wrong_sign(size: float) -> tuple[dnl.Solution, str]:
    """A multiplier that pulls at a side.

    On a lower bound that the solution touches with multiplier 0.
    """
    s = solved("constrained")
    touching = constrained(arrive=float(s.states[-1, 0]))
    mu = shifted(s.multipliers["arrive"], (0, 0), size * EPS)
    return consistent(
        replace(s, problem=touching, multipliers={**s.multipliers, "arrive": mu})
    ), "sign: arrive"


def outside_the_bounds(size: float) -> tuple[dnl.Solution, str]:
    s = solved("bounded")
    w = flat(s)
    assert w[0] == -0.6
    return with_controls(s, shifted(w, 0, -size * EPS)), "bounds: u"


def inside_the_bounds(size: float) -> tuple[dnl.Solution, str]:
    """What an interior-point method leaves without a clean-up."""
    s = solved("bounded")
    return with_controls(s, shifted(flat(s), 0, size * EPS)), "held: u"


def tighter(side: str, sign: float) -> Damage:
    """The problem with one constraint moved past the solution."""

    def damage(size: float) -> tuple[dnl.Solution, str]:
        s = solved("constrained")
        at = {"ceiling": 0.385, "budget": 0.4, "push": 0.55, "arrive": s.states[-1, 0]}[side]
        problem = constrained(**{side: at + sign * size * EPS})
        return consistent(replace(s, problem=problem)), f"feasible: {side}"

    return damage


def reported(measure: str) -> Damage:
    def damage(size: float) -> tuple[dnl.Solution, str]:
        s = solved("constrained")
        return replace(s, **{measure: getattr(s, measure) + size * 1.01 * EPS}), "reported"

    return damage


def negative_curvature(size: float) -> tuple[dnl.Solution, str]:
    """A saddle whose Hessian falls below zero by size times the tolerance."""
    return at_zero(concave(-size * EPS), 4), "second order"


def higher_well(size: float) -> tuple[dnl.Solution, str]:
    """A strict local minimiser of J whose controls do not minimise H.

    Another value at one node lowers J.
    """
    depth = 4
    tilt = 0.5 * size * EPS * depth
    lower = dnl.solve(two_wells(tilt), depth, "adjoint", tolerance=1e-10)
    # the largest root of 4u³ - 4u + tilt, to which Newton steps from 1 converge at once
    u = 1.0
    for _ in range(5):
        u -= (4 * u**3 - 4 * u + tilt) / (12 * u**2 - 4)
    higher = with_controls(lower, np.full(depth, u))
    assert higher.stationarity < 0.1 * EPS
    return replace(higher, tolerance=EPS), "Pontryagin: u"


SHARP: dict[str, Damage] = {
    "controls off, smooth": smooth_step,
    "controls off, one entry of the triangle": rough_step,
    "controls off, one node of the path": one_node,
    "one entry of the states": states_entry,
    "the final state": final_state,
    "another initial state": initial_state,
    "the value": value,
    "another penalty weight": penalty_weight,
    "one entry of the costates": costate_entry,
    "the final costate p(T)": final_costate,
    "the terminal gradient": terminal_gradient,
    "the multiplier of an equality": multiplier_off("budget"),
    "the multiplier of a state bound": multiplier_off("ceiling"),
    "the multiplier of a path constraint": multiplier_off("push"),
    "a multiplier on an inactive side": slack_multiplier,
    "a multiplier of the wrong sign": wrong_sign,
    "a control outside its bounds": outside_the_bounds,
    "a held control inside its bounds": inside_the_bounds,
    "a state bound violated": tighter("ceiling", -1.0),
    "an integral constraint missed": tighter("budget", 1.0),
    "a path constraint violated": tighter("push", -1.0),
    "a terminal constraint missed": tighter("arrive", 1.0),
    "stationarity reported wrongly": reported("stationarity"),
    "feasibility reported wrongly": reported("feasibility"),
    "complementarity reported wrongly": reported("complementarity"),
    "negative curvature": negative_curvature,
    "the higher of two wells": higher_well,
}


@pytest.mark.parametrize("name", SHARP)
def test_damage_at_ten_times_the_tolerance_is_rejected(name: str):
    damaged, row = SHARP[name](10.0)
    certificate = dnl.certify(damaged, seed=0)
    assert not certificate.passed and not certificate[row].passed, certificate
    slight, row = SHARP[name](0.1)
    certificate = dnl.certify(slight, seed=0)
    assert certificate.passed and certificate[row].passed, certificate
