"""Forward Volterra equation with a rational kernel, solution tan t (F3).

    x(t) = tan t - ¼ sin 2t - ½ t + ∫_0^t ds/(1 + x(s)²),    0 <= t <= 1

x = tan t by substitution. The left rule errs by τ e + o(τ), e(t) = -½ [k(t,t) - k(t,0)] + ∫_0^t k_x
e ds = ½ sin²t - ∫ 2 sin s cos³s e ds, that is e' = sin t cos t - φ' e with φ = -½ cos⁴t, hence e(t)
= ∫_0^t sin s cos s exp(φ(s) - φ(t)) ds.

Source: a manufactured solution; its error constant is derived for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl


def problem() -> dnl.ControlProblem:
    def free_term(t, x0):
        xp = dnl.namespace(t)
        return xp.tan(t) - xp.sin(2 * t) / 4 - t / 2

    return dnl.ControlProblem(
        name="f3_rational_kernel",
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: 1 / (1 + y**2), free_term=free_term),
    )


def reference() -> dnl.Reference:
    nodes, weights = np.polynomial.legendre.leggauss(30)  # analytic integrand: exact to rounding
    s = 0.5 * (1 + nodes)
    growth = np.exp(0.5 * (np.cos(1.0) ** 4 - np.cos(s) ** 4))
    return dnl.Reference(
        source="manufactured solution; error constant derived for this project",
        state=lambda t: np.tan(np.asarray(t)),
        forward_constant=0.5 * float(weights @ (np.sin(s) * np.cos(s) * growth)),
    )
