"""Minimise the reduced problem: dense Newton without constraints, IPOPT on the reduced functions
with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import casadi as ca
import numpy as np
from threadpoolctl import threadpool_limits

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.objective import ReducedObjective
from dnlcontrol.backends.exact.ipopt import (
    WORDS,
    first_barrier,
    ipopt_log,
    ipopt_options,
    on_control_bounds,
)
from dnlcontrol.minimise.active_set import newton_on_active
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.newton import newton


@dataclass(frozen=True)
class ReducedPoint:
    """Controls, multipliers of the rows, and how the solver ended."""

    w: np.ndarray
    multipliers: np.ndarray
    message: str
    infeasible: bool
    limit: bool
    iterations: int
    log: tuple[Any, ...] = ()

    @property
    def converged(self) -> bool:
        return self.message == WORDS["Solve_Succeeded"]


def minimise(
    evaluator: ReducedEvaluator,
    w: np.ndarray,
    tolerance: float,
    limit: int,
    verbose: bool = False,
    cold: bool = True,
    mu: np.ndarray | None = None,
) -> ReducedPoint:
    """From the controls w, and multipliers μ, to a minimiser; from a ``cold`` start saddles are
    looked for.

    BLAS runs on one thread: on shared cores its spinning threads cost more than a factorisation of
    this size gains (measured: a Cholesky factorisation of order 816 in 9 ms on one thread, in up to
    500 ms on two of two busy cores), and one thread makes the iterates reproducible.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _minimise(evaluator, w, tolerance, limit, verbose, cold, mu)


def _minimise(
    evaluator: ReducedEvaluator,
    w: np.ndarray,
    tolerance: float,
    limit: int,
    verbose: bool,
    cold: bool,
    mu: np.ndarray | None,
) -> ReducedPoint:
    if evaluator.rows.size:
        point = interior_point(evaluator, w, tolerance, limit, verbose, mu)
        if mu is not None and not point.converged and point.iterations < limit:
            spent, lines = point.iterations, point.log
            point = interior_point(evaluator, w, tolerance, limit, verbose)
            point = replace(point, iterations=spent + point.iterations, log=(*lines, *point.log))
        if point.infeasible or point.limit:
            return point
        exact = newton_on_active(evaluator, point.w, point.multipliers, 1.0, 0.1 * tolerance)
        return point if exact is None else replace(point, w=exact.w, multipliers=exact.mu)
    outcome = newton(ReducedObjective(evaluator), w, tolerance, limit, cold=cold)
    log = tuple((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in outcome.log)
    stopped = outcome.iterations >= limit and not outcome.converged
    return ReducedPoint(
        outcome.w, np.zeros(0), outcome.message, False, stopped, outcome.iterations, log
    )


class _Function(ca.Callback):
    """A CasADi Function of dense columns that calls back into Python."""

    def __init__(self, name: str, inputs: list[int], outputs: list[Any], evaluate: Any) -> None:
        ca.Callback.__init__(self)
        self._inputs = inputs
        self._outputs = outputs
        self._evaluate = evaluate
        self.construct(name, {})

    def get_n_in(self) -> int:
        return len(self._inputs)

    def get_n_out(self) -> int:
        return len(self._outputs)

    def get_sparsity_in(self, i: int) -> Any:
        return ca.Sparsity.dense(self._inputs[i], 1 if self._inputs[i] else 0)

    def get_sparsity_out(self, i: int) -> Any:
        return self._outputs[i]

    def eval(self, arguments: Any) -> list[Any]:
        return [ca.DM(v) for v in self._evaluate(*(np.array(a).ravel() for a in arguments))]


def interior_point(
    evaluator: ReducedEvaluator,
    w: np.ndarray,
    tolerance: float,
    limit: int,
    verbose: bool,
    mu: np.ndarray | None = None,
) -> ReducedPoint:
    """IPOPT on J(w), c(w) with exact first derivatives and the exact dense Hessian of the
    Lagrangian; from w and μ.
    """
    n, m = evaluator.space.size, evaluator.rows.size
    upper = ca.Sparsity.upper(n)
    column = ca.Sparsity.dense(n, 1)
    rows = ca.Sparsity.dense(m, 1)
    scalar = ca.Sparsity.dense(1, 1)

    def gradient(x: np.ndarray, p: np.ndarray) -> tuple[Any, ...]:
        return evaluator.value_and_gradient(x)

    def jacobian(x: np.ndarray, p: np.ndarray) -> tuple[Any, ...]:
        at = evaluator.point(x)
        return at.constraints, at.jacobian

    def hessian(
        x: np.ndarray, p: np.ndarray, lam_f: np.ndarray, lam_g: np.ndarray
    ) -> tuple[Any, ...]:
        sigma = float(lam_f[0])
        # only the constraints: their Hessians are the difference of two Lagrangians
        if sigma == 0.0:
            H = evaluator.hessian(x, lam_g) - evaluator.hessian(x, np.zeros(m))
        else:
            H = sigma * evaluator.hessian(x, lam_g / sigma)
        # column-major upper triangle of a symmetric matrix
        return (ca.DM(upper, H[np.tril_indices(n)]),)

    f = _Function("f", [n], [scalar], lambda x: (evaluator.value(x),))
    g = _Function("g", [n], [rows], lambda x: (evaluator.constraint_values(x),))
    grad_f = _Function("grad_f", [n, 0], [scalar, column], gradient)
    jac_g = _Function("jac_g", [n, 0], [rows, ca.Sparsity.dense(m, n)], jacobian)
    hess_lag = _Function("hess_lag", [n, 0, 1, m], [upper], hessian)
    x = ca.MX.sym("x", n)
    options = ipopt_options(
        tolerance, limit, verbose, None if mu is None else first_barrier(evaluator, w, mu)
    )
    options |= {
        "grad_f": grad_f,
        "jac_g": jac_g,
        "hess_lag": hess_lag,
        "no_nlp_grad": True,
        "calc_lam_p": False,
    }
    solver = ca.nlpsol("condensed", "ipopt", {"x": x, "f": f(x), "g": g(x)}, options)
    lower, upper_bound = evaluator.space.bounds
    low, high = evaluator.rows.bounds
    duals = {}
    if mu is not None:
        at = evaluator.trajectory(w, Multipliers(mu))
        duals = {"lam_g0": mu, "lam_x0": on_control_bounds(evaluator.space, w, at.gradient)}
    result = solver(x0=w, lbx=lower, ubx=upper_bound, lbg=low, ubg=high, **duals)
    stats = solver.stats()
    status = str(stats["return_status"])
    return ReducedPoint(
        np.clip(np.array(result["x"]).ravel(), lower, upper_bound),
        np.array(result["lam_g"]).ravel(),
        WORDS.get(status, f"IPOPT stopped: {status}"),
        status == "Infeasible_Problem_Detected",
        status == "Maximum_Iterations_Exceeded",
        int(stats["iter_count"]),
        ipopt_log(stats),
    )
