"""The left rectangle rule, which makes a layered network: explicit, first order."""

from __future__ import annotations

import numpy as np

from dnlcontrol.discretisation.rules.base import Rule


class Left(Rule):
    """z^l = τ Σ_{s<l} k(t_l, t_s, y^s, w^{l,s}); running cost τ Σ_{l<L} ℓ.

    A control sample stands for a cell.
    """

    name = "left"
    at_nodes = False
    exponents = (1.0, 2.0, 3.0)

    def later(self, depth: int, step: float) -> np.ndarray:
        return np.full(depth, step)

    def own(self, depth: int, step: float) -> np.ndarray:
        return np.zeros(depth + 1)

    def running(self, depth: int, step: float) -> np.ndarray:
        return np.append(np.full(depth, step), 0.0)
