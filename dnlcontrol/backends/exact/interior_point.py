"""The lifted nonlinear program through IPOPT, from controls alone or from a primal-dual point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import casadi as ca
import numpy as np

from dnlcontrol.backends.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.sides import Sides
from dnlcontrol.backends.multipliers import Multipliers
from dnlcontrol.discrete import DiscreteProblem
from dnlcontrol.space.control_space import ControlSpace
from dnlcontrol.space.faces import held_entries, stationarity

WORDS = {
    "Solve_Succeeded": "IPOPT converged",
    "Solved_To_Acceptable_Level": "IPOPT converged to its acceptable level",
    "Maximum_Iterations_Exceeded": "IPOPT used up its iterations; raise max_iterations or start closer",
    "Infeasible_Problem_Detected": "IPOPT found the constraints locally infeasible; loosen a bound or start elsewhere",
    "Search_Direction_Becomes_Too_Small": "IPOPT could make no more progress in float64",
    "Restoration_Failed": "IPOPT could not restore feasibility; start from a feasible control",
    "Diverging_Iterates": "the iterates diverge: the problem seems unbounded; add a regulariser or bounds",
    "Invalid_Number_Detected": "a formula gave NaN or infinity; bound the controls or the states",
    "Not_Enough_Degrees_Of_Freedom": "there are more equality constraints than controls; drop some",
}
# A start with multipliers: a small first barrier parameter, and a start that is hardly moved off its bounds. Where it
# has not converged after WARM_ITERATIONS, the multipliers were of no use. Measured on benchmarks/03_warm_start.py.
WARM_BARRIER, WARM_PUSH, WARM_ITERATIONS = 1e-6, 1e-13, 100


LogLine = tuple[int, float, float, float, int]


class Program(Protocol):
    """A lifted program: unknowns (w, x), objective and rows, and the derivatives that it brings itself."""

    one_step: bool
    discrete: DiscreteProblem
    sides: Sides

    @property
    def nlp(self) -> dict[str, Any]: ...

    @property
    def derivatives(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class LiftedPoint:
    """A primal-dual point: controls, states, costates of the rows (-lam_g), multipliers of the constraints.

    ``on_bounds`` are the multipliers of the bounds of the unknowns (w, x), positive at an upper bound; a log line is
    (iteration, value, dual infeasibility, barrier parameter, 0).
    """

    w: np.ndarray
    x: np.ndarray
    costates: np.ndarray
    multipliers: np.ndarray
    message: str
    infeasible: bool
    limit: bool
    iterations: int
    evaluations: int
    on_bounds: np.ndarray
    log: tuple[LogLine, ...] = ()

    @property
    def converged(self) -> bool:
        return self.message == WORDS["Solve_Succeeded"]


class InteriorPoint:
    """IPOPT with exact first and second derivatives on a lifted program; silent unless ``verbose``.

    ``barrier``: the first barrier parameter of solves that start from the multipliers of the point they are given.
    """

    def __init__(
        self,
        program: Program,
        tolerance: float,
        max_iterations: int,
        verbose: bool = False,
        barrier: float | None = None,
    ) -> None:
        self.program = program
        options = ipopt_options(tolerance, max_iterations, verbose, barrier) | program.derivatives
        options |= {"ipopt.honor_original_bounds": "yes", "ipopt.mumps_pivot_order": 5}
        self.solver = ca.nlpsol("lifted", "ipopt", program.nlp, options)

    def solve(
        self, w: np.ndarray, x: np.ndarray, held: np.ndarray | None = None, warm: LiftedPoint | None = None
    ) -> LiftedPoint:
        """From the controls w and states x (and the multipliers of ``warm``); ``held`` entries stay fixed at w."""
        space, sides, n_w = self.program.discrete.space, self.program.sides, self.program.discrete.space.size
        lower, upper = (side.copy() for side in space.bounds)
        if held is not None:
            lower[held] = upper[held] = w[held]
        (low, high), (c_low, c_high) = sides.states, sides.rows
        equations = np.zeros(x.size)
        arguments: dict[str, Any] = {
            "x0": np.concatenate([w, x.ravel()]),
            "lbx": np.concatenate([lower, low]),
            "ubx": np.concatenate([upper, high]),
            "lbg": np.concatenate([equations, c_low]),
            "ubg": np.concatenate([equations, c_high]),
        }
        if warm is not None:
            arguments["lam_g0"] = np.concatenate([-warm.costates.ravel(), warm.multipliers[sides.row_index]])
            arguments["lam_x0"] = warm.on_bounds
        result = self.solver(**arguments)
        stats = self.solver.stats()
        point, lam_x, lam_g = (np.array(result[k]).ravel() for k in ("x", "lam_x", "lam_g"))
        status = str(stats["return_status"])
        return LiftedPoint(
            np.clip(point[:n_w], *space.bounds), point[n_w:].reshape(x.shape), -lam_g[: x.size].reshape(x.shape),
            sides.multipliers(lam_x[n_w:], lam_g[x.size :]), WORDS.get(status, f"IPOPT stopped: {status}"),
            status == "Infeasible_Problem_Detected", status == "Maximum_Iterations_Exceeded",
            int(stats["iter_count"]), int(stats["n_call_nlp_f"]), lam_x, ipopt_log(stats),
        )  # fmt: skip


def ipopt_options(tolerance: float, max_iterations: int, verbose: bool, barrier: float | None = None) -> dict[str, Any]:
    """What both formulations ask of IPOPT; with a first ``barrier`` parameter it starts from given multipliers."""
    # A hundredth of the tolerance leaves room between IPOPT's max-norm and the dual norm that is reported.
    tight = min(1e-2 * tolerance, 1e-9)
    limit = max_iterations if barrier is None else min(max_iterations, WARM_ITERATIONS)
    options: dict[str, Any] = {
        "ipopt.tol": tight, "ipopt.dual_inf_tol": tight, "ipopt.constr_viol_tol": tight, "ipopt.compl_inf_tol": tight,
        "ipopt.acceptable_iter": 0, "ipopt.max_iter": limit, "ipopt.bound_relax_factor": 0.0, "error_on_fail": False,
    }  # fmt: skip
    if barrier is not None:
        options |= {"ipopt.warm_start_init_point": "yes", "ipopt.mu_init": barrier}
        for name in ("bound_push", "bound_frac", "slack_bound_push", "slack_bound_frac", "mult_bound_push"):
            options[f"ipopt.warm_start_{name}"] = WARM_PUSH
    if not verbose:
        options |= {"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False, "show_eval_warnings": False}
    return options


def ipopt_log(stats: dict[str, Any]) -> tuple[LogLine, ...]:
    """IPOPT's iterations: number, value, dual infeasibility, barrier parameter, 0."""
    seen = stats.get("iterations") or {}
    columns = [seen.get(k, ()) for k in ("obj", "inf_du", "mu")]
    return tuple((i, float(f), float(d), float(m), 0) for i, (f, d, m) in enumerate(zip(*columns, strict=True)))


