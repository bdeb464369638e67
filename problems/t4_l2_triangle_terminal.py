"""Negative control: L² on the triangle, terminal loss, an infimum 0 that no control attains (T4).

    min ½ (x(1) - y)² + (α/2) ∫_0^1 ∫_0^t u(t,s)² ds dt,    x(t) = x_0 + ∫_0^t u(t,s) ds

x(1) reads only the trace u(1, .), which the L² norm of the triangle does not see: a control that
lives on a thin strip at t = 1 costs nothing, so the infimum is 0. At depth L only the row l = L is
used, u_{Ls} = a: with d = y - x_0 the cost is ½ (d - a)² + (α/2) a²/L, minimal at a = d/(1 + α/L),
which gives J_L = ½ d²/(1 + L/α) = c/L + O(L^-2), c = ½ α d². The penalty needs H¹ to be well posed:
see t7_h1_triangle.

Source: derived for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, start: float = 0.0, target: float = 1.0, alpha: float = 0.5) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="t4_l2_triangle_terminal",
        x0=[start],
        dynamics=dnl.Volterra(lambda t, s, y, u: u.u),
        controls={"u": dnl.Control((), on="ts")},
        terminal=lambda x, c: 0.5 * (x - target) ** 2,
        regularisers=[dnl.L2("u", alpha)],
    )


def reference(*, start: float = 0.0, target: float = 1.0, alpha: float = 0.5) -> dnl.Reference:
    d, alpha = target - start, checks.positive("alpha", alpha)

    def discrete_controls(L: int) -> dict[str, np.ndarray]:
        # only l = L
        columns = [np.append(np.zeros(L - s - 1), d / (1 + alpha / L)) for s in range(L)]
        return {"u": np.concatenate(columns)}

    return dnl.Reference(
        source="derived for this project",
        value=0.0,
        attained=False,
        error_constant=0.5 * alpha * d**2,
        discrete_value=lambda L: 0.5 * d**2 / (1 + L / alpha),
        discrete_controls=discrete_controls,
        note="negative control: the value 0 is an infimum, J_L tends to it and the controls do "
        "not converge",
    )
