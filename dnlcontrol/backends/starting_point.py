"""Where a backend starts: controls, and what a coarser level or another solve knows besides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.preconditioner import Preconditioner


@dataclass(frozen=True)
class StartingPoint:
    """Controls w (size,) within the bounds, and what else is known there.

    levels : the samples of the solutions that w was prolonged from, coarse to fine.
    mu : multipliers of the rows (rows.size,) to start from, or None.
    quadratic_rate : a bound of ‖r_{k+1}‖ / ‖r_k‖² in Newton's method near the minimiser.
    preconditioner : what an earlier minimiser learnt of the Hessian.
    """

    w: Flat
    levels: tuple[Samples, ...] = ()
    mu: RowVector | None = None
    quadratic_rate: float = np.inf
    preconditioner: Preconditioner | None = None

    @property
    def cold(self) -> bool:
        """Not near a minimiser: the start may lie on a symmetry, so that saddles are looked for."""
        return not self.levels
