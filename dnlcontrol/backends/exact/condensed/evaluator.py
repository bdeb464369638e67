"""The reduced problem behind the interface of the adjoint backend's evaluator, so that both share
their minimisers.
"""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.exact.condensed.reduced import ReducedPoint
from dnlcontrol.backends.exact.condensed.structure import Reduced
from dnlcontrol.backends.found import Counts
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers


class ReducedEvaluator:
    """J, c and their exact derivatives in the controls; the last points and the last Hessian are
    kept.
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete = discrete
        self.space = discrete.space
        self.rows = discrete.rows
        self.reduced = Reduced(discrete)
        self.counts = Counts()
        self._points: dict[bytes, ReducedPoint] = {}
        self._hessian: tuple[ReducedPoint, bytes, np.ndarray] | None = None

    def point(self, w: np.ndarray) -> ReducedPoint:
        """The point at w; the last two are kept, a trial step and the iterate it may fall
        back to.
        """
        key = np.asarray(w, dtype=float).tobytes()
        if key not in self._points:
            for old in list(self._points)[:-1]:
                del self._points[old]
            self._points[key] = ReducedPoint(self.reduced, np.array(w, dtype=float))
        return self._points[key]

    def value(self, w: np.ndarray) -> float:
        self.counts.values += 1
        return self.point(w).value

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        self.counts.gradients += 1
        at = self.point(w)
        if not np.isfinite(at.value):
            return at.value, np.full(self.space.size, np.nan)
        return at.value, at.adjoint()[2]

    def hessian(self, w: np.ndarray, mu: np.ndarray | None = None) -> np.ndarray:
        """The dense Hessian of J + μᵀc."""
        at, key = self.point(w), b"" if mu is None else mu.tobytes()
        if self._hessian is None or self._hessian[0] is not at or self._hessian[1] != key:
            self.counts.hessians += 1
            self._hessian = at, key, at.hessian(mu)
        return self._hessian[2]

    def hessian_product(
        self, w: np.ndarray, d: np.ndarray, multipliers: Multipliers | None = None
    ) -> np.ndarray:
        """(d²/dw²) (J + μᵀc) d from the stored second derivatives at the nodes."""
        self.counts.hessians += 1
        return self.point(w).product(d, None if multipliers is None else multipliers.mu)

    def trajectory(self, w: np.ndarray, multipliers: Multipliers) -> Trajectory:
        """Everything known at one control, with the multipliers' Lagrangian."""
        at, p = self.point(w), self.discrete.problem
        c, nodes = at.constraints, (self.discrete.depth + 1, p.samples)
        lam, zbar, gradient = at.adjoint(multipliers.mu)
        x, lam = (v.reshape(*nodes, *p.state_shape) for v in (at.x, lam))
        z, zbar = (v.reshape(*nodes, *p.integral_shape) for v in (at.z, zbar))
        return Trajectory(at.value + float(multipliers.mu @ c), gradient, x, z, lam, zbar, c)

    def states(self, w: np.ndarray) -> np.ndarray:
        """(L+1, N, *state shape)."""
        p = self.discrete.problem
        return self.point(w).x.reshape(self.discrete.depth + 1, p.samples, *p.state_shape)

    def final_parts(
        self, w: np.ndarray, x: np.ndarray, zbar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """ℓ_x and (k(T, T, F(x), u))_xᵀ z̄ per sample, controls at their last samples; both (N,
        *state shape).
        """
        slope, through = self.reduced.final_parts(
            w, x.reshape(len(x), -1), zbar.reshape(len(zbar), -1)
        )
        return slope.reshape(x.shape), through.reshape(x.shape)

    def outer_pull(self, w: np.ndarray, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """(G_z)ᵀ λ at T, (N, *integral shape)."""
        return self.reduced.outer_pull(w, z.reshape(len(z), -1), lam.reshape(len(lam), -1)).reshape(
            z.shape
        )

    def constraint_values(self, w: np.ndarray) -> np.ndarray:
        return self.point(w).constraints

    def constraint_gradient(self, w: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return self.point(w).jacobian.T @ weights
