"""Constrained and bounded ODEs: the adjoint backend against the exact one, and both against CasADi.

Every row solves one discrete problem three times, at the same depth and from the same controls: on
both backends, and as a script for CasADi's Opti with IPOPT, tolerance 1e-9, states from zero or
x(0). Seconds are processor time on one thread, medians of three after a first solve. A product is
one Hessian of the lifted problem, formed at all nodes at once and condensed to the controls.

    python benchmarks/16_constrained_adjoint.py [--tiny]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import casadi as ca
import numpy as np

import dnlcontrol as dnl

IPOPT = {"print_level": 0, "sb": "yes", "tol": 1e-9}
MOST_RATIO, MOST_PRODUCTS = 20, 60
HEADER = (
    f"{'problem':18} {'rule':9} {'adjoint/s':>9} {'exact/s':>8} {'CasADi/s':>8} {'ratio':>6} "
    f"{'products':>8}  {'adjoint':>13} {'exact':>13} {'CasADi':>13}"
)


@dataclass(frozen=True)
class Case:
    """One problem, written once in arithmetic on entries; sides are (lower, upper) or None.

    ``free_end``: T is unknown and the cost, from 1; ``rows`` bound h(x, u) at the steps.
    """

    name: str
    depth: int
    start: tuple[float, ...]
    controls: tuple[str, ...]
    right: Callable[..., list]
    running: Callable[..., object] | None = None
    terminal: Callable[..., object] | None = None
    horizon: float = 1.0
    bounds: tuple[float, float] = (-np.inf, np.inf)
    end: tuple[float, ...] | None = None
    states: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    rows: tuple[Callable[..., object], float, float] | None = None
    free_end: bool = False


def sine(v: object) -> object:
    """Of either library's numbers."""
    return ca.sin(v) if isinstance(v, (ca.MX, ca.SX)) else dnl.namespace(v).sin(v)


CASES = (
    Case(
        "terminal equality",
        200,
        (1.0,),
        ("u",),
        lambda x, u: [u[0]],
        running=lambda x, u: x[0] ** 2,
        horizon=2.0,
        bounds=(-1.0, 1.0),
        end=(0.5,),
    ),
    Case(
        "pendulum",
        100,
        (0.0, 0.0),
        ("u",),
        lambda x, u: [x[1], u[0] - sine(x[0])],
        running=lambda x, u: 0.1 * u[0] ** 2,
        terminal=lambda x: (x[0] - np.pi) ** 2 + x[1] ** 2,
        horizon=5.0,
        bounds=(-1.5, 1.5),
    ),
    Case(
        "minimum time",
        50,
        (-1.0, 0.0),
        ("u",),
        lambda x, u: [x[1], u[0]],
        bounds=(-1.0, 1.0),
        end=(0.0, 0.0),
        free_end=True,
    ),
    Case(
        "Bryson-Denham",
        100,
        (0.0, 1.0),
        ("u",),
        lambda x, u: [x[1], u[0]],
        running=lambda x, u: 0.5 * u[0] ** 2,
        end=(0.0, -1.0),
        states=((-np.inf, -np.inf), (1 / 9, np.inf)),
    ),
    Case(
        "state corridor",
        100,
        (1.0, 0.0),
        ("u",),
        lambda x, u: [x[1], (1 - x[0] ** 2) * x[1] - x[0] + u[0]],
        running=lambda x, u: 0.5 * (x[0] ** 2 + x[1] ** 2 + u[0] ** 2),
        horizon=2.0,
        bounds=(-0.8, 1.0),
        states=((-0.2, -0.25), (2.0, 1.0)),
    ),
    Case(
        "minimum fuel",
        100,
        (0.0, 0.0),
        ("p", "m"),
        lambda x, u: [x[1], u[0] - u[1] - 0.1 * x[1] ** 2],
        running=lambda x, u: u[0] + u[1],
        horizon=4.0,
        bounds=(0.0, 1.0),
        end=(1.0, 0.0),
    ),
    Case(
        "mixed path",
        100,
        (1.0, 0.0),
        ("u",),
        lambda x, u: [x[1], u[0] - sine(x[0])],
        running=lambda x, u: 0.5 * (x[0] ** 2 + x[1] ** 2 + 0.1 * u[0] ** 2),
        horizon=2.0,
        rows=(lambda x, u: u[0] + x[0], -0.3, 0.4),
    ),
)


