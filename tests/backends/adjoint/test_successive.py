"""Pontryagin's successive approximations: the frozen Hamiltonian, limits and refusals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.successive import FrozenHamiltonian
from dnlcontrol.minimise.newton import newton
from problems import (
    double_integrator_bang_bang,
    o1_hager,
    o2_dt_qp,
    o4_bryson_denham,
    o5b_van_der_pol,
    t3b_h1_path,
    t5_l2_triangle_tracking,
    t7_h1_triangle,
)
from problems import width_pde as width

METHODS = ("msa", "emsa")
PROBLEMS = {
    "o1": o1_hager.problem,
    "o2": o2_dt_qp.problem,
    "o5b": o5b_van_der_pol.problem,
    "h1": t3b_h1_path.problem,
    "width": lambda: width.problem(nodes=3, samples=1, alpha=0.1),
}


def small_net(form: str) -> dnl.ControlProblem:
    """Memory, an outer map in form B, constants in the head."""
    rng = np.random.default_rng(3)
    return dnl.ControlProblem(
        name=f"net {form}",
        x0=rng.standard_normal((2, 1)),
        dynamics=dnl.Dense(1, form=form, activation=dnl.tanh),
        terminal=dnl.losses.squared(rng.standard_normal((2, 1)), head=dnl.head(1, 1, initial=0.1)),
        regularisers=[
            dnl.H1("W", 1.0),
            dnl.H1("b", 1.0),
            dnl.L2("head_W", 1.0),
            dnl.L2("head_c", 1.0),
        ],
    )


BEYOND = {  # not steps of an ODE by the left rule
    "t7": (t7_h1_triangle.problem, "left"),
    "net B": (lambda: small_net("B"), "left"),
    "net C": (lambda: small_net("C"), "left"),
    "net C, trapezoid": (lambda: small_net("C"), "trapezoid"),
    "o5b, trapezoid": (o5b_van_der_pol.problem, "trapezoid"),
    "t5": (t5_l2_triangle_tracking.problem, "left"),
}
ALL = {**{name: (make, "left") for name, make in PROBLEMS.items()}, **BEYOND}


def frozen(problem: dnl.ControlProblem, depth: int, rho: float, rule: str = "left"):
    discrete = dnl.discretise(problem, depth, rule)
    evaluator = Evaluator(discrete)
    w = discrete.space.initial() + 0.2 * np.random.default_rng(7).standard_normal(
        discrete.space.size
    )
    at = evaluator.trajectory(w)
    return w, at, FrozenHamiltonian(evaluator, w, at, rho)


@pytest.mark.parametrize("rho", [0.0, 2.0])
@pytest.mark.parametrize("name", ALL)
def test_gradient_at_the_current_controls_is_that_of_j(name, rho):
    """Two ways to sum the same O(|g|) terms; the Hessian product is the gradient's derivative."""
    make, rule = ALL[name]
    w, at, h = frozen(make(), 5, rho, rule)
    gradient = h.value_and_gradient(w)[1]
    np.testing.assert_allclose(
        gradient, at.gradient, rtol=0, atol=1e-12 * (1 + np.abs(at.gradient).max())
    )
    rng, e = np.random.default_rng(8), 1e-5
    d = rng.standard_normal(len(w))
    sides = [h.value_and_gradient(w + s * e * d)[1] for s in (1, -1)]
    product = h.hessian_product(w, d)
    # central differences: e² times third derivatives of order |product|, and 1e-16/e
    np.testing.assert_allclose(
        (sides[0] - sides[1]) / (2 * e), product, rtol=0, atol=1e-7 * (1 + np.abs(product).max())
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ALL)
def test_reaches_the_minimiser_of_newton(name, method):
    """From one start to stationarity ε: values agree to ε²/(2m).

    m is the least curvature, here above 1e-2; ε = 1e-6, or 1e-4 where every step is dear.
    """
    make, rule = ALL[name]
    problem, depth, eps = make(), *((6, 1e-6) if name in PROBLEMS else (2, 1e-4))
    start = {k: 0.1 for k in problem.controls}
    newton_, other = (
        dnl.solve(
            problem, depth, backend="adjoint", rule=rule, method=m, tolerance=eps, start=start
        )
        for m in ("newton", method)
    )
    assert newton_.success
    assert other.success
    assert abs(newton_.value - other.value) < 50 * eps**2 * (1 + abs(newton_.value))
    values = [line[1] for line in other.log]
    assert all(b <= a + 1e-14 * (1 + abs(a)) for a, b in pairwise(values))  # J falls


def test_bounds():
    """A bounded control: van der Pol with |u| <= 0.3, against Newton."""
    plain = o5b_van_der_pol.problem()
    problem = dnl.ControlProblem(
        name="bounded",
        horizon=2.0,
        x0=plain.x0,
        dynamics=plain.dynamics,
        running=plain.running,
        controls={"u": dnl.Control((), lower=-0.3, upper=0.3)},
    )
    exact, msa, emsa = (
        dnl.solve(problem, 10, backend="adjoint", method=m) for m in ("newton", *METHODS)
    )
    assert np.abs(exact.controls["u"].values).max() == 0.3
    for found in (msa, emsa):
        assert found.success
        assert abs(found.value - exact.value) < 1e-12


def test_one_step_solves_where_h_does_not_change():
    """min ½u² + x, x' = u: the first minimiser of h is the answer, u = -(1-t-τ).

    The costates do not depend on u.
    """
    problem = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * u.u**2 + x,
    )
    found = dnl.solve(problem, 4, backend="adjoint", method="msa")
    assert found.success
    assert found.nit == 1
    np.testing.assert_allclose(
        found.controls["u"].values, [-0.75, -0.5, -0.25, 0.0], rtol=0, atol=1e-14
    )


def test_minimum_of_the_width_equation_in_closed_form():
    """The S-dimensional minimisation at each y is the minimum of h over all (w, b) of a layer.

    Both from the same x and ψ. At most the local minimiser that Newton finds from the current
    controls: equal or lower.
    """
    problem, depth = width.problem(nodes=5, samples=2, alpha=0.05), 4
    w, at, h = frozen(problem, depth, 0.0)
    pde, S = problem.dynamics, problem.samples
    closed, total = {"w": [], "b": []}, 0.0
    for l in range(depth):
        p = at.integral_costates[l + 1] / pde.q
        a, b, value = pde.minimise_hamiltonian(at.states[l], p, 0.05, 0.05)
        closed["w"].append(a)
        closed["b"].append(b)
        total += float(pde.q @ value) / depth
    assert S == 2
    flat = h.space.assemble({k: np.stack(v) for k, v in closed.items()})
    # the terminal cost at held states: tanh(0) = 0
    zero = float(h.value_and_gradient(np.zeros_like(flat))[0])
    value, gradient = h.value_and_gradient(flat)
    assert abs(value - zero - total) < 1e-13
    assert np.abs(gradient).max() < 1e-12
    assert value <= newton(h, w, 1e-10, 100).value + 1e-13


def test_refusals():
    for problem, method, backend, message in (
        (o4_bryson_denham.problem(), "msa", "adjoint", "constraints"),
        (double_integrator_bang_bang.problem(), "msa", "exact", "needs 'adjoint'"),
        (width.problem(), "pmp", "adjoint", "'emsa'"),
    ):
        with pytest.raises(dnl.InputError, match=message):
            dnl.solve(problem, 4, backend=backend, method=method)
