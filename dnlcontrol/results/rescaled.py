"""A solution between the user's units and those in which it was solved and is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dnlcontrol.discretisation.scaling import Scaling
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.natural_sizes import NaturalSizes
from dnlcontrol.results.solution import Solution

# How many times looser than the sizes at a solution its units may make the tolerance: a cost that
# falls by so much is an error of (1e-8)² times as much, relative to what is left of it
LOOSEST = 2.0**15
ROUNDING = 4 * np.finfo(float).eps  # of a bound, divided by a unit and multiplied by it


def in_users_units(solution: Solution, scaling: Scaling, problem: ControlProblem) -> Solution:
    """A solution of the scaled problem as one of the user's ``problem``.

    Stationarity, feasibility and complementarity stay as they are: relative to the scales.
    """
    if scaling.trivial:
        return solution
    moved = _moved(solution, scaling, problem)
    scales = f"measured relative to the scales: {scaling.words()}"
    return replace(
        moved, scales=scaling.record(), message=f"{solution.message}; {scales}", problem=problem
    )


def in_own_units(solution: Solution, problem: ControlProblem) -> Solution:
    """A solution of the user's ``problem`` as one of the problem in its own scales."""
    scaling = Scaling.restored(solution.scales)
    if scaling.trivial:
        return replace(solution, problem=problem)
    inverse = Scaling(
        1.0 / scaling.cost,
        _inverse(scaling.controls),
        _inverse(scaling.rows),
        None if scaling.states is None else 1.0 / scaling.states,
    )
    own = scaling.applied(problem)
    return replace(_moved(solution, inverse, own), problem=own)


def _moved(solution: Solution, scaling: Scaling, problem: ControlProblem) -> Solution:
    """Every figure times its scale, for ``problem``, which is in the units reached."""
    cost, states = scaling.cost, 1.0 if scaling.states is None else scaling.states
    rows = {c.name: scaling.of_row(c) for c in problem.constraints}
    return replace(
        solution,
        value=solution.value * cost,
        states=solution.states * states,
        costates=solution.costates * cost / states,
        terminal_gradient=solution.terminal_gradient * cost / states,
        controls={
            k: Extension(k, c.layout, _within(c.values * scaling.controls.get(k, 1.0), problem, k))
            for k, c in solution.controls.items()
        },
        multipliers={
            k: np.asarray(v) * cost / rows.get(k, 1.0) for k, v in solution.multipliers.items()
        },
        log=tuple((line[0], line[1] * cost, *line[2:]) for line in solution.log),
    )


def _within(values: np.ndarray, problem: ControlProblem, name: str) -> np.ndarray:
    """Values on a bound again that the rounding of a product moved off it."""
    if name not in problem.controls or problem.controls[name].shape != values.shape[1:]:
        return values
    for bound in (problem.controls[name].lower, problem.controls[name].upper):
        near = np.abs(values - bound) <= ROUNDING * np.abs(bound)
        values = np.where(near & np.isfinite(bound), bound, values)
    return values


def _inverse(scales: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: 1.0 / v for k, v in scales.items()}


def looseness(scaling: Scaling, sizes: NaturalSizes) -> float:
    """How many times looser these units make the tolerance than the sizes themselves would."""
    controls = [
        np.max(size / scaling.controls.get(name, 1.0)) for name, size in sizes.controls.items()
    ]
    rows = [np.max(scaling.rows.get(name, 1.0) / size) for name, size in sizes.rows.items()]
    if scaling.states is not None:
        rows.append(np.max(scaling.states / sizes.states))
    return float(max(scaling.cost / sizes.cost * max([1.0, *controls]), *rows, 1.0))
