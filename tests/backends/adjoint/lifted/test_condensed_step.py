"""The lifted problem's models: those of the sweep where there are no defects, Taylor elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.lifted.one_step_program import OneStepProgram, applies
from dnlcontrol.backends.adjoint.lifted.products import NearbyProducts
from dnlcontrol.minimise.multipliers import Multipliers

RULES = ("left", "trapezoid")


def right(t, x, u):
    xp = dnl.namespace(x)
    return u.T * xp.stack([x[1] * u.u, u.u - xp.sin(x[0] + t) * x[1]])


def problem() -> dnl.ControlProblem:
    """Three samples, a path control and a constant, all kinds of rows, a penalty."""
    return dnl.ControlProblem(
        horizon=2.0,
        x0=np.random.default_rng(0).normal(size=(3, 2)),
        dynamics=dnl.ODE(right),
        controls={
            "u": dnl.Control((), lower=-1, upper=1),
            "T": dnl.Control((), on="const", lower=0, initial=1.0),
        },
        running=lambda t, x, u: u.u**2 * x[0] ** 2 * u.T,
        terminal=lambda x, c: (x[0] - 1) ** 2 * c.T,
        regularisers=[dnl.H1("u", 0.1)],
        constraints=[
            dnl.terminal_constraint(lambda x, c: x * x * c.T, 0, 0, name="end", samples=[2, 0]),
            dnl.state_bounds(upper=[1.0, 2.0], name="states"),
            dnl.path_constraint(lambda t, x, u: x[0] * u.u * t, -9, 1, name="mixed"),
            dnl.integral_constraint(lambda t, x, u: x[0] * u.u**2, -9, 1, name="integral"),
        ],
    )


@pytest.fixture(params=RULES)
def program(request) -> OneStepProgram:
    evaluator = Evaluator(dnl.discretise(problem(), 6, request.param))
    assert applies(evaluator)
    return OneStepProgram(evaluator)


def drawn(program: OneStepProgram):
    rng = np.random.default_rng(1)
    w = rng.uniform(0.2, 0.8, program.space.size)
    return w, rng.normal(size=program.rows.size), rng.normal(size=program.space.size)


def test_equals_the_sweep_without_defects(program: OneStepProgram):
    """Values, gradient, Hessian product and the rows' gradient, to rounding of O(10) numbers."""
    w, mu, d = drawn(program)
    evaluator, x = program.evaluator, program.states(w)
    values, at = program.values(w, x), evaluator.trajectory(w)
    assert abs(values.cost - at.value) < 1e-13
    assert np.abs(values.rows - at.constraints).max() < 1e-13
    assert np.abs(values.defects).max() < 1e-14
    model = program.model(w, x, mu)
    gradient = model.gradient(np.zeros_like(x)) + model.jacobian.T @ mu
    expected = evaluator.value_and_gradient(w, Multipliers(mu))[1]
    assert np.abs(gradient - expected).max() < 1e-12
    product = evaluator.hessian_product(w, d, Multipliers(mu))
    assert np.abs(model.hessian @ d - product).max() < 1e-11
    pulled = evaluator.constraint_gradient(w, mu)
    assert np.abs(model.jacobian.T @ mu - pulled).max() < 1e-12


def test_the_linearised_steps_close_defects_quadratically(program: OneStepProgram):
    """x + δx has the defects' square: a tenth of the offset leaves a hundredth."""
    w, _, d = drawn(program)
    rng, x = np.random.default_rng(2), program.states(w)
    off = rng.normal(size=x.shape)
    off[0] = 0.0
    left = []
    for h in (1e-2, 1e-3):
        here = x + h * off
        model = program.model(w, here, np.zeros(program.rows.size))
        s = model.offset(program.values(w, here).defects)
        step = model.states(h * d, s)
        left.append(np.abs(program.values(w + h * d, here + step).defects).max())
    assert 80 < left[0] / left[1] < 125


def test_states_near_are_those_of_the_sweep(program: OneStepProgram):
    w, _, d = drawn(program)
    near = NearbyProducts(program, program.states(w))
    moved = np.clip(w + 0.05 * d, *program.space.bounds)
    assert np.abs(near.states(moved) - program.states(moved)).max() < 1e-13


def test_a_network_or_a_memory_is_not_taken():
    """Neither a kernel that reads t, nor layers written out, nor float32."""
    memory = dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: (t - s) * u.u - y),
        controls={"u": dnl.Control((), lower=0)},
        terminal=lambda x, c: x**2,
    )
    assert not applies(Evaluator(dnl.discretise(memory, 3)))
    assert not applies(Evaluator(dnl.discretise(problem(), 3), dtype="float32"))
