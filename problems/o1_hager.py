"""Linear-quadratic regulator with a cross term, solved in closed form (O1).

    min ∫_0^1 (u² + x u + 5/4 x²) dt,    x' = ½ x + u,  x(0) = 1

With v = u + ½ x the cost is v² + x² and x' = v, so v = -tanh(1-t) x: u = -(tanh(1-t) + ½) x,
x = cosh(1-t)/cosh 1, J* = tanh 1. From the error constant of Euler's method, c = ½ ∫ ψ' x' dt - ½
[H] with ψ = 2 tanh(1-t) x, one gets c = ½ tanh²1. At depth L the value is the Riccati recursion P_l
x², P_L = 0: u = -K x, K = (½ + aP)/(1 + τP), P <- τ (K² - K + 5/4) + P (a - τK)², a = 1 + τ/2.

Source: Hager (2000).
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl


def problem() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="o1_hager",
        x0=[1.0],
        dynamics=dnl.ODE(lambda t, x, u: 0.5 * x + u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: u.u**2 + x * u.u + 1.25 * x**2,
    )


def reference() -> dnl.Reference:
    def state(t):
        return np.cosh(1 - np.asarray(t)) / math.cosh(1.0)

    return dnl.Reference(
        source="Hager (2000)",
        value=math.tanh(1.0),
        error_constant=0.5 * math.tanh(1.0) ** 2,
        controls={"u": lambda t: -(np.tanh(1 - np.asarray(t)) + 0.5) * state(t)},
        state=state,
        discrete_value=lambda L: _riccati(L)[0],
        discrete_controls=lambda L: {"u": _riccati(L)[1]},
    )


def _riccati(L: int) -> tuple[float, np.ndarray]:
    """J_L and the samples u^0..u^{L-1}."""
    tau = 1 / L
    P = 0.0
    gains = np.empty(L)
    a = 1 + tau / 2
    for l in range(L - 1, -1, -1):
        gains[l] = K = (0.5 + a * P) / (1 + tau * P)
        P = tau * (K**2 - K + 1.25) + P * (a - tau * K) ** 2
    x = np.cumprod(np.append(1.0, a - tau * gains[:-1]))
    return P, -gains * x
