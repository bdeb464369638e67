"""The trapezoidal rule and what a further rule takes.

Second order, implicit stages, samples at the nodes. That all evaluators agree under both rules is
in test_evaluators.py and test_condensed.py.
"""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.rules import RULES, Rule
from dnlcontrol.discretisation.space.extension import cell_averages, prolong
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import Metric
from dnlcontrol.results.extrapolation import fitted_rate
from tests.random_problems import constrained_network

# depths at which the next term of the expansion is below a tenth of the order's tolerance
ORDERS = {
    "o1_hager": ({}, (32, 64, 128)),
    "o2_dt_qp": ({}, (64, 128, 256)),
    "o5b_van_der_pol": ({}, (32, 64, 128)),
    "t3b_h1_path": ({}, (8, 16, 32)),
    "t7_h1_triangle": ({}, (4, 8, 16)),
    "v1_rational_memory": ({}, (8, 16, 32)),
    "v2_transient_impact": ({}, (128, 256)),
    "v8_double_integral": ({}, (16, 32, 64)),
}


def problem_and_answer(case: str, **parameters):
    module = importlib.import_module(f"problems.{case}")
    return module.problem(**parameters), module.reference(**parameters)


@pytest.mark.parametrize("case", ORDERS)
def test_values_are_second_order(case):
    parameters, depths = ORDERS[case]
    problem, reference = problem_and_answer(case, **parameters)
    errors, start = [], None
    for depth in depths:
        start = dnl.solve(problem, depth, "exact", rule="trapezoid", start=start)
        assert start.success and start.rule == "trapezoid", start.message
        errors.append(abs(start.value - reference.value))
    assert np.log2(errors[-2] / errors[-1]) == pytest.approx(2.0, abs=0.1)


def test_a_linear_squared_kernel_is_integrated_exactly():
    """V5, α = 3/2: J_L depends on the rule's sum of K(1-t)², a linear function of t."""
    problem, reference = problem_and_answer("v5_minimum_energy", alpha=1.5)
    for backend in ("exact", "adjoint"):
        for depth in (3, 8):
            solution = dnl.solve(problem, depth, backend, rule="trapezoid")
            assert solution.success
            # stationarity 1e-8 leaves the value its square, and rounding
            assert solution.value == pytest.approx(reference.value, rel=1e-13)


@pytest.mark.parametrize(
    "case", ["o1_hager", "t7_h1_triangle", "v1_rational_memory", "v2_transient_impact"]
)
def test_backends_agree(case):
    problem, _ = problem_and_answer(case)
    lifted, condensed = (
        dnl.solve(problem, 6, rule="trapezoid", formulation=f) for f in ("lifted", "condensed")
    )
    adjoint = dnl.solve(problem, 6, "adjoint", rule="trapezoid")
    for other in (condensed, adjoint):
        assert lifted.success and other.success, (lifted.message, other.message)
        assert lifted.value == pytest.approx(other.value, rel=1e-9, abs=1e-11)
        assert dnl.distance(lifted, other) <= 1e-6
        scale = 1 + np.abs(lifted.costates).max()
        assert dnl.distance(lifted, other, "sup", "costates") <= 1e-6 * scale
        np.testing.assert_allclose(
            lifted.terminal_gradient, other.terminal_gradient, atol=1e-6 * scale
        )


def test_controls_states_and_costates_are_second_order():
    """O1 at the nodes: u, x and ψ = -(2u + x) (stationarity of H = u² + xu + 5x²/4 + ψ(x/2 + u)).

    The controls at t = 0 and t = T see the costate of the one step beside them, half a step away:
    first order there.
    """
    problem, reference = problem_and_answer("o1_hager")
    depths, errors = (16, 32, 64), []
    (u,) = reference.controls.values()
    for depth in depths:
        s = dnl.solve(problem, depth, "exact", rule="trapezoid")
        t = s.grid.nodes
        (control,) = s.controls.values()
        x, exact = (np.asarray(f(t)).ravel() for f in (reference.state, u))
        off = np.abs(control.values.ravel() - exact)
        costate = np.abs(s.costates.ravel() + 2 * exact + x).max()
        errors.append([off[1:-1].max(), np.abs(s.states.ravel() - x).max(), costate, off.max()])
    rates = [fitted_rate(depths, column) for column in np.transpose(errors)]
    assert rates[:3] == pytest.approx([2.0, 2.0, 2.0], abs=0.15)
    assert rates[3] == pytest.approx(1.0, abs=0.1)


