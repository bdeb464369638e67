"""Smooth activations have their derivatives everywhere, on both backends."""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
import torch
from scipy import special

import dnlcontrol as dnl
from tests.problem.three_engines import OnCasadi, as_formula, torch_call


@pytest.mark.parametrize("at", [-40.0, -1.3, 0.0, 0.7, 40.0])
@pytest.mark.parametrize(
    ("activation", "slope", "curvature"),
    [
        (
            dnl.tanh,
            lambda x: 1 - np.tanh(x) ** 2,
            lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
        ),
        (
            dnl.sigmoid,
            lambda x: special.expit(x) * special.expit(-x),
            lambda x: sigmoid_curvature(x),
        ),
        (dnl.softplus, special.expit, lambda x: special.expit(x) * special.expit(-x)),
        (dnl.identity, lambda x: 1.0, lambda x: 0.0),
    ],
    ids=["tanh", "sigmoid", "softplus", "identity"],
)
def test_smooth_activations_have_their_derivatives_everywhere(activation, slope, curvature, at):
    """First and second derivative on both backends; 1 - tanh² cancels to eps, so absolutely."""
    formula = as_formula(lambda xp, x: activation(x), ((),), ())
    first = torch.func.grad(torch_call(formula))
    x = torch.tensor(at, dtype=torch.float64)
    casadi = OnCasadi(formula)
    (symbol,), slopes = casadi.inputs, [casadi.flat]
    for _ in range(2):
        slopes.append(ca.jacobian(slopes[-1], symbol))
    found = [float(v[0, 0]) for v in casadi.call(slopes[1:], [np.array(at)])]
    for expected, a, b in (
        (slope(at), first(x), found[0]),
        (curvature(at), torch.func.grad(first)(x), found[1]),
    ):
        assert float(a) == pytest.approx(float(expected), rel=0, abs=1e-14)
        assert b == pytest.approx(float(expected), rel=0, abs=1e-14)


def sigmoid_curvature(x: float) -> float:
    p = special.expit(x)
    return float(p * (1 - p) * (1 - 2 * p))
