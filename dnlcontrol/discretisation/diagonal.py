"""The kernel on the diagonal s = t, where some rules evaluate it: refused where it is infinite."""

from __future__ import annotations

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.problem.engines import Native, numpy_engine
from dnlcontrol.problem.problem import ControlProblem

POINTS = 4  # seeded points, and as many with positive entries, for roots and logarithms


def refuse_singular(problem: ControlProblem, grid: Grid) -> None:
    """Raise InputError where the rule reads k(t, t, ...) and that is infinite or NaN.

    A kernel that is not finite off the diagonal either says nothing: its point is left aside.
    """
    if not grid.implicit:
        return
    rng = np.random.default_rng(22)
    kernel = problem.formulas.kernel
    found: list[np.ndarray] = []
    for k in range(2 * POINTS):
        _, _, y, u = kernel.random_point(rng, grid.horizon)
        if k >= POINTS:
            y, u = np.abs(y), {name: np.abs(v) for name, v in u.items()}
        t = grid.nodes[rng.integers(1, grid.depth + 1)]
        if np.all(np.isfinite(_value(problem, (t, t - 0.5 * grid.step, y, u)))):
            found.append(_value(problem, (t, t, y, u)))
    bad = [value[~np.isfinite(value)] for value in found]
    if found and all(part.size for part in bad):
        checks.reject(
            "kernel",
            f"{'NaN' if np.isnan(bad[0][0]) else 'a value that is infinite'} at s = t, where the "
            f"rule {grid.rule!r} evaluates it",
            "a kernel that is finite at s = t, or rule='left', which reads s < t only",
        )


def _value(problem: ControlProblem, point: tuple[Native, ...]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(problem.formulas.kernel(numpy_engine(), *point), dtype=float)
