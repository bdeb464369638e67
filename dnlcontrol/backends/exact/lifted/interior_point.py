"""The lifted nonlinear program through IPOPT, from controls alone or from a primal-dual point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.ipopt import (
    WORDS,
    LogLine,
    ipopt_log,
    ipopt_options,
    on_control_bounds,
)
from dnlcontrol.backends.exact.lifted.sides import Sides
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.minimise.multipliers import Multipliers


class Program(Protocol):
    """A lifted program: unknowns (w, x), objective and rows, and the derivatives that it brings
    itself.
    """

    one_step: bool
    discrete: DiscreteProblem
    sides: Sides

    @property
    def nlp(self) -> dict[str, Any]: ...

    @property
    def derivatives(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class LiftedPoint:
    """A primal-dual point: controls, states, costates of the rows (-lam_g), multipliers of the
    constraints.

    ``on_bounds`` are the multipliers of the bounds of the unknowns (w, x), positive at an upper
    bound; a log line is (iteration, value, dual infeasibility, barrier parameter, 0).
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

    ``barrier``: the first barrier parameter of solves that start from the multipliers of the point
    they are given.
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
        self,
        w: np.ndarray,
        x: np.ndarray,
        held: np.ndarray | None = None,
        warm: LiftedPoint | None = None,
    ) -> LiftedPoint:
        """From the controls w and states x (and the multipliers of ``warm``); ``held`` entries stay
        fixed at w.
        """
        space = self.program.discrete.space
        sides = self.program.sides
        n_w = self.program.discrete.space.size
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
            arguments["lam_g0"] = np.concatenate(
                [-warm.costates.ravel(), warm.multipliers[sides.row_index]]
            )
            arguments["lam_x0"] = warm.on_bounds
        result = self.solver(**arguments)
        stats = self.solver.stats()
        point, lam_x, lam_g = (np.array(result[k]).ravel() for k in ("x", "lam_x", "lam_g"))
        status = str(stats["return_status"])
        return LiftedPoint(
            np.clip(point[:n_w], *space.bounds),
            point[n_w:].reshape(x.shape),
            -lam_g[: x.size].reshape(x.shape),
            sides.multipliers(lam_x[n_w:], lam_g[x.size :]),
            WORDS.get(status, f"IPOPT stopped: {status}"),
            status == "Infeasible_Problem_Detected",
            status == "Maximum_Iterations_Exceeded",
            int(stats["iter_count"]),
            int(stats["n_call_nlp_f"]),
            lam_x,
            ipopt_log(stats),
        )


def carried_point(
    evaluator: ReducedEvaluator, program: Program, w: np.ndarray, mu: np.ndarray
) -> LiftedPoint:
    """The primal-dual point of controls w and multipliers μ: states and costates are those of one
    sweep.
    """
    at = evaluator.trajectory(w, Multipliers(mu))
    shape = (program.discrete.depth + 1, program.discrete.problem.samples, -1)
    on_states = np.zeros_like(at.states.reshape(shape))
    for block in evaluator.rows.blocks:
        if block.formula is None:
            on_states[np.ix_(block.layers, block.samples)] += mu[block.part].reshape(
                *block.full_shape[:2], -1
            )
    costates = at.integral_costates if program.one_step else at.costates
    on_bounds = np.concatenate(
        [on_control_bounds(evaluator.space, w, at.gradient), on_states.ravel()]
    )
    return LiftedPoint(
        w, at.states.reshape(shape), costates.reshape(shape), mu, "", False, False, 0, 0, on_bounds
    )
