"""Which way to the derivatives an evaluator chooses.

That all give the same is stated elsewhere: test_affine_chain.py, test_affine_columns.py,
test_one_step_tape.py, test_evaluator.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint import way
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.discretisation.resources import kept

RULES = ("left", "trapezoid")


def problem(dynamics: dnl.Dynamics) -> dnl.ControlProblem:
    x0, target = np.random.default_rng(0).standard_normal((2, 4, 3))
    return dnl.ControlProblem(x0=x0, dynamics=dynamics, terminal=dnl.losses.squared(target))


class Wrapped(dnl.ResNet):
    """An outer map keeps the layers from being a chain."""

    @property
    def outer(self):
        return lambda t, g, z, u: g + z + 0.1 * z * z


def unknown(x):
    return x + 0.1 * x * x * x


WAYS = {
    "dense": (dnl.Dense(3, "C"), way.OnHost, way.OnHost),
    "dense, unknown activation": (dnl.Dense(3, "C", unknown), way.Dual, way.Dual),
    "ResNet": (dnl.ResNet(3), way.OnHost, way.OnHost),
    "ResNet, unknown activation": (dnl.ResNet(3, unknown), way.Taped, way.Dual),
    "ResNet, outer map": (Wrapped(3), way.TapedColumns, way.AffineColumns),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_sweep_is_the_first_that_fits(name):
    """Rows of the table in way.py; the trapezoidal rule has implicit steps: no chain, no tape."""
    dynamics, *expected = WAYS[name]
    for rule, kind in zip(RULES, expected, strict=True):
        discrete = dnl.discretise(problem(dynamics), 3, rule)
        assert type(Evaluator(discrete, stored=False).way) is kind


@pytest.mark.parametrize("rule", RULES)
def test_few_derivatives_are_stored_unless_columns_are_written_out(rule):
    few = dnl.discretise(problem(dnl.Dense(3, "C", unknown)), 3, rule)
    assert isinstance(Evaluator(few).way, way.Stored)
    assert not isinstance(Evaluator(few, dtype="float32").way, way.Stored)
    assert not isinstance(
        Evaluator(dnl.discretise(problem(dnl.Dense(3, "C")), 3, rule)).way, way.Stored
    )


def test_on_another_device_the_columns_are_torchs():
    """The choice by device: no prepared calls where the memory is not the CPU's."""
    for dynamics, kind in ((dnl.Dense(3, "C"), way.AffineColumns), (dnl.ResNet(3), way.Chain)):
        evaluator = Evaluator(dnl.discretise(problem(dynamics), 3), stored=False)
        evaluator.sweep.device = torch.device("meta")
        found = way.way_of(evaluator.sweep, evaluator.lagrangian, evaluator.vectors, stored=False)
        assert type(found) is kind


def test_controls_too_many_to_copy_are_read_where_they_lie(monkeypatch):
    """The copies would be larger than what a gradient needs; the numbers are the same."""
    discrete = dnl.discretise(problem(dnl.Dense(3, "C")), 5)
    copied = Evaluator(discrete)
    monkeypatch.setattr(kept, "COPIED_BYTES", 0)
    plain = Evaluator(discrete)
    assert type(copied.way) is way.OnHost
    assert type(plain.way) is way.AffineColumns
    w = 0.3 * np.random.default_rng(1).standard_normal(discrete.space.size)
    (value, gradient), (other, expected) = (e.value_and_gradient(w) for e in (copied, plain))
    assert abs(value - other) <= 1e-13 * abs(other)
    assert np.max(np.abs(gradient - expected)) <= 1e-13 * np.max(np.abs(expected))
