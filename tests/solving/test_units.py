"""Units do not matter: one problem in other units has one value, one verdict, one path.

In units a thousand apart the scaled problems are equal up to rounding, so that iterations are, too;
in any unit J, undone, agrees to 1e-8.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.options import Exact
from dnlcontrol.discretisation.scaling import Scaling
from dnlcontrol.results.rescaled import in_own_units, in_users_units
from dnlcontrol.solving.units import scaling_of
from tests.solving.problems_in_units import CONTROLS, MADE, Units, pinene

RULES = ("left", "trapezoid")
BACKENDS = ("exact", "adjoint")
DEPTH = 8
KILO = [
    Units(control=1e-6),
    Units(control=1e6),
    Units(cost=1e-9),
    Units(cost=1e9),
    Units(state=1e-6),
    Units(state=1e6),
    Units(row=1e-6),
    Units(row=1e6),
    Units(control=1e3, state=1e-3, cost=1e6, row=1e-3),
]
ODD = [Units(control=3e-5, cost=2e4, state=1.7e3, row=40.0), Units(control=7e4, cost=3e-8)]


def in_words(units: Units) -> str:
    return ",".join(f"{k}={v:g}" for k, v in vars(units).items() if v != 1.0)


def solved(name: str, units: Units, backend: str, rule: str) -> dnl.Solution:
    return dnl.solve(MADE[name](units), DEPTH, backend, rule=rule)


# the tolerance 1e-8 over the least curvature 0.1; in odd units it is relative to sizes that are off
# by half a unit at most, 32 for a control and 80 for the cost
SAME_PATH = 1e-5
HALF_A_UNIT = 32 * 80 * 1e-8 / 0.1


def same(
    name: str, units: Units, backend: str, rule: str, apart: float = SAME_PATH
) -> tuple[dnl.Solution, dnl.Solution]:
    base, other = (solved(name, u, backend, rule) for u in (Units(), units))
    assert not base.scales
    assert other.success == base.success
    assert other.value / units.cost == pytest.approx(base.value, rel=1e-8)
    ours = base.controls[CONTROLS[name]].values
    theirs = other.controls[CONTROLS[name]].values * units.control
    np.testing.assert_allclose(theirs, ours, atol=apart * np.max(np.abs(ours)))
    return base, other


@pytest.mark.parametrize("units", KILO[::3] + KILO[-1:], ids=in_words)
@pytest.mark.parametrize("name", ["path", "bounded", "rows", "triangle"])
def test_a_thousand_apart_is_the_same_path(name, units):
    base, other = same(name, units, "exact", "left")
    assert abs(other.nit - base.nit) <= 0.2 * base.nit


@pytest.mark.slow
@pytest.mark.parametrize("units", KILO, ids=in_words)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(MADE))
def test_every_kind_on_both_backends(name, backend, rule, units):
    base, other = same(name, units, backend, rule)
    assert abs(other.nit - base.nit) <= 0.2 * base.nit


@pytest.mark.slow
@pytest.mark.parametrize("units", ODD, ids=in_words)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(MADE))
def test_any_unit_has_the_same_value(name, backend, rule, units):
    same(name, units, backend, rule, HALF_A_UNIT)


def test_any_unit_with_rows_has_the_same_value():
    same("rows", ODD[0], "exact", "left", HALF_A_UNIT)


@pytest.mark.parametrize("unit", [1e-4, 1.0])
def test_rate_constants_of_size_1e_5(unit):
    """Alpha-pinene, data of Box et al. 1973; 19.875007 by the rule itself at L = 100."""
    found = dnl.solve(pinene(unit), 100, "exact", rule="trapezoid")
    theta = np.array([5.92585, 2.96340, 2.04728, 27.44679, 3.99795]) * 1e-5
    assert found.success
    assert found.value == pytest.approx(19.875007, abs=2e-6)
    np.testing.assert_allclose(np.ravel(found.controls["theta"].array()) * unit, theta, rtol=1e-2)


def test_the_certificate_measures_in_the_units_of_the_solution(tmp_path):
    problem = MADE["rows"](KILO[-1])
    found = dnl.solve(problem, DEPTH, "exact")
    assert found.success
    assert "relative to the scales" in found.message
    assert dnl.certify(found, seed=0).passed
    found.save(tmp_path)
    loaded = replace(dnl.load(tmp_path), problem=problem)
    assert loaded.scales == found.scales
    assert dnl.certify(loaded, seed=0).passed


def test_units_that_make_the_tolerance_meaningless_are_refused():
    found = dnl.solve(MADE["path"](Units(cost=1e9)), DEPTH, "exact")
    planted = replace(found, scales={**found.scales, "cost": 1e30})
    row = dnl.certify(planted, seed=0)["units"]
    assert not row.passed
    assert row.measured > 1e15


@pytest.mark.parametrize("cost", [-1.0, 0.0, np.nan, "large"])
def test_scales_that_no_solve_wrote_are_refused(cost):
    found = dnl.solve(MADE["path"](Units(cost=1e9)), DEPTH, "exact")
    with pytest.raises(dnl.InputError, match=r"solution\.scales"):
        dnl.certify(replace(found, scales={**found.scales, "cost": cost}), seed=0)


def test_costates_and_multipliers_are_in_the_users_units():
    """∂J/∂x has the unit cost/state, a multiplier that of cost/row."""
    units = Units(control=1e6, cost=1e9, state=1e-6, row=1e6)
    base, other = (dnl.solve(MADE["rows"](u), DEPTH, "exact") for u in (Units(), units))
    undone = other.costates * units.state / units.cost
    np.testing.assert_allclose(undone, base.costates, atol=1e-7)
    final = other.terminal_gradient * units.state / units.cost
    np.testing.assert_allclose(final, base.terminal_gradient, atol=1e-7)
    arrival = other.multiplier("arrival") * units.row / units.cost
    np.testing.assert_allclose(arrival, base.multiplier("arrival"), atol=1e-7)


def test_a_scaled_problem_is_the_users_at_every_control():
    """J(Dv) = J0 J'(v), c(Dv) = r c'(v), x(Dv) = S x'(v), by the loops of the definition."""
    problem = MADE["rows"](Units(control=1e3))
    scaling = Scaling(
        16.0,
        {"u": np.array(0.25)},
        {"arrival": np.array([8.0, 2.0])},
        np.array([4.0, 0.5]),
    )
    ours = dnl.discretise(problem, 3, "trapezoid")
    theirs = dnl.discretise(scaling.applied(problem), 3, "trapezoid")
    v = np.random.default_rng(5).standard_normal(theirs.space.size)
    w = v * scaling.flat(ours.space)
    x, xi = ours.states(w), theirs.states(v)
    np.testing.assert_allclose(xi * scaling.states, x, rtol=1e-12)
    assert theirs.value(v) * 16.0 == pytest.approx(ours.value(w), rel=1e-12)
    rows = ours.rows.by_name(ours.constraint_values(w, x))
    scaled = theirs.rows.by_name(theirs.constraint_values(v, xi))
    np.testing.assert_allclose(scaled["arrival"] * [8.0, 2.0], rows["arrival"], rtol=1e-12)
    np.testing.assert_allclose(scaled["corridor"] * scaling.states, rows["corridor"], rtol=1e-12)
    np.testing.assert_allclose(scaled["effort"], rows["effort"], rtol=1e-12)


