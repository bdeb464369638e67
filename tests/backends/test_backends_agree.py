"""The exact and the adjoint backend find the same minimisers, each from its own start."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.minimise.faces import stationarity
from tests.random_problems import constrained_network


def recomputed_stationarity(solution: dnl.Solution) -> float:
    """By the sweep of the other formulation: recomputed columns, no batched kernel, odd chunks."""
    discrete = dnl.discretise(solution.problem, solution.depth)
    evaluator = Evaluator(discrete, stored=False, batched=False, chunk=37)
    w = discrete.space.assemble({k: c.values for k, c in solution.controls.items()})
    return stationarity(discrete.space, w, evaluator.value_and_gradient(w)[1])


@pytest.mark.parametrize("formulation", ["lifted", "condensed"])
def test_iris_at_depth_four(formulation):
    from problems.iris_dense import problem

    exact = dnl.solve(problem(), 4, "exact", formulation=formulation)
    adjoint = dnl.solve(problem(), 4, "adjoint")
    assert exact.success
    assert adjoint.success
    assert exact.value == pytest.approx(adjoint.value, rel=1e-8)
    assert dnl.distance(exact, adjoint) <= 1e-5
    assert dnl.distance(exact, adjoint, "sup", "costates") <= 1e-6
    for solution in (exact, adjoint):
        assert recomputed_stationarity(solution) <= 1e-8


@pytest.mark.parametrize("form", ["A", "B", "C"])
@pytest.mark.parametrize("bounded", [False, True])
def test_dense_networks(form, bounded):
    from problems.two_class_toy import problem

    toy = problem(samples=8)
    controls = (
        {"W": dnl.Control((2, 2), on="ts", lower=-0.15, upper=0.12, initial=0.1)} if bounded else {}
    )
    # a weaker penalty leaves several minimisers, and different methods may find different ones
    alpha = 0.2
    made = dnl.ControlProblem(
        name=f"form {form}",
        x0=toy.x0,
        dynamics=dnl.Dense(2, form),
        controls=controls,
        terminal=toy.terminal,
        regularisers=[dnl.H1("W", alpha), dnl.H1("b", alpha)],
    )
    exact, adjoint = (dnl.solve(made, 5, backend) for backend in ("exact", "adjoint"))
    assert exact.success and adjoint.success, (exact.message, adjoint.message)
    assert exact.value == pytest.approx(adjoint.value, rel=1e-8)
    # stationarity 1e-8 in the dual norm, a Hessian above a tenth of α times the metric
    assert dnl.distance(exact, adjoint) <= 2e-8 / (0.1 * alpha)
    if bounded:
        W = adjoint.controls["W"].values
        assert np.any(W == 0.12) or np.any(W == -0.15)


def test_every_kind_of_constraint_at_once():
    made = constrained_network()
    exact, adjoint = (dnl.solve(made, 4, backend) for backend in ("exact", "adjoint"))
    for solution in (exact, adjoint):
        assert solution.success, solution.message
        assert solution.multipliers["budget"].shape == (1, 1), "it does not read x: imposed once"
        assert solution.states[-1, 1, 0] == pytest.approx(0.3, abs=1e-8)
    assert exact.value == pytest.approx(adjoint.value, rel=1e-8)
    assert dnl.distance(exact, adjoint) <= 1e-6
    for name in exact.multipliers:
        np.testing.assert_allclose(exact.multipliers[name], adjoint.multipliers[name], atol=1e-6)


def test_multiplier_signs():
    """min ½∫u², x(1) = ∫u >= 1: u = 1, and the lower side has the multiplier -1."""
    made = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x, lower=1.0, name="reach")],
    )
    for backend in ("exact", "adjoint"):
        solution = dnl.solve(made, 4, backend)
        assert solution.multipliers["reach"].item() == pytest.approx(-1.0, abs=1e-8)
        np.testing.assert_allclose(solution.controls["u"].values, 1.0, atol=1e-8)


def test_costates_are_those_of_the_theory():
    """ODE: ψ(t) = ∇Φ along x' = u, Φ = ½x². Volterra: p = λ/τ with p(T) = k_x(T,T)ᵀ∇Φ."""
    ode = dnl.ControlProblem(
        x0=[2.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: 0.5 * x**2,
        regularisers=[dnl.L2("u", 1.0)],
    )
    memory = dnl.ControlProblem(
        x0=[2.0],
        dynamics=dnl.Volterra(lambda t, s, x, u: (1 + t - s) * u.u - (t + 1) * x),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: 0.5 * x**2,
        regularisers=[dnl.L2("u", 1.0)],
    )
    for backend in ("exact", "adjoint"):
        solution = dnl.solve(ode, 5, backend)
        np.testing.assert_allclose(solution.costates[:, 0], solution.states[-1, 0], atol=1e-8)
        solution = dnl.solve(memory, 5, backend)
        tau, gradient = 0.2, solution.states[-1, 0]
        lam = np.zeros(6)
        lam[5] = gradient
        for s in reversed(range(5)):
            lam[s] = sum(tau * -(tau * l + 1) * lam[l] for l in range(s + 1, 6))
        np.testing.assert_allclose(solution.costates[:5, 0], lam[:5] / tau, atol=1e-7)
        assert solution.costates[5, 0] == pytest.approx(-2.0 * gradient, abs=1e-7)
        assert solution.terminal_gradient[0] == pytest.approx(gradient, abs=1e-7)


def test_infeasible_is_told_in_the_problems_words():
    made = dnl.ControlProblem(
        x0=[[0.0]],
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).stack([u.u])),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x[0], 2.0, 2.0, name="too far")],
    )
    for backend in ("exact", "adjoint"):
        with pytest.warns(
            dnl.ConvergenceWarning, match="too far: entry 0 of sample 0|too far: entry of sample 0"
        ):
            solution = dnl.solve(made, 4, backend)
        assert not solution.success
        assert solution.status == 2
        assert solution.feasibility == pytest.approx(1.0, abs=1e-3)


