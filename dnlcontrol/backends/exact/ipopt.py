"""IPOPT as both formulations call it: options, words, log, first barrier parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnlcontrol.backends.exact.budget import ITERATIONS, Budget
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.evaluator import Products
from dnlcontrol.minimise.faces import held_entries, stationarity
from dnlcontrol.minimise.multipliers import Multipliers

CONTRADICTION = "Invalid_Problem_Definition"  # infeasible whatever the start
WORDS = {
    "Solve_Succeeded": "IPOPT converged",
    "Solved_To_Acceptable_Level": "IPOPT converged to its acceptable level",
    "Infeasible_Problem_Detected": "IPOPT found the constraints locally infeasible; loosen a "
    "bound or start elsewhere",
    "Search_Direction_Becomes_Too_Small": "IPOPT could make no more progress in float64",
    "Restoration_Failed": "IPOPT could not restore feasibility; start from a feasible control",
    "Diverging_Iterates": "the iterates diverge; bound the controls, add a regulariser, start "
    "closer, or take a larger depth",
    "Invalid_Number_Detected": "a formula gave NaN or infinity; bound the controls or the states",
    "Not_Enough_Degrees_Of_Freedom": "there are more equality constraints than controls; drop some",
    CONTRADICTION: "two constraints contradict each other: a lower side lies above "
    "an upper one; loosen one of them",
}
# iterations (IPOPT's count, or the calls that a :class:`Follower` counts) or time
LIMITS = {
    "Maximum_Iterations_Exceeded",
    "Maximum_CpuTime_Exceeded",
    "Maximum_WallTime_Exceeded",
    "User_Requested_Stop",
}
INFEASIBLE_STATUS = {"Infeasible_Problem_Detected", CONTRADICTION}

# A start with multipliers: a small first barrier parameter, and a start that is hardly moved off
# its bounds. Where it has not converged after WARM_ITERATIONS, the multipliers were of no use.
# Measured on benchmarks/03_warm_start.py.
WARM_BARRIER = 1e-6
WARM_PUSH = 1e-13
WARM_ITERATIONS = 100
# Unknowns of size 1 that grow beyond: their rows have lost what a tolerance asks for. IPOPT's own
# 1e20 is not reached where rounding of the rows holds the steps back: 3,000 iterations at 1e19.
DIVERGED = 1e14
LEAST_SECONDS = 1e-3  # IPOPT takes no time limit of 0

LogLine = tuple[int, float, float, float, int]
"""One iteration: number, value, dual infeasibility, barrier parameter (or radius), inner steps."""


def ipopt_options(
    tolerance: float, budget: Budget, verbose: bool, barrier: float | None = None
) -> dict[str, Any]:
    """What both formulations ask of IPOPT; with a first ``barrier`` parameter it starts warm."""
    # A hundredth of the tolerance leaves room between IPOPT's max-norm and the dual norm that is
    # reported.
    tight = min(1e-2 * tolerance, 1e-9)
    iterations = min(budget.left, ITERATIONS if barrier is None else WARM_ITERATIONS)
    options: dict[str, Any] = {
        "ipopt.tol": tight,
        "ipopt.dual_inf_tol": tight,
        "ipopt.constr_viol_tol": tight,
        "ipopt.compl_inf_tol": tight,
        "ipopt.acceptable_iter": 0,
        "ipopt.max_iter": iterations,
        "ipopt.bound_relax_factor": 0.0,
        "ipopt.diverging_iterates_tol": DIVERGED,
        "error_on_fail": False,
        # it would print of equality constraints that outnumber the unknowns
        "inputs_check": False,
    }
    if np.isfinite(budget.deadline.end):
        options["ipopt.max_wall_time"] = max(budget.deadline.left, LEAST_SECONDS)
    if barrier is not None:
        options |= {"ipopt.warm_start_init_point": "yes", "ipopt.mu_init": barrier}
        for name in (
            "bound_push",
            "bound_frac",
            "slack_bound_push",
            "slack_bound_frac",
            "mult_bound_push",
        ):
            options[f"ipopt.warm_start_{name}"] = WARM_PUSH
    if not verbose:
        options |= {
            "ipopt.print_level": 0,
            "ipopt.sb": "yes",
            "print_time": False,
            "show_eval_warnings": False,
        }
    return options


def words_of(status: str, budget: Budget) -> str:
    """The message of a solve that ended with a status of IPOPT's."""
    if status in LIMITS:
        return budget.words
    return WORDS.get(status, f"IPOPT stopped: {status}")


def iterations_of(stats: Mapping[str, Any]) -> int:
    """Iterations made; where IPOPT refuses a program before the first, its count is not set."""
    return int(stats["iter_count"]) if stats.get("iterations") else 0


def ipopt_log(stats: Mapping[str, Any]) -> tuple[LogLine, ...]:
    """IPOPT's iterations: number, value, dual infeasibility, barrier parameter, 0."""
    seen = stats.get("iterations") or {}
    columns = [seen.get(k, ()) for k in ("obj", "inf_du", "mu")]
    return tuple(
        (i, float(f), float(d), float(m), 0)
        for i, (f, d, m) in enumerate(zip(*columns, strict=True))
    )


def first_barrier(evaluator: Products, w: Flat, mu: RowVector) -> float:
    """What w (size,) and μ (rows.size,) leave of the optimality conditions, at most WARM_BARRIER.

    A solution is recognised at once.
    """
    at = evaluator.trajectory(w, Multipliers(mu))
    left = max(
        stationarity(evaluator.space, w, at.gradient),
        np.max(evaluator.rows.violation(at.constraints), initial=0),
        np.max(evaluator.rows.slack(at.constraints, mu), initial=0),
    )
    return float(np.clip(left, 1e-11, WARM_BARRIER))


def on_control_bounds(space: ControlSpace, w: Flat, gradient: Flat) -> Flat:
    """Multipliers of the control bounds, (size,), where the Lagrangian's gradient pushes out."""
    return np.where(held_entries(space, w, gradient), -gradient, 0.0)
