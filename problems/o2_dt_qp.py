"""Linear-quadratic regulator with a terminal cost, solved in closed form (O2).

    min ∫_0^1 (11 u² + x²) dt + 10 x(1)²,    x' = -x + u,  x(0) = 10

With the costate ψ = -22 u the optimality system is x'' = μ² x, μ² = 12/11, and u(1) = -10 x(1)/11
makes x'(1) = -21/11 x(1): x(t) is proportional to h(1-t), h(r) = cosh μr + 21/(11μ) sinh μr, and u
= x' + x. The value is P x(0)² with P = ψ(0)/(2 x(0)) = -11 u(0)/10. H is constant, so c = ½ ∫ ψ' x'
dt = -11 ∫ u' x' dt. At depth L the value is the Riccati recursion P_l x², P_L = 10: u = -K x, K =
aP/(11 + τP), P <- τ (11K² + 1) + P (a - τK)², a = 1 - τ.

Source: the dt-qp example collection.
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl

MU = math.sqrt(12.0 / 11.0)
START = 10.0


def problem() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="o2_dt_qp",
        x0=[START],
        dynamics=dnl.ODE(lambda t, x, u: u.u - x),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 11 * u.u**2 + x**2,
        terminal=lambda x, c: 10 * x**2,
    )


def reference() -> dnl.Reference:
    nodes, weights = np.polynomial.legendre.leggauss(30)  # analytic integrand: exact to rounding
    t = 0.5 * (1 + nodes)
    x1, x2 = _state(t, 1), _state(t, 2)
    return dnl.Reference(
        source="the dt-qp example collection",
        value=-11 * START * float(_state(0.0, 1) + _state(0.0, 0)),
        error_constant=-5.5 * float(weights @ ((x2 + x1) * x1)),
        controls={"u": lambda t: _state(t, 1) + _state(t, 0)},
        state=lambda t: _state(t, 0),
        discrete_value=lambda L: _riccati(L)[0],
        discrete_controls=lambda L: {"u": _riccati(L)[1]},
    )


def _state(t, order: int):
    """The derivative of x of order 0, 1 or 2: (-d/dr)^order of h(1-t), scaled."""
    r, slope = MU * (1 - np.asarray(t)), 21 / (11 * MU)
    even, odd = np.cosh(r) + slope * np.sinh(r), np.sinh(r) + slope * np.cosh(r)
    scale = START / (math.cosh(MU) + slope * math.sinh(MU))
    return scale * (even, -MU * odd, MU**2 * even)[order]


def _riccati(L: int) -> tuple[float, np.ndarray]:
    """J_L and the samples u^0..u^{L-1}."""
    tau = 1 / L
    P = 10.0
    gains = np.empty(L)
    a = 1 - tau
    for l in range(L - 1, -1, -1):
        gains[l] = K = a * P / (11 + tau * P)
        P = tau * (11 * K**2 + 1) + P * (a - tau * K) ** 2
    x = START * np.cumprod(np.append(1.0, a - tau * gains[:-1]))
    return P * START**2, -gains * x
