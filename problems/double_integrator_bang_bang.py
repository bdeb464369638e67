"""Double integrator with a bounded control that becomes bang-bang, a test of active bounds.

    min ∫_0^5 x_1² dt,    x_1' = x_2,  x_2' = u,    x(0) = (0, 1),    -1 <= u <= 1

The control enters linearly, so it sits on its bounds between switches: at L = 100 it is -1, +1, -1
with one or two samples between the bounds at each switch, and 0 once the state has come to rest.
The discrete problem is a convex bounded least-squares problem; its last two samples do not act on
the cost, so they are not unique. Solved as such at L = 100 it has the value DISCRETE_VALUE_100
(0.34253571 at L = 50, 0.28559280 at L = 200).

Source: derived for this project.
"""

from __future__ import annotations

import dnlcontrol as dnl

DISCRETE_VALUE_100 = 0.30362825


def problem() -> dnl.ControlProblem:
    def f(t, x, u):
        return dnl.namespace(x).stack([x[1], u.u])

    return dnl.ControlProblem(
        name="double_integrator_bang_bang",
        horizon=5.0,
        x0=[[0.0, 1.0]],
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control((), lower=-1.0, upper=1.0)},
        running=lambda t, x, u: x[0] ** 2,
    )


def reference() -> dnl.Reference:
    return dnl.Reference(
        source="derived for this project",
        note=f"at depth 100 the discrete optimal value is {DISCRETE_VALUE_100}",
    )