def test_volterra_costates_are_second_order():
    """p at the nodes of a nonlinear problem with memory, between two depths.

    x^0 has no own source: first order.
    """
    made = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.Volterra(lambda t, s, x, u: (1 + t - s) * dnl.namespace(x).tanh(x) + u.u),
        controls={"u": dnl.Control((1,))},
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.H1("u", 1.0)],
        running=lambda t, x, u: x[0] ** 2,
    )
    found = [
        dnl.solve(made, depth, "exact", rule="trapezoid").costates[:, 0, 0] for depth in (8, 16, 32)
    ]
    gaps = np.array(
        [np.abs(a - b[::2]) for a, b in ((found[0], found[1]), (found[1][::2], found[2][::2]))]
    )
    rates = np.log2(gaps[0] / gaps[1])
    assert rates[1:] == pytest.approx(2.0, abs=0.1)
    assert rates[0] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("backend", "depths"), [("exact", (24, 48)), ("adjoint", (6, 12))])
def test_the_state_bound_of_o4_is_kept(backend, depths):
    problem, reference = problem_and_answer("o4_bryson_denham")
    errors = []
    for depth in depths:
        solution = dnl.solve(problem, depth, backend, rule="trapezoid")
        assert solution.success, solution.message
        assert solution.states[:, 0, 0].max() <= 1 / 9 + 1e-8
        errors.append(solution.value - reference.value)
    # few layers
    assert np.log2(errors[0] / errors[1]) == pytest.approx(
        2.0, abs=0.1 if backend == "exact" else 0.3
    )


def test_every_kind_of_constraint_on_a_network():
    made = constrained_network()
    solutions = [
        dnl.solve(made, 3, rule="trapezoid", formulation=f) for f in ("lifted", "condensed")
    ]
    solutions.append(dnl.solve(made, 3, "adjoint", rule="trapezoid"))
    for solution in solutions:
        assert solution.success, solution.message
        assert solution.multipliers["push"].shape[0] == 4, "at the nodes 0..L"
        assert solution.value == pytest.approx(solutions[0].value, rel=1e-8)
        for name, values in solutions[0].multipliers.items():
            np.testing.assert_allclose(solution.multipliers[name], values, atol=1e-6)


def test_a_dense_network_is_certified():
    from problems.two_class_toy import problem

    solution = dnl.solve(problem(samples=6), 4, "adjoint", rule="trapezoid")
    certificate = dnl.certify(solution)
    assert certificate.passed, str(certificate)


def test_a_path_problem_is_certified_by_pontryagin():
    problem, _ = problem_and_answer("v1_rational_memory")
    certificate = dnl.certify(dnl.solve(problem, 8, "exact", rule="trapezoid"))
    assert certificate.passed, str(certificate)