def problem(case: Case) -> dnl.ControlProblem:
    """Ours."""

    def entries(u):
        return [u[name] for name in case.controls]

    def right(t, x, u):
        found = dnl.namespace(x).stack(case.right(x, entries(u)))
        return u.T * found if case.free_end else found

    lower, upper = case.bounds
    controls = {name: dnl.Control((), lower=lower, upper=upper) for name in case.controls}
    if case.free_end:
        controls["T"] = dnl.Control((), on="const", lower=0, initial=1.0)
    constraints = []
    if case.end is not None:
        end = np.array(case.end)
        constraints.append(dnl.terminal_constraint(lambda x, c: x, end, end, name="end"))
    if case.states is not None:
        low, high = case.states
        constraints.append(dnl.state_bounds(lower=list(low), upper=list(high), name="states"))
    if case.rows is not None:
        h, low, high = case.rows
        constraints.append(
            dnl.path_constraint(lambda t, x, u: h(x, entries(u)), low, high, name="rows")
        )
    costs = {}
    if case.running is not None:
        costs["running"] = lambda t, x, u: case.running(x, entries(u))
    if case.free_end:
        costs["terminal"] = lambda x, c: c.T
    elif case.terminal is not None:
        costs["terminal"] = lambda x, c: case.terminal(x)
    return dnl.ControlProblem(
        name=case.name,
        horizon=case.horizon,
        x0=[list(case.start)],
        dynamics=dnl.ODE(right),
        controls=controls,
        constraints=constraints,
        **costs,
    )


def script(case: Case, L: int, rule: str) -> float:
    """The same program as a user would write it for Opti; the optimal value."""
    opti, implicit = ca.Opti(), rule == "trapezoid"
    x = opti.variable(len(case.start), L + 1)
    u = opti.variable(len(case.controls), L + 1 if implicit else L)
    T = opti.variable() if case.free_end else 1.0
    h, cost = case.horizon / L, T if case.free_end else 0

    def at(k):
        return [x[i, k] for i in range(x.shape[0])], [u[i, k] for i in range(u.shape[0])]

    f = [T * ca.vertcat(*case.right(*at(k))) for k in range(u.shape[1])]
    opti.subject_to(x[:, 0] == ca.vertcat(*case.start))
    for k in range(L):
        opti.subject_to(
            x[:, k + 1] == x[:, k] + (h / 2 * (f[k] + f[k + 1]) if implicit else h * f[k])
        )
    if case.running is not None:
        for k in range(u.shape[1]):
            weight = h / 2 if implicit and k in (0, L) else h
            cost += weight * case.running(*at(k))
    if case.terminal is not None:
        cost += case.terminal(at_end(x, L))
    constrain(opti, case, x, u, at)
    if case.free_end:
        opti.subject_to(T >= 0)
        opti.set_initial(T, 1.0)
    opti.minimize(cost)
    opti.solver("ipopt", {"print_time": False, "expand": True, "ipopt": IPOPT})
    return float(opti.solve().value(cost))


def at_end(x: ca.MX, L: int) -> list:
    """The entries of the last state."""
    return [x[i, L] for i in range(x.shape[0])]


def constrain(opti: ca.Opti, case: Case, x: ca.MX, u: ca.MX, at: Callable) -> None:
    """Bounds, rows, states and end of a case."""
    lower, upper = case.bounds
    if np.isfinite(lower):
        opti.subject_to(opti.bounded(lower, ca.vec(u), upper))
    if case.end is not None:
        opti.subject_to(x[:, -1] == ca.vertcat(*case.end))
    if case.states is not None:
        for i, (low, high) in enumerate(zip(*case.states, strict=True)):
            if np.isfinite(low):
                opti.subject_to(x[i, 1:] >= low)
            if np.isfinite(high):
                opti.subject_to(x[i, 1:] <= high)
    if case.rows is not None:
        h, low, high = case.rows
        for k in range(u.shape[1]):
            opti.subject_to(opti.bounded(low, h(*at(k)), high))


def timed(work: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median seconds of processor time, and the last result."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        found = work()
        times.append(time.process_time() - began)
    return statistics.median(times), found


def row(case: Case, rule: str, tiny: bool) -> bool:
    """One line; whether the time and the products are within what is asked."""
    L, repeats = (10, 1) if tiny else (case.depth, 3)
    ours = problem(case)
    runs = (
        lambda: dnl.solve(ours, L, "adjoint", rule=rule),
        lambda: dnl.solve(ours, L, "exact", rule=rule),
        lambda: script(case, L, rule),
    )
    for run in runs:
        run()  # loads what a first call loads
    (slow, adjoint), (fast, exact), (peer, value) = (timed(run, repeats) for run in runs)
    print(
        f"{case.name:18} {rule:9} {slow:9.3f} {fast:8.3f} {peer:8.3f} {slow / fast:6.1f} "
        f"{adjoint.nhev:8d}  {adjoint.value:13.9f} {exact.value:13.9f} {value:13.9f}",
        flush=True,
    )
    return slow <= MOST_RATIO * fast and adjoint.nhev <= MOST_PRODUCTS and adjoint.success


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    tiny = parser.parse_args().tiny
    print(HEADER)
    kept = [row(case, rule, tiny) for case in CASES for rule in ("left", "trapezoid")]
    asked = f"a ratio <= {MOST_RATIO} and products <= {MOST_PRODUCTS}"
    print(f"{sum(kept)} of {len(kept)} rows solved, with {asked}")


if __name__ == "__main__":
    main()
