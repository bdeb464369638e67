"""Solutions that are sound, and what is needed to damage them consistently."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.discretisation.space.extension import Extension
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
    """A Volterra equation under one constraint of every kind.

    An equality, active and inactive sides.
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
    """½ ∫ (curvature·u² + v²), where u = v = 0 is stationary.

    Free controls, or u >= 0 with a gradient of 0.
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
    """Other controls with their own states, costates and value: only optimality can be wrong."""
    discrete = dnl.discretise(solution.problem, solution.depth, solution.rule)
    controls = {b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in discrete.space}
    return consistent(replace(solution, controls=controls))


def consistent(solution: dnl.Solution) -> dnl.Solution:
    """States, value, costates and reported measures recomputed: what a careful forger would do."""
    from dnlcontrol.minimise.faces import complementarity, stationarity
    from dnlcontrol.results.assemble import costates_of

    discrete = dnl.discretise(solution.problem, solution.depth, solution.rule)
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
    blocks = dnl.discretise(solution.problem, solution.depth, solution.rule).rows.blocks
    return np.concatenate(
        [np.zeros(0), *(solution.multipliers[b.constraint.name].ravel() for b in blocks)]
    )


def shifted(array: np.ndarray, index: Any, by: float) -> np.ndarray:
    out = np.array(array)
    out[index] += by
    return out


def at_zero(problem: dnl.ControlProblem, depth: int) -> dnl.Solution:
    """The zero control as a solution, everything else consistent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        solution = dnl.solve(problem, depth, "adjoint", max_iterations=1)
    said = replace(solution, tolerance=EPS, status=0, message="solved")
    return with_controls(said, np.zeros(solution.size))


def saddle() -> tuple[dnl.Solution, str]:
    """x(1)² is to reach 1 from x = 0, where the gradient vanishes: stationary, and a maximum."""
    problem = dnl.ControlProblem(
        name="pitchfork",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: (x**2 - 1) ** 2,
        regularisers=[dnl.H1("u", 0.1)],
    )
    return at_zero(problem, 4), "second order"


def maximum() -> tuple[dnl.Solution, str]:
    return at_zero(concave(-1.0), 4), "second order"
