"""The tape of a few layers at a time gives what the whole tape gives."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.sweep import one_step_tape

DEPTH = 37
ROUNDING = 1e-14  # relative: sums of a constant's cotangents in another order


def oscillator() -> dnl.ControlProblem:
    """Path and constant controls, a running cost, two states."""
    return dnl.ControlProblem(
        x0=np.array([[1.0, 0.5], [0.2, -0.3]]),
        dynamics=dnl.ODE(lambda t, x, u: dnl.namespace(x).tanh(u.a[1] * x) - x * u.a[0] + u.c),
        controls={"a": dnl.Control((2,), initial=1.0), "c": dnl.Control((), on="const")},
        terminal=lambda x, c: x[0] ** 2 + x[1] ** 2,
        running=lambda t, x, u: x[0] * x[1] + u.c**2,
        regularisers=[dnl.H1("a", 1.0)],
    )


def separable() -> dnl.ControlProblem:
    """An outer map that reads t."""
    return dnl.ControlProblem(
        x0=np.array([[1.0], [0.4]]),
        dynamics=dnl.Separable(lambda t: [1.0 + t, -1.0], lambda s, x, u: [u.a * x, s * x]),
        controls={"a": dnl.Control((), initial=0.5)},
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.H1("a", 1.0)],
    )


def derivatives(problem: dnl.ControlProblem) -> list[np.ndarray]:
    """Gradient, product, states and both costates at a seeded control."""
    discrete = dnl.discretise(problem, DEPTH)
    evaluator = Evaluator(discrete, stored=False, batched=False)  # no printed formulas
    assert type(evaluator.way).__name__ == "Taped"
    w = discrete.space.initial()
    w = w + 0.1 * np.random.default_rng(0).standard_normal(w.size)
    value, gradient = evaluator.value_and_gradient(w)
    at = evaluator.trajectory(w)
    product = evaluator.hessian_product(w, gradient)
    return [np.array(value), gradient, product, at.states, at.costates, at.integral_costates]


@pytest.mark.parametrize("made", [oscillator, separable])
@pytest.mark.parametrize("layers", [1, 5, 38])
def test_segments_are_the_whole_tape(made, layers: int, monkeypatch):
    whole = derivatives(made())
    data = Evaluator(dnl.discretise(made(), DEPTH), stored=False, batched=False).sweep
    monkeypatch.setattr(one_step_tape, "LARGEST_TAPE", 1)
    bytes_of_a_layer = one_step_tape.layer_bytes(made(), data.everyone.free.shape[1], 8)
    monkeypatch.setattr(one_step_tape, "SEGMENT_TAPE", layers * bytes_of_a_layer)
    for one, other in zip(whole, derivatives(made()), strict=True):
        assert np.max(np.abs(one - other)) <= ROUNDING * np.max(np.abs(one))
