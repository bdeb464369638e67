"""Whether a level continues the branch of the coarser ones.

Minimisers of a branch approach each other as L doubles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnlcontrol.discretisation.space.extension import prolong
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import Metric
from dnlcontrol.results.solution import Solution, distance

# consecutive distances of a followed branch shrink; one that doubles instead marks a jump
JUMP = 2.0
LARGE = 0.05  # and is counted when it is at least this share of the control's own size
MARGIN = 2.0  # distances by samples alone differ by O(1/L)


def leaves(solution: Solution, step: float, before: float) -> bool:
    """Whether a level is off its branch.

    It is ``step`` from the level before, which was ``before`` from its own (L2).
    """
    size = np.sqrt(sum(_squared(c.layout, c.values) for c in solution.controls.values()))
    return step > JUMP * before and step > LARGE * float(size)


def lost(depth: int, step: float, coarser: int, before: float) -> str:
    """The sentence that says so."""
    return (
        f"branch lost at L={depth}: its controls are {step:.1e} from those of L={coarser}, "
        f"the step before was {before:.1e}"
    )


def branch_note(solution: Solution, coarser: Sequence[Solution]) -> str:
    """That sentence for a solution reached from coarser levels.

    Empty on the branch, or with fewer than two of them.
    """
    levels = [s for s in coarser if s.depth < solution.depth][-2:]
    if len(levels) < 2:
        return ""
    first, second = levels
    if _sampled(second, solution) * MARGIN <= JUMP * _sampled(first, second):
        # the distances themselves are integrals over both grids, which cost more than a gradient
        return ""
    before, step = distance(first, second), distance(second, solution)
    return (
        lost(solution.depth, step, second.depth, before) if leaves(solution, step, before) else ""
    )


def _sampled(coarse: Solution, fine: Solution) -> float:
    """The L2 distance of the controls by their samples at the coarser depth alone."""
    total = 0.0
    for name, control in coarse.controls.items():
        other = fine.controls[name]
        total += _squared(
            control.layout, prolong(other.layout, other.values, control.layout) - control.values
        )
    return float(np.sqrt(total))


def _squared(layout: Layout, values: np.ndarray) -> float:
    """The squared L2 norm of samples (sites, *shape), in the units of :func:`distance`."""
    return float(
        Metric(layout, smooth=False).mass @ np.sum(values.reshape(len(values), -1) ** 2, axis=1)
    )
