"""H¹ on the triangle with a terminal loss, exact at every depth (T7).

    min ½ (x(1) - y)² + (α/2) ‖u‖²_{H¹(triangle)},    x(t) = x_0 + ∫_0^t u(t,s) ds

x(1) - x_0 = ∫_0^1 u(1,s) ds has the H¹ representer w = (cosh t + cosh s)/sinh 1: it solves w = Δw
with normal derivative 1 on t = 1 and 0 on s = 0 and on the diagonal. So κ = ∫ w(1,s) ds = 1 + coth
1 and, with d = y - x_0, J* = ½ d²/(1 + κ/α), u = (m/α) w, m = d/(1 + κ/α). In the discrete form
(diagonal mass ½, the energy of the mirrored array) the same ansatz is exact: w_{ls} = [cosh θ(l-½)
+ cosh θ(s+½)]/sinh θL with 4 sinh²(θ/2) = τ², hence κ_L = 1 + cosh(θ(L-½))/sinh(θL) = κ - 1/(2L) +
O(L^-2) and c = d²/(4α (1 + κ/α)²).

Source: derived for this project.
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, start: float = 0.0, target: float = 1.0, alpha: float = 0.5) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="t7_h1_triangle",
        x0=[start],
        dynamics=dnl.Volterra(lambda t, s, y, u: u.u),
        controls={"u": dnl.Control((), on="ts")},
        terminal=lambda x, c: 0.5 * (x - target) ** 2,
        regularisers=[dnl.H1("u", alpha)],
    )


def reference(*, start: float = 0.0, target: float = 1.0, alpha: float = 0.5) -> dnl.Reference:
    d, alpha = target - start, checks.positive("alpha", alpha)
    kappa = 1 + 1 / math.tanh(1.0)
    m = d / (1 + kappa / alpha)

    def discrete_controls(L: int) -> dict[str, np.ndarray]:
        theta = 2 * math.asinh(0.5 / L)
        scale = d / (1 + _kappa(L) / alpha) / (alpha * math.sinh(theta * L))
        row = np.cosh(theta * (np.arange(L + 1) - 0.5))  # cosh θ(l-½); cosh θ(s+½) is its entry s+1
        return {"u": scale * np.concatenate([row[s + 1 :] + row[s + 1] for s in range(L)])}

    def state(t):
        return start + m / alpha * (t * np.cosh(t) + np.sinh(t)) / math.sinh(1.0)

    return dnl.Reference(
        source="derived for this project",
        value=0.5 * d**2 / (1 + kappa / alpha),
        error_constant=0.25 * m**2 / alpha,
        controls={"u": lambda t, s: m / alpha * (np.cosh(t) + np.cosh(s)) / math.sinh(1.0)},
        state=state,
        discrete_value=lambda L: 0.5 * d**2 / (1 + _kappa(L) / alpha),
        discrete_controls=discrete_controls,
    )


def _kappa(L: int) -> float:
    """κ_L."""
    theta = 2 * math.asinh(0.5 / L)
    return 1 + math.cosh(theta * (L - 0.5)) / math.sinh(theta * L)
