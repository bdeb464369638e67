"""The evaluators of both backends answer the same calls with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.discretisation.rules import RULES
from dnlcontrol.minimise.multipliers import Multipliers
from tests.backends.exact.test_condensed import constrained
from tests.random_problems import CASES, build

Both = tuple[Evaluator, ReducedEvaluator]


def build_both(name: str, rule: str = "left") -> Both:
    made = build(name, 11)
    discrete = dnl.discretise(constrained(made.problem), made.depth, rule)
    return Evaluator(discrete), ReducedEvaluator(discrete)


@pytest.fixture(scope="module", params=[(name, rule) for name in CASES for rule in RULES])
def both(request: pytest.FixtureRequest) -> Both:
    """Built once for all tests of one problem and rule."""
    return build_both(*request.param)


def rng() -> np.random.Generator:
    return np.random.default_rng(12)


def assert_same(ours: np.ndarray | float, sweep: np.ndarray | float) -> None:
    """Both differentiate the same sums exactly: a few hundred roundings of the largest entry."""
    expected = np.asarray(sweep)
    assert np.shape(ours) == expected.shape
    scale = 1e-12 * (1 + np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=scale)


@pytest.mark.parametrize("given", [False, True], ids=["without", "with multipliers"])
def test_the_lagrangian_is_that_of_the_sweep(both, given):
    sweep, reduced = both
    w, d = 0.3 * rng().standard_normal((2, sweep.space.size))
    multipliers = Multipliers(rng().standard_normal(sweep.rows.size)) if given else None
    assert_same(reduced.value(w, multipliers), sweep.value(w, multipliers))
    value, gradient = sweep.value_and_gradient(w, multipliers)
    ours = reduced.value_and_gradient(w, multipliers)
    assert_same(ours[0], value)
    assert_same(ours[1], gradient)
    product = sweep.hessian_product(w, d, multipliers)
    assert_same(reduced.hessian_product(w, d, multipliers), product)
    at, path = sweep.trajectory(w, multipliers), reduced.trajectory(w, multipliers)
    for part in vars(at):
        assert_same(getattr(path, part), getattr(at, part))


def test_rows_states_and_final_parts_are_those_of_the_sweep(both):
    sweep, reduced = both
    assert reduced.discrete is sweep.discrete
    assert reduced.space is sweep.space
    assert reduced.rows is sweep.rows
    w = 0.3 * rng().standard_normal(sweep.space.size)
    weights = rng().standard_normal(sweep.rows.size)
    assert_same(reduced.constraint_values(w), sweep.constraint_values(w))
    assert_same(reduced.constraint_gradient(w, weights), sweep.constraint_gradient(w, weights))
    assert_same(reduced.states(w), sweep.states(w))
    at = sweep.trajectory(w)
    end = at.states[-1], at.integral_costates[-1]
    ours, theirs = reduced.final_parts(w, *end), sweep.final_parts(w, *end)
    for mine, expected in zip(ours, theirs, strict=True):
        assert_same(mine, expected)
    last = at.integrals[-1], at.costates[-1]
    assert_same(reduced.outer_pull(w, *last), sweep.outer_pull(w, *last))


def test_both_count_what_they_form():
    sweep, reduced = build_both(next(iter(CASES)))
    w, d = 0.3 * rng().standard_normal((2, sweep.space.size))
    for evaluator in (sweep, reduced):
        evaluator.value(w)
        evaluator.value_and_gradient(w)
        evaluator.hessian_product(w, d)
        counts = evaluator.counts
        assert (counts.values, counts.gradients, counts.hessians) == (1, 1, 1)


@pytest.mark.parametrize("more", [{"rho": 2.0}, {"cost": 0.0}])
def test_the_reduced_problem_refuses_an_augmented_lagrangian(more):
    """It forms J + μᵀc alone; leaving ρ aside would give the derivatives of another function."""
    _, reduced = build_both(next(iter(CASES)))
    w = 0.3 * rng().standard_normal(reduced.space.size)
    augmented = Multipliers(np.zeros(reduced.rows.size), **more)
    with pytest.raises(dnl.InputError, match="rho = 0 and cost = 1"):
        reduced.value(w, augmented)
