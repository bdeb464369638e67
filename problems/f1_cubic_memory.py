"""Forward Volterra equation with a cubic kernel, solution e^t (F1).

    x(t) = e^t + t (1 - e^{3t})/3 + ∫_0^t t x(s)³ ds,    0 <= t <= ½

x = e^t by substitution. The left rule errs by τ e + o(τ), e(t) = -½ [k(t,t) - k(t,0)] + ∫_0^t
k_x(t,s) e(s) ds. Here e = t E, E = -½ (e^{3t} - 1) + ∫ 3s e^{2s} E ds, that is E' = -(3/2) e^{3t} +
φ' E with φ' = 3t e^{2t}, φ = ¾ (2t-1) e^{2t}, hence e(t) = -(3t/2) ∫_0^t exp(3s + φ(t) - φ(s)) ds.

Source: Gutleb, arXiv 2005.06081.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl

HORIZON = 0.5


def problem() -> dnl.ControlProblem:
    def free_term(t, x0):
        xp = dnl.namespace(t)
        return xp.exp(t) + t * (1 - xp.exp(3 * t)) / 3

    return dnl.ControlProblem(
        name="f1_cubic_memory",
        horizon=HORIZON,
        x0=[1.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: t * y**3, free_term=free_term),
    )


def reference() -> dnl.Reference:
    nodes, weights = np.polynomial.legendre.leggauss(30)  # analytic integrand: exact to rounding
    s = 0.5 * HORIZON * (1 + nodes)

    def phi(t):
        return 0.75 * (2 * t - 1) * np.exp(2 * t)

    integral = 0.5 * HORIZON * float(weights @ np.exp(3 * s + phi(HORIZON) - phi(s)))
    return dnl.Reference(
        source="Gutleb, arXiv 2005.06081",
        state=lambda t: np.exp(np.asarray(t)),
        forward_constant=-1.5 * HORIZON * integral,
    )
