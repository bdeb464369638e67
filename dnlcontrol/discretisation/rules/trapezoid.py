"""The trapezoidal rule: implicit where the kernel reaches s = l, second order."""

from __future__ import annotations

import numpy as np

from dnlcontrol.discretisation.rules.base import Rule


class Trapezoid(Rule):
    """z^l = τ [½ k(t_l, t_0) + Σ_{0<s<l} k(t_l, t_s) + ½ k(t_l, t_l)], z^0 = 0.

    The running cost is τ Σ'' ℓ, its first and last term halved. The control samples are values at
    the nodes.
    """

    name = "trapezoid"
    at_nodes = True
    exponents = (2.0, 3.0, 4.0)

    def later(self, depth: int, step: float) -> np.ndarray:
        return np.append(0.5 * step, np.full(depth - 1, step))

    def own(self, depth: int, step: float) -> np.ndarray:
        return np.append(0.0, np.full(depth, 0.5 * step))

    def running(self, depth: int, step: float) -> np.ndarray:
        weights = np.full(depth + 1, step)
        weights[[0, -1]] = 0.5 * step
        return weights
