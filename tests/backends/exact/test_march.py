"""Implicit layers marched at once: the states of Newton's method layer by layer, at a low cost."""

from __future__ import annotations

import time

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.exact.condensed.elimination import ReducedPoint
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from tests.constrained_problems import constrained
from tests.random_problems import CASES, build


def layer_by_layer(evaluator: ReducedEvaluator, w: np.ndarray) -> ReducedPoint:
    """The same point without the march."""
    slow = ReducedEvaluator(evaluator.discrete)
    slow.reduced.__dict__["implicit_march"] = None  # the cached property
    return slow.point(w)


@pytest.mark.parametrize("name", CASES)
def test_the_march_takes_the_steps_of_newton(name):
    """At the same root, hence to a few units of rounding of the largest entry."""
    made = build(name, 5)
    evaluator = ReducedEvaluator(dnl.discretise(constrained(made.problem), made.depth, "trapezoid"))
    w = 0.3 * np.random.default_rng(1).standard_normal(evaluator.space.size)
    march = evaluator.reduced.implicit_march
    markov = made.problem.markov and made.problem.formulas.outer is None
    assert (march is not None) == markov
    at, slow = evaluator.point(w), layer_by_layer(evaluator, w)
    for mine, theirs in ((at.x, slow.x), (at.z, slow.z)):
        scale = 1e-14 * (1 + np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=scale)


def test_layers_that_do_not_settle_are_left_to_newton_s_method():
    """x' = -x³ from 30 at L = 2: from there the steps do not halve, each layer takes more."""
    problem = dnl.ControlProblem(
        x0=[30.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u - x**3),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x**2,
    )
    evaluator = ReducedEvaluator(dnl.discretise(problem, 2, "trapezoid"))
    w = evaluator.space.initial()
    stages = evaluator.reduced.stages(w)
    assert stages is not None
    assert stages.settled < 3
    assert np.all(np.isfinite(evaluator.point(w).x))
    np.testing.assert_array_equal(evaluator.point(w).x, layer_by_layer(evaluator, w).x)


def test_the_march_is_left_where_a_layer_does_not_settle():
    """The first layers at once, the others by Newton's method from there: one path."""
    problem = dnl.ControlProblem(
        x0=[0.1],
        dynamics=dnl.ODE(lambda t, x, u: u.u - x**3),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x**2,
    )
    evaluator = ReducedEvaluator(dnl.discretise(problem, 10, "trapezoid"))
    w = np.where(np.arange(evaluator.space.size) < 6, 0.1, 1e6)
    stages = evaluator.reduced.stages(w)
    assert stages is not None
    assert 1 < stages.settled < 11
    x = evaluator.point(w).x
    assert np.all(np.isfinite(x))
    np.testing.assert_allclose(x, layer_by_layer(evaluator, w).x, rtol=1e-13, atol=0)


def scalar() -> dnl.ControlProblem:
    """min ½ ∫ x² + u², x' = u - x³."""
    return dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u - x**3),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * (x**2 + u.u**2),
    )


def seconds(rule: str) -> float:
    began = time.perf_counter()
    assert dnl.solve(scalar(), 10_000, rule=rule).success
    return time.perf_counter() - began


@pytest.mark.slow
def test_the_trapezoidal_rule_costs_at_most_three_times_the_left_one():
    dnl.solve(scalar(), 4)  # imports
    best = {rule: min(seconds(rule) for _ in range(3)) for rule in ("left", "trapezoid")}
    assert best["trapezoid"] <= 3.0 * best["left"]
