"""What a ladder of levels says of infinite depth: distances, jumps, fitted rates, extrapolation.

A row is the line of one level in a study's table: its depth and value, and for each name of
``DISTANCES`` the distance to the level before (``_step``), to the reference or else the finest
level (``_error``), and between the backends (``_gap``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.rules import RULES
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.distances import function_distance
from dnlcontrol.problem.reference import Reference
from dnlcontrol.results.branches import leaves
from dnlcontrol.results.extrapolation import extrapolate, fitted_rate
from dnlcontrol.results.solution import Solution, distance

Row = Mapping[str, Any]

# name -> the norm, and what it is taken of
DISTANCES = {
    "controls_L2": ("L2", "controls"),
    "controls_H1": ("H1", "controls"),
    "controls_sup": ("sup", "controls"),
    "states_sup": ("sup", "states"),
    "costates_sup": ("sup", "costates"),
}
GAPS = ("controls_L2", "states_sup", "costates_sup")  # what the backends are compared in
VALUE_NOISE = 1e-13  # rounding of values, relative to the largest: no rate is fitted below it
DISTANCE_NOISE = 1e-9  # what a solve leaves open in its controls: no rate is fitted below it


def distances(solution: Solution, previous: Solution | None, finest: Solution) -> dict[str, float]:
    """Distances to the level before (none: NaN) and to the finest level (of itself: NaN)."""
    found = {}
    for name, (norm, of) in DISTANCES.items():
        step = distance(previous, solution, norm, of) if previous else np.nan
        error = distance(solution, finest, norm, of) if solution is not finest else np.nan
        found[f"{name}_step"] = step
        found[f"{name}_error"] = error
    return found


def errors(reference: Reference | None, solution: Solution) -> dict[str, float]:
    """Errors against a closed form; they replace those against the finest level."""
    found = {"value_error": np.nan}
    if reference is None:
        return found
    if reference.value is not None:
        found["value_error"] = abs(solution.value - reference.value)
    if reference.controls and set(reference.controls) == set(solution.controls):
        pairs = [(solution.controls[k], fn) for k, fn in reference.controls.items()]
        squares = [function_distance(c.layout, c.values, fn) ** 2 for c, fn in pairs]
        found["controls_L2_error"] = float(np.sqrt(sum(squares)))
    return found


def refuse_broken(reference: Reference | None, space: ControlSpace) -> None:
    """Call the functions of a reference that the errors need, before anything is solved.

    Raises InputError for one that raises, or returns what is no array of the control's shape.
    """
    if reference is None or set(reference.controls) != set(space.blocks):
        return
    for name, function in reference.controls.items():
        block = space.blocks[name]
        zeros = np.zeros((block.layout.count, *block.control.shape))
        try:
            distance_to = function_distance(block.layout, zeros, function)
        except Exception as error:  # whatever a caller's function raises
            seen = f"a function that raises {type(error).__name__} ({error})"
            checks.reject(
                f"reference.controls[{name!r}]", seen, f"arrays (*times, *{zeros.shape[1:]})"
            )
        if not np.isfinite(distance_to):
            seen = "values that are not finite"
            checks.reject(f"reference.controls[{name!r}]", seen, "finite values on [0, T]")


def gaps(adjoint: Solution | None, exact: Solution | None) -> dict[str, float]:
    """The exact backend's value and stationarity, and how far it is from the adjoint solution."""
    found = {
        "value_exact": exact.value if exact else np.nan,
        "value_gap": abs(exact.value - adjoint.value) if adjoint and exact else np.nan,
        "exact_stationarity": exact.stationarity if exact else np.nan,
    }
    for name in GAPS:
        apart = distance(adjoint, exact, *DISTANCES[name]) if adjoint and exact else np.nan
        found[f"{name}_gap"] = apart
    return found


def corrected(solution: Solution, constant: float) -> float:
    """J_L - c/L^p, p the order of the rule."""
    return float(solution.value - constant / solution.depth ** RULES[solution.rule].exponents[0])


def jumps_of(solutions: Sequence[Solution], rows: Sequence[Row]) -> list[int]:
    """Indices of levels that left the branch of the level before."""
    steps = [row["controls_L2_step"] for row in rows]
    return [k for k in range(2, len(steps)) if leaves(solutions[k], steps[k], steps[k - 1])]


def rates_of(rows: Sequence[Row], reference: Reference | None) -> dict[str, float]:
    """Exponents p in C·L^{-p} along one branch.

    Of consecutive steps, and of errors against a closed form.
    """
    depths, values = [r["depth"] for r in rows], [r["value"] for r in rows]
    noise = VALUE_NOISE * max(abs(v) for v in values)
    rates = {"value": fitted_rate(depths[1:], np.abs(np.diff(values)).tolist(), noise)}
    for name in DISTANCES:
        steps = [r[f"{name}_step"] for r in rows[1:]]
        rates[name] = fitted_rate(depths[1:], steps, DISTANCE_NOISE)
    if reference is not None and reference.value is not None and reference.attained:
        rates["value_error"] = fitted_rate(depths, [r["value_error"] for r in rows], noise)
        if reference.controls:
            off = [r["controls_L2_error"] for r in rows]
            rates["controls_L2_error"] = fitted_rate(depths, off, DISTANCE_NOISE)
    return rates


def orders_of(rule: str, reference: Reference | None) -> tuple[float, ...]:
    """The exponents of 1/L in J_L - J*: the reference's where it knows them, else the rule's."""
    if reference is not None and rule == "left":
        return tuple(reference.orders)
    return RULES[rule].exponents


def limit_of(rows: Sequence[Row], orders: Sequence[float]) -> float:
    """The limit of J_L along one branch, by Richardson extrapolation."""
    return extrapolate([r["depth"] for r in rows], [r["value"] for r in rows], orders)[0]
