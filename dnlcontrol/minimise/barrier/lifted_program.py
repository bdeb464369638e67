"""What the interior-point method asks of a program whose states are unknowns beside the controls.

    min J(w, x)   subject to   defects(w, x) = 0,   lower <= c(w, x) <= upper,   w in its box

States and defects are arrays of the program's own shape; the method adds and scales them, no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector

if TYPE_CHECKING:
    from dnlcontrol.discretisation.constraint_rows import Rows
    from dnlcontrol.discretisation.space.control_space import ControlSpace


@dataclass(frozen=True)
class LiftedValues:
    """J, the rows c (rows.size,) and the defects of the state equations at (w, x)."""

    cost: float
    rows: RowVector
    defects: np.ndarray

    @property
    def finite(self) -> bool:
        """Whether all of them are numbers."""
        parts = (self.cost, self.rows, self.defects)
        return all(bool(np.all(np.isfinite(part))) for part in parts)


class CondensedModel(Protocol):
    """The linearisation at (w, x) with the states eliminated: δx = S δw + s, s from the defects."""

    @property
    def hessian(self) -> np.ndarray:
        """Of the Lagrangian along the linearised states, (space.size, space.size)."""

    @property
    def jacobian(self) -> np.ndarray:
        """Of the rows along them, (rows.size, space.size)."""

    def offset(self, defects: np.ndarray) -> np.ndarray:
        """s."""

    def states(self, dw: Flat, s: np.ndarray) -> np.ndarray:
        """S δw + s."""

    def gradient(self, s: np.ndarray) -> Flat:
        """The linear part of J in δw where the states are off by s, (space.size,)."""

    def row_offset(self, s: np.ndarray) -> RowVector:
        """c_x s, (rows.size,)."""

    def slope(self, dw: Flat, dx: np.ndarray) -> float:
        """The derivative of J along (δw, δx)."""


class LiftedProgram(Protocol):
    """States as unknowns; w is (space.size,)."""

    @property
    def space(self) -> ControlSpace:
        """The controls, their box and their metric."""

    @property
    def rows(self) -> Rows:
        """The constraint rows."""

    def states(self, w: Flat) -> np.ndarray:
        """Those without defects."""

    def values(self, w: Flat, x: np.ndarray) -> LiftedValues:
        """J, c and the defects."""

    def model(self, w: Flat, x: np.ndarray, mu: RowVector, cost: float) -> CondensedModel:
        """Of cost·J + μᵀc, second order exact; costates such that the derivative in x vanishes."""
