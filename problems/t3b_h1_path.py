"""Linear ODE with an H¹ penalty on a path control, solved in closed form at every depth (T3b).

    min ½ (x(1) - y)² + (α/2) ∫_0^1 (u² + u'²) dt,    x' = -2x + u,  x(0) = 0

x(1) = <k, u> in L², k(s) = e^{-2(1-s)}. Let w be its Riesz representer in H¹: w - w'' = k,
w'(0) = w'(1) = 0, so w = -e^{2(t-1)}/3 + A cosh t + B sinh t, B = ⅔ e^{-2}, A = ⅔ (1 - e^{-2} cosh
1)/sinh 1. With κ = <k, w> the problem is one-dimensional: J* = ½ y²/(1 + κ/α), u = (m/α) w,
m = y/(1 + κ/α). The discrete problem is the same with k_s = (1 - 2τ)^{L-1-s}, w_L = (I + DᵀD)^{-1}
k, D the differences divided by τ, κ_L = τ k·w_L. At the cell centres r = 1 - (s + ½)τ one has
k_s = e^{-2r} (1 + τ(1 - 2r)) + O(τ²); all else is of second order, so κ_L = κ + κ_1/L + O(L^-2),
κ_1 = 2 ∫ e^{-2r} (1 - 2r) w dt, and c = -½ y² κ_1 / (α (1 + κ/α)²).

Source: derived for this project.
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks

RATE = 2.0


def problem(*, target: float = 1.0, alpha: float = 0.2) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="t3b_h1_path",
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u - RATE * x),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: 0.5 * (x - target) ** 2,
        regularisers=[dnl.H1("u", alpha)],
    )


def reference(*, target: float = 1.0, alpha: float = 0.2) -> dnl.Reference:
    alpha = checks.positive("alpha", alpha)
    nodes, weights = np.polynomial.legendre.leggauss(30)  # analytic integrands: exact to rounding
    t = 0.5 * (1 + nodes)
    k = np.exp(-RATE * (1 - t))
    kappa = 0.5 * float(weights @ (k * _representer(t)))
    kappa_1 = float(weights @ (k * (1 - RATE * (1 - t)) * _representer(t)))
    m = target / (1 + kappa / alpha)

    def discrete_controls(L: int) -> dict[str, np.ndarray]:
        k, w = _discrete(L)
        return {"u": target / (1 + k @ w / L / alpha) / alpha * w}

    def discrete_value(L: int) -> float:
        k, w = _discrete(L)
        return float(0.5 * target**2 / (1 + k @ w / L / alpha))

    return dnl.Reference(
        source="derived for this project",
        value=0.5 * target**2 / (1 + kappa / alpha),
        error_constant=-0.5 * m**2 * kappa_1 / alpha,
        controls={"u": lambda t: m / alpha * _representer(t)},
        state=lambda t: m / alpha * _response(t),
        discrete_value=discrete_value,
        discrete_controls=discrete_controls,
    )


A = 2.0 / 3.0 * (1.0 - math.exp(-2.0) * math.cosh(1.0)) / math.sinh(1.0)
B = 2.0 / 3.0 * math.exp(-2.0)


def _representer(t):
    """w(t)."""
    return -np.exp(2 * (np.asarray(t) - 1)) / 3 + A * np.cosh(t) + B * np.sinh(t)


def _response(t):
    """∫_0^t e^{-2(t-s)} w(s) ds, term by term."""
    t = np.asarray(t, dtype=float)
    decay = np.exp(-2 * t)
    c = np.cosh(t)
    s = np.sinh(t)
    first = (np.exp(2 * t) - decay) * math.exp(-2.0) / 4
    return -first / 3 + A * (2 * c - s - 2 * decay) / 3 + B * (2 * s - c + decay) / 3


def _discrete(L: int) -> tuple[np.ndarray, np.ndarray]:
    """k and w_L on the samples 0..L-1."""
    k = (1 - RATE / L) ** np.arange(L - 1, -1, -1.0)
    D = L * np.diff(np.eye(L), axis=0)
    return k, np.linalg.solve(np.eye(L) + D.T @ D, k)
