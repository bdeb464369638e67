"""Nodes and weights: the one place that defines a discretisation rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks

RULES = ("left",)
PLANNED = ("trapezoid",)


@dataclass(frozen=True)
class Grid:
    """The left rectangle rule on t_l = lτ, τ = T/L.

        x^l = G(t_l, g(t_l), τ Σ_{s<l} k(t_l, t_s, y^s, w^{l,s}), v^l),    J = Φ(x^L) + τ Σ_{l<L} ℓ(t_l, x^l, v^l)

    A control sample stands for a cell: v^l sits at (l + ½)τ and w^{l,s} at ((l - ½)τ, (s + ½)τ).

    >>> Grid(4, 2.0).nodes.tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """

    depth: int
    horizon: float
    rule: str = "left"

    def __post_init__(self) -> None:
        checks.whole("depth", self.depth)
        if self.rule in PLANNED:
            checks.reject("rule", self.rule, "'left' (the trapezoid rule is not there yet)")
        checks.choice("rule", self.rule, RULES)

    @property
    def step(self) -> float:
        """τ = T/L."""
        return self.horizon / self.depth

    @property
    def nodes(self) -> np.ndarray:
        """t_0..t_L, shape (L+1,)."""
        return self.horizon * np.arange(self.depth + 1) / self.depth

    @property
    def running_weights(self) -> np.ndarray:
        """Quadrature weights of the running cost at the nodes 0..L: τ for l < L, 0 at L."""
        weights = np.full(self.depth + 1, self.step)
        weights[-1] = 0.0
        return weights

    def rows(self, s: int) -> np.ndarray:
        """The layers l that source layer s contributes to: s+1..L."""
        return np.arange(s + 1, self.depth + 1)

    def pairs(self, one_step: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(l, s) of every kernel evaluation, column by column; ``one_step``: only l = s+1."""
        L = self.depth
        if one_step:
            return np.arange(1, L + 1), np.arange(L)
        return np.concatenate([self.rows(s) for s in range(L)]), np.repeat(np.arange(L), L - np.arange(L))

    def kernel_weights(self, s: int) -> np.ndarray:
        """The weight of k(t_l, t_s, ...) in z^l for l in rows(s)."""
        return np.full(self.depth - s, self.step)
