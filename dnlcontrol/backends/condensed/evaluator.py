"""The reduced problem behind the interface of the adjoint backend's evaluator, so that both share their minimisers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.adjoint.lagrangian import Multipliers
from dnlcontrol.backends.condensed.reduced import Point, Reduced
from dnlcontrol.discrete import DiscreteProblem


@dataclass(frozen=True)
class At:
    """Value of J + μᵀc, its gradient, and c."""

    value: float
    gradient: np.ndarray
    constraints: np.ndarray


class ReducedEvaluator:
    """J, c and their exact derivatives in the controls; the last points and the last Hessian are kept."""

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete, self.space, self.rows = discrete, discrete.space, discrete.rows
        self.reduced = Reduced(discrete)
        self.values = self.gradients = self.products = self.hessians = 0
        self._points: dict[bytes, Point] = {}
        self._hessian: tuple[Point, bytes, np.ndarray] | None = None

    def point(self, w: np.ndarray) -> Point:
        """The point at w; the last two are kept, a trial step and the iterate it may fall back to."""
        key = np.asarray(w, dtype=float).tobytes()
        if key not in self._points:
            for old in list(self._points)[:-1]:
                del self._points[old]
            self._points[key] = Point(self.reduced, np.array(w, dtype=float))
        return self._points[key]

    def value(self, w: np.ndarray) -> float:
        self.values += 1
        return self.point(w).value

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        self.gradients += 1
        at = self.point(w)
        if not np.isfinite(at.value):
            return at.value, np.full(self.space.size, np.nan)
        return at.value, at.adjoint()[2]

    def hessian(self, w: np.ndarray, mu: np.ndarray | None = None) -> np.ndarray:
        """The dense Hessian of J + μᵀc."""
        at, key = self.point(w), b"" if mu is None else mu.tobytes()
        if self._hessian is None or self._hessian[0] is not at or self._hessian[1] != key:
            self.hessians += 1
            self._hessian = at, key, at.hessian(mu)
        return self._hessian[2]

    def hessian_product(self, w: np.ndarray, d: np.ndarray, multipliers: Multipliers | None = None) -> np.ndarray:
        """(d²/dw²) (J + μᵀc) d from the stored second derivatives at the nodes."""
        self.products += 1
        return self.point(w).product(d, None if multipliers is None else multipliers.mu)

    def trajectory(self, w: np.ndarray, multipliers: Multipliers) -> At:
        at = self.point(w)
        c = at.constraints
        return At(at.value + float(multipliers.mu @ c), at.adjoint(multipliers.mu)[2], c)

    def constraint_values(self, w: np.ndarray) -> np.ndarray:
        return self.point(w).constraints

    def constraint_gradient(self, w: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return self.point(w).jacobian().T @ weights
