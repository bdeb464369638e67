"""Forward Volterra equation with a rapidly oscillating solution cos λt (F5).

    x(t) = cos λt - t²/4 + sin²(λt)/(4λ²) - t sin(2λt)/(4λ) + ∫_0^t s x(s)² ds,
    0 <= t <= 1,  λ = 10

x = cos λt by substitution. The left rule errs by τ e + o(τ), e(t) = -½ [k(t,t) - k(t,0)] + ∫_0^t
k_x e ds = -½ t cos²λt + ∫ φ' e ds with φ' = 2s cos λs, φ = 2 (λt sin λt + cos λt)/λ², that is e' =
g + φ' e with g = -½ cos²λt + ½ λt sin 2λt, hence e(t) = ∫_0^t g(s) exp(φ(t) - φ(s)) ds.

Source: a manufactured solution; its error constant is derived for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, frequency: float = 10.0) -> dnl.ControlProblem:
    a = checks.positive("frequency", frequency)

    def free_term(t, x0):
        xp = dnl.namespace(t)
        sine = xp.sin(a * t)
        return xp.cos(a * t) - t**2 / 4 + sine**2 / (4 * a**2) - t * xp.sin(2 * a * t) / (4 * a)

    return dnl.ControlProblem(
        name="f5_oscillating",
        x0=[1.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: s * y**2, free_term=free_term),
    )


def reference(*, frequency: float = 10.0) -> dnl.Reference:
    a = checks.positive("frequency", frequency)
    nodes, weights = np.polynomial.legendre.leggauss(30 + 2 * int(a))  # exact to rounding
    s = 0.5 * (1 + nodes)

    def phi(t):
        return 2 * (a * t * np.sin(a * t) + np.cos(a * t)) / a**2

    g = -0.5 * np.cos(a * s) ** 2 + 0.5 * a * s * np.sin(2 * a * s)
    return dnl.Reference(
        source="manufactured solution; error constant derived for this project",
        state=lambda t: np.cos(a * np.asarray(t)),
        forward_constant=0.5 * float(weights @ (g * np.exp(phi(1.0) - phi(s)))),
    )
