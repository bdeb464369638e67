"""Multipliers of the constraint rows, as both backends use them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.space.flat import RowVector


@dataclass(frozen=True)
class Multipliers:
    """What stands beside ``cost`` times J: μᵀc where ρ = 0, else its augmented form.

        Σ ρ/2 dist(c + μ/ρ, [lower, upper])² - μ²/(2ρ)

    μ is (rows.size,); ρ is one weight, or one for each row.
    """

    mu: RowVector
    rho: float | RowVector = 0.0
    cost: float = 1.0

    def updated(self, c: RowVector, bounds: tuple[RowVector, RowVector]) -> RowVector:
        """The first-order update μ⁺ = ρ (c + μ/ρ - projection onto [lower, upper]), ρ > 0."""
        shifted = c + self.mu / self.rho
        return np.asarray(self.rho * (shifted - np.clip(shifted, *bounds)))
