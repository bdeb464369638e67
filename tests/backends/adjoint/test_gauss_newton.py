"""Gauss-Newton products against (2/N) XᵀX + Q from dense sensitivities, and as a minimiser."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.gauss_newton import gauss_newton_product
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator


def network(form: str) -> dnl.ControlProblem:
    rng = np.random.default_rng(2)
    return dnl.ControlProblem(
        x0=rng.standard_normal((5, 2)),
        dynamics=dnl.Dense(2, form),
        controls={"W": dnl.Control((2, 2), on="ts", initial=0.2)},
        terminal=dnl.losses.squared(rng.standard_normal((5, 2))),
        regularisers=[dnl.H1("W", 0.05), dnl.H1("b", 0.05)],
    )


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("form", ["A", "B", "C"])
def test_products_are_those_of_the_sensitivities(form, rule):
    discrete = dnl.discretise(network(form), 4, rule)
    evaluator, reduced = Evaluator(discrete, chunk=2), ReducedEvaluator(discrete)
    rng = np.random.default_rng(3)
    w, d = 0.5 * rng.standard_normal((2, discrete.space.size))
    point = reduced.point(w)
    order = point.reduced.order[0]
    X = np.empty((5, 2, discrete.space.size))
    X[:, :, order] = point.sensitivities[0][:, -1]  # dx^L/dw
    # the squared loss has the Hessian 2 I in x^L, and the mean over 5 samples
    expected = 2.0 / 5.0 * np.einsum("nij,nik,k->j", X, X, d) + discrete.space.penalty_gradient(d)
    np.testing.assert_allclose(
        gauss_newton_product(evaluator, w, d), expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )


def test_it_is_the_hessian_of_a_problem_linear_in_the_controls():
    made = dnl.ControlProblem(
        x0=np.ones((2, 1)),
        dynamics=dnl.Volterra(lambda t, s, x, u: (1 + t - s) * u.u),
        controls={"u": dnl.Control((1,))},
        terminal=dnl.losses.squared(np.array([[2.0], [0.5]])),
        running=lambda t, x, u: x[0] ** 2 + u.u[0] ** 2 * x[0] * 0 + u.u[0] ** 2,
    )
    evaluator = Evaluator(dnl.discretise(made, 6), stored=False)
    rng = np.random.default_rng(4)
    w, d = rng.standard_normal((2, evaluator.space.size))
    np.testing.assert_allclose(
        gauss_newton_product(evaluator, w, d), evaluator.hessian_product(w, d), rtol=0, atol=1e-13
    )


def test_it_reaches_the_minimiser_of_newtons_method():
    newton, other = (
        dnl.solve(network("C"), 6, "adjoint", method=m) for m in ("newton", "gauss-newton")
    )
    assert newton.success and other.success, other.message
    assert other.options["method"] == "gauss-newton"
    assert other.value == pytest.approx(newton.value, rel=1e-10)
    # stationarity 1e-8 over a curvature of at least a tenth of α
    assert dnl.distance(newton, other) <= 4e-6


def test_constraints():
    made = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).sin(u.u)),
        controls={"u": dnl.Control(())},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x, 0.5, 0.5, name="reach")],
    )
    solution = dnl.solve(made, 4, "adjoint", method="gauss-newton")
    assert solution.success, solution.message
    np.testing.assert_allclose(solution.controls["u"].values, np.arcsin(0.5), atol=1e-8)
