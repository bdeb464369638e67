"""What coarser levels give to a finer one: its start and its preconditioner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.prolongation import Samples, extrapolated
from dnlcontrol.minimise.preconditioner import (
    Correction,
    Preconditioner,
    coarse_depth,
    correction,
    empty,
)

DEEP_ENOUGH = 8  # a level from whose depth on its preconditioner serves the next one
ORDERS = 3  # levels used at most: w_L = w + c/L + e/L²


@dataclass(frozen=True)
class Nested:
    """A discrete problem that is reached from coarser ones; the other fields: its evaluator's."""

    discrete: DiscreteProblem
    device: str = "cpu"
    dtype: str = "float64"
    chunk: int | None = None

    def at(self, depth: int) -> Evaluator:
        """An evaluator of the same problem at another depth."""
        coarse = discretise(self.discrete.problem, depth, self.discrete.grid.rule)
        return Evaluator(coarse, self.device, self.dtype, self.chunk)

    def start(self, levels: Sequence[Samples], evaluator: Evaluator) -> np.ndarray:
        """The start (size,) of lowest cost: the last level's samples, or extrapolated with others.

        Its time is that of the coarse levels' work; the values are not counted once more.
        """
        began, space = time.perf_counter(), self.discrete.space
        sampled = [level.on(space) for level in levels[-ORDERS:]]
        depths = [level.depth for level in levels[-ORDERS:]]
        found = [extrapolated(depths[-k:], sampled[-k:], space) for k in range(1, len(depths) + 1)]
        best = found[0] if len(found) == 1 else min(found, key=lambda w: _cost(evaluator, w))
        evaluator.counts.timed_values += len(found) if len(found) > 1 else 0
        evaluator.counts.coarse_seconds += time.perf_counter() - began
        return best

    def preconditioner(self, w: Flat, known: Preconditioner | None) -> Preconditioner | None:
        """That of the level before where known and deep enough, else from a coarse Hessian at w.

        With constraints the Hessian depends on multipliers, which a coarse level does not have:
        then it begins with the bulk alone, and is None where the penalties do not tell the bulk.
        """
        if not self.discrete.rows.size:
            return Preconditioner(lambda: self._carried(known) or self.correction(w))
        if any(b.penalty is None for b in self.discrete.space):
            return None
        return Preconditioner(lambda: self._carried(known) or empty(self.discrete.space))

    def _carried(self, known: Preconditioner | None) -> Correction | None:
        if known is None:
            return None
        now = known.current()
        return None if now.space.grid.depth < DEEP_ENOUGH else now.moved(self.discrete.space)

    def correction(self, w: Flat, depth: int | None = None) -> Correction:
        """The correction from the Hessian of a coarser discrete problem at the same controls."""
        depth = depth or coarse_depth(self.discrete.depth)
        if depth is None:
            return empty(self.discrete.space)
        coarse, space = self.at(depth), self.discrete.space
        at = np.clip(Samples.of(space, w).on(coarse.space), *coarse.space.bounds)
        return correction(space, coarse.space, coarse.hessian_product, at) or empty(space)


def _cost(evaluator: Evaluator, w: Flat) -> float:
    """J (constraints do not count), infinite where it is not a number."""
    value = evaluator.value(w)
    return value if np.isfinite(value) else np.inf
