"""Minimum energy with a terminal equality, the one-line probe of the time convention (V8).

    min ½ ∫_0^1 u² dt,    x(t) = ∫_0^t (t-s) u(s) ds,    x(1) = 1

u = k/|k|² with k(s) = 1 - s: u = 3(1-t), J* = ½/|k|² = 3/2. At depth L the same with k_s = (L-s)τ
and τ Σ_{s<L} k_s² = (1 + 1/L)(2 + 1/L)/6, so J_L = 3/((1 + 1/L)(2 + 1/L)) and c = -9/4. A result of
3/((1 - 1/L)(2 - 1/L)) means that the kernel was given another time than that of the state being
computed.

Source: derived for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl


def problem() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="v8_double_integral",
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: (t - s) * u.u),
        controls={"u": dnl.Control(())},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x, 1.0, 1.0, name="x(1) = 1")],
    )


def reference() -> dnl.Reference:
    def discrete_value(L: int) -> float:
        return 3 / ((1 + 1 / L) * (2 + 1 / L))

    return dnl.Reference(
        source="derived for this project",
        value=1.5,
        error_constant=-2.25,
        controls={"u": lambda t: 3 * (1 - np.asarray(t))},
        state=lambda t: 1.5 * np.asarray(t) ** 2 - 0.5 * np.asarray(t) ** 3,
        discrete_value=discrete_value,
        discrete_controls=lambda L: {"u": 2 * discrete_value(L) * np.arange(L, 0, -1) / L},
    )
