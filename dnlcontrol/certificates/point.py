"""The stored numbers of a solution, as the checks need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import BackendEvaluator
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.solution import Solution

if TYPE_CHECKING:
    from dnlcontrol.minimise.evaluator import Trajectory
    from dnlcontrol.minimise.multipliers import Multipliers


@dataclass(frozen=True)
class StoredPoint:
    """Controls and multipliers with everything that follows from them.

    ``evaluator`` recomputes every column.
    """

    evaluator: BackendEvaluator
    w: np.ndarray
    multipliers: Multipliers
    at: Trajectory
    tolerance: float


def problem_of(solution: Solution) -> ControlProblem:
    """The problem that a solution belongs to.

    Raises InputError for one without it, as one loaded whose problem file may not run.
    """
    if solution.problem is None:
        checks.reject(
            "run",
            "a solution without its problem",
            "dnl.load(run, problem=FILE) (--problem FILE), or dataclasses.replace(solution, "
            "problem=...)",
        )
    return solution.problem


def stored_point(
    solution: Solution, discrete: DiscreteProblem, argument: str = "certify.solution"
) -> tuple[np.ndarray, np.ndarray]:
    """The flat controls and multipliers of a solution, checked to belong to the problem.

    Raises
    ------
    InputError where a shape, a name or the horizon is not that of the problem.
    """

    def fits(what: str, seen: object, expected: object) -> None:
        if seen != expected:
            checks.reject(
                argument,
                f"{what} {seen}",
                f"{expected}, as in the problem {discrete.problem.name!r}",
            )

    p = discrete.problem
    space = discrete.space
    blocks = discrete.rows.blocks
    fits("a horizon of", solution.grid.horizon, p.horizon)
    fits("controls", sorted(solution.controls), sorted(space.blocks))
    for block in space:
        control = solution.controls[block.name]
        fits(
            f"a control {block.name!r} of shape",
            control.values.shape,
            (block.layout.count, *block.control.shape),
        )
        for what in ("on", "at_nodes"):
            seen, own = getattr(control.layout, what), getattr(block.layout, what)
            fits(f"a control {block.name!r} with {what}", seen, own)
    fits("constraints", sorted(solution.multipliers), sorted(b.constraint.name for b in blocks))
    for b in blocks:
        seen = np.shape(solution.multipliers[b.constraint.name])
        fits(f"multipliers of {b.constraint.name!r} of shape", seen, b.full_shape)
    path = (discrete.depth + 1, p.samples, *p.state_shape)
    fits("states of shape", np.shape(solution.states), path)
    fits("costates of shape", np.shape(solution.costates), path)
    fits("a terminal gradient of shape", np.shape(solution.terminal_gradient), path[1:])
    mu = np.concatenate(
        [np.zeros(0), *(np.ravel(solution.multipliers[b.constraint.name]) for b in blocks)]
    )
    return space.assemble({name: c.values for name, c in solution.controls.items()}), mu
