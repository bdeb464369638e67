"""The reduced problem as an evaluator, so that both backends share their minimisers."""

from __future__ import annotations

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.exact.condensed.elimination import ReducedPoint
from dnlcontrol.backends.exact.condensed.structure import Reduced
from dnlcontrol.backends.found import Counts
from dnlcontrol.backends.watch import Watch
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers

# what is not finite is told in words, not by NumPy's warnings
quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


class ReducedEvaluator:
    """J, c and their exact derivatives in the controls w, states eliminated.

    The last points and the last Hessian are kept. Values that are not finite are values: NumPy does
    not warn of them. ``watch`` is told what is formed, and stops a minimiser in time.
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete = discrete
        self.space = discrete.space
        self.rows = discrete.rows
        self.reduced = Reduced(discrete)
        self.counts = Counts()
        self.watch = Watch()
        self._points: dict[bytes, ReducedPoint] = {}
        self._hessian: tuple[ReducedPoint, bytes, np.ndarray] | None = None

    @quiet
    def point(self, w: Flat) -> ReducedPoint:
        """The point at w; two are kept, a trial step and the iterate it may fall back to."""
        self.watch.check()
        key = np.asarray(w, dtype=float).tobytes()
        if key not in self._points:
            for old in list(self._points)[:-1]:
                del self._points[old]
            self._points[key] = ReducedPoint(self.reduced, np.array(w, dtype=float))
        return self._points[key]

    @quiet
    def value(self, w: Flat, multipliers: Multipliers | None = None) -> float:
        """J + μᵀc at w (size,); without multipliers J alone, with its penalties."""
        self.counts.values += 1
        return self._lagrangian(self.point(w), _mu(multipliers))

    @quiet
    def value_and_gradient(
        self, w: Flat, multipliers: Multipliers | None = None
    ) -> tuple[float, Flat]:
        """J + μᵀc and its gradient (size,), NaN where the value is not finite."""
        self.counts.gradients += 1
        at, mu = self.point(w), _mu(multipliers)
        value = self._lagrangian(at, mu)
        self.watch.saw(w, value, multipliers)
        if not np.isfinite(value):
            return value, np.full(self.space.size, np.nan)
        return value, at.adjoint(mu)[2]

    @staticmethod
    def _lagrangian(at: ReducedPoint, mu: RowVector | None) -> float:
        return at.value if mu is None else at.value + float(mu @ at.constraints)

    @quiet
    def hessian(self, w: Flat, mu: RowVector | None = None) -> np.ndarray:
        """The dense Hessian of J + μᵀc, (size, size)."""
        at, key = self.point(w), b"" if mu is None else mu.tobytes()
        if self._hessian is None or self._hessian[0] is not at or self._hessian[1] != key:
            self.counts.hessians += 1
            self._hessian = at, key, at.hessian(mu)
        return self._hessian[2]

    @quiet
    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None = None) -> Flat:
        """(d²/dw²) (J + μᵀc) d, (size,), from the stored second derivatives at the nodes."""
        self.counts.hessians += 1
        return self.point(w).product(d, _mu(multipliers))

    @quiet
    def trajectory(self, w: Flat, multipliers: Multipliers | None = None) -> Trajectory:
        """Everything known at one control, with the multipliers' Lagrangian."""
        at, mu = self.point(w), _mu(multipliers)
        p = self.discrete.problem
        nodes = (self.discrete.depth + 1, p.samples)
        lam, zbar, gradient = at.adjoint(mu)
        return Trajectory(
            value=self._lagrangian(at, mu),
            gradient=gradient,
            states=at.x.reshape(*nodes, *p.state_shape),
            integrals=at.z.reshape(*nodes, *p.integral_shape),
            costates=lam.reshape(*nodes, *p.state_shape),
            integral_costates=zbar.reshape(*nodes, *p.integral_shape),
            constraints=at.constraints,
        )

    def states(self, w: Flat) -> np.ndarray:
        """(L+1, N, *state shape)."""
        p = self.discrete.problem
        return self.point(w).x.reshape(self.discrete.depth + 1, p.samples, *p.state_shape)

    @quiet
    def final_parts(
        self, w: Flat, x: np.ndarray, zbar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """ℓ_x and (k(T, T, F(x), u))_xᵀ z̄ per sample, controls at their last samples.

        From x^L (N, *state shape) and z̄ (N, *integral shape); both (N, *state shape).
        """
        slope, through = self.reduced.final_parts(
            w, x.reshape(len(x), -1), zbar.reshape(len(zbar), -1)
        )
        return slope.reshape(x.shape), through.reshape(x.shape)

    @quiet
    def outer_pull(self, w: Flat, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """(G_z)ᵀ λ at T, (N, *integral shape) as z^L; λ (N, *state shape)."""
        pulled = self.reduced.outer_pull(w, z.reshape(len(z), -1), lam.reshape(len(lam), -1))
        return pulled.reshape(z.shape)

    @quiet
    def constraint_values(self, w: Flat) -> RowVector:
        """c, (rows.size,)."""
        return self.point(w).constraints

    @quiet
    def constraint_gradient(self, w: Flat, weights: RowVector) -> Flat:
        """(dc/dw)ᵀ times weights (rows.size,), (size,)."""
        return self.point(w).jacobian.T @ weights


def _mu(multipliers: Multipliers | None) -> RowVector | None:
    """μ of the Lagrangian J + μᵀc.

    Raises
    ------
    InputError : an augmented Lagrangian, which the method of multipliers forms by sweeps.
    """
    if multipliers is None:
        return None
    if multipliers.cost != 1.0 or np.any(multipliers.rho):
        seen = f"rho = {multipliers.rho}, cost = {multipliers.cost}"
        checks.reject("multipliers", seen, "rho = 0 and cost = 1 on the reduced problem")
    return multipliers.mu
