"""Minimise the reduced problem: dense Newton without constraints, IPOPT on the reduced functions with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import casadi as ca
import numpy as np
from threadpoolctl import threadpool_limits

from dnlcontrol.backends.adjoint.active_set import newton_on_active
from dnlcontrol.backends.adjoint.newton import newton
from dnlcontrol.backends.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.condensed.objective import ReducedObjective
from dnlcontrol.backends.exact.interior_point import WORDS


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


def minimise(
    evaluator: ReducedEvaluator, w: np.ndarray, tolerance: float, limit: int, verbose: bool = False, cold: bool = True
) -> ReducedPoint:
    """From the controls w to a minimiser of the reduced problem; from a ``cold`` start saddles are looked for.

    BLAS runs on one thread: on shared cores its spinning threads cost more than a factorisation of this size gains
    (measured: a Cholesky factorisation of order 816 in 9 ms on one thread, in up to 500 ms on two of two busy cores),
    and one thread makes the iterates reproducible.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _minimise(evaluator, w, tolerance, limit, verbose, cold)


def _minimise(
    evaluator: ReducedEvaluator, w: np.ndarray, tolerance: float, limit: int, verbose: bool, cold: bool
) -> ReducedPoint:
    if evaluator.rows.size:
        point = interior_point(evaluator, w, tolerance, limit, verbose)
        if point.infeasible or point.limit:
            return point
        exact = newton_on_active(evaluator, point.w, point.multipliers, 1.0, 0.1 * tolerance)
        return point if exact is None else replace(point, w=exact.w, multipliers=exact.mu)
    outcome = newton(ReducedObjective(evaluator), w, tolerance, limit, leave_saddles=cold)
    log = tuple((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in outcome.log)
    stopped = outcome.iterations >= limit and not outcome.converged
    return ReducedPoint(outcome.w, np.zeros(0), outcome.message, False, stopped, outcome.iterations, log)


class _Function(ca.Callback):
    """A CasADi Function of dense columns that calls back into Python."""

    def __init__(self, name: str, inputs: list[int], outputs: list[Any], evaluate: Any) -> None:
        ca.Callback.__init__(self)
        self._inputs, self._outputs, self._evaluate = inputs, outputs, evaluate
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
    evaluator: ReducedEvaluator, w: np.ndarray, tolerance: float, limit: int, verbose: bool
) -> ReducedPoint:
    """IPOPT on J(w), c(w) with exact first derivatives and the exact dense Hessian of the Lagrangian."""
    n, m = evaluator.space.size, evaluator.rows.size
    upper = ca.Sparsity.upper(n)
    column, rows, scalar = ca.Sparsity.dense(n, 1), ca.Sparsity.dense(m, 1), ca.Sparsity.dense(1, 1)

    def gradient(x: np.ndarray, p: np.ndarray) -> tuple[Any, ...]:
        return evaluator.value_and_gradient(x)

    def jacobian(x: np.ndarray, p: np.ndarray) -> tuple[Any, ...]:
        at = evaluator.point(x)
        return at.constraints, at.jacobian

    def hessian(x: np.ndarray, p: np.ndarray, lam_f: np.ndarray, lam_g: np.ndarray) -> tuple[Any, ...]:
        sigma = float(lam_f[0])
        if sigma == 0.0:  # only the constraints: their Hessians are the difference of two Lagrangians
            H = evaluator.hessian(x, lam_g) - evaluator.hessian(x, np.zeros(m))
        else:
            H = sigma * evaluator.hessian(x, lam_g / sigma)
        return (ca.DM(upper, H[np.tril_indices(n)]),)  # column-major upper triangle of a symmetric matrix

    f = _Function("f", [n], [scalar], lambda x: (evaluator.value(x),))
    g = _Function("g", [n], [rows], lambda x: (evaluator.constraint_values(x),))
    grad_f = _Function("grad_f", [n, 0], [scalar, column], gradient)
    jac_g = _Function("jac_g", [n, 0], [rows, ca.Sparsity.dense(m, n)], jacobian)
    hess_lag = _Function("hess_lag", [n, 0, 1, m], [upper], hessian)
    x = ca.MX.sym("x", n)
    tight = min(1e-2 * tolerance, 1e-9)
    options: dict[str, Any] = {
        "grad_f": grad_f, "jac_g": jac_g, "hess_lag": hess_lag, "no_nlp_grad": True, "calc_lam_p": False,
        "error_on_fail": False,
        "ipopt.tol": tight, "ipopt.constr_viol_tol": tight, "ipopt.compl_inf_tol": tight, "ipopt.dual_inf_tol": tight,
        "ipopt.acceptable_iter": 0, "ipopt.max_iter": limit, "ipopt.bound_relax_factor": 0.0,
    }  # fmt: skip
    if not verbose:
        options.update({"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False, "show_eval_warnings": False})
    solver = ca.nlpsol("condensed", "ipopt", {"x": x, "f": f(x), "g": g(x)}, options)
    lower, upper_bound = evaluator.space.bounds
    low, high = evaluator.rows.bounds
    result = solver(x0=w, lbx=lower, ubx=upper_bound, lbg=low, ubg=high)
    stats = solver.stats()
    status = str(stats["return_status"])
    return ReducedPoint(
        np.clip(np.array(result["x"]).ravel(), lower, upper_bound), np.array(result["lam_g"]).ravel(),
        WORDS.get(status, f"IPOPT stopped: {status}"), status == "Infeasible_Problem_Detected",
        status == "Maximum_Iterations_Exceeded", int(stats["iter_count"]),
    )  # fmt: skip