@pytest.mark.parametrize("outer", [None, lambda t, g, z, u: g + z * z + u.v])
@pytest.mark.parametrize("free", [None, lambda t, x0: x0 * (1 + t)])
@pytest.mark.parametrize("feature", [None, lambda s, x, u: x * x + u.v * s])
def test_every_function_of_a_state_equation_is_scaled(feature, free, outer):
    problem = dnl.ControlProblem(
        x0=np.array([[1.0, -0.5], [0.2, 0.3]]),
        dynamics=dnl.Volterra(
            lambda t, s, y, u: u.w * dnl.namespace(y).sin(y) + u.v * t,
            free_term=free,
            feature=feature,
            outer=outer,
        ),
        controls={"w": dnl.Control((), on="ts"), "v": dnl.Control((), on="t")},
        terminal=lambda x, c: dnl.namespace(x).sum(x * x),
    )
    scaling = Scaling(1.0, {"w": np.array(3.0), "v": np.array(0.2)}, {}, np.array([4.0, 0.5]))
    ours, theirs = dnl.discretise(problem, 3), dnl.discretise(scaling.applied(problem), 3)
    v = np.random.default_rng(6).standard_normal(theirs.space.size)
    x = ours.states(v * scaling.flat(ours.space))
    np.testing.assert_allclose(theirs.states(v) * scaling.states, x, rtol=1e-12)


