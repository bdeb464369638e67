"""Minimise the reduced problem: Newton's method without constraints, IPOPT with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import casadi as ca
import numpy as np
from threadpoolctl import threadpool_limits

from dnlcontrol.backends.exact.budget import Budget
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.objective import ReducedObjective
from dnlcontrol.backends.exact.follower import Follower
from dnlcontrol.backends.exact.ipopt import (
    INFEASIBLE_STATUS,
    LIMITS,
    WORDS,
    LogLine,
    first_barrier,
    ipopt_log,
    ipopt_options,
    iterations_of,
    on_control_bounds,
    words_of,
)
from dnlcontrol.backends.watch import OutOfTime, Watch
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.active_set import MOST_STEPS, KKTPoint, Patience, newton_on_active
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.newton import newton
from dnlcontrol.minimise.outcome import Iterate, Outcome

LARGEST_CONTROL = 1e20  # beyond, iterates diverge: IPOPT's own bound


@dataclass(frozen=True)
class CondensedOutcome:
    """Controls w (size,), multipliers of the rows (rows.size,), and how the solver ended."""

    w: Flat
    multipliers: RowVector
    message: str
    infeasible: bool
    at_limit: bool
    iterations: int
    log: tuple[LogLine, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether IPOPT says so."""
        return self.message == WORDS["Solve_Succeeded"]


def minimise(
    evaluator: ReducedEvaluator,
    w: Flat,
    tolerance: float,
    budget: Budget,
    verbose: bool = False,
    cold: bool = True,
    mu: RowVector | None = None,
) -> CondensedOutcome:
    """From the controls w, and multipliers μ, to a minimiser.

    From a ``cold`` start saddles are looked for.

    BLAS runs on one thread: on shared cores its spinning threads cost more than a factorisation of
    this size gains (measured: a Cholesky factorisation of order 816 in 9 ms on one thread, in up to
    500 ms on two of two busy cores), and one thread makes the iterates reproducible.
    """
    with turn(), threadpool_limits(limits=1, user_api="blas"):
        if evaluator.rows.size:
            return _constrained(evaluator, w, tolerance, budget, verbose, mu)
        return _unconstrained(evaluator, w, tolerance, budget, cold)


