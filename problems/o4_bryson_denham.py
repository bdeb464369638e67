"""Bryson-Denham: a double integrator that turns round below a bound on the state (O4).

    min ½ ∫_0^1 u² dt,    x' = v, v' = u,    x(0) = x(1) = 0, v(0) = 1, v(1) = -1,    x <= bound

For bound b <= 1/6 the state meets the bound on [3b, 1-3b]. Before it u is linear and brings x from
0 to b and v from 1 to 0 in a time θ at the cost ½ ∫u² = 2/θ - 6b/θ² + 6b²/θ³, which decreases in θ
(derivative -2(θ-3b)²/θ⁴); beyond θ = 3b the arc would overshoot the bound. So u = -(2/(3b)) (1 -
t/(3b)) at the cost 2/(9b), and by symmetry J* = 4/(9b), here 4. Under Euler's method the error has
no first-order term: at b = 1/9 we find J_L = 4 + 90/L² + O(L^-3), the last term depending on L mod
6. x_1 = 1/L for every control, so L >= 1/b is needed.

Source: Bryson and Denham; value re-derived for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, bound: float = 1.0 / 9.0) -> dnl.ControlProblem:
    def f(t, x, u):
        return dnl.namespace(x).stack([x[1], u.u])

    arrival = [0.0, -1.0]
    return dnl.ControlProblem(
        name="o4_bryson_denham",
        x0=[[0.0, 1.0]],
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control(())},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[
            dnl.state_bounds(upper=[bound, np.inf], name="x <= bound"),
            dnl.terminal_constraint(lambda x, c: x, arrival, arrival, name="arrival"),
        ],
    )


def reference(*, bound: float = 1.0 / 9.0) -> dnl.Reference:
    if not 0 < bound <= 1 / 6:
        checks.reject("bound", bound, "0 < bound <= 1/6 (the state stays at the bound for a while)")

    def control(t):
        near = np.minimum(np.asarray(t), 1 - np.asarray(t)) / (3 * bound)
        return -2 / (3 * bound) * np.maximum(1 - near, 0)

    def state(t):
        """x = b (1 - (1 - t/(3b))³) on the first arc."""
        t = np.asarray(t, dtype=float)
        rest = np.maximum(1 - np.minimum(t, 1 - t) / (3 * bound), 0)
        speed = np.where(t < 0.5, rest**2, -(rest**2))
        return np.stack([bound * (1 - rest**3), speed], axis=-1)

    return dnl.Reference(
        source="Bryson-Denham problem; value re-derived for this project",
        value=4 / (9 * bound),
        error_constant=0.0,
        orders=(2.0, 4.0),
        controls={"u": control},
        state=state,
        note="second order; J_L expands smoothly along L = 6, 12, 24, ..., with exponents 2 and 4",
    )
