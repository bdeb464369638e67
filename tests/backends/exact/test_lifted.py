"""The lifted program from derivatives at the nodes, and Newton's method on its active set."""

from __future__ import annotations

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.exact.budget import Budget
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.structure import Reduced
from dnlcontrol.backends.exact.lifted.active_newton import ActiveNewton
from dnlcontrol.backends.exact.lifted.interior_point import InteriorPoint
from dnlcontrol.backends.exact.lifted.node_program import NodeProgram, applies
from dnlcontrol.backends.exact.lifted.transcription import Transcription
from problems import double_integrator_bang_bang, o4_bryson_denham
from tests.constrained_problems import constrained
from tests.random_problems import CASES, build


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("name", CASES)
def test_node_derivatives_are_those_of_the_symbolic_graph(name, rule):
    """Values, gradient, Jacobian and Lagrangian's Hessian against CasADi's on the whole graph."""
    made = build(name, 8)
    discrete = dnl.discretise(constrained(made.problem), made.depth, rule)
    if not applies(discrete):
        assert made.problem.formulas.outer is not None
        return
    program, slow = NodeProgram(Reduced(discrete)), Transcription(discrete).nlp
    rng = np.random.default_rng(9)
    v = 0.3 * rng.standard_normal(program.size)
    lam = rng.standard_normal(program.height)
    sigma = 1.7
    x, mu = slow["x"], ca.SX.sym("mu", program.height)
    lagrangian = sigma * slow["f"] + ca.dot(mu, slow["g"])
    expected = ca.Function(
        "slow",
        [x, mu],
        [
            slow["f"],
            ca.gradient(slow["f"], x),
            slow["g"],
            ca.jacobian(slow["g"], x),
            ca.triu(ca.hessian(lagrangian, x)[0]),
        ],
    )(v, lam)
    fast = program.derivatives
    got = [*fast["grad_f"](v, []), *fast["jac_g"](v, []), fast["hess_lag"](v, [], sigma, lam)]
    for a, b in zip(got, expected, strict=True):
        a, b = np.array(ca.DM(a)), np.array(ca.DM(b))
        # the same sums in another order: a few hundred roundings of the largest entry
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * (1 + np.abs(b).max(initial=0.0)))


def interior(
    problem: dnl.ControlProblem, depth: int, rule: str = "left"
) -> tuple[InteriorPoint, ReducedEvaluator]:
    evaluator = ReducedEvaluator(dnl.discretise(problem, depth, rule))
    return InteriorPoint(NodeProgram(evaluator.reduced), 1e-8, Budget()), evaluator


@pytest.mark.parametrize("depth", [24, 200])
def test_active_newton_corrects_a_wrong_active_set(depth):
    """Bryson-Denham with the state's bound taken for active on wrong layers.

    One layer too far on both sides, and one layer short.
    """
    solver, evaluator = interior(o4_bryson_denham.problem(), depth)
    w = evaluator.space.initial()
    point = solver.solve(w, evaluator.states(w).reshape(depth + 1, 1, 2))
    newton = ActiveNewton(solver)
    exact = newton.refine(point, 1e-8)
    assert exact is not None
    at_bound = np.flatnonzero(exact.on_bounds)
    wider = exact.on_bounds.copy()
    wider[[at_bound[0] - 2, at_bound[-1] + 2]] = 1.0  # x of the layers beside, components alternate
    shorter = exact.on_bounds.copy()
    shorter[at_bound[[0, -1]]] = -1.0
    for pull in (wider, shorter):
        again = newton.refine(replace(point, on_bounds=pull), 1e-8)
        assert again is not None
        np.testing.assert_allclose(again.w, exact.w, rtol=0, atol=1e-9)
        # pull ψ-jumps of size 13 at L = 200, rounding of a system with condition up to L³
        np.testing.assert_allclose(again.multipliers, exact.multipliers, rtol=0, atol=1e-6)
    assert np.all(exact.x[:, 0, 0] <= 1 / 9 + 1e-15)


