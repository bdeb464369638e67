"""What minimisers with constraint rows ask of an evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from dnlcontrol.discretisation.constraint_rows import Rows
    from dnlcontrol.discretisation.space.control_space import ControlSpace
    from dnlcontrol.minimise.multipliers import Multipliers


class Products(Protocol):
    """What the active-set method asks of an evaluator of either backend."""

    @property
    def space(self) -> ControlSpace: ...

    @property
    def rows(self) -> Rows: ...

    def trajectory(self, w: np.ndarray, multipliers: Multipliers) -> Trajectory: ...

    def hessian_product(
        self, w: np.ndarray, d: np.ndarray, multipliers: Multipliers
    ) -> np.ndarray: ...

    def constraint_values(self, w: np.ndarray) -> np.ndarray: ...

    def constraint_gradient(self, w: np.ndarray, weights: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Trajectory:
    """States x, integrals z, costates λ, z̄ and the constraint values c at one control.

    λ^l and z̄^l are the derivatives of the Lagrangian with respect to the right side of the state
    equation and to z^l.
    """

    value: float
    gradient: np.ndarray
    states: np.ndarray
    integrals: np.ndarray
    costates: np.ndarray
    integral_costates: np.ndarray
    constraints: np.ndarray
