"""L² on the triangle with a tracking cost, well posed and exact at every depth (T5).

    min ½ ∫_0^1 (x - y)² dt + (α/2) ∫_0^1 ∫_0^t u(t,s)² ds dt,    x(t) = x_0 + ∫_0^t u(t,s) ds

Each t is a problem of its own. With d = y - x_0 the best row is constant in s: u(t,s) = d/(t + α),
which leaves ½ α d²/(t + α), so J* = ½ α d² ln((1 + α)/α). At depth L in the same way u_{ls} =
d/(t_l + α) for l < L. The row l = L meets no cost and is 0. J_L = ½ α d² τ Σ_{l<L} 1/(t_l + α) is
the left sum of the integral, and Euler-Maclaurin gives c = ¼ α d² (1/α - 1/(1 + α)) = d²/(4(1 + α))
and the exponents 1, 2, 4,
...

Source: derived for this project.
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, start: float = 0.0, target: float = 1.0, alpha: float = 0.5) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="t5_l2_triangle_tracking",
        x0=[start],
        dynamics=dnl.Volterra(lambda t, s, y, u: u.u),
        controls={"u": dnl.Control((), on="ts")},
        running=lambda t, x, u: 0.5 * (x - target) ** 2,
        regularisers=[dnl.L2("u", alpha)],
    )


def reference(*, start: float = 0.0, target: float = 1.0, alpha: float = 0.5) -> dnl.Reference:
    d, alpha = target - start, checks.positive("alpha", alpha)

    def discrete_controls(L: int) -> dict[str, np.ndarray]:
        row = d / (np.arange(L + 1) / L + alpha)
        row[L] = 0.0
        return {"u": np.concatenate([row[s + 1 :] for s in range(L)])}

    def state(t):
        t = np.asarray(t, dtype=float)
        return start + d * t / (t + alpha)

    return dnl.Reference(
        source="derived for this project",
        value=0.5 * alpha * d**2 * math.log((1 + alpha) / alpha),
        error_constant=d**2 / (4 * (1 + alpha)),
        orders=(1.0, 2.0, 4.0),
        controls={"u": lambda t, s: d / (np.asarray(t) + 0.0 * np.asarray(s) + alpha)},
        state=state,
        discrete_value=lambda L: float(
            0.5 * alpha * d**2 * np.sum(1 / (np.arange(L) / L + alpha)) / L
        ),
        discrete_controls=discrete_controls,
        note="the last row is 0 and the discrete x^L jumps back to x_0: compare states for l < L",
    )
