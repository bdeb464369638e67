"""Goddard's rocket with a free end time: T a constant control, a singular arc, degenerate rows."""

from __future__ import annotations

import dnlcontrol as dnl


def rocket(rests: bool) -> dnl.ControlProblem:
    """Altitude h, speed v, mass m on [0, 1]; thrust u, end time T; the largest h(1).

    h >= 1, v >= 0, m >= 0.6, m(1) = 0.6; ``rests``: v(1) = 0 as well.
    """

    def flies(t, x, u):
        xp = dnl.namespace(x)
        h, v, m = x[0], x[1], x[2]
        drag = 310.0 * v**2 * xp.exp(500.0 * (1.0 - h))
        return xp.stack([u.T * v, u.T * ((u.u - drag) / m - 1.0 / h**2), -2.0 * u.T * u.u])

    def end(x, c):
        return dnl.namespace(x).stack([x[1], x[2]]) if rests else x[2]

    at_end = [0.0, 0.6] if rests else 0.6
    return dnl.ControlProblem(
        name="rocket",
        x0=[[1.0, 0.0, 1.0]],
        dynamics=dnl.ODE(flies),
        controls={
            "u": dnl.Control((), lower=0, upper=3.5, initial=1.0),
            "T": dnl.Control((), on="const", lower=0, upper=1, initial=0.1),
        },
        terminal=lambda x, c: -x[0],
        constraints=[
            dnl.terminal_constraint(end, at_end, at_end, name="empty"),
            dnl.state_bounds(lower=[1.0, 0.0, 0.6]),
        ],
    )
