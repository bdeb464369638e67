"""How much faster is the condensed formulation than a hand-written lifted CasADi + IPOPT script?

The script: mapped SX Functions, exact Hessian, mumps_pivot_order = 5, tolerance 1e-9, the same cold start. Both
times include the set-up of the program, not the import of libraries; the median of three runs of ours, one run of
the script, stopped at 50 times our time ("> ratio"). The problems are not convex: where the values differ, the two
stopped at different minimisers. ODE rows compare with CasADi's Opti, the same Euler steps written as its manual does.

    python benchmarks/02_condensed.py [--tiny]
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue as queue_module
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import casadi as ca
import numpy as np

import dnlcontrol as dnl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import o4_bryson_denham, o5b_van_der_pol, two_class_toy

SILENT = {"ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes", "ipopt.tol": 1e-9}


def lifted_toy(problem: dnl.ControlProblem, L: int, alpha: float) -> float:
    """Dense form C with H1 penalty and squared loss on x_1: states x^1..x^L and controls are unknowns."""
    X, y = problem.x0, problem.terminal.target
    N, d = X.shape
    W0, b0 = (problem.controls[k].initial for k in ("W", "b"))
    start = np.concatenate([np.ravel(W0, order="F"), np.ravel(b0)])
    x, W, b = ca.SX.sym("x", d), ca.SX.sym("W", d, d), ca.SX.sym("b", d)
    kernel = ca.Function("k", [x, W, b], [ca.tanh(W @ x + b)]).map(N)
    tau, u, unknowns, guess = 1 / L, {}, [], []
    for s in range(L):
        for l in range(s + 1, L + 1):
            u[l, s] = ca.MX.sym("u", d * d + d)
            unknowns.append(u[l, s])
            guess.append(start)
    states = [ca.MX(ca.DM(X.T))]
    for _ in range(L):
        states.append(ca.MX.sym("x", d, N))
        unknowns.append(ca.vec(states[-1]))
        guess.append(X.ravel())
    rows = []
    for l in range(1, L + 1):
        z = 0
        for s in range(l):
            W, b = ca.reshape(u[l, s][: d * d], d, d), u[l, s][d * d :]
            z = z + kernel(states[s], ca.repmat(W, 1, N), ca.repmat(b, 1, N))
        rows.append(ca.vec(states[l] - states[0] - tau * z))
    penalty = 0
    for (l, s), v in u.items():
        penalty += tau**2 * (0.5 if s == l - 1 else 1.0) * ca.sumsqr(v)
        for near in ((l + 1, s), (l, s + 1)):
            if near in u:
                penalty += ca.sumsqr(u[near] - v)
    cost = ca.sumsqr(states[L][0, :].T - ca.DM(y.ravel())) / N + alpha / 2 * penalty
    nlp = {"x": ca.vertcat(*unknowns), "f": cost, "g": ca.vertcat(*rows)}
    solver = ca.nlpsol("baseline", "ipopt", nlp, {**SILENT, "ipopt.mumps_pivot_order": 5})
    return float(solver(x0=np.concatenate(guess), lbg=0, ubg=0)["f"])


def opti_van_der_pol(L: int) -> float:
    opti, h = ca.Opti(), 2.0 / L
    x, u = opti.variable(2, L + 1), opti.variable(1, L)
    cost = 0
    for k in range(L):
        x1, x2 = x[0, k], x[1, k]
        opti.subject_to(x[:, k + 1] == x[:, k] + h * ca.vertcat(x2, (1 - x1**2) * x2 - x1 + u[k]))
        cost += 0.5 * h * (x1**2 + x2**2 + u[k] ** 2)
    opti.subject_to(x[:, 0] == ca.vertcat(1, 0))
    opti.subject_to(opti.bounded(-0.3, u, 1.0))
    opti.minimize(cost)
    opti.solver("ipopt", {k: v for k, v in SILENT.items() if k == "print_time"} | {"ipopt": IPOPT})
    return float(opti.solve().value(cost))


def opti_bryson_denham(L: int) -> float:
    opti, h = ca.Opti(), 1.0 / L
    x, u = opti.variable(2, L + 1), opti.variable(1, L)
    for k in range(L):
        opti.subject_to(x[:, k + 1] == x[:, k] + h * ca.vertcat(x[1, k], u[k]))
        opti.subject_to(x[0, k + 1] <= 1 / 9)
    opti.subject_to(x[:, 0] == ca.vertcat(0, 1))
    opti.subject_to(x[:, L] == ca.vertcat(0, -1))
    cost = 0.5 * h * ca.sumsqr(u)
    opti.minimize(cost)
    opti.solver("ipopt", {"print_time": False, "ipopt": IPOPT})
    return float(opti.solve().value(cost))


IPOPT = {"print_level": 0, "sb": "yes", "tol": 1e-9}


def bounded_van_der_pol() -> dnl.ControlProblem:
    plain = o5b_van_der_pol.problem()
    return dnl.ControlProblem(
        name="van der Pol, bounded", horizon=plain.horizon, x0=plain.x0, dynamics=plain.dynamics, running=plain.running,
        regularisers=plain.regularisers, controls={"u": dnl.Control((), lower=-0.3, upper=1.0)})  # fmt: skip


def timed(run: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Median seconds and the value."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        value = run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), value


def _child(run: Callable[..., float], arguments: tuple, queue: multiprocessing.Queue) -> None:
    began = time.perf_counter()
    value = run(*arguments)
    queue.put((time.perf_counter() - began, value))


def capped(run: Callable[..., float], arguments: tuple, limit: float) -> tuple[float, float | None]:
    """Seconds and value of one run in a process of its own, stopped at ``limit`` seconds."""
    queue: multiprocessing.Queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=_child, args=(run, arguments, queue))
    process.start()
    try:
        return queue.get(timeout=limit)
    except queue_module.Empty:
        process.kill()
        return limit, None
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    tiny = parser.parse_args().tiny
    repeats = 1 if tiny else 3
    dnl.solve(two_class_toy.problem(samples=4), 2)  # loads every library
    print(f"{'problem':38} {'ours/s':>7} {'peer/s':>7} {'peer/ours':>10}  {'our value':11}  peer's value")
    toys = (
        [({"samples": 4}, 3)]
        if tiny
        else [({}, 16), ({"samples": 20, "width": 4}, 8), ({"samples": 150, "width": 4}, 8)]
    )
    reference = None
    for parameters, L in toys:
        problem = two_class_toy.problem(**parameters)
        ours, value = timed(lambda p=problem, L=L: dnl.solve(p, L, formulation="condensed").value, repeats)
        theirs, other = capped(lifted_toy, (problem, L, 2e-2), max(50 * ours, 5.0))
        reference = reference or theirs
        _row(f"toy {parameters or ''} L={L}", ours, theirs, value, other)
    if not tiny:
        ours, _ = timed(lambda: dnl.solve(two_class_toy.problem(), 32, formulation="condensed").value, repeats)
        print(f"{'toy L=32 against the peer at L=16':38} {ours:7.2f} {reference:7.2f} {reference / ours:10.1f}")
    L = 20 if tiny else 200
    for name, problem, peer in (("van der Pol, bounded", bounded_van_der_pol(), opti_van_der_pol),
                                ("Bryson-Denham", o4_bryson_denham.problem(), opti_bryson_denham)):  # fmt: skip
        ours, value = timed(lambda p=problem: dnl.solve(p, L).value, repeats)
        theirs, other = timed(lambda peer=peer: peer(L), repeats)
        _row(f"{name} L={L}, Opti", ours, theirs, value, other)


def _row(name: str, ours: float, theirs: float, value: float, other: float | None) -> None:
    ratio = f"{theirs / ours:10.1f}" if other is not None else f"{'> ' + format(theirs / ours, '.0f'):>10}"
    told = f"{other:.9f}" if other is not None else "stopped"
    print(f"{name:38} {ours:7.2f} {theirs:7.2f} {ratio}  {value:.9f}  {told}", flush=True)


if __name__ == "__main__":
    main()
