"""Kinks of formulas: which are seen when a formula is traced, and that nothing else changes."""

import numpy as np
import pytest

import dnlcontrol as dnl


def traced(f, shape=(2,)):
    return dnl.ControlProblem(
        x0=np.ones((1, *shape)), dynamics=dnl.ODE(f), controls={"u": dnl.Control(shape)}
    )


KINKED = {
    "abs": lambda t, x, u: abs(u.u) - x,
    "maximum": lambda t, x, u: dnl.namespace(x).maximum(x, u.u),
    "minimum": lambda t, x, u: dnl.namespace(x).minimum(x, u.u),
    "where": lambda t, x, u: dnl.namespace(x).where(x <= u.u, x, u.u),
}


@pytest.mark.parametrize("kind", KINKED)
def test_each_kink_operation_is_known_by_its_name(kind):
    assert traced(KINKED[kind]).kinks == {kind}


def test_reductions_and_activations_are_made_of_kinks():
    largest = traced(lambda t, x, u: u.u * dnl.namespace(x).max(x))
    smallest = traced(lambda t, x, u: u.u * dnl.namespace(x).min(x))
    assert largest.kinks == {"maximum"}
    assert smallest.kinks == {"minimum"}
    for activation in (dnl.relu, dnl.leaky_relu):
        assert traced(lambda t, x, u, a=activation: a(x) + u.u).kinks == {"where"}


def test_smooth_formulas_and_switches_in_time_have_none():
    """A switch whose argument moves with t alone is no kink in the controls."""

    def switched(t, x, u):
        return dnl.namespace(x).where(t > 0.5, u.u, -x)

    assert traced(switched).kinks == frozenset()
    assert traced(lambda t, x, u: dnl.tanh(x) + u.u).kinks == frozenset()
    assert [s.moves for s in traced(switched).formulas.kernel.switches] == [False]


def test_switches_are_counted_in_the_order_of_evaluation():
    """Sizes are those of the operands after broadcasting."""

    def f(t, x, u):
        xp = dnl.namespace(x)
        return abs(x[0]) * u.u + xp.where(x > 0.0, x, 0.0) + xp.minimum(x[1], 1.0)

    switches = traced(f).formulas.kernel.switches
    assert [(s.kind, s.size) for s in switches] == [("abs", 1), ("where", 2), ("minimum", 1)]


def test_what_a_formula_reads_is_seen_through_the_recorder():
    problem = traced(lambda t, x, u: abs(u.u) * t)
    assert problem.formulas.kernel.reads == {"t", "u"} or "x" not in problem.formulas.kernel.reads
