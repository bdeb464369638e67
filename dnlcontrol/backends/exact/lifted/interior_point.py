"""The lifted nonlinear program through IPOPT, from controls alone or from a primal-dual point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.budget import Budget
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.follower import Follower
from dnlcontrol.backends.exact.ipopt import (
    INFEASIBLE_STATUS,
    LIMITS,
    WORDS,
    LogLine,
    ipopt_log,
    ipopt_options,
    iterations_of,
    on_control_bounds,
    words_of,
)
from dnlcontrol.backends.exact.lifted.sides import Sides
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.multipliers import Multipliers


class Program(Protocol):
    """A lifted program: unknowns (w, x), objective and rows, and its own derivatives."""

    one_step: bool
    discrete: DiscreteProblem
    sides: Sides

    @property
    def nlp(self) -> dict[str, Any]: ...

    @property
    def derivatives(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class LiftedPoint:
    """A primal-dual point of a lifted program.

    Attributes
    ----------
    w, x : controls (size,) and states (L+1, N, entries).
    costates : of the rows of the state equation, -lam_g, as x.
    multipliers : of the constraints, (rows.size,).
    on_bounds : multipliers of the bounds of (w, x), flat, positive at an upper bound.
    log : lines of (iteration, value, dual infeasibility, barrier parameter, 0).
    """

    w: Flat
    x: np.ndarray
    costates: np.ndarray
    multipliers: RowVector
    message: str
    infeasible: bool
    at_limit: bool
    iterations: int
    evaluations: int
    on_bounds: np.ndarray
    log: tuple[LogLine, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether IPOPT says so."""
        return self.message == WORDS["Solve_Succeeded"]


class InteriorPoint:
    """IPOPT with exact first and second derivatives on a lifted program; silent unless ``verbose``.

    ``barrier``: the first barrier parameter of solves that start from the multipliers of the point
    they are given. All solves take their iterations and their time from the ``budget``.
    """

    def __init__(
        self,
        program: Program,
        tolerance: float,
        budget: Budget,
        verbose: bool = False,
        barrier: float | None = None,
    ) -> None:
        self.program = program
        self.budget = budget
        rows = program.sides.rows[0].size + program.sides.states[0].size
        unknowns = program.discrete.space.size + program.sides.states[0].size
        self._follower = Follower(unknowns, rows, budget, tolerance)
        options = ipopt_options(tolerance, budget, verbose, barrier) | program.derivatives
        options["iteration_callback"] = self._follower
        options |= {"ipopt.honor_original_bounds": "yes", "ipopt.mumps_pivot_order": 5}
        self.solver = ca.nlpsol("lifted", "ipopt", program.nlp, options)

    def solve(
        self,
        w: Flat,
        x: np.ndarray,
        held: np.ndarray | None = None,
        warm: LiftedPoint | None = None,
    ) -> LiftedPoint:
        """From controls w (size,) and states x (L+1, N, entries), and the multipliers of ``warm``.

        ``held`` (size,) marks entries that stay fixed at w. At a limit: the best iterate.
        """
        space = self.program.discrete.space
        sides = self.program.sides
        n_w = space.size
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
        self._follower.begin(arguments["lbg"], arguments["ubg"])
        result = self.solver(**arguments)
        stats = self.solver.stats()
        point, lam_x, lam_g = (np.array(result[k]).ravel() for k in ("x", "lam_x", "lam_g"))
        status = str(stats["return_status"])
        self.budget.take(iterations_of(stats))
        best = self._follower.best if status in LIMITS else None
        if best is not None:
            point = best.x
            lam_x, lam_g = best.lam_x, best.lam_g
        return LiftedPoint(
            w=np.clip(point[:n_w], *space.bounds),
            x=point[n_w:].reshape(x.shape),
            costates=-lam_g[: x.size].reshape(x.shape),
            multipliers=sides.multipliers(lam_x[n_w:], lam_g[x.size :]),
            message=words_of(status, self.budget),
            infeasible=status in INFEASIBLE_STATUS,
            at_limit=status in LIMITS,
            iterations=iterations_of(stats),
            evaluations=int(stats["n_call_nlp_f"]),
            on_bounds=lam_x,
            log=ipopt_log(stats),
        )


def carried_point(
    evaluator: ReducedEvaluator, program: Program, w: Flat, mu: RowVector
) -> LiftedPoint:
    """The primal-dual point of w (size,) and μ (rows.size,): states and costates of one sweep."""
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
        w=w,
        x=at.states.reshape(shape),
        costates=costates.reshape(shape),
        multipliers=mu,
        message="",
        infeasible=False,
        at_limit=False,
        iterations=0,
        evaluations=0,
        on_bounds=on_bounds,
    )
