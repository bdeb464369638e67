"""Whether a path control stands in one cell, where the state then jumps.

A rule charges the running cost of such a cell at its own points alone, the left rule at the lower
end: J_L may converge, every level a minimiser, to a value that no limit of the states has.
"""

from __future__ import annotations

import numpy as np

from dnlcontrol.results.solution import Solution

LEAST_DEPTH = 16  # below it a cell is no small part of [0, T]
SHARE = 0.3  # of Σ |v| in one cell; (T - t)^{-1/2} has half of that there at L = 16
ABOVE = 4.0  # times its neighbours: a layer that the grid resolves has not
JUMP = 0.25  # of the range of a state entry, made in that cell


def concentration_note(solution: Solution) -> str:
    """The sentence that names control, cell and remedy; empty where there is none."""
    if solution.depth < LEAST_DEPTH:
        return ""
    for name, control in solution.controls.items():
        if control.layout.on != "t" or len(control.values) < LEAST_DEPTH:
            continue
        sizes = np.abs(control.values.reshape(len(control.values), -1))
        shares = sizes / np.maximum(np.sum(sizes, axis=0), np.finfo(float).tiny)
        cell, entry = (int(k) for k in np.unravel_index(np.argmax(shares), shares.shape))
        share = float(shares[cell, entry])
        if share > SHARE and _alone(sizes[:, entry], cell) and _jumps(solution, cell):
            return _words(solution, name, cell, share)
    return ""


def _alone(sizes: np.ndarray, cell: int) -> bool:
    beside = sizes[max(cell - 1, 0) : cell + 2]
    return bool(np.sort(beside)[-2] * ABOVE < sizes[cell])


def _jumps(solution: Solution, cell: int) -> bool:
    """Whether a state entry makes a good part of its way in that cell, or next to that node."""
    first, last = max(cell - 1, 0), min(cell + 1, solution.depth)
    x = solution.states.reshape(solution.depth + 1, -1)
    steps = np.max(np.abs(np.diff(x[first : last + 1], axis=0)), axis=0)
    return bool(np.any(steps > JUMP * np.maximum(np.ptp(x, axis=0), np.finfo(float).tiny)))


def _words(solution: Solution, name: str, cell: int, share: float) -> str:
    t = float(solution.controls[name].positions[0][cell])
    charged, remedy = "", "compare other depths"
    if solution.rule == "left":
        charged = ", which the left rule charges at its lower end only"
        remedy = "compare rule='trapezoid'"
    return (
        f"doubtful limit: {100 * share:.0f} % of control {name!r} stand in one cell, "
        f"at t = {t:.3g}, where the state jumps{charged}; {remedy}, bound the control or "
        "penalise it (L2, H1)"
    )