def first_barrier(evaluator: ReducedEvaluator, w: np.ndarray, mu: np.ndarray) -> float:
    """What w and μ leave of the optimality conditions, at most WARM_BARRIER: a solution is recognised at once."""
    at = evaluator.trajectory(w, Multipliers(mu))
    violation, slack = evaluator.rows.violation(at.constraints), evaluator.rows.slack(at.constraints, mu)
    left = max(stationarity(evaluator.space, w, at.gradient), np.max(violation, initial=0), np.max(slack, initial=0))
    return float(np.clip(left, 1e-11, WARM_BARRIER))


def on_control_bounds(space: ControlSpace, w: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Multipliers of the control bounds at w, where the Lagrangian's gradient pushes entries out of them."""
    return np.where(held_entries(space, w, gradient), -gradient, 0.0)


def carried_point(evaluator: ReducedEvaluator, program: Program, w: np.ndarray,
                  mu: np.ndarray) -> LiftedPoint:  # fmt: skip
    """The primal-dual point of controls w and multipliers μ: states and costates are those of one sweep."""
    at = evaluator.trajectory(w, Multipliers(mu))
    shape = (program.discrete.depth + 1, program.discrete.problem.samples, -1)
    on_states = np.zeros_like(at.states.reshape(shape))
    for block in evaluator.rows.blocks:
        if block.formula is None:
            on_states[np.ix_(block.layers, block.samples)] += mu[block.part].reshape(*block.full_shape[:2], -1)
    costates = at.integral_costates if program.one_step else at.costates
    on_bounds = np.concatenate([on_control_bounds(evaluator.space, w, at.gradient), on_states.ravel()])
    return LiftedPoint(w, at.states.reshape(shape), costates.reshape(shape), mu, "", False, False, 0, 0, on_bounds)
