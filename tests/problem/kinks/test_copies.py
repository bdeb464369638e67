"""Soft and sided copies of a problem: what they converge to, and where they are the same."""

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.kinks.kinked_function import KinkedFunction
from dnlcontrol.problem.kinks.sided import sided
from dnlcontrol.problem.kinks.softened import softened


def distance_to(x, c, y):
    """Σ |x - y|."""
    return dnl.namespace(x).sum(abs(x - y))


def problems():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    fit = {"x0": X, "terminal": dnl.losses.squared(Y)}
    return {
        "resnet": dnl.ControlProblem(
            dynamics=dnl.ResNet(2, dnl.relu), regularisers=[dnl.H1("K", 1e-2)], **fit
        ),
        "leaky dense C": dnl.ControlProblem(dynamics=dnl.Dense(2, "C", dnl.leaky_relu), **fit),
        "dense A": dnl.ControlProblem(dynamics=dnl.Dense(2, "A", dnl.relu), **fit),
        "dense B, kinked costs": dnl.ControlProblem(
            x0=X,
            dynamics=dnl.Dense(2, "B", dnl.relu),
            terminal=dnl.cost(distance_to, Y),
            running=lambda t, x, u: abs(u.b[0]) + dnl.namespace(x).maximum(x[0], x[1]),
        ),
    }


CASES = list(problems())


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("name", CASES)
def test_on_its_own_sides_the_sided_problem_is_the_problem(name, rule):
    """Values and gradients agree to rounding where no argument is 0."""
    problem = problems()[name]
    discrete = dnl.discretise(problem, 3, rule)
    function = KinkedFunction(discrete)
    w = 0.5 * np.random.default_rng(1).standard_normal(discrete.space.size)
    a = function.arguments(w)
    sides = np.where((a > 0) & np.isfinite(a), 1.0, 0.0)
    value, gradient = function.smooth.value_and_gradient(function.joined(w, sides))
    expected, slope = Evaluator(discrete).value_and_gradient(w)
    assert value == pytest.approx(expected, rel=1e-13)
    assert np.allclose(gradient[: w.size], slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_in_a_side_is_a_multiple_of_the_argument(name):
    """∂J/∂θ_k = λ_k a_k: it changes sign with a_k, and vanishes with it."""
    problem = problems()[name]
    discrete = dnl.discretise(problem, 3)
    function = KinkedFunction(discrete)
    w = 0.5 * np.random.default_rng(1).standard_normal(discrete.space.size)
    a = function.arguments(w)
    evaluated = np.isfinite(a)
    sides = np.where((a > 0) & evaluated, 1.0, 0.0)
    slope = function.smooth.value_and_gradient(function.joined(w, sides))[1][w.size :]
    flipped = np.array(sides)
    k = int(np.argmax(np.where(evaluated, np.abs(slope), 0.0)))
    flipped[k] = 1.0 - flipped[k]
    other = function.smooth.value_and_gradient(function.joined(w, flipped))[1][w.size :]
    assert slope[k] != 0.0
    assert np.sign(other[k]) == np.sign(slope[k]) or abs(other[k]) < abs(slope[k])
    assert np.all(slope[~evaluated] == 0.0)


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("name", CASES)
def test_the_soft_problem_tends_to_the_problem(name, rule):
    """|J_ε - J| <= C ε: a tenth of the width leaves at most about a tenth of the difference."""
    problem = problems()[name]
    discrete = dnl.discretise(problem, 3, rule)
    w = 0.5 * np.random.default_rng(1).standard_normal(discrete.space.size)
    value = Evaluator(discrete).value(w)
    off = [
        abs(Evaluator(dnl.discretise(softened(problem, eps), 3, rule)).value(w) - value)
        for eps in (1e-2, 1e-3, 1e-4)
    ]
    assert off[0] < 0.1
    assert off[1] < 0.2 * off[0]
    assert off[2] < 0.2 * off[1]


def test_soft_activations_know_their_derivatives():
    """σ' and σ''/σ' from the value y agree with differences of σ to O(h²)."""
    x, h = np.linspace(-2.0, 2.0, 9), 1e-4
    for activation in (dnl.relu, dnl.leaky_relu):
        problem = dnl.ControlProblem(x0=np.ones((1, 1)), dynamics=dnl.ResNet(1, activation))
        soft = softened(problem, 0.3).dynamics.activation
        slope = (soft(x + h) - soft(x - h)) / (2 * h)
        second = (soft(x + h) - 2 * soft(x) + soft(x - h)) / h**2
        known = soft.derivatives
        assert np.allclose(known.slope(soft(x)), slope, atol=1e-6)
        assert np.allclose(known.curvature_ratio(soft(x)) * slope, second, atol=1e-6)


def test_places_of_sides():
    """One control for each formula with kinks, where the formula is evaluated."""
    found = {name: sided(p).problem.controls for name, p in problems().items()}
    assert found["resnet"]["sides_kernel"].on == "t"
    assert found["leaky dense C"]["sides_kernel"].on == "ts"
    assert found["dense A"]["sides_feature"].shape == (4, 2)
    assert found["dense B, kinked costs"]["sides_terminal"].on == "const"
    assert found["dense B, kinked costs"]["sides_running"].shape == (4, 2)


def test_times_are_not_softened():
    """A switch in t alone stays sharp in the soft copy."""

    def f(t, x, u):
        return dnl.namespace(x).where(t > 0.4, 1.0, 0.0) * u.u + abs(u.u)

    problem = dnl.ControlProblem(
        x0=np.zeros((1, 1)), dynamics=dnl.ODE(f), controls={"u": dnl.Control((1,), initial=2.0)}
    )
    states = dnl.simulate(softened(problem, 1e-9), 4)
    assert np.allclose(states, dnl.simulate(problem, 4), rtol=0, atol=1e-8)
