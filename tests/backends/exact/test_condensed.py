"""The condensed formulation: the sweep's derivatives, the lifted program's minimisers."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.run import refuse_too_large
from dnlcontrol.discretisation.resources.sizes import forecast
from dnlcontrol.minimise.multipliers import Multipliers
from tests.constrained_problems import constrained
from tests.random_problems import CASES, build
from tests.reference_ladders import LADDERS, files


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_the_sweep(name, rule):
    made = build(name, 5)
    problem, depth = constrained(made.problem), made.depth
    discrete = dnl.discretise(problem, depth, rule)
    sweep, reduced = Evaluator(discrete, stored=False), ReducedEvaluator(discrete)
    rng = np.random.default_rng(6)
    w, d = 0.3 * rng.standard_normal((2, discrete.space.size))
    mu = rng.standard_normal(discrete.rows.size)
    at, ours = sweep.trajectory(w, Multipliers(mu)), reduced.trajectory(w, Multipliers(mu))
    # both differentiate the same sums exactly: a few hundred roundings of the largest entry
    scale = 1e-12 * (1 + np.abs(at.gradient).max())
    assert ours.value == pytest.approx(at.value, rel=1e-12)
    np.testing.assert_allclose(ours.gradient, at.gradient, rtol=0, atol=scale)
    np.testing.assert_allclose(ours.constraints, at.constraints, rtol=1e-12, atol=1e-13)
    product = sweep.hessian_product(w, d, Multipliers(mu))
    scale = 1e-12 * (1 + np.abs(product).max())
    np.testing.assert_allclose(
        reduced.hessian_product(w, d, Multipliers(mu)), product, rtol=0, atol=scale
    )
    H = reduced.hessian(w, mu)
    np.testing.assert_allclose(H @ d, product, rtol=0, atol=10 * scale)
    np.testing.assert_allclose(H, H.T, rtol=0, atol=scale)
    gradient = sweep.constraint_gradient(w, mu)
    scale = 1e-12 * (1 + np.abs(gradient).max())
    np.testing.assert_allclose(reduced.point(w).jacobian.T @ mu, gradient, rtol=0, atol=scale)


@pytest.mark.parametrize("case", LADDERS)
def test_lifted_and_condensed_agree(case):
    problem, _, depths = files(case)
    lifted, condensed = (
        dnl.solve(problem, depths[0], formulation=f) for f in ("lifted", "condensed")
    )
    assert (lifted.formulation, condensed.formulation) == ("lifted", "condensed")
    assert lifted.success and condensed.success, (lifted.message, condensed.message)
    assert lifted.value == pytest.approx(condensed.value, rel=1e-9, abs=1e-11)
    assert dnl.distance(lifted, condensed) <= 1e-7
    scale = 1 + np.abs(lifted.costates).max()
    assert dnl.distance(lifted, condensed, "sup", "costates") <= 1e-6 * scale


def test_the_dense_hessian_and_the_products_lead_to_one_minimiser(monkeypatch):
    from problems.two_class_toy import problem

    products = dnl.solve(problem(), 12, formulation="condensed")
    monkeypatch.setattr("dnlcontrol.backends.exact.condensed.objective.DENSE", 10_000)
    dense = dnl.solve(problem(), 12, formulation="condensed")
    lifted = dnl.solve(problem(), 12, formulation="lifted")
    assert products.success
    assert dense.success
    assert lifted.success
    assert dense.stationarity <= 1e-8
    for other in (products, lifted):
        assert other.value == pytest.approx(dense.value, rel=1e-10)
        assert dnl.distance(dense, other) <= 1e-6


def test_bounds():
    from problems.double_integrator_bang_bang import DISCRETE_VALUE_100, problem

    solution = dnl.solve(problem(), 100, formulation="condensed")
    assert solution.success
    assert solution.value == pytest.approx(DISCRETE_VALUE_100, abs=1e-8)


def test_auto_takes_what_the_forecast_calls_cheaper():
    from problems import o4_bryson_denham, o5b_van_der_pol, two_class_toy

    assert forecast(dnl.discretise(two_class_toy.problem(), 16)).better == "condensed"
    assert forecast(dnl.discretise(o5b_van_der_pol.problem(), 200)).better == "lifted"
    assert forecast(dnl.discretise(o4_bryson_denham.problem(), 24)).better == "lifted", (
        "a state bound"
    )


def test_the_forecast_counts_what_is_built():
    from dnlcontrol.backends.exact.lifted.transcription import Transcription
    from problems import o5b_van_der_pol, two_class_toy

    for problem, depth in ((two_class_toy.problem(samples=5), 6), (o5b_van_der_pol.problem(), 20)):
        discrete = dnl.discretise(problem, depth)
        sizes, built = forecast(discrete), Transcription(discrete)
        assert sizes.lifted.variables == built.w.numel() + built.x.numel()
        assert sizes.lifted.rows == built.rows.numel() + built.constraints.numel()


def test_too_large_is_refused_with_advice():
    from problems.iris_dense import problem

    sizes = forecast(dnl.discretise(problem(), 24))
    with pytest.raises(
        dnl.InputError,
        match=r"depth: got a lifted program of about .*; allowed: .*backend='adjoint'",
    ):
        refuse_too_large(sizes, "lifted")


def test_infeasible_is_told_apart_from_unsolved():
    made = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), lower=-1, upper=1)},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x, 2.0, 2.0, name="too far")],
    )
    with pytest.warns(dnl.ConvergenceWarning, match="too far"):
        solution = dnl.solve(made, 4, formulation="condensed")
    assert solution.status == 2
    with pytest.warns(dnl.ConvergenceWarning):
        stopped = dnl.solve(
            importlib.import_module("problems.two_class_toy").problem(), 4, max_iterations=1
        )
    assert stopped.status == 1
