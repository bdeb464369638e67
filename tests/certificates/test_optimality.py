"""certify: it accepts what is solved, by either backend, and rejects every kind of damage.

A sharp damage has a size in units of what the certificate allows: at ten times it is rejected, by
the row that it is meant for, and at a tenth of it the solution still passes. A gross damage has no
size.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.multipliers import Multipliers

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
    "width": ("width_pde", {"nodes": 4, "samples": 2}, 3),
    "images": ("densenet_images", {"samples": 4, "side": 2, "channels": 1, "alpha": 1e-2}, 2),
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
    assert {
        "states",
        "value",
        "stationarity",
        "costates",
        "second order",
        "Taylor, gradient",
    } <= names
    assert {f"Pontryagin: {k}" for k in problem.controls} <= names
    assert {f"feasible: {c.name}" for c in problem.constraints} <= names


def test_every_reference_problem_with_controls_is_here():
    from dnlcontrol.problem.from_file import listed

    known = {name for name, _, _ in PROBLEMS.values()}
    for name, _ in listed():
        problem = importlib.import_module(f"problems.{name}").problem()
        assert name in known or not problem.controls, f"add {name} to PROBLEMS"


# -- the solutions that are damaged
# ------------------------------------------------------------------------------
def quadratic(**more: Any) -> dnl.ControlProblem:
    """Linear dynamics, bounds that hold the first controls, two samples of different targets."""
    return dnl.ControlProblem(
        **{
            "name": "bounded",
            "x0": [1.0, 0.5],
            "dynamics": dnl.ODE(lambda t, x, u: 0.5 * x + u.u),
            "controls": {"u": dnl.Control((), lower=-0.6, upper=2.0)},
            "running": dnl.cost(
                lambda t, x, u, y: u.u**2 + x * u.u + (x - y) ** 2, target=[0.0, 0.1]
            ),
            "terminal": dnl.cost(lambda x, c, y: 0.5 * (x - y) ** 2, target=[0.2, 0.0]),
            **more,
        }
    )


def constrained(
    ceiling: float = 0.385,
    budget: float = 0.4,
    push: float = 0.55,
    arrive: float = 0.22,
    **more: Any,
) -> dnl.ControlProblem:
    """A Volterra equation under one constraint of every kind: an equality, active and inactive
    sides.
    """

    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t) * (u.v - y**2)

    return dnl.ControlProblem(
        **{
            "name": "constrained",
            "x0": [0.0, 0.2],
            "dynamics": dnl.Volterra(kernel),
            "controls": {"v": dnl.Control((), initial=0.5)},
            "running": lambda t, x, u: 0.5 * (x - 1) ** 2 + 0.1 * u.v**2 - 0.6 * t * u.v,
            "constraints": [
                dnl.path_constraint(lambda t, x, u: u.v + 0.2 * x, upper=push, name="push"),
                dnl.integral_constraint(lambda t, x, u: u.v, budget, budget, name="budget"),
                dnl.state_bounds(-0.1, ceiling, name="ceiling", samples=[1]),
                dnl.terminal_constraint(lambda x, c: x, arrive, 0.9, name="arrive"),
            ],
            **more,
        }
    )


def network(**more: Any) -> dnl.ControlProblem:
    from problems.two_class_toy import problem

    toy = problem(samples=4, alpha=0.1)
    return dnl.ControlProblem(
        **{
            "name": "network",
            "x0": toy.x0,
            "dynamics": toy.dynamics,
            "controls": toy.controls,
            "terminal": toy.terminal,
            "regularisers": toy.regularisers,
            **more,
        }
    )


def concave(curvature: float, bound: float = np.inf) -> dnl.ControlProblem:
    """½ ∫ (curvature·u² + v²): u = v = 0 is stationary; free controls, or u >= 0 with a gradient of
    0.
    """
    return dnl.ControlProblem(
        name="concave",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u + u.v),
        controls={"u": dnl.Control((), lower=-bound), "v": dnl.Control(())},
        running=lambda t, x, u: 0.5 * (curvature * u.u**2 + u.v**2),
    )


def two_wells(tilt: float) -> dnl.ControlProblem:
    """∫ (u² - 1)² + tilt·u: the well near u = 1 is the higher one by 2·tilt."""
    return dnl.ControlProblem(
        name="two wells",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=0.9)},
        running=lambda t, x, u: (u.u**2 - 1) ** 2 + tilt * u.u,
    )


MAKERS: dict[str, tuple[Callable[[], dnl.ControlProblem], int]] = {
    "bounded": (quadratic, 6),
    "constrained": (constrained, 6),
    "network": (network, 3),
}


@cache
def solved(name: str, backend: str = "") -> dnl.Solution:
    make, depth = MAKERS[name]
    backend = backend or ("exact" if name == "constrained" else "adjoint")
    solution = dnl.solve(make(), depth, backend, tolerance=1e-10)
    assert solution.success, solution.message
    # solved further than certified: a tenth of the tolerance is room
    return replace(solution, tolerance=EPS)


def allowed(solution: dnl.Solution, row: str) -> float:
    return dnl.certify(solution, seed=0)[row].allowed


def flat(solution: dnl.Solution) -> np.ndarray:
    return np.concatenate([c.values.ravel() for c in solution.controls.values()])


def with_controls(solution: dnl.Solution, w: np.ndarray) -> dnl.Solution:
    """Other controls, with the states, costates and value that belong to them: only optimality can
    be wrong.
    """
    discrete = dnl.discretise(solution.problem, solution.depth)
    controls = {b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in discrete.space}
    return consistent(replace(solution, controls=controls))


def consistent(solution: dnl.Solution) -> dnl.Solution:
    """States, value, costates and reported measures recomputed: what a careful forger would do."""
    from dnlcontrol.minimise.faces import complementarity, stationarity
    from dnlcontrol.results.assemble import costates_of

    discrete = dnl.discretise(solution.problem, solution.depth)
    w = flat(solution)
    rows = discrete.rows
    space = discrete.space
    evaluator, mu = Evaluator(discrete), stacked(solution)
    at = evaluator.trajectory(w, Multipliers(mu))
    costates, terminal = costates_of(evaluator, w, at)
    outside = np.maximum(space.bounds[0] - w, w - space.bounds[1])
    largest = {
        "feasibility": float(
            max(rows.violation(at.constraints).max(initial=0.0), outside.max(initial=0.0))
        ),
        "complementarity": max(
            complementarity(space, w, at.gradient), *rows.slack(at.constraints, mu), 0.0
        ),
    }
    return replace(
        solution,
        states=at.states,
        costates=costates,
        terminal_gradient=terminal,
        value=evaluator.value(w),
        stationarity=stationarity(space, w, at.gradient),
        **largest,
    )


def stacked(solution: dnl.Solution) -> np.ndarray:
    blocks = dnl.discretise(solution.problem, solution.depth).rows.blocks
    return np.concatenate(
        [np.zeros(0), *(solution.multipliers[b.constraint.name].ravel() for b in blocks)]
    )


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


# -- damage with a size
# ------------------------------------------------------------------------------------------
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
    """The multiplier of an equality or of an active side, moved until the stationarity is size
    times the tolerance.
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
    """A multiplier that pulls at a side: on a lower bound that the solution touches with multiplier
    0.
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
    """A strict local minimiser of J whose controls do not minimise H: another value at one node
    lowers J.
    """
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


def at_zero(problem: dnl.ControlProblem, depth: int) -> dnl.Solution:
    """The zero control as a solution, everything else consistent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        solution = dnl.solve(problem, depth, "adjoint", max_iterations=1)
    return with_controls(replace(solution, tolerance=EPS), np.zeros(solution.size))