def test_the_hamiltonian_of_an_autonomous_problem_is_constant_to_second_order():
    """Inside; at both ends the costate of half a step away makes it first order."""
    depths, problem = [16, 32, 64], problem_and_answer("o5b_van_der_pol")[0]
    found = [dnl.hamiltonian(dnl.solve(problem, L, "adjoint", rule="trapezoid")) for L in depths]
    assert [h.shape for h in found] == [(L + 1, 1) for L in depths]
    assert fitted_rate(depths, [np.ptp(h[1:-1]) for h in found]) == pytest.approx(2.0, abs=0.15)
    middle = [h[len(h) // 2] for h in found]
    for end in (0, -1):
        gaps = [np.abs(h[end] - m).max() for h, m in zip(found, middle, strict=True)]
        assert fitted_rate(depths, gaps) == pytest.approx(1.0, abs=0.15)


def test_the_hamiltonian_has_the_costates_at_the_nodes():
    """The Hamiltonian at the nodes of O1 and V5, by hand.

    O1: H^l = ℓ + ψ(t_l) f inside, with the reported ψ; V5: k(1, s) u · 2 x(1) = -2 u² at every
    node.
    """
    solution = dnl.solve(problem_and_answer("o1_hager")[0], 8, "adjoint", rule="trapezoid")
    u, x, psi = (
        np.ravel(a) for a in (solution.controls["u"].values, solution.states, solution.costates)
    )
    by_hand = u**2 + x * u + 1.25 * x**2 + psi * (0.5 * x + u)
    np.testing.assert_allclose(
        dnl.hamiltonian(solution)[1:-1, 0], by_hand[1:-1], rtol=0, atol=1e-12
    )
    memory = dnl.solve(problem_and_answer("v5_minimum_energy")[0], 8, "adjoint", rule="trapezoid")
    u = memory.controls["u"].values
    np.testing.assert_allclose(dnl.hamiltonian(memory)[:, 0], -2 * u**2, atol=1e-7)


def test_a_study_extrapolates_with_the_rule_s_exponents():
    problem, reference = problem_and_answer("t7_h1_triangle")
    study = dnl.study(problem, [4, 8, 16], exact_to=4, rule="trapezoid", reference=reference)
    assert study.orders == RULES["trapezoid"].exponents
    # depth 4 is too shallow
    corrected = [abs(row["corrected"] - reference.value) for row in study.rows[1:]]
    assert all(
        a < 0.1 * row["value_error"] for a, row in zip(corrected, study.rows[1:], strict=True)
    )
    # the errors themselves: 3e-4 to 2e-5
    assert study.extrapolated_value == pytest.approx(reference.value, abs=1e-7)


def test_a_start_may_come_from_the_other_rule(tmp_path):
    problem, _ = problem_and_answer("t7_h1_triangle")
    left = dnl.solve(problem, 8, "adjoint")
    other = dnl.solve(problem, 16, "adjoint", rule="trapezoid", start=left)
    assert other.success
    other.save(tmp_path / "run")
    again = dnl.load(tmp_path / "run")
    np.testing.assert_array_equal(again.controls["u"].array(), other.controls["u"].array())
    assert dnl.distance(again, other) == 0.0


def test_an_implicit_layer_without_a_root_is_told():
    """x = 1 + ½τ x² has no real root for τ > ½: the cost is not finite at the start."""
    blow_up = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: 8 * x * x + u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.L2("u", 1.0)],
    )
    assert np.isnan(dnl.simulate(blow_up, 2, rule="trapezoid")).any()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = dnl.solve(blow_up, 2, "adjoint", rule="trapezoid")
    assert not solution.success
    assert any("not finite at the start" in str(w.message) for w in caught)


# -- samples at the nodes ------------------------------------------------------------------------
def layout(L: int, on: str = "ts", T: float = 1.5) -> Layout:
    return Layout(Grid(L, T, "trapezoid"), on)


@pytest.mark.parametrize("L", [1, 2, 5])
def test_sites_are_the_nodes(L):
    at = layout(L)
    pairs = [(l, s) for s in range(L + 1) for l in range(s, L + 1)]
    assert at.count == len(pairs) == (L + 1) * (L + 2) // 2
    assert [at.index(l, s) for l, s in pairs] == list(range(len(pairs)))
    np.testing.assert_allclose(np.stack(at.positions, 1), np.array(pairs) * at.grid.step)
    values = np.arange(at.count, dtype=float)
    np.testing.assert_array_equal(at.packed(at.dense(values)), values)
    assert at.dense(values).shape == (L + 1, L + 1)
    with pytest.raises(dnl.InputError, match="<= l <="):
        at.index(0, 1)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("on", ["ts", "t"])
