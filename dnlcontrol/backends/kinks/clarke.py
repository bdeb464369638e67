"""Clarke stationarity: how far 0 is from the generalised gradients of J at a point on kinks.

They are ∇_w J(w, θ), the side θ_k of a kink whose argument is 0 anywhere in [0, 1] (sided.py).
Where the gradients of the active arguments are independent each is a generalised gradient in the
sense of Clarke. θ -> ∇_w J is affine in each side alone, so that Gauss-Newton steps, each a least
squares problem in the box, find the nearest. At a minimiser no direction lowers J at first order,
which is looked for besides: across each active kink to both sides, and along random directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.backends.kinks.kinked_function import KinkedFunction, applies
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.control_space import sample
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.generalised_gradient import nearest
from dnlcontrol.problem.controls import smooth_random

STEPS = 8  # Gauss-Newton
MOST_ACTIVE = 600  # kinks of one least squares problem
WEAK = 1e-6  # a side so near to 0 or 1 holds its kink from one side only
REACH = 1e-4  # the length of a trial step in the metric
DIRECTIONS = 8  # random ones, each with both signs
VALUE_ROUNDING = 64 * np.finfo(float).eps  # of J, in units of 1 + |J|


@dataclass(frozen=True)
class KinkedPoint:
    """Controls w with the sides θ (kinks,) whose gradient r (size,) is nearest to 0.

    ``active``: the kinks whose argument is within the tolerance of 0, (kinks,).
    """

    function: KinkedFunction
    w: Flat
    theta: np.ndarray
    active: np.ndarray
    gradient: Flat

    @property
    def count(self) -> int:
        """The number of active kinks."""
        return int(np.count_nonzero(self.active))

    @property
    def stationarity(self) -> float:
        """The dual norm of the gradient on the entries that no bound holds."""
        space = self.function.discrete.space
        return Face(space, held_entries(space, self.w, self.gradient)).dual_norm(self.gradient)

    def trajectory(self, at: Trajectory) -> Trajectory:
        """The trajectory at w with the costates and the gradient of these sides."""
        function = self.function
        there = function.smooth.trajectory(function.joined(self.w, self.theta))
        return replace(
            at,
            gradient=self.gradient,
            costates=there.costates[..., :-1].reshape(at.costates.shape),
            integral_costates=there.integral_costates[..., :-1].reshape(at.integral_costates.shape),
        )

    def strict(self) -> np.ndarray:
        """Which of the active kinks have a side inside (0, 1), (active,)."""
        side = self.theta[self.active]
        return np.asarray((side > WEAK) & (side < 1.0 - WEAK))

    def across(self) -> np.ndarray:
        """∂_θ ∇_w J of each active kink: a multiple of its argument's gradient, (active, size)."""
        return _jumps(self.function, self.function.joined(self.w, self.theta), self.active)


def kinked_point(
    discrete: DiscreteProblem, w: Flat, tolerance: float, function: KinkedFunction | None = None
) -> KinkedPoint | None:
    """The nearest generalised gradient at w; None where sides are not kept, see :func:`applies`."""
    if not applies(discrete) or not np.all(np.isfinite(w)):
        return None
    function = function or KinkedFunction(discrete)
    a = function.arguments(w)
    finite = np.abs(a[np.isfinite(a)])
    active = np.abs(a) <= tolerance * (1.0 + float(np.max(finite, initial=0.0)))
    count = int(np.count_nonzero(active))
    if count > MOST_ACTIVE or np.any(np.isnan(a)):
        return None
    theta = np.where((a > 0) & np.isfinite(a), 1.0, 0.0)
    best = _at(function, w, theta, active)  # the sides that plain formulas take
    if not count or best.stationarity <= tolerance:
        return best
    theta = np.where(active, 0.5, theta)
    for _ in range(STEPS + 1):
        here = _at(function, w, theta, active)
        if here.stationarity < best.stationarity:
            best = here
        if best.stationarity <= 1e-2 * tolerance:
            break
        r = here.gradient
        v = function.joined(w, theta)
        B = _jumps(function, v, active).T
        free = np.flatnonzero(~held_entries(discrete.space, w, r))
        step = nearest(discrete.space, free, r, B, (-theta[active], 1.0 - theta[active]))
        theta = theta.copy()
        theta[active] = np.clip(theta[active] + step, 0.0, 1.0)
    return best


def lowest_curvature(point: KinkedPoint) -> float:
    """The lowest eigenvalue in the metric of ∂²J/∂w² on the directions that keep the point's kinks.

    Kinks whose side is inside (0, 1) are kept, and held entries; +inf where nothing is left free.
    """
    from scipy.linalg import eigh, null_space

    function, space = point.function, point.function.discrete.space
    free = np.flatnonzero(~held_entries(space, point.w, point.gradient))
    v = function.joined(point.w, point.theta)
    H = function.second(v, free)[free]
    A = np.array([space.metric(e)[free] for e in np.eye(space.size)[free]])
    C = point.across()[point.strict()][:, free]
    Z = null_space(C) if len(C) else np.eye(free.size)
    if not Z.shape[1]:
        return float("inf")
    return float(eigh(Z.T @ (0.5 * (H + H.T)) @ Z, Z.T @ A @ Z, eigvals_only=True)[0])


def _at(function: KinkedFunction, w: Flat, theta: np.ndarray, active: np.ndarray) -> KinkedPoint:
    """The point with given sides."""
    r = function.smooth.value_and_gradient(function.joined(w, theta))[1][: function.size]
    return KinkedPoint(function, w, theta, active, r)


def _jumps(function: KinkedFunction, v: Flat, active: np.ndarray) -> np.ndarray:
    """∂∇_w J/∂θ_k of the active kinks, (active, size)."""
    return function.second(v, function.size + np.flatnonzero(active))[: function.size].T


def steepest_kink(point: KinkedPoint, tolerance: float, seed: int = 0) -> tuple[float, Flat]:
    """The lowest slope of J along a step from the point, and the direction, (size,).

    0 where none is below -10 times the tolerance: both sides of each active kink, and random
    directions, are tried at one length. J is compared, not its gradient.
    """
    function, space = point.function, point.function.discrete.space
    value = function.plain.value(point.w)
    noise = VALUE_ROUNDING * (1.0 + abs(value)) / REACH
    for directions in (_random(point, seed), _across(point)):
        lowest, direction = 0.0, np.zeros(space.size)
        for d in directions:
            length = float(np.sqrt(max(d @ space.metric(d), 0.0)))
            for sign in (1.0, -1.0) if length > 0 else ():
                trial = np.clip(point.w + sign * REACH / length * d, *space.bounds)
                slope = (function.plain.value(trial) - value) / REACH
                if slope < min(lowest, -10.0 * tolerance - noise):
                    lowest, direction = slope, sign * d / length
        if lowest < 0.0:
            break
    return lowest, direction


def _random(point: KinkedPoint, seed: int) -> Iterator[Flat]:
    """Smooth random directions, (size,)."""
    space = point.function.discrete.space
    for k in range(DIRECTIONS):
        yield space.assemble({b.name: sample(b, smooth_random(seed + k, 1.0)) for b in space})


def _across(point: KinkedPoint) -> Iterator[Flat]:
    """The directions across each active kink, (size,)."""
    for row in point.across():
        yield point.function.discrete.space.riesz(row)