@pytest.mark.parametrize("name", SHARP)
def test_damage_at_ten_times_the_tolerance(name: str):
    damaged, row = SHARP[name](10.0)
    certificate = dnl.certify(damaged, seed=0)
    assert not certificate.passed and not certificate[row].passed, certificate
    slight, row = SHARP[name](0.1)
    certificate = dnl.certify(slight, seed=0)
    assert certificate.passed and certificate[row].passed, certificate


# -- damage without a size
# ---------------------------------------------------------------------------------------
def costates_of_another_sign() -> tuple[dnl.Solution, str]:
    s = solved("network")
    return replace(s, costates=-s.costates), "costates"


def costates_one_layer_early() -> tuple[dnl.Solution, str]:
    """ψ^{l+1}, the costate of the step, in the place of ψ^l."""
    s = solved("bounded")
    return replace(s, costates=np.concatenate([s.costates[1:], s.costates[-1:]])), "costates"


def costates_of_the_sum() -> tuple[dnl.Solution, str]:
    """Those of the mean over the samples, not per sample."""
    s = solved("network")
    return replace(s, costates=s.costates / 4), "costates"


def costates_without_the_step() -> tuple[dnl.Solution, str]:
    """λ^l in the place of the density λ^l/τ."""
    s = solved("constrained")
    return replace(s, costates=s.costates / s.depth), "costates"


