"""A stored point at kinks, as the other checks see it: on the smooth piece of its sides.

J(w, θ) with the sides θ of the generalised gradient nearest to 0 is smooth, is J on the active
kinks, and has the products that second order and Taylor test need. That no kink lowers J is a row
of its own, by values of J alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.backends.kinks.clarke import KinkedPoint, kinked_point, steepest_kink
from dnlcontrol.certificates.certificate import Check, at_least, at_most
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.faces import stationarity
from dnlcontrol.minimise.multipliers import Multipliers

SLOPE = 10.0  # times the tolerance: of what is taken for a slope of J


@dataclass(frozen=True)
class PieceProducts:
    """J(., θ) with θ fixed: what second order and Taylor test ask of an evaluator."""

    point: KinkedPoint

    def value(self, w: Flat, multipliers: Multipliers | None = None) -> float:
        """J(w, θ)."""
        function = self.point.function
        return function.smooth.value(function.joined(w, self.point.theta), multipliers)

    def value_and_gradient(
        self, w: Flat, multipliers: Multipliers | None = None
    ) -> tuple[float, Flat]:
        """J(w, θ) and ∇_w J, (size,)."""
        function = self.point.function
        at = function.joined(w, self.point.theta)
        value, g = function.smooth.value_and_gradient(at, multipliers)
        return value, g[: function.size]

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None = None) -> Flat:
        """∂²J/∂w² d, (size,)."""
        function = self.point.function
        along = function.joined(d, np.zeros_like(self.point.theta))
        at = function.joined(w, self.point.theta)
        return np.asarray(function.smooth.hessian_product(at, along, multipliers)[: function.size])

    def constraint_gradient(self, w: Flat, weights: Flat) -> Flat:
        """There are no constraint rows: zeros, (size,)."""
        return self.point.function.plain.constraint_gradient(w, weights)

    def kept(self) -> np.ndarray:
        """The gradients of the arguments that kinks keep at 0, (kinks, size)."""
        return np.asarray(self.point.across()[self.point.strict()])


def at_kinks(point: StoredPoint) -> tuple[StoredPoint, PieceProducts | None]:
    """The point with the generalised gradient nearest to 0, and the products on its piece.

    Unchanged, and None, for a problem without kinks, or one whose sides are not kept.
    """
    discrete = point.evaluator.discrete
    if not discrete.problem.kinks or not np.all(np.isfinite(point.at.gradient)):
        return point, None
    found = kinked_point(discrete, point.w, point.tolerance)
    if found is None:
        return point, None
    return replace(point, at=_on_sides(point, found)), PieceProducts(found)


def _on_sides(point: StoredPoint, found: KinkedPoint) -> Trajectory:
    """The trajectory as a solution reports it: on the point's sides where plain ones fail."""
    plain = stationarity(point.evaluator.space, point.w, point.at.gradient)
    if plain <= point.tolerance or found.stationarity > point.tolerance:
        return point.at
    return found.trajectory(point.at)


def kink_rows(point: StoredPoint, products: PieceProducts, seed: int) -> list[Check]:
    """Two rows: the piece is J at the point, and no direction across a kink lowers J."""
    kinked = products.point
    value = kinked.function.plain.value(point.w)
    off = abs(products.value(point.w) - value)
    slope, _ = steepest_kink(kinked, point.tolerance, seed) if kinked.count else (0.0, None)
    kinds = ", ".join(sorted(point.evaluator.discrete.problem.kinks))
    allowed = point.tolerance * (1.0 + abs(value))
    return [
        at_most("sides", off, allowed, f"J on the piece of {kinked.count} active kinks ({kinds})"),
        at_least(
            "kinks",
            slope,
            -SLOPE * point.tolerance,
            "the lowest slope of J, across each active kink and along random directions",
        ),
    ]
