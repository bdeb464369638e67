"""Kernels of finite rank: the O(L r) recursion gives what the dense kernel gives.

In both backends.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator


def scalar() -> dnl.Separable:
    def terms(s, x, u):
        xp = dnl.namespace(x)
        return [xp.tanh(x) * u.u, x - u.u, s * u.u]

    return dnl.Separable(
        lambda t: [1 + t, dnl.namespace(t).cos(t), -1.0],
        terms,
        outer=lambda t, g, z, u: g + z + z**3,
    )


def vector() -> dnl.Separable:
    return dnl.Separable(
        lambda t: [1.0, t],
        lambda s, x, u: [u.u * x, dnl.namespace(x).sin(x) - s * u.u],
        free_term=lambda t, x0: x0 * (1 + t),
    )


def matrix() -> dnl.Separable:
    return dnl.Separable(lambda t: [t, 2 - t], lambda s, x, u: [u.u * x, dnl.namespace(x).tanh(x)])


CASES = {"scalar": (scalar, ()), "vector": (vector, (3,)), "matrix": (matrix, (3, 2))}


def pair(case: str) -> tuple[dnl.ControlProblem, dnl.ControlProblem]:
    make, shape = CASES[case]
    x0 = np.random.default_rng(5).uniform(-0.5, 0.5, (4, *shape))
    separable = make()
    control = {"u": dnl.Control(shape, initial=0.3)}
    return tuple(  # type: ignore[return-value]
        dnl.ControlProblem(
            x0=x0,
            dynamics=dynamics,
            controls=control,
            terminal=lambda x, c: dnl.namespace(x).sum(x * x),
            running=lambda t, x, u: t * dnl.namespace(x).sum(x),
            regularisers=[dnl.H1("u", 0.1)],
        )
        for dynamics in (separable, separable.dense())
    )


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_dense_kernel(case, rule):
    one, other = (dnl.discretise(p, 7, rule) for p in pair(case))
    assert one.problem.markov
    assert not other.problem.markov
    rng = np.random.default_rng(6)
    w, d = 0.5 * rng.standard_normal((2, one.space.size))
    for kind in (Evaluator, ReducedEvaluator):
        ours, dense = kind(one), kind(other)
        (f, g), (e, h) = ours.value_and_gradient(w), dense.value_and_gradient(w)
        # the same terms in another order: rounding of O(1) to O(10) sums
        assert f == pytest.approx(e, rel=1e-12)
        np.testing.assert_allclose(ours.states(w), dense.states(w), rtol=0, atol=1e-12)
        np.testing.assert_allclose(g, h, rtol=0, atol=1e-12 * (1 + np.abs(h).max()))
        products = ours.hessian_product(w, d), dense.hessian_product(w, d)
        np.testing.assert_allclose(*products, rtol=0, atol=1e-12 * (1 + np.abs(products[1]).max()))


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_costates_and_minimisers_are_those_of_the_dense_kernel(backend):
    solutions = [dnl.solve(p, 6, backend) for p in pair("vector")]
    assert all(s.success for s in solutions)
    assert solutions[0].value == pytest.approx(solutions[1].value, rel=1e-10)
    assert dnl.distance(*solutions) <= 1e-6
    np.testing.assert_allclose(solutions[0].costates, solutions[1].costates, atol=1e-6)


def test_exponential_memory_solves_v2():
    module = importlib.import_module("problems.v2_transient_impact")
    base = module.problem()
    decay = dnl.exponential_memory([1.0], lambda s, x, u: u.u)
    parts = {
        k: getattr(base, k)
        for k in ("x0", "horizon", "controls", "running", "constraints", "regularisers")
    }
    problem = dnl.ControlProblem(dynamics=decay, **parts)
    dense, fast = dnl.solve(base, 64), dnl.solve(problem, 64)
    assert fast.success
    assert fast.value == pytest.approx(dense.value, rel=1e-10)
    assert dnl.certify(fast).passed


def test_fast_decay_does_not_lose_digits():
    """e^{-ρ(t-s)} through e^{-ρt} e^{ρs} with ρ = 500.

    Products of large and small numbers, no cancellation.
    """
    memory = dnl.exponential_memory(
        [500.0, -2.0], lambda s, x, u: u.u * (1 - x), weights=[100.0, 0.5]
    )
    problems = [
        dnl.ControlProblem(
            x0=[[0.1], [0.2]], dynamics=d, controls={"u": dnl.Control((1,), initial=0.7)}
        )
        for d in (memory, memory.dense())
    ]
    one, other = (dnl.simulate(p, 50) for p in problems)
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_cost_grows_linearly():
    """Kernel evaluations of the forecast: L, against L(L+1)/2."""
    from dnlcontrol.discretisation.resources.sizes import forecast

    one, other = pair("scalar")
    assert forecast(dnl.discretise(one, 100)).kernel_evaluations == 4 * 100
    assert forecast(dnl.discretise(other, 100)).kernel_evaluations == 4 * 5050


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dnl.Separable(3, lambda s, x, u: [x]), "Separable.factors"),
        (
            lambda: dnl.exponential_memory([1.0], lambda s, x, u: x, weights=[1.0, 2.0]),
            "rates, weights",
        ),
        (lambda: dnl.exponential_memory([], lambda s, x, u: x), "rates, weights"),
        (lambda: dnl.exponential_memory([700.0], lambda s, x, u: x), "rates: got a rate 700"),
        (lambda: dnl.exponential_memory([np.nan], lambda s, x, u: x), "rates"),
        (
            lambda: use(dnl.Separable(lambda t: [t], lambda s, x, u: [x, s * x])),
            "got a result of shape",
        ),
        (
            lambda: use(dnl.Separable(lambda t: [t, t, t], lambda s, x, u: [x, s * x])),
            "Separable.factors: got 3 factors",
        ),
        (lambda: use(dnl.Separable(lambda t: t, lambda s, x, u: [x])), "Separable.factors"),
        (lambda: use(dnl.Separable(lambda t: [t], lambda s, x, u: x)), "Separable.terms"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises((dnl.InputError, dnl.InputTypeError), match=message):
        make()


def use(dynamics: dnl.Separable) -> dnl.ControlProblem:
    return dnl.ControlProblem(x0=[[1.0, 2.0]], dynamics=dynamics)