def test_there_and_back_is_the_same_solution():
    problem = MADE["bounded"](Units())
    found = dnl.solve(problem, DEPTH, "exact")
    scaling = Scaling(1e3, {"u": np.array(1e-3)}, {}, np.array([1e6, 1e3]))
    moved = in_own_units(replace(found, scales=scaling.record()), problem)
    back = in_users_units(replace(moved, scales={}), scaling, problem)
    assert back.value == pytest.approx(found.value, rel=1e-15)
    np.testing.assert_array_equal(
        np.abs(back.controls["u"].values) == 1.0, np.abs(found.controls["u"].values) == 1.0
    )
    np.testing.assert_allclose(back.costates, found.costates, rtol=1e-14)


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_well_scaled_problem_is_solved_as_it_is(name):
    discrete = dnl.discretise(MADE[name](Units()), DEPTH)
    scaling = scaling_of(discrete, discrete.space.initial(), Exact())
    assert scaling.trivial
    assert scaling.applied(discrete.problem) is discrete.problem


def test_a_network_keeps_its_fast_kernels_when_its_cost_is_scaled():
    rng = np.random.default_rng(3)
    problem = dnl.ControlProblem(
        x0=rng.standard_normal((4, 2)),
        dynamics=dnl.ResNet(2),
        terminal=dnl.cost(
            lambda x, c, y: 1e-9 * dnl.namespace(x).sum((x - y) ** 2), rng.standard_normal((4, 2))
        ),
        regularisers=[dnl.H1("K", 1e-12), dnl.H1("b", 1e-12)],
    )
    discrete = dnl.discretise(problem, DEPTH)
    scaling = scaling_of(discrete, discrete.space.initial(), Exact())
    assert scaling.cost == pytest.approx(1e-9)
    assert not scaling.controls
    assert scaling.applied(problem).dynamics is problem.dynamics


def test_a_start_hands_its_units_on():
    problem = MADE["path"](Units(control=1e6, cost=1e-9))
    coarse = dnl.solve(problem, DEPTH, "exact")
    fine = dnl.solve(problem, 2 * DEPTH, "exact", start=coarse)
    assert fine.success
    assert fine.scales == coarse.scales


def test_a_start_far_above_the_minimum_does_not_loosen_the_tolerance():
    """J falls from 1e20 to about 1: a tolerance relative to the start would accept anything."""
    problem = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).stack([u.u - x[0]])),
        controls={"u": dnl.Control((), initial=1e10)},
        running=lambda t, x, u: x[0] ** 2 + u.u**2 + dnl.namespace(x).sin(x[0]),
    )
    near = replace_initial(problem, 0.0)
    expected = dnl.solve(near, DEPTH, "exact").value
    found = dnl.solve(problem, DEPTH, "exact")
    assert found.success
    assert found.value == pytest.approx(expected, rel=1e-8)
    assert dnl.certify(found, seed=0).passed


def replace_initial(problem: dnl.ControlProblem, initial: float) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=problem.x0,
        dynamics=problem.dynamics,
        controls={"u": replace(problem.controls["u"], initial=initial)},
        running=problem.running,
    )


def test_progress_hears_the_users_units():
    heard = []
    problem = MADE["path"](Units(cost=1e9))
    found = dnl.solve(problem, 4, "adjoint", progress=heard.append)
    assert heard[-1].value == pytest.approx(found.value, rel=1e-12)
    assert found.log[-1][1] == pytest.approx(found.value, rel=1e-12)
