"""The lifted nonlinear program through IPOPT, then an active-set clean-up of the control bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.sides import Sides
from dnlcontrol.discrete import DiscreteProblem

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

    ``pull`` are the multipliers of the bounds of the unknowns (w, x), positive at an upper bound.
    """

    w: np.ndarray
    x: np.ndarray
    costates: np.ndarray
    multipliers: np.ndarray
    pull: np.ndarray
    message: str
    infeasible: bool
    limit: bool
    iterations: int
    evaluations: int


class InteriorPoint:
    """IPOPT with exact first and second derivatives on a lifted program; silent unless ``verbose``."""

    def __init__(self, program: Program, tolerance: float, max_iterations: int, verbose: bool = False) -> None:
        self.program = program
        # A hundredth of the tolerance leaves room between IPOPT's max-norm and the dual norm that is reported.
        tight = min(1e-2 * tolerance, 1e-9)
        options: dict[str, Any] = {
            "ipopt.tol": tight, "ipopt.dual_inf_tol": tight, "ipopt.constr_viol_tol": tight,
            "ipopt.compl_inf_tol": tight, "ipopt.acceptable_iter": 0, "ipopt.max_iter": max_iterations,
            "ipopt.bound_relax_factor": 0.0,
            "ipopt.honor_original_bounds": "yes", "ipopt.mumps_pivot_order": 5, "error_on_fail": False,
            **program.derivatives,
        }  # fmt: skip
        if not verbose:
            options.update(
                {"ipopt.print_level": 0, "ipopt.sb": "yes", "print_time": False, "show_eval_warnings": False}
            )
        self.solver = ca.nlpsol("lifted", "ipopt", program.nlp, options)

    def solve(
        self, w: np.ndarray, x: np.ndarray, held: np.ndarray | None = None, warm: LiftedPoint | None = None
    ) -> LiftedPoint:
        """From the controls w and states x; ``held`` entries stay fixed at w."""
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
        result = self.solver(**arguments)
        stats = self.solver.stats()
        point, lam_x, lam_g = (np.array(result[k]).ravel() for k in ("x", "lam_x", "lam_g"))
        status = str(stats["return_status"])
        return LiftedPoint(
            np.clip(point[:n_w], *space.bounds), point[n_w:].reshape(x.shape), -lam_g[: x.size].reshape(x.shape),
            sides.multipliers(lam_x[n_w:], lam_g[x.size :]), lam_x, WORDS.get(status, f"IPOPT stopped: {status}"),
            status == "Infeasible_Problem_Detected", status == "Maximum_Iterations_Exceeded",
            int(stats["iter_count"]), int(stats["n_call_nlp_f"]),
        )  # fmt: skip
