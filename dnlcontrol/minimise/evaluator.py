"""What minimisers with constraint rows ask of an evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector

if TYPE_CHECKING:
    from dnlcontrol.discretisation.constraint_rows import Rows
    from dnlcontrol.discretisation.space.control_space import ControlSpace
    from dnlcontrol.minimise.multipliers import Multipliers


class Products(Protocol):
    """The Lagrangian of either backend as a function of w.

    J without ``multipliers``, else J + μᵀc or its augmented form.
    """

    @property
    def space(self) -> ControlSpace:
        """The controls: w, gradients and directions are (space.size,)."""
        ...

    @property
    def rows(self) -> Rows:
        """The constraint rows: c, μ and weights are (rows.size,)."""
        ...

    def value(self, w: Flat, multipliers: Multipliers | None = None) -> float:
        """The Lagrangian at w; NaN or infinite where a formula is."""
        ...

    def value_and_gradient(
        self, w: Flat, multipliers: Multipliers | None = None
    ) -> tuple[float, Flat]:
        """The Lagrangian and its gradient in w, (space.size,)."""
        ...

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None = None) -> Flat:
        """H(w) d, (space.size,), H the Hessian of the Lagrangian."""
        ...

    def constraint_values(self, w: Flat) -> RowVector:
        """c(w), (rows.size,)."""
        ...

    def constraint_gradient(self, w: Flat, weights: RowVector) -> Flat:
        """(dc/dw)ᵀ weights, (space.size,)."""
        ...

    def trajectory(self, w: Flat, multipliers: Multipliers | None = None) -> Trajectory:
        """Value, gradient, states, costates and c at w."""
        ...


@dataclass(frozen=True)
class Trajectory:
    """States x, integrals z, costates λ, z̄ and the constraint values c at one control.

    λ^l and z̄^l are the derivatives of the Lagrangian with respect to the right side of the state
    equation and to z^l. ``value`` and ``gradient``, (space.size,), are the Lagrangian's;
    ``states`` and ``costates`` are (L+1, N, *state shape), the integrals and their costates
    (L+1, N, *integral shape), ``constraints`` is (rows.size,).
    """

    value: float
    gradient: Flat
    states: np.ndarray
    integrals: np.ndarray
    costates: np.ndarray
    integral_costates: np.ndarray
    constraints: RowVector