def density_for_an_ode() -> tuple[dnl.Solution, str]:
    """p = -ψ' in the place of ψ."""
    s = solved("bounded")
    return replace(
        s, costates=np.append(-np.diff(s.costates, axis=0) * s.depth, s.costates[-1:], axis=0)
    ), "costates"


def samples_exchanged() -> tuple[dnl.Solution, str]:
    s = solved("network")
    return replace(s, states=s.states[:, ::-1], costates=s.costates[:, ::-1]), "states"


def targets_exchanged() -> tuple[dnl.Solution, str]:
    s = solved("bounded")
    running = dnl.cost(lambda t, x, u, y: u.u**2 + x * u.u + (x - y) ** 2, target=[0.1, 0.0])
    return replace(s, problem=quadratic(running=running)), "costates"


def multipliers_of_another_sign() -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return consistent(
        replace(s, multipliers={k: -v for k, v in s.multipliers.items()})
    ), "stationarity"


def inequality_of_another_sign() -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return consistent(
        replace(s, multipliers={**s.multipliers, "push": -s.multipliers["push"]})
    ), "sign: push"


def multipliers_forgotten() -> tuple[dnl.Solution, str]:
    s = solved("constrained")
    return consistent(
        replace(s, multipliers={k: 0 * v for k, v in s.multipliers.items()})
    ), "stationarity"


def wrong_bound() -> tuple[dnl.Solution, str]:
    """A held control at the other end of its box."""
    s = solved("bounded")
    w = flat(s)
    w[0] = 2.0
    return with_controls(s, w), "sign at bounds: u"


def bounds_dropped() -> tuple[dnl.Solution, str]:
    """The problem has wider bounds than the one that was solved."""
    s = solved("bounded")
    wider = quadratic(controls={"u": dnl.Control((), lower=-0.7, upper=2.0)})
    return consistent(replace(s, problem=wider)), "stationarity"


def truncated_iterations() -> tuple[dnl.Solution, str]:
    """One Newton step, called solved."""
    with pytest.warns(dnl.ConvergenceWarning):
        s = dnl.solve(network(), 3, "adjoint", max_iterations=1)
    return replace(s, status=0, message="solved"), "stationarity"


def loose_tolerance() -> tuple[dnl.Solution, str]:
    s = dnl.solve(network(), 3, "adjoint", tolerance=1e-3)
    return replace(s, tolerance=EPS), "stationarity"


def initial_guess() -> tuple[dnl.Solution, str]:
    """The multiplier and the controls of nothing."""
    s = solved("constrained")
    return with_controls(s, np.full(s.size, 0.5)), "feasible: budget"


def another_depth() -> tuple[dnl.Solution, str]:
    """The prolongation of a coarse minimiser is no minimiser."""
    from dnlcontrol.solving.starts import starting_point

    s = dnl.solve(network(), 2, "adjoint")
    w = starting_point(dnl.discretise(network(), 3), s).w
    return with_controls(solved("network"), w), "stationarity"


def transposed_weights() -> tuple[dnl.Solution, str]:
    s = solved("network")
    W = s.controls["W"]
    turned = Extension("W", W.layout, np.swapaxes(W.values, 1, 2).copy())
    return consistent(replace(s, controls={**s.controls, "W": turned})), "stationarity"


def rows_for_columns() -> tuple[dnl.Solution, str]:
    """The triangle packed by row."""
    s = solved("network")
    order = np.lexsort((s.controls["W"].layout.sources, s.controls["W"].layout.layers))
    packed = {k: Extension(k, c.layout, c.values[order]) for k, c in s.controls.items()}
    return consistent(replace(s, controls=packed)), "stationarity"


