"""Kernels that are not finite at s = t, under rules that evaluate them there."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl


def problem(kernel, dynamics=dnl.Volterra):
    return dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dynamics(kernel),
        controls={"u": dnl.Control((), initial=1.0)},
        terminal=lambda x, c: x**2,
        regularisers=[dnl.L2("u", 0.1)],
    )


def abel(t, s, y, u):
    return -u.u * y / dnl.namespace(y).sqrt(t - s)


SINGULAR = {
    "infinite": abel,
    "logarithm": lambda t, s, y, u: u.u * dnl.namespace(t).log(t - s) * y,
    "NaN": lambda t, s, y, u: u.u * y * dnl.namespace(t).sin(t - s) / (t - s),
    "positive states": lambda t, s, y, u: dnl.namespace(y).log(y) * u.u / (t - s),
}


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize(
    "call",
    [
        dnl.simulate,
        lambda p, L, rule: dnl.solve(p, L, "exact", rule=rule),
        lambda p, L, rule: dnl.solve(p, L, "adjoint", rule=rule),
    ],
)
def test_a_kernel_that_is_infinite_on_the_diagonal_is_refused(name, call):
    words = "kernel: got .* at s = t, where the rule 'trapezoid' .*; allowed: .*rule='left'"
    with pytest.raises(dnl.InputError, match=words):
        call(problem(SINGULAR[name]), 4, rule="trapezoid")


def test_the_left_rule_takes_it():
    """x^1 = 1 - τ (τ)^{-1/2} = 1 - √τ."""
    x = dnl.simulate(problem(abel), 4)
    assert x[1, 0] == pytest.approx(1.0 - np.sqrt(0.25), abs=1e-15)


FINITE = {
    "a root of t - s": lambda t, s, y, u: u.u * y * dnl.namespace(t).sqrt(t - s),
    "a kernel that takes positive states only": lambda t, s, y, u: (
        u.u * dnl.namespace(y).log(y) + t
    ),
    "a pole elsewhere": lambda t, s, y, u: u.u * y / (t + s + 1.0),
}


@pytest.mark.parametrize("name", FINITE)
def test_what_is_finite_there_is_not_refused(name):
    assert np.isfinite(dnl.simulate(problem(FINITE[name]), 4, rule="trapezoid")).all()