@pytest.mark.parametrize("L", [1, 2, 3, 7])
def test_metric_is_the_trapezoidal_sum_over_the_mirrored_array(L, on, smooth):
    at, rng = layout(L, on), np.random.default_rng(4)
    v = rng.standard_normal((at.count, 1))
    m = np.full(L + 1, at.grid.step)
    m[[0, -1]] *= 0.5
    if on == "t":
        form = m @ v[:, 0] ** 2 + smooth * np.sum(np.diff(v[:, 0]) ** 2) / at.grid.step
    else:
        a = at.mirrored(v[:, 0])
        form = m @ a**2 @ m
        if smooth:
            form += (
                np.sum(m * np.diff(a, axis=0) ** 2) + np.sum(m * np.diff(a.T, axis=0) ** 2)
            ) / at.grid.step
        form *= 0.5
    metric = Metric(at, smooth)
    assert float(np.vdot(v, metric.apply(v))) == pytest.approx(form, rel=1e-13)
    np.testing.assert_allclose(metric.solve(metric.apply(v)), v, rtol=0, atol=1e-11)


def test_extensions_interpolate_the_nodes_and_prolong_linear_functions_exactly():
    def plane(t, s):
        return 1.0 + 2.0 * t - 3.0 * s

    coarse, fine = layout(3), layout(7)
    # bilinear between the nodes of the mirrored array; across the diagonal a plane has a kink, so
    # only t + s is exact
    values = np.add(*coarse.positions)
    np.testing.assert_allclose(prolong(coarse, values, fine), np.add(*fine.positions), atol=1e-14)
    nodes = prolong(coarse, plane(*coarse.positions), coarse)
    np.testing.assert_allclose(nodes, plane(*coarse.positions), atol=1e-14)


def test_cell_averages_end_with_the_interval():
    at = layout(4, "t")
    averages = cell_averages(lambda t: t, at)
    low, high = (
        np.maximum(at.line - 0.5 * at.grid.step, 0),
        np.minimum(at.line + 0.5 * at.grid.step, 1.5),
    )
    np.testing.assert_allclose(averages, 0.5 * (low + high), rtol=1e-14)
    triangle = layout(4)
    mass = Metric(triangle, False).mass  # the area of each cell within the triangle
    total = mass @ cell_averages(lambda t, s: t * s, triangle)
    assert total == pytest.approx(0.5 * (0.5 * 1.5**2) ** 2, rel=1e-13)


# -- a further rule ------------------------------------------------------------------------------
class Right(Rule):
    """The right rectangle rule: z^l = τ Σ_{0<s<=l} k(t_l, t_s), implicit, first order."""

    name = "right"
    at_nodes = True
    exponents = (1.0, 2.0)

    def later(self, depth, step):
        return np.append(0.0, np.full(depth - 1, step))

    def own(self, depth, step):
        return np.append(0.0, np.full(depth, step))

    running = own


def test_a_further_rule_is_one_class(monkeypatch):
    monkeypatch.setitem(RULES, "right", Right())
    made = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.Volterra(lambda t, s, x, u: (1 + t - s) * dnl.namespace(x).tanh(x) - u.u),
        controls={"u": dnl.Control((1,), on="ts", initial=0.1)},
        terminal=lambda x, c: x[0] ** 2,
        running=lambda t, x, u: x[0] ** 2,
        regularisers=[dnl.H1("u", 0.1)],
    )
    exact = dnl.solve(made, 5, "exact", rule="right")
    adjoint = dnl.solve(made, 5, "adjoint", rule="right")
    assert exact.success
    assert adjoint.success
    assert exact.value == pytest.approx(adjoint.value, rel=1e-9)
    rng = np.random.default_rng(1)
    discrete = dnl.discretise(made, 5, "right")
    w = rng.standard_normal(discrete.space.size)
    assert Evaluator(discrete, stored=False).value(w) == pytest.approx(discrete.value(w), rel=1e-12)
    ode = dnl.ControlProblem(x0=np.ones((1, 1)), dynamics=dnl.ODE(lambda t, x, u: -x))
    for depth in (1, 4):  # implicit Euler
        assert dnl.simulate(ode, depth, rule="right")[-1].item() == pytest.approx(
            (1 + 1 / depth) ** -depth, rel=1e-13
        )
