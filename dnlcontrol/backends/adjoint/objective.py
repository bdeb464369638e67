"""What a minimiser sees: a smooth function of a flat vector in a box, with its metric."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.preconditioner import Preconditioner
from dnlcontrol.minimise.quadratic_model import QuadraticModel, Step

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator


@dataclass(frozen=True)
class Objective:
    """The (augmented) Lagrangian at fixed multipliers.

    Times each product: work is counted in gradients. ``preconditioner`` is that of its Newton
    systems.
    """

    evaluator: Evaluator
    multipliers: Multipliers | None = None
    preconditioner: Preconditioner | None = None

    @property
    def space(self) -> ControlSpace:
        return self.evaluator.space

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluator.watch.check()
        began = time.perf_counter()
        found = self.evaluator.value_and_gradient(w, self.multipliers)
        self.evaluator.counts.gradient_seconds += time.perf_counter() - began
        self.evaluator.watch.saw(w, found[0], self.multipliers)
        return found

    def hessian_product(self, w: np.ndarray, d: np.ndarray) -> np.ndarray:
        self.evaluator.watch.check()
        began = time.perf_counter()
        found = self.evaluator.hessian_product(w, d, self.multipliers)
        self.evaluator.counts.hessian_seconds += time.perf_counter() - began
        return found

    def solve_model(
        self,
        w: np.ndarray,
        g: np.ndarray,
        face: Face,
        radius: float,
        accuracy: float,
        max_products: int,
    ) -> Step:
        """By conjugate gradients with Hessian products."""
        began, correction = time.perf_counter(), None
        if self.preconditioner is not None and self.preconditioner.used:
            correction = self.preconditioner.current()
            self.evaluator.counts.coarse_seconds += time.perf_counter() - began
        model = QuadraticModel(self.space, partial(self.hessian_product, w), w, g, face)
        step = model.minimise(radius, accuracy, max_products, correction)
        if self.preconditioner is not None:
            self.preconditioner.add(step.seen)
        return step
