"""Small problems of every kind, each in units of its controls, states, rows and cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import dnlcontrol as dnl


@dataclass(frozen=True)
class Units:
    """One unit of each is so many of the problem's own: u = control·u', J' = cost·J, and so on."""

    control: float = 1.0
    cost: float = 1.0
    state: float = 1.0
    row: float = 1.0


def path(units: Units) -> dnl.ControlProblem:
    """Van der Pol with a path control."""

    def f(t, x, u):
        y = x / units.state
        speed = (1 - y[0] ** 2) * y[1] - y[0] + units.control * u.u
        return units.state * dnl.namespace(x).stack([y[1], speed])

    def running(t, x, u):
        return units.cost * (
            dnl.namespace(x).sum(x**2) / units.state**2 + (units.control * u.u) ** 2
        )

    return dnl.ControlProblem(
        name="path",
        horizon=2.0,
        x0=units.state * np.array([[0.0, 1.0]]),
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control(())},
        running=running,
    )


def bounded(units: Units) -> dnl.ControlProblem:
    """A double integrator with a bounded control, on its bounds for a while."""

    def f(t, x, u):
        return units.state * dnl.namespace(x).stack([x[1] / units.state, units.control * u.u])

    def running(t, x, u):
        return units.cost * ((x[0] / units.state) ** 2 + 0.1 * (units.control * u.u) ** 2)

    return dnl.ControlProblem(
        name="bounded",
        horizon=3.0,
        x0=units.state * np.array([[0.0, 1.0]]),
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control((), lower=-1 / units.control, upper=1 / units.control)},
        running=running,
    )


def rows(units: Units) -> dnl.ControlProblem:
    """Bryson and Denham's with a terminal, a state and an integral row."""

    def f(t, x, u):
        return units.state * dnl.namespace(x).stack([x[1] / units.state, units.control * u.u])

    arrival = np.array([0.0, -1.0]) * units.row
    return dnl.ControlProblem(
        name="rows",
        x0=units.state * np.array([[0.0, 1.0]]),
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control(())},
        regularisers=[dnl.L2("u", units.cost * units.control**2)],
        constraints=[
            dnl.state_bounds(upper=[2 / 9 * units.state, np.inf], name="corridor"),
            dnl.terminal_constraint(
                lambda x, c: x * (units.row / units.state), arrival, arrival, name="arrival"
            ),
            dnl.integral_constraint(
                lambda t, x, u: units.row * (units.control * u.u) ** 2,
                upper=100 * units.row,
                name="effort",
            ),
        ],
    )


def triangle(units: Units) -> dnl.ControlProblem:
    """A Volterra equation whose kernel has a control on the triangle."""

    def kernel(t, s, y, u):
        inside = units.control * u.w * y / units.state + 0.5
        return units.state * dnl.namespace(y).tanh(inside) / (1 + t - s)

    def loss(x, c, z):
        return units.cost * (x[0] / units.state - z) ** 2

    return dnl.ControlProblem(
        name="triangle",
        x0=units.state * np.array([[1.0], [-0.5]]),
        dynamics=dnl.Volterra(kernel),
        controls={"w": dnl.Control((1,), on="ts")},
        terminal=dnl.cost(loss, target=np.array([0.3, 0.8])),
        regularisers=[dnl.H1("w", 1e-2 * units.cost * units.control**2)],
    )


def constants(units: Units) -> dnl.ControlProblem:
    """Two rate constants, fitted to a state that they cannot quite reach."""

    def f(t, x, u):
        y, k = x / units.state, units.control * u.k
        return units.state * dnl.namespace(x).stack([-k[0] * y[0], k[0] * y[0] - k[1] * y[1]])

    def loss(x, c, z):
        return units.cost * dnl.namespace(x).sum((x / units.state - z) ** 2)

    return dnl.ControlProblem(
        name="constants",
        x0=units.state * np.array([[1.0, 0.0]]),
        dynamics=dnl.ODE(f),
        controls={"k": dnl.Control((2,), on="const", lower=0)},
        terminal=dnl.cost(loss, target=np.array([[0.3, 0.9]])),
    )


def two(units: Units) -> dnl.ControlProblem:
    """Two path controls, one of them in other units."""

    def f(t, x, u):
        y, first = x / units.state, units.control * u.u
        return units.state * dnl.namespace(x).stack(
            [dnl.namespace(x).sin(y[1]) + first, u.v - y[0]]
        )

    def running(t, x, u):
        first = units.control * u.u
        square = dnl.namespace(x).sum(x**2) / units.state**2
        return units.cost * (square + first**2 + u.v**2 + 0.1 * first**4)

    return dnl.ControlProblem(
        name="two",
        x0=units.state * np.array([[1.0, 0.0]]),
        dynamics=dnl.ODE(f),
        controls={"u": dnl.Control(()), "v": dnl.Control(())},
        running=running,
    )


MADE: dict[str, Callable[[Units], dnl.ControlProblem]] = {
    f.__name__: f for f in (path, bounded, rows, triangle, constants, two)
}
CONTROLS = {
    "path": "u",
    "bounded": "u",
    "rows": "u",
    "triangle": "w",
    "constants": "k",
    "two": "u",
}

TIMES = np.array([1230.0, 3060, 4920, 7800, 10680, 15030, 22620, 36420])
MEASURED = np.array(
    [
        [88.35, 7.3, 2.3, 0.4, 1.75],
        [76.4, 15.6, 4.5, 0.7, 2.8],
        [65.1, 23.1, 5.3, 1.1, 5.8],
        [50.4, 32.9, 6.0, 1.5, 9.3],
        [37.5, 42.7, 6.0, 1.9, 12.0],
        [25.9, 49.1, 5.9, 2.2, 17.0],
        [14.0, 57.4, 5.1, 2.6, 21.0],
        [4.5, 63.1, 3.8, 2.9, 25.7],
    ]
)


def pinene(unit: float) -> dnl.ControlProblem:
    """Five rate constants in a unit, fitted to eight times, each a sample with its own clock."""

    def f(t, x, u):
        k = u.theta
        return (
            unit
            * x[5]
            * dnl.namespace(x).stack(
                [
                    -(k[0] + k[1]) * x[0],
                    k[0] * x[0],
                    k[1] * x[0] - (k[2] + k[3]) * x[2] + k[4] * x[4],
                    k[2] * x[2],
                    k[3] * x[2] - k[4] * x[4],
                    0 * x[0],
                ]
            )
        )

    def loss(x, c, z):
        return 8 * dnl.namespace(x).sum((x[:5] - z) ** 2)

    return dnl.ControlProblem(
        name="pinene",
        x0=np.hstack([np.tile([100.0, 0, 0, 0, 0], (8, 1)), TIMES[:, None]]),
        dynamics=dnl.ODE(f),
        controls={"theta": dnl.Control((5,), on="const", lower=0)},
        terminal=dnl.cost(loss, target=MEASURED),
    )