def time_of_the_source() -> tuple[dnl.Solution, str]:
    """A kernel that is given the time of the layer before: k(t_{l-1}, t_s)."""
    s = solved("constrained")

    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t + 1 / 6) * (u.v - y**2)

    return replace(s, problem=constrained(dynamics=dnl.Volterra(kernel))), "states"


def not_a_number() -> tuple[dnl.Solution, str]:
    s = solved("network")
    W = s.controls["W"]
    values = shifted(W.values, (1, 0, 0), np.nan)
    return replace(
        s, controls={**s.controls, "W": Extension("W", W.layout, values)}
    ), "stationarity"


def saddle() -> tuple[dnl.Solution, str]:
    """x(1)² is to reach 1 from x = 0, where the gradient vanishes: the solver itself stops
    there.
    """
    problem = dnl.ControlProblem(
        name="pitchfork",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: (x**2 - 1) ** 2,
        regularisers=[dnl.H1("u", 0.1)],
    )
    solution = dnl.solve(problem, 4, "adjoint", method="lbfgs")  # Newton's method would leave it
    assert solution.success and not np.any(flat(solution))
    return solution, "second order"


def maximum() -> tuple[dnl.Solution, str]:
    return at_zero(concave(-1.0), 4), "second order"


def maximum_of_the_hamiltonian() -> tuple[dnl.Solution, str]:
    return at_zero(concave(-1.0), 4), "Pontryagin: u"


def weakly_held_maximum() -> tuple[dnl.Solution, str]:
    """u >= 0 with u = 0 and no gradient: nothing holds it there, and J falls inwards."""
    return at_zero(concave(-1.0, bound=0.0), 4), "second order"


def saddle_on_a_constraint() -> tuple[dnl.Solution, str]:
    """∫u = 1 at the constant u = 1, a maximum of -∫u² among the controls that keep the
    constraint.
    """
    make = partial(
        dnl.ControlProblem,
        name="constant",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=1.0)},
        constraints=[dnl.terminal_constraint(lambda x, c: x, 1.0, 1.0, name="reach")],
    )
    s = dnl.solve(make(running=lambda t, x, u: 0.5 * u.u**2), 4, "exact")
    multipliers = {"reach": -s.multipliers["reach"]}
    s = replace(s, problem=make(running=lambda t, x, u: -0.5 * u.u**2), multipliers=multipliers)
    certificate = dnl.certify(consistent(s), seed=0)
    assert certificate["stationarity"].passed and certificate["feasible: reach"].passed
    return consistent(s), "second order"


def kink() -> tuple[dnl.Solution, str]:
    """|u| with a derivative of 0 at 0 is stationary there and not differentiable: the
    orders tell.
    """

    def running(t, x, u):
        xp = dnl.namespace(x)
        return xp.where(u.u > 0.0, u.u, 0.0) + 0.5 * u.u**2

    problem = dnl.ControlProblem(
        name="kink",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        running=running,
    )
    return at_zero(problem, 4), "Taylor, gradient"


GROSS: list[Callable[[], tuple[dnl.Solution, str]]] = [
    costates_of_another_sign,
    costates_one_layer_early,
    costates_of_the_sum,
    costates_without_the_step,
    density_for_an_ode,
    samples_exchanged,
    targets_exchanged,
    multipliers_of_another_sign,
    inequality_of_another_sign,
    multipliers_forgotten,
    wrong_bound,
    bounds_dropped,
    truncated_iterations,
    loose_tolerance,
    initial_guess,
    another_depth,
    transposed_weights,
    rows_for_columns,
    time_of_the_source,
    not_a_number,
    saddle,
    maximum,
    maximum_of_the_hamiltonian,
    weakly_held_maximum,
    saddle_on_a_constraint,
    kink,
]


@pytest.mark.parametrize("damage", GROSS, ids=lambda d: d.__name__)
def test_gross_damage(damage: Callable[[], tuple[dnl.Solution, str]]):
    damaged, row = damage()
    certificate = dnl.certify(damaged, seed=0)
    assert not certificate.passed and not certificate[row].passed, certificate


def test_the_damaged_solutions_were_sound():
    for name in MAKERS:
        assert dnl.certify(solved(name), seed=0).passed
    for problem in (concave(1.0), concave(1.0, bound=0.0)):
        assert dnl.certify(at_zero(problem, 4), seed=0).passed