def test_a_solve_that_stops_early_returns_its_best_iterate():
    from problems.two_class_toy import problem

    for backend in ("exact", "adjoint"):
        with pytest.warns(dnl.ConvergenceWarning, match="stationarity"):
            solution = dnl.solve(problem(samples=8), 4, backend, max_iterations=1)
        assert not solution.success
        assert solution.status == 1
        assert np.isfinite(solution.value)


@pytest.mark.parametrize("alpha", [1e-2])
def test_two_spirals_are_solved_at_mesh_independent_cost(alpha):
    from problems.spirals import problem

    per_step = {}
    for depth in (8, 16, 32):
        solution = dnl.solve(problem(alpha=alpha), depth, "adjoint", tolerance=1e-8)
        assert solution.success
        assert solution.stationarity <= 1e-8
        per_step[depth] = solution.nhev / solution.nit
    assert per_step[32] <= 1.5 * per_step[8]


def test_lbfgs_reaches_the_same_minimiser():
    from problems.two_class_toy import problem

    newton, lbfgs = (
        dnl.solve(problem(samples=8, alpha=0.2), 6, "adjoint", method=m)
        for m in ("newton", "lbfgs")
    )
    assert lbfgs.success
    assert newton.value == pytest.approx(lbfgs.value, rel=1e-10)


def test_start_from_a_solution_of_another_depth():
    from problems.t7_h1_triangle import problem

    coarse = dnl.solve(problem(), 4, "exact")
    deep = dnl.solve(problem(), 32, "adjoint", start=coarse)
    assert deep.success
    assert deep.nit <= 2


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_a_start_at_a_saddle_is_left(backend):
    """J = ¼(x² - 1)² + ..., x = ∫u: u = 0 is stationary with the curvature -1.

    The minimisers are near x = ±1.
    """
    made = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, x, u: u.u),
        controls={"u": dnl.Control((), on="t")},
        terminal=lambda x, c: 0.25 * (x**2 - 1) ** 2,
        regularisers=[dnl.L2("u", 0.1)],
    )
    solution = dnl.solve(
        made, 6, backend, **({"formulation": "condensed"} if backend == "exact" else {})
    )
    # x (x² - 1) + 0.1 x = 0 at x² = 0.9
    assert solution.success
    assert abs(solution.states[-1, 0]) == pytest.approx(np.sqrt(0.9), abs=1e-7)


@pytest.mark.parametrize("name", ["Markov with outer, target", "Dense B with feature, squared"])
def test_random_problems_do_not_end_at_a_saddle(name):
    from tests.random_problems import build

    made = build(name, 0 if "Markov" in name else 1)
    assert dnl.certify(dnl.solve(made.problem, made.depth, "adjoint"))["second order"].passed


def test_entries_far_from_their_bounds_are_not_put_there():
    """van der Pol with bounds on control and speed and an end point.

    Large multipliers make every entry look held.
    """
    from problems import o5b_van_der_pol

    plain = o5b_van_der_pol.problem()
    made = dnl.ControlProblem(
        horizon=plain.horizon,
        x0=plain.x0,
        dynamics=plain.dynamics,
        running=plain.running,
        controls={"u": dnl.Control((), lower=-0.3, upper=1.0)},
        constraints=[
            dnl.state_bounds(lower=[-np.inf, -0.5], name="speed"),
            dnl.terminal_constraint(lambda x, c: x[0], 0.3, 0.3, name="end"),
        ],
    )
    exact, adjoint = (dnl.solve(made, 10, backend) for backend in ("exact", "adjoint"))
    assert exact.success and adjoint.success, adjoint.message
    assert adjoint.value == pytest.approx(exact.value, rel=1e-8)


def test_penalties_do_not_depend_on_the_mesh():
    """A path constraint violated by 0.1 for two samples over [0, 3].

    The weighted penalty is 3 · 0.1².
    """
    for depth in (10, 40):
        problem = dnl.ControlProblem(
            name="path",
            horizon=3.0,
            x0=np.ones((2, 1)),
            dynamics=dnl.ODE(lambda t, x, u: 0 * x + 0 * u.u),
            controls={"u": dnl.Control((), on="t", initial=0.1)},
            terminal=lambda x, c: x[0],
            constraints=[dnl.path_constraint(lambda t, x, u: u.u + 0 * x[0], upper=0.0)],
        )
        rows = dnl.discretise(problem, depth).rows
        violation = rows.violation(np.full(rows.size, 0.1))
        assert rows.weights @ violation**2 == pytest.approx(0.03, rel=1e-14)
