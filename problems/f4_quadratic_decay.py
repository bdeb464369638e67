"""Forward Volterra equation with a quadratic kernel, solution e^{-t} (F4).

    x(t) = 3/2 - ½ e^{-2t} - ∫_0^t (x(s)² + x(s)) ds,    0 <= t <= 1

x = e^{-t} by substitution. The left rule errs by τ e + o(τ), e(t) = -½ [k(t,t) - k(t,0)] + ∫_0^t
k_x e ds = -½ (2 - e^{-t} - e^{-2t}) - ∫ (2e^{-s} + 1) e ds, that is e' = -½ e^{-t} - e^{-2t} - φ' e
with φ = t - 2e^{-t}, hence e(t) = -∫_0^t (½ e^{-s} + e^{-2s}) exp(φ(s) - φ(t)) ds.

Source: a manufactured solution; its error constant is derived for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl


def problem() -> dnl.ControlProblem:
    def free_term(t, x0):
        return 1.5 - 0.5 * dnl.namespace(t).exp(-2 * t)

    return dnl.ControlProblem(
        name="f4_quadratic_decay",
        x0=[1.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: -(y**2 + y), free_term=free_term),
    )


def reference() -> dnl.Reference:
    nodes, weights = np.polynomial.legendre.leggauss(30)  # analytic integrand: exact to rounding
    s = 0.5 * (1 + nodes)

    def phi(t):
        return t - 2 * np.exp(-t)

    integrand = (0.5 * np.exp(-s) + np.exp(-2 * s)) * np.exp(phi(s) - phi(1.0))
    return dnl.Reference(
        source="manufactured solution; error constant derived for this project",
        state=lambda t: np.exp(-np.asarray(t)),
        forward_constant=-0.5 * float(weights @ integrand),
    )