def test_active_newton_puts_bang_bang_controls_on_their_bounds():
    solver, evaluator = interior(double_integrator_bang_bang.problem(), 100)
    w = evaluator.space.initial()
    point = solver.solve(w, evaluator.states(w).reshape(101, 1, 2))
    assert np.count_nonzero(np.abs(point.w) == 1.0) == 0, "an interior point"
    exact = ActiveNewton(solver).refine(point, 1e-8)
    assert exact is not None
    assert evaluator.value(exact.w) == pytest.approx(
        double_integrator_bang_bang.DISCRETE_VALUE_100, abs=1e-8
    )
    assert np.count_nonzero(np.abs(exact.w) == 1.0) > 20


def test_controls_without_effect_stay_where_they_are():
    """min ½ x(1)² with |u|, |v| <= 1, x' = u + v: a singular system.

    Only the mean of u + v is determined.
    """
    problem = dnl.ControlProblem(
        x0=[0.5],
        dynamics=dnl.ODE(lambda t, x, u: u.u + u.v),
        controls={"u": dnl.Control((), lower=-1, upper=1), "v": dnl.Control((), lower=-1, upper=1)},
        terminal=lambda x, c: 0.5 * x**2,
    )
    solver, evaluator = interior(problem, 4)
    w = evaluator.space.initial()
    point = solver.solve(w, evaluator.states(w).reshape(5, 1, 1))
    exact = ActiveNewton(solver).refine(point, 1e-8)
    assert exact is not None
    np.testing.assert_allclose(exact.w, point.w, rtol=0, atol=1e-6)
    assert abs(exact.w.mean() + 0.25) <= 1e-12, "x(1) = 0.5 + 2 mean"
    assert dnl.solve(problem, 4, formulation="lifted").success


def test_active_newton_gives_up_where_multipliers_are_not_determined():
    """One terminal constraint written twice: the clean-up has to do.

    The Jacobian has equal rows.
    """
    twice = [
        dnl.terminal_constraint(lambda x, c: x, 1.0, 1.0, name=name) for name in ("once", "again")
    ]
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=twice,
    )
    solver, evaluator = interior(problem, 4)
    w = evaluator.space.initial()
    assert (
        ActiveNewton(solver).refine(solver.solve(w, evaluator.states(w).reshape(5, 1, 1)), 1e-8)
        is None
    )
    assert dnl.solve(problem, 4, formulation="lifted").value == pytest.approx(0.5, abs=1e-9)


def test_solutions_of_the_lifted_program_are_exact_to_rounding():
    solution = dnl.solve(o4_bryson_denham.problem(), 200)
    assert solution.formulation == "lifted"
    assert solution.success
    # one Newton step from a distance of 1e-8 leaves rounding alone
    assert max(solution.stationarity, solution.feasibility, solution.complementarity) <= 1e-12


def harvest(t, s, y, u):
    return 2 * dnl.namespace(y).exp(-(t - s)) * y * (1 - y) - u.h * y


@pytest.mark.parametrize("depth", [40, 80])
def test_a_singular_arc_ends_at_a_minimiser(depth):
    """Harvesting with memory: linear in its control, so weakly determined on the arc.

    The interior point leaves some of the controls near a bound with multipliers as small as their
    distance; taken for free, Newton's method goes to a stationary point whose value is larger.
    """
    problem = dnl.ControlProblem(
        name="harvest",
        horizon=2.0,
        x0=np.array([[0.5], [0.8]]),
        dynamics=dnl.Volterra(kernel=harvest),
        controls={"h": dnl.Control((), on="t", lower=0, upper=1, initial=0.3)},
        running=lambda t, x, u: -u.h * x[0],
        constraints=[dnl.state_bounds(lower=0.3)],
    )
    solver, evaluator = interior(problem, depth, "trapezoid")
    w = evaluator.space.initial()
    point = solver.solve(w, evaluator.states(w).reshape(depth + 1, 2, 1))
    solution = dnl.solve(problem, depth, "exact", rule="trapezoid")
    assert solution.success, solution.message
    # the interior point is 1e-9 above, by its barrier; the stationary point beside it 2e-7
    assert solution.value <= evaluator.value(point.w) + 1e-9
