"""Scalar bilinear ResNet x' = u x steered to a target, with a constant optimal control (T2).

    min ½ (x(1) - y)² + ½ ∫_0^1 u² dt,    x' = u x,  x(0) = 1

The product ψ x of costate and state is constant along x' = u x, ψ' = -u ψ, and u = -ψ x, so every
stationary control is a constant w: J* = min_w ½ (e^w - y)² + ½ w², stationary where (e^w - y) e^w +
w = 0. For y <= 2√2 the derivative 2e^{2w} - y e^w + 1 is positive and w is unique; y = 2 + ½ ln 2
gives w = ln 2 and J* = ⅝ ln²2. With Euler's method e^w becomes (1 + w/L)^L = e^w (1 - w²/(2L) +
O(L^-2)), hence c = -(e^w - y) e^w w²/2 = ½ w³.

Source: derived for this project.
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks

TARGET = 2.0 + 0.5 * math.log(2.0)


def problem(*, target: float = TARGET) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="t2_scalar_resnet",
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u * x),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: 0.5 * (x - target) ** 2,
        regularisers=[dnl.L2("u", 1.0)],
    )


def reference(*, target: float = TARGET) -> dnl.Reference:
    if not 1.0 <= target <= 2.0 * math.sqrt(2.0):
        checks.reject("target", target, "1 <= target <= 2√2 (the stationary control is unique)")
    w = (
        math.log(2.0)
        if target == TARGET
        else _root(lambda w: (math.exp(w) - target) * math.exp(w) + w, target)
    )
    return dnl.Reference(
        source="derived for this project",
        value=0.5 * (math.exp(w) - target) ** 2 + 0.5 * w**2,
        error_constant=0.5 * w**3,
        controls={"u": lambda t: np.full(np.shape(t), w)},
        state=lambda t: np.exp(w * np.asarray(t)),
        discrete_value=lambda L: _discrete_value(_discrete(L, target), L, target),
        discrete_controls=lambda L: {"u": np.full(L, _discrete(L, target))},
    )


def _discrete(L: int, target: float) -> float:
    """The constant w of the discrete problem, (p^L - y) p^{L-1} + w = 0 with p = 1 + w/L."""
    return _root(lambda w: ((1 + w / L) ** L - target) * (1 + w / L) ** (L - 1) + w, target)


def _discrete_value(w: float, L: int, target: float) -> float:
    return 0.5 * ((1 + w / L) ** L - target) ** 2 + 0.5 * w**2


def _root(slope, target: float) -> float:
    """Its only zero; slope(0) = 1 - y <= 0 and slope(y) > 0 because (1 + y/L)^L >= 1 + y."""
    from scipy.optimize import brentq

    return float(brentq(slope, 0.0, target, xtol=1e-15))