def _unconstrained(
    evaluator: ReducedEvaluator, w: Flat, tolerance: float, budget: Budget, cold: bool
) -> CondensedOutcome:
    """Newton's method in the bounds of the controls."""
    outcome = newton_in_time(evaluator, w, tolerance, budget, cold)
    log = ((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in outcome.log)
    return CondensedOutcome(
        w=outcome.w,
        multipliers=np.zeros(0),
        message=outcome.message,
        infeasible=False,
        at_limit=budget.over and not outcome.converged,
        iterations=outcome.iterations,
        log=tuple(log),
    )


class Diverged(Exception):
    """Raised by :func:`newton_in_time` inside Newton's method, and caught there."""


def newton_in_time(
    evaluator: ReducedEvaluator,
    w: Flat,
    tolerance: float,
    budget: Budget,
    cold: bool = False,
) -> Outcome:
    """Newton's method from w (size,) until the budget is over.

    Its last iterate where the time is, or where the controls are beyond LARGEST_CONTROL.
    """
    evaluator.watch = watch = Watch(budget.deadline)
    objective = ReducedObjective(evaluator)

    def tell(iterate: Iterate) -> None:
        watch.told(iterate)
        if watch.current is not None and np.abs(watch.current.w).max() > LARGEST_CONTROL:
            raise Diverged

    try:
        with watch.armed():
            outcome = newton(objective, w, tolerance, budget.left, tell, cold=cold)
    except OutOfTime:
        outcome = watch.outcome(w)
    except Diverged:
        outcome = replace(watch.outcome(w), message=WORDS["Diverging_Iterates"])
    budget.take(outcome.iterations)
    return outcome


def on_active(
    evaluator: ReducedEvaluator, w: Flat, mu: RowVector, tolerance: float, budget: Budget
) -> KKTPoint | None:
    """Newton steps on the active rows, to a tenth of the tolerance; None where they fail.

    Or where the budget is over first.
    """
    if budget.over:
        return None
    evaluator.watch = watch = Watch(budget.deadline)
    patience = Patience(steps=min(MOST_STEPS, budget.left))
    try:
        with watch.armed():
            exact = newton_on_active(evaluator, w, mu, 1.0, 0.1 * tolerance, patience=patience)
    except OutOfTime:
        return None
    budget.take(patience.steps if exact is None else len(exact.log))
    return exact


def _constrained(
    evaluator: ReducedEvaluator,
    w: Flat,
    tolerance: float,
    budget: Budget,
    verbose: bool,
    mu: RowVector | None,
) -> CondensedOutcome:
    """IPOPT, again without μ where it was of no use, then steps on the active rows."""
    point = interior_point(evaluator, w, tolerance, budget, verbose, mu)
    if mu is not None and not point.converged and not budget.over:
        spent = point
        point = interior_point(evaluator, w, tolerance, budget, verbose)
        point = replace(
            point,
            iterations=spent.iterations + point.iterations,
            log=(*spent.log, *point.log),
        )
    if point.infeasible or budget.over or not np.all(np.isfinite(point.w)):
        return point
    exact = on_active(evaluator, point.w, point.multipliers, tolerance, budget)
    return point if exact is None else replace(point, w=exact.w, multipliers=exact.mu)


class _Function(ca.Callback):
    """A CasADi Function of dense columns that calls back into Python.

    CasADi does not keep it alive.
    """

    def __init__(
        self,
        name: str,
        inputs: list[int],
        outputs: list[ca.Sparsity],
        evaluate: Callable[..., tuple[Any, ...]],
    ) -> None:
        ca.Callback.__init__(self)
        self._inputs = inputs
        self._outputs = outputs
        self._evaluate = evaluate
        self.construct(name, {})

    def get_n_in(self) -> int:
        return len(self._inputs)

    def get_n_out(self) -> int:
        return len(self._outputs)

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        return ca.Sparsity.dense(self._inputs[i], 1 if self._inputs[i] else 0)

    def get_sparsity_out(self, i: int) -> ca.Sparsity:
        return self._outputs[i]

    def eval(self, arguments: Sequence[ca.DM]) -> list[ca.DM]:
        return [ca.DM(v) for v in self._evaluate(*(np.array(a).ravel() for a in arguments))]


class _Callbacks:
    """J, c and their derivatives as CasADi Functions, alive as long as this object is."""

    def __init__(self, evaluator: ReducedEvaluator) -> None:
        self.evaluator = evaluator
        n, m = evaluator.space.size, evaluator.rows.size
        self._upper = ca.Sparsity.upper(n)
        column = ca.Sparsity.dense(n, 1)
        rows = ca.Sparsity.dense(m, 1)
        scalar = ca.Sparsity.dense(1, 1)
        self.f = _Function("f", [n], [scalar], lambda x: (evaluator.value(x),))
        self.g = _Function("g", [n], [rows], lambda x: (evaluator.constraint_values(x),))
        self.derivatives = {
            "grad_f": _Function("grad_f", [n, 0], [scalar, column], self._gradient),
            "jac_g": _Function("jac_g", [n, 0], [rows, ca.Sparsity.dense(m, n)], self._jacobian),
            "hess_lag": _Function("hess_lag", [n, 0, 1, m], [self._upper], self._hessian),
        }

    @property
    def nlp(self) -> dict[str, ca.MX]:
        """The nonlinear program as ``casadi.nlpsol`` takes it."""
        x = ca.MX.sym("x", self.evaluator.space.size)
        return {"x": x, "f": self.f(x), "g": self.g(x)}

    @property
    def options(self) -> dict[str, Any]:
        """What tells ``casadi.nlpsol`` to use these derivatives and form no others."""
        return {**self.derivatives, "no_nlp_grad": True, "calc_lam_p": False}

    def _gradient(self, x: Flat, _p: np.ndarray) -> tuple[float, Flat]:
        return self.evaluator.value_and_gradient(x)

    def _jacobian(self, x: Flat, _p: np.ndarray) -> tuple[RowVector, np.ndarray]:
        at = self.evaluator.point(x)
        return at.constraints, at.jacobian

    def _hessian(
        self, x: Flat, _p: np.ndarray, lam_f: np.ndarray, lam_g: RowVector
    ) -> tuple[ca.DM]:
        hessian, sigma = self.evaluator.hessian, float(lam_f[0])
        # only the constraints: their Hessians are the difference of two Lagrangians
        if sigma == 0.0:
            H = hessian(x, lam_g) - hessian(x, np.zeros_like(lam_g))
        else:
            H = sigma * hessian(x, lam_g / sigma)
        # column-major upper triangle of a symmetric matrix
        return (ca.DM(self._upper, H[np.tril_indices(x.size)]),)


def interior_point(
    evaluator: ReducedEvaluator,
    w: Flat,
    tolerance: float,
    budget: Budget,
    verbose: bool,
    mu: RowVector | None = None,
) -> CondensedOutcome:
    """IPOPT on J(w), c(w); from w and μ. At a limit the best iterate.

    With exact first derivatives and the exact dense Hessian of the Lagrangian.
    """
    barrier = None if mu is None else first_barrier(evaluator, w, mu)
    callbacks = _Callbacks(evaluator)
    follower = Follower(evaluator.space.size, evaluator.rows.size, budget, tolerance)
    options = ipopt_options(tolerance, budget, verbose, barrier) | callbacks.options
    options["iteration_callback"] = follower
    solver = ca.nlpsol("condensed", "ipopt", callbacks.nlp, options)
    space = evaluator.space
    lower, upper = space.bounds
    low, high = evaluator.rows.bounds
    follower.begin(low, high)
    duals = {}
    if mu is not None:
        at = evaluator.trajectory(w, Multipliers(mu))
        duals = {"lam_g0": mu, "lam_x0": on_control_bounds(space, w, at.gradient)}
    result = solver(x0=w, lbx=lower, ubx=upper, lbg=low, ubg=high, **duals)
    stats = solver.stats()
    status = str(stats["return_status"])
    budget.take(iterations_of(stats))
    point, lam_g = (np.array(result[k]).ravel() for k in ("x", "lam_g"))
    best = follower.best if status in LIMITS else None
    if best is not None:
        point = best.x
        lam_g = best.lam_g
    return CondensedOutcome(
        w=np.clip(point, lower, upper),
        multipliers=lam_g,
        message=words_of(status, budget),
        infeasible=status in INFEASIBLE_STATUS,
        at_limit=status in LIMITS,
        iterations=iterations_of(stats),
        log=ipopt_log(stats),
    )
