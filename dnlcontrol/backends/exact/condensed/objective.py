"""What the trust-region method sees of the reduced problem."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg import solve_triangular

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.discretisation.resources.sizes import DENSE
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.quadratic_model import QuadraticModel, Step


@dataclass(frozen=True)
class ReducedObjective:
    """What the trust-region method sees of the reduced problem."""

    evaluator: ReducedEvaluator

    @property
    def space(self) -> ControlSpace:
        return self.evaluator.space

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        return self.evaluator.value_and_gradient(w)

    def hessian_product(self, w: np.ndarray, d: np.ndarray) -> np.ndarray:
        return self.evaluator.hessian_product(w, d)

    def solve_model(
        self,
        w: np.ndarray,
        g: np.ndarray,
        face: Face,
        radius: float,
        accuracy: float,
        max_products: int,
    ) -> Step:
        """The Newton step by Cholesky factorisation, where H is small and the step in the radius.

        Otherwise conjugate gradients in the metric, which take a few products whatever the depth,
        and handle bounds and negative curvature. Bounded problems of that size form H once for all
        products on their faces.
        """
        if self.space.size > DENSE:
            model = QuadraticModel(self.space, partial(self.hessian_product, w), w, g, face)
            return model.minimise(radius, accuracy, max_products)
        H = self.evaluator.hessian(w)
        if not self.space.bounded:
            d = newton_step(H, g)
            if d is not None and d @ self.space.metric(d) <= radius**2:
                return Step(d, float(g @ d + 0.5 * d @ (H @ d)), 1, False)
        model = QuadraticModel(self.space, H.__matmul__, w, g, face)
        return model.minimise(radius, accuracy, 10 * max_products)


def newton_step(H: np.ndarray, g: np.ndarray) -> np.ndarray | None:
    """-H^{-1} g, None unless H is positive definite."""
    try:
        factor = np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        return None
    return -np.asarray(
        solve_triangular(factor, solve_triangular(factor, g, lower=True), lower=True, trans="T")
    )
