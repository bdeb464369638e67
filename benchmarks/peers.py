"""The problems of benchmark 02 as a user would write them for a peer; every one returns its value.

    lifted_toy     CasADi by hand: mapped SX Functions, exact Hessian, IPOPT with
                   mumps_pivot_order = 5
    opti_loop      CasADi's Opti as its manual writes it, one constraint a step;
                   expand=True, which is the faster way
    opti_array     Opti with all steps in one array expression; possible where f is made of
                   elementwise operations
    rockit_euler   rockit-meco: multiple shooting, one explicit Euler step an interval; expand=True

All ODE peers solve the same program (left rectangle rule) with IPOPT to 1e-9 from x = u = 0, their
own default.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import dnlcontrol as dnl
from problems import o5b_van_der_pol

IPOPT = {"print_level": 0, "sb": "yes", "tol": 1e-9}
VAN_DER_POL, BRYSON_DENHAM = "van der Pol, bounded", "Bryson-Denham"


def bounded_van_der_pol() -> dnl.ControlProblem:
    """Ours: problem O5b with -0.3 <= u <= 1."""
    plain = o5b_van_der_pol.problem()
    return dnl.ControlProblem(
        name="van der Pol, bounded",
        horizon=plain.horizon,
        x0=plain.x0,
        dynamics=plain.dynamics,
        running=plain.running,
        regularisers=plain.regularisers,
        controls={"u": dnl.Control((), lower=-0.3, upper=1.0)},
    )


def lifted_toy(problem: dnl.ControlProblem, L: int, alpha: float) -> float:
    """The optimal value from the problem's own cold start."""
    solver, guess, _ = _lifted(problem, L, alpha)
    return float(solver(x0=guess, lbg=0, ubg=0)["f"])


def lifted_toy_near(
    problem: dnl.ControlProblem, L: int, alpha: float, ours: dnl.Solution, noise: float
) -> float:
    """How far from our controls the script ends (largest entry) when it starts beside them."""
    solver, _, order = _lifted(problem, L, alpha)
    W, b = ours.controls["W"], ours.controls["b"]
    flat = [np.concatenate([np.ravel(W.at(l, s), order="F"), b.at(l, s)]) for l, s in order]
    controls = np.concatenate(flat)
    start = np.concatenate([controls, ours.states[1:].ravel()])
    start += noise * np.random.default_rng(0).standard_normal(start.size)
    found = np.array(solver(x0=start, lbg=0, ubg=0)["x"]).ravel()
    return float(np.abs(found[: controls.size] - controls).max())


def _lifted(
    problem: dnl.ControlProblem, L: int, alpha: float
) -> tuple[Any, np.ndarray, list[tuple[int, int]]]:
    """Dense form C, H1 penalty, squared loss on x_1; states x^1..x^L and controls are unknowns.

    The solver, the cold start and the order (l, s) of the controls.
    """
    X, y = problem.x0, problem.terminal.target
    N, d = X.shape
    W0, b0 = (problem.controls[k].initial for k in ("W", "b"))
    start = np.concatenate([np.ravel(W0, order="F"), np.ravel(b0)])
    x = ca.SX.sym("x", d)
    W = ca.SX.sym("W", d, d)
    b = ca.SX.sym("b", d)
    kernel = ca.Function("k", [x, W, b], [ca.tanh(W @ x + b)]).map(N)
    tau = 1 / L
    u = {}
    unknowns = []
    guess = []
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
    options = {"print_time": False, "ipopt": {**IPOPT, "mumps_pivot_order": 5}}
    return ca.nlpsol("baseline", "ipopt", nlp, options), np.concatenate(guess), list(u)


def opti_loop(name: str, L: int) -> float:
    """One constraint for each step, as in Opti's manual."""
    opti, (h, start) = ca.Opti(), _setting(name, L)
    x = opti.variable(2, L + 1)
    u = opti.variable(1, L)
    cost = 0
    for k in range(L):
        f, running = _step(name, x[:, k], u[k])
        opti.subject_to(x[:, k + 1] == x[:, k] + h * f)
        cost += h * running
        if name == BRYSON_DENHAM:
            opti.subject_to(x[0, k + 1] <= 1 / 9)
    return _solved(opti, name, x, u, start, cost, expand=True)


def opti_array(name: str, L: int) -> float:
    """All steps in one constraint; on MX of this size ``expand`` costs more than it gains."""
    opti, (h, start) = ca.Opti(), _setting(name, L)
    x, u = opti.variable(2, L + 1), opti.variable(1, L)
    f, running = _step(name, x[:, :L], u)
    opti.subject_to(x[:, 1:] == x[:, :L] + h * f)
    if name == BRYSON_DENHAM:
        opti.subject_to(x[0, 1:] <= 1 / 9)
    return _solved(opti, name, x, u, start, h * ca.sum2(running), expand=False)


def _step(name: str, x: Any, u: Any) -> tuple[Any, Any]:
    """f and the running cost at the columns of x and u."""
    x1, x2 = x[0, :], x[1, :]
    if name == VAN_DER_POL:
        return ca.vertcat(x2, (1 - x1**2) * x2 - x1 + u), 0.5 * (x1**2 + x2**2 + u**2)
    return ca.vertcat(x2, u), 0.5 * u**2


def _setting(name: str, L: int) -> tuple[float, Any]:
    """The step and x(0)."""
    return (2.0 / L, ca.vertcat(1, 0)) if name == VAN_DER_POL else (1.0 / L, ca.vertcat(0, 1))


def _solved(opti: Any, name: str, x: Any, u: Any, start: Any, cost: Any, expand: bool) -> float:
    opti.subject_to(x[:, 0] == start)
    if name == VAN_DER_POL:
        opti.subject_to(opti.bounded(-0.3, u, 1.0))
    else:
        opti.subject_to(x[:, -1] == ca.vertcat(0, -1))
    opti.minimize(cost)
    opti.solver("ipopt", {"print_time": False, "expand": expand, "ipopt": IPOPT})
    return float(opti.solve().value(cost))


def rockit_euler(name: str, L: int) -> float:
    """The continuous problem; rockit discretises it."""
    import rockit

    h, start = _setting(name, L)
    ocp = rockit.Ocp(T=h * L)
    x, u = ocp.state(2), ocp.control()
    f, running = _step(name, x, u)
    ocp.set_der(x, f)
    ocp.add_objective(ocp.integral(running))
    ocp.subject_to(ocp.at_t0(x) == start)
    if name == VAN_DER_POL:
        ocp.subject_to((u <= 1.0) >= -0.3)
    else:
        ocp.subject_to(ocp.at_tf(x) == ca.vertcat(0, -1))
        ocp.subject_to(x[0] <= 1 / 9)
    ocp.method(rockit.MultipleShooting(N=L, intg="expl_euler"))
    ocp.solver("ipopt", {"print_time": False, "expand": True, "ipopt": IPOPT})
    return float(ocp.solve().value(ocp.objective))


def rockit_is_here() -> bool:
    return find_spec("rockit") is not None
