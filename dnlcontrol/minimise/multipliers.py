"""Multipliers of the constraint rows, as both backends use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Multipliers:
    """μᵀc (ρ = 0) or the augmented Σ ρ/2 dist(c + μ/ρ, [lower, upper])² - μ²/(2ρ), beside ``cost``
    times J.

    ρ is one weight, or one for each row.
    """

    mu: np.ndarray
    rho: float | np.ndarray = 0.0
    cost: float = 1.0

    def updated(self, c: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The first-order update μ⁺ = ρ (c + μ/ρ - projection onto [lower, upper])."""
        shifted = c + self.mu / self.rho
        return self.rho * (shifted - np.clip(shifted, *bounds))
