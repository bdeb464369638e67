"""certify: it accepts what is solved, by either backend, and rejects every kind of damage.

A sharp damage has a size in units of what the certificate allows: at ten times it is rejected, by the row that it
is meant for, and at a tenth of it the solution still passes. A gross damage has no size.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from random_problems import CASES, build

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.hamiltonian import Hamiltonian
from dnlcontrol.backends.adjoint.lagrangian import Multipliers
from dnlcontrol.certificates import pontryagin, second_order
from dnlcontrol.space.extension import Extension
from dnlcontrol.space.faces import Face, held_entries

EPS = 1e-8
PROBLEMS: dict[str, tuple[str, dict[str, Any], int]] = {
    "t2": ("t2_scalar_resnet", {}, 6),
    "t3b": ("t3b_h1_path", {}, 6),
    "t4, well posed at one depth": ("t4_l2_triangle_terminal", {}, 4),
    "t5": ("t5_l2_triangle_tracking", {}, 4),
    "t7": ("t7_h1_triangle", {}, 4),
    "v1": ("v1_rational_memory", {}, 6),
    "v2": ("v2_transient_impact", {}, 12),
    "v2, two samples": ("v2_transient_impact", {"samples": 2}, 12),
    "v5": ("v5_minimum_energy", {}, 6),
    "v5, weakly singular": ("v5_minimum_energy", {"alpha": 0.75}, 6),
    "v8": ("v8_double_integral", {}, 6),
    "o1": ("o1_hager", {}, 8),
    "o2": ("o2_dt_qp", {}, 8),
    "o4": ("o4_bryson_denham", {}, 12),
    "o5b": ("o5b_van_der_pol", {}, 8),
    "bang-bang": ("double_integrator_bang_bang", {}, 20),
    "TvG": ("resnet_tvg", {"samples": 6}, 3),
    "toy": ("two_class_toy", {"samples": 6}, 3),
    "spirals": ("spirals", {"samples": 6}, 3),
    "iris": ("iris_dense", {"samples": 9}, 2),
    "digits": ("digits_dense", {"samples": 12, "width": 2}, 2),
}


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
@pytest.mark.parametrize("case", PROBLEMS)
def test_accepts_the_reference_problems(case: str, backend: str):
    name, parameters, depth = PROBLEMS[case]
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    solution = dnl.solve(problem, depth, backend)
    certificate = dnl.certify(solution, seed=0)
    assert certificate.passed, certificate
    names = {c.name for c in certificate.checks}
    assert {"states", "value", "stationarity", "costates", "second order", "Taylor, gradient"} <= names
    assert {f"Pontryagin: {k}" for k in problem.controls} <= names
    assert {f"feasible: {c.name}" for c in problem.constraints} <= names


def test_every_reference_problem_with_controls_is_here():
    from dnlcontrol.problem_files import listed

    known = {name for name, _, _ in PROBLEMS.values()}
    for name, _ in listed():
        problem = importlib.import_module(f"problems.{name}").problem()
        assert name in known or not problem.controls, f"add {name} to PROBLEMS"


# -- the solutions that are damaged ------------------------------------------------------------------------------
def quadratic(**more: Any) -> dnl.ControlProblem:
    """Linear dynamics, bounds that hold the first controls, two samples of different targets."""
    return dnl.ControlProblem(**{
        "name": "bounded", "x0": [1.0, 0.5], "dynamics": dnl.ODE(lambda t, x, u: 0.5 * x + u.u),
        "controls": {"u": dnl.Control((), lower=-0.6, upper=2.0)},
        "running": dnl.cost(lambda t, x, u, y: u.u**2 + x * u.u + (x - y) ** 2, target=[0.0, 0.1]),
        "terminal": dnl.cost(lambda x, c, y: 0.5 * (x - y) ** 2, target=[0.2, 0.0]), **more})  # fmt: skip


def constrained(ceiling: float = 0.385, budget: float = 0.4, push: float = 0.55, arrive: float = 0.22,
                **more: Any) -> dnl.ControlProblem:  # fmt: skip
    """A Volterra equation under one constraint of every kind: an equality, active and inactive sides."""

    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t) * (u.v - y**2)

    return dnl.ControlProblem(**{
        "name": "constrained", "x0": [0.0, 0.2], "dynamics": dnl.Volterra(kernel),
        "controls": {"v": dnl.Control((), initial=0.5)},
        "running": lambda t, x, u: 0.5 * (x - 1) ** 2 + 0.1 * u.v**2 - 0.6 * t * u.v,
        "constraints": [
            dnl.path_constraint(lambda t, x, u: u.v + 0.2 * x, upper=push, name="push"),
            dnl.integral_constraint(lambda t, x, u: u.v, budget, budget, name="budget"),
            dnl.state_bounds(-0.1, ceiling, name="ceiling", samples=[1]),
            dnl.terminal_constraint(lambda x, c: x, arrive, 0.9, name="arrive"),
        ], **more})  # fmt: skip


def network(**more: Any) -> dnl.ControlProblem:
    from problems.two_class_toy import problem

    toy = problem(samples=4, alpha=0.1)
    return dnl.ControlProblem(**{
        "name": "network", "x0": toy.x0, "dynamics": toy.dynamics, "controls": toy.controls, "terminal": toy.terminal,
        "regularisers": toy.regularisers, **more})  # fmt: skip


def concave(curvature: float, bound: float = np.inf) -> dnl.ControlProblem:
    """½ ∫ (curvature·u² + v²): u = v = 0 is stationary; free controls, or u >= 0 with a gradient of 0."""
    return dnl.ControlProblem(
        name="concave", x0=[0.0], dynamics=dnl.ODE(lambda t, x, u: u.u + u.v),
        controls={"u": dnl.Control((), lower=-bound), "v": dnl.Control(())},
        running=lambda t, x, u: 0.5 * (curvature * u.u**2 + u.v**2))  # fmt: skip


def two_wells(tilt: float) -> dnl.ControlProblem:
    """∫ (u² - 1)² + tilt·u: the well near u = 1 is the higher one by 2·tilt."""
    return dnl.ControlProblem(
        name="two wells", x0=[0.0], dynamics=dnl.ODE(lambda t, x, u: u.u), controls={"u": dnl.Control((), initial=0.9)},
        running=lambda t, x, u: (u.u**2 - 1) ** 2 + tilt * u.u)  # fmt: skip


MAKERS: dict[str, tuple[Callable[[], dnl.ControlProblem], int]] = {
    "bounded": (quadratic, 6), "constrained": (constrained, 6), "network": (network, 3)}  # fmt: skip


@cache
def solved(name: str, backend: str = "adjoint") -> dnl.Solution:
    make, depth = MAKERS[name]
    solution = dnl.solve(make(), depth, backend, tolerance=1e-10)
    assert solution.success, solution.message
    return replace(solution, tolerance=EPS)  # solved further than certified: a tenth of the tolerance is room


def allowed(solution: dnl.Solution, row: str) -> float:
    return dnl.certify(solution, seed=0)[row].allowed


def flat(solution: dnl.Solution) -> np.ndarray:
    return np.concatenate([c.values.ravel() for c in solution.controls.values()])


def with_controls(solution: dnl.Solution, w: np.ndarray) -> dnl.Solution:
    """Other controls, with the states, costates and value that belong to them: only optimality can be wrong."""
    discrete = dnl.discretise(solution.problem, solution.depth)
    controls = {b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in discrete.space}
    return consistent(replace(solution, controls=controls))


def consistent(solution: dnl.Solution) -> dnl.Solution:
    """States, value, costates and reported measures recomputed: what a careful forger would do."""
    from dnlcontrol.solving import costates_of
    from dnlcontrol.space.faces import complementarity, stationarity

    discrete = dnl.discretise(solution.problem, solution.depth)
    w, rows, space = flat(solution), discrete.rows, discrete.space
    evaluator, mu = Evaluator(discrete), stacked(solution)
    at = evaluator.trajectory(w, Multipliers(mu))
    costates, terminal = costates_of(evaluator, w, at)
    outside = np.maximum(space.bounds[0] - w, w - space.bounds[1])
    largest = {
        "feasibility": float(max(rows.violation(at.constraints).max(initial=0.0), outside.max(initial=0.0))),
        "complementarity": float(max(complementarity(space, w, at.gradient), rows.slack(at.constraints, mu).max(initial=0.0))),
    }  # fmt: skip
    return replace(solution, states=at.states, costates=costates, terminal_gradient=terminal, value=evaluator.value(w),
                   stationarity=stationarity(space, w, at.gradient), **largest)  # fmt: skip


def stacked(solution: dnl.Solution) -> np.ndarray:
    blocks = dnl.discretise(solution.problem, solution.depth).rows.blocks
    return np.concatenate([np.zeros(0), *(solution.multipliers[b.constraint.name].ravel() for b in blocks)])


def shifted(array: np.ndarray, index: Any, by: float) -> np.ndarray:
    out = np.array(array)
    out[index] += by
    return out


def off_by(solution: dnl.Solution, direction: np.ndarray, size: float) -> dnl.Solution:
    """Controls moved along a direction until their stationarity is size times the tolerance."""
    discrete = dnl.discretise(solution.problem, solution.depth)
    evaluator, at = Evaluator(discrete), Multipliers(stacked(solution))
    w = flat(solution)
    held = held_entries(discrete.space, w, evaluator.trajectory(w, at).gradient)
    d = np.where(held, 0.0, direction)
    norm = Face(discrete.space, held).dual_norm(evaluator.hessian_product(w, d, at))
    return with_controls(solution, w + size * EPS / norm * d)


# -- damage with a size ------------------------------------------------------------------------------------------
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
    return replace(s, problem=network(regularisers=[dnl.H1("W", weight), dnl.H1("b", weight)])), "value"


def costate_entry(size: float) -> tuple[dnl.Solution, str]:
    s = solved("bounded", "exact")
    return replace(s, costates=shifted(s.costates, (2, 0), size * allowed(s, "costates"))), "costates"


def final_costate(size: float) -> tuple[dnl.Solution, str]:
    s = solved("network", "exact")
    return replace(s, costates=shifted(s.costates, (-1, 0, 1), size * allowed(s, "costates"))), "costates"


def terminal_gradient(size: float) -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    by = size * allowed(s, "terminal gradient")
    return replace(s, terminal_gradient=shifted(s.terminal_gradient, 1, by)), "terminal gradient"


def multiplier_off(name: str) -> Damage:
    """The multiplier of an equality or of an active side, moved until the stationarity is size times the tolerance."""

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
    return consistent(replace(s, multipliers={**s.multipliers, "ceiling": mu})), "complementary: ceiling"


def wrong_sign(size: float) -> tuple[dnl.Solution, str]:
    """A multiplier that pulls at a side."""
    s = solved("constrained")
    active = np.argmax(np.abs(s.multipliers["ceiling"]))
    index = np.unravel_index(active, s.multipliers["ceiling"].shape)
    mu = s.multipliers["ceiling"].copy()
    mu[index] = -size * EPS
    return consistent(replace(s, multipliers={**s.multipliers, "ceiling": mu})), "sign: ceiling"


def outside_the_bounds(size: float) -> tuple[dnl.Solution, str]:
    s = solved("bounded")
    w = flat(s)
    assert w[0] == -0.6
    return with_controls(s, shifted(w, 0, -size * EPS)), "bounds: u"


def inside_the_bounds(size: float) -> tuple[dnl.Solution, str]:
    """What an interior-point method leaves without a clean-up."""
    s = solved("bounded")
    return with_controls(s, shifted(flat(s), 0, size * EPS)), "held: u"


def tighter(name: str, side: str, sign: float) -> Damage:
    """The problem with one constraint moved past the solution."""

    def damage(size: float) -> tuple[dnl.Solution, str]:
        s = solved("constrained")
        at = {"ceiling": 0.385, "budget": 0.4, "push": 0.55, "arrive": 0.22}[side]
        problem = constrained(**{side: at + sign * size * EPS})
        return consistent(replace(s, problem=problem)), f"feasible: {name}"

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
    """A strict local minimiser of J whose controls do not minimise H: another value at one node lowers J."""
    depth = 4
    tilt = 0.5 * size * EPS * depth
    solution = dnl.solve(two_wells(tilt), depth, "adjoint", tolerance=1e-10)
    assert np.all(solution.controls["u"].values > 0.9)
    return replace(solution, tolerance=EPS), "Pontryagin: u"


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
    "a state bound violated": tighter("ceiling", "ceiling", -1.0),
    "an integral constraint missed": tighter("budget", "budget", 1.0),
    "a path constraint violated": tighter("push", "push", -1.0),
    "a terminal constraint missed": tighter("arrive", "arrive", 1.0),
    "stationarity reported wrongly": reported("stationarity"),
    "feasibility reported wrongly": reported("feasibility"),
    "complementarity reported wrongly": reported("complementarity"),
    "negative curvature": negative_curvature,
    "the higher of two wells": higher_well,
}


def at_zero(problem: dnl.ControlProblem, depth: int) -> dnl.Solution:
    """The zero control as a solution, everything else consistent."""
    size = dnl.discretise(problem, depth).space.size
    start = dnl.solve(concave(1.0), depth, "adjoint") if "v" in problem.controls else None
    base = start if start is not None and start.size == size else blank(problem, depth)
    return with_controls(replace(base, problem=problem, tolerance=EPS), np.zeros(size))


def blank(problem: dnl.ControlProblem, depth: int) -> dnl.Solution:
    """The initial guess of a problem in the form of a solution."""
    with pytest.warns(dnl.ConvergenceWarning):
        return dnl.solve(problem, depth, "adjoint", max_iterations=1, tolerance=1e-300)


@pytest.mark.parametrize("name", SHARP)
def test_damage_at_ten_times_the_tolerance(name: str):
    damaged, row = SHARP[name](10.0)
    certificate = dnl.certify(damaged, seed=0)
    assert not certificate.passed and not certificate[row].passed, certificate
    slight, row = SHARP[name](0.1)
    certificate = dnl.certify(slight, seed=0)
    assert certificate.passed and certificate[row].passed, certificate
