"""The error constant of the optimal value, from one discrete solution.

It is c in J_L = J* + c/L^p + o(L^-p). p is the order of the rule, 1 for the left rule and 2 for the
trapezoidal one. At a minimiser the value moves to first order only through the errors of the
quadratures, weighted with the costates (envelope theorem): see ``expansion_left`` and
``expansion_trapezoid`` for the terms.

Source: derived for this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.optimum import Optimum
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.files.turns import in_turn
from dnlcontrol.limits import expansion_left, expansion_trapezoid
from dnlcontrol.limits.jumps import Jump, first_jump, first_kink
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.solution import Solution

EXPANSIONS = {"left": (expansion_left, 1), "trapezoid": (expansion_trapezoid, 2)}
# limits at T are extrapolated from two or three layers inside
LEAST_DEPTH = {"left": 3, "trapezoid": 6}


@dataclass(frozen=True)
class ErrorConstant:
    """c in J_L = J* + c/L^p, estimated at one depth; p is the order of the rule.

    Attributes
    ----------
    constant : c, the sum of ``terms``; itself with an error O(1/L).
    value, depth : J_L and L.
    terms : contribution -> its share of c (named in the docstring of the rule's expansion, horizon
        T included).
    order : p, 1 for the left rule, 2 for the trapezoidal rule.
    corrected : J_L - c/L^p, an estimate of J* with an error of one order more.
    """

    constant: float
    value: float
    depth: int
    terms: Mapping[str, float]
    order: int = 1

    @property
    def corrected(self) -> float:
        return self.value - self.constant / self.depth**self.order


@in_turn
def error_constant(solution: Solution) -> ErrorConstant:
    """Predict c in J_L - J* = c/L + O(L^-2) without solving any finer problem.

    By the trapezoidal rule the expansion is c/L² + O(L^-3).

    Parameters
    ----------
    solution : a converged result of :func:`solve`, by any backend.

    Returns
    -------
    ErrorConstant. Its estimate of c from one depth is first-order accurate, so J_L - c/L is
    second-order accurate and the trapezoidal J_L - c/L² at least third-order. No formula may jump
    along the optimum (a kernel with a delay or a finite lifetime does). The kernel must be
    differentiable in s up to s = t: near a weak singularity of order r^β (for example (t-s)^{β}, 0
    < β < 1) the left rule's c is right with a remainder O(L^{-1-β}); the trapezoidal rule has no
    expansion of this kind then.

    Raises
    ------
    InputError where the expansion is not known: k(t, t) infinite or undefined; a formula that
    jumps; a triangular control without H1 or L2; an L2 penalty alone where a terminal load acts on
    the control's own last row (ill-posed); state bounds or path constraints that act on a
    triangular control through measures; a solution that is not converged or has lost its problem.
    By the trapezoidal rule also: a kernel with a kink in its times, or whose slope in s is infinite
    at s = t; a triangular control without H1; a bound on a control, a state or a path constraint
    that begins or ceases to hold on the way (the kink falls anywhere within a cell, so that
    L² (J_L - J*) has no limit).

    Source: derived for this project; the formulas are in the docstrings of the expansions.

    >>> import math, numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: 0.5 * x + u.u),
    ...     controls={"u": dnl.Control(())},
    ...     running=lambda t, x, u: u.u**2 + x * u.u + 1.25 * x**2,
    ... )
    >>> solution = dnl.solve(problem, depth=50, backend="adjoint")
    >>> found = dnl.error_constant(solution)  # J* = tanh 1, c = ½ tanh² 1
    >>> f"{solution.value - math.tanh(1):.0e}", f"{found.corrected - math.tanh(1):.0e}"
    ('6e-03', '3e-05')
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.minimise.multipliers import Multipliers

    problem = _checked(solution)
    discrete = discretise(problem, solution.depth, solution.rule)
    w = discrete.space.assemble(
        {name: control.values for name, control in solution.controls.items()}
    )
    mu = np.zeros(discrete.rows.size)
    for block in discrete.rows.blocks:
        mu[block.part] = np.asarray(solution.multipliers[block.constraint.name]).ravel()
    evaluator = Evaluator(discrete)
    at = Optimum(discrete, evaluator, evaluator.trajectory(w, Multipliers(mu)), w, mu)
    expansion, order = EXPANSIONS[solution.rule]
    expansion.refuse(at)
    _refuse_jumps(at)
    with np.errstate(all="ignore"):
        terms = expansion.terms(at)
    terms = {name: problem.horizon**order * float(value) + 0.0 for name, value in terms.items()}
    for name, value in terms.items():
        if not np.isfinite(value):
            checks.reject(
                "error_constant", f"{name}: {value}", "formulas that are finite at t = 0 and t = T"
            )
    return ErrorConstant(sum(terms.values()), solution.value, solution.depth, terms, order)


# -- what is not covered
def _refuse_jumps(at: Optimum) -> None:
    """The sums are off by a share of each jump, at second order of each kink."""
    jump = first_jump(at)
    if jump is not None:
        _refuse_at(jump, "jumps", "formulas without a jump (a delay, a finite lifetime, a switch)")
    kink = first_kink(at) if at.discrete.grid.at_nodes else None
    if kink is not None:
        _refuse_at(kink, "has a kink", "a kernel that is differentiable in its times (rule 'left')")


def _refuse_at(found: Jump, what: str, allowed: str) -> None:
    seen = f"{found.formula} that {what} at {found.place}"
    checks.reject("error_constant", seen, allowed)


def _checked(solution: object) -> ControlProblem:
    """The problem of a solution that the expansion may hold for."""
    if not isinstance(solution, Solution):
        checks.reject_type("error_constant", solution, "a Solution")
    problem = solution.problem
    if problem is None:
        seen = "a solution without its problem (as loaded from a run)"
        checks.reject(
            "error_constant", seen, "a result of solve(...), or replace(solution, problem=problem)"
        )
    if solution.rule not in EXPANSIONS:
        checks.reject("error_constant", f"rule {solution.rule!r}", f"one of {sorted(EXPANSIONS)}")
    if solution.depth < LEAST_DEPTH[solution.rule]:
        checks.reject(
            "error_constant", f"depth {solution.depth}", f"depth >= {LEAST_DEPTH[solution.rule]}"
        )
    if not solution.success:
        checks.reject(
            "error_constant",
            f"a solve that did not converge ({solution.message})",
            "a converged solution",
        )
    for name, control in problem.controls.items():
        if control.on == "ts" and not any(r.weight > 0 for r in problem.regularisers_of(name)):
            seen = f"triangular control {name!r} without a penalty"
            checks.reject("error_constant", seen, "triangular controls with an H1 or L2 penalty")
    return problem
