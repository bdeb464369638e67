"""Van der Pol oscillator with quadratic cost (O5b).

    min ½ ∫_0^2 (x_1² + x_2² + u²) dt,
    x_1' = x_2,  x_2' = (1 - x_1²) x_2 - x_1 + u,  x(0) = (1, 0)

No closed form. Pontryagin's principle gives u = -ψ_2 and a boundary-value problem for (x, ψ),

    ψ_1' = -x_1 + (1 + 2 x_1 x_2) ψ_2,    ψ_2' = -x_2 - ψ_1 - (1 - x_1²) ψ_2,    ψ(2) = 0.

Shooting from t = 0 at tolerance 1e-13 gives J*; the error constant c = 2·(½ ∫ ψ'·x' dt) by
quadrature along it (H is constant). Both agree with extrapolated values of the discrete problem.

Source: derived for this project.
"""

from __future__ import annotations

import dnlcontrol as dnl


def problem() -> dnl.ControlProblem:
    def f(t, x, u):
        x1, x2 = x
        return dnl.namespace(x).stack([x2, (1 - x1**2) * x2 - x1 + u.u])

    return dnl.ControlProblem(
        name="o5b_van_der_pol",
        horizon=2.0,
        x0=[[1.0, 0.0]],
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * (x[0] ** 2 + x[1] ** 2 + u.u**2),
    )


def reference() -> dnl.Reference:
    return dnl.Reference(
        source="derived for this project (boundary-value problem solved to 1e-12)",
        value=1.04780690822,
        error_constant=0.69911555,
    )
