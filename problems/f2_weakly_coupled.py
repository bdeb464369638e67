"""Forward Volterra equation with a kernel that vanishes on the diagonal, solution sin t (F2).

    x(t) = sin t + ¼ sin²t - ¼ t² + ∫_0^t (t-s) x(s)² ds,    0 <= t <= 1

x = sin t by substitution. The error of the left rule, τ e + o(τ) with e(t) = -½ [k(t,t) - k(t,0)] +
∫ k_x e ds, has k(t,t) = 0 and k(t,0) = t sin²0 = 0: e = 0 and the rule is of second order here.

Source: Gutleb, arXiv 2005.06081.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl


def problem() -> dnl.ControlProblem:
    def free_term(t, x0):
        sine = dnl.namespace(t).sin(t)
        return sine + sine**2 / 4 - t**2 / 4

    return dnl.ControlProblem(
        name="f2_weakly_coupled",
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: (t - s) * y**2, free_term=free_term),
    )


def reference() -> dnl.Reference:
    return dnl.Reference(
        source="Gutleb, arXiv 2005.06081",
        state=lambda t: np.sin(np.asarray(t)),
        forward_constant=0.0,
    )
