"""What a minimiser sees: a smooth function of a flat vector in a box, with its metric."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dnlcontrol.backends.adjoint.coarse import Preconditioner
from dnlcontrol.backends.adjoint.model import Step, solve_model
from dnlcontrol.backends.multipliers import Multipliers
from dnlcontrol.space.control_space import ControlSpace
from dnlcontrol.space.faces import Face

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator


class SecondOrder(Protocol):
    """What the trust-region method needs: value, gradient, and the minimum of the quadratic model."""

    @property
    def space(self) -> ControlSpace: ...

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]: ...

    def hessian_product(self, w: np.ndarray, d: np.ndarray) -> np.ndarray: ...

    def solve_model(
        self, w: np.ndarray, g: np.ndarray, face: Face, radius: float, accuracy: float, limit: int
    ) -> Step: ...


@dataclass(frozen=True)
class Objective:
    """The (augmented) Lagrangian at fixed multipliers; ``preconditioner`` is that of its Newton systems.

    Times each product: work is counted in gradients.
    """

    evaluator: Evaluator
    multipliers: Multipliers | None = None
    preconditioner: Preconditioner | None = None

    @property
    def space(self) -> ControlSpace:
        return self.evaluator.space

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        began = time.perf_counter()
        found = self.evaluator.value_and_gradient(w, self.multipliers)
        self.evaluator.counts.gradient_seconds += time.perf_counter() - began
        return found

    def hessian_product(self, w: np.ndarray, d: np.ndarray) -> np.ndarray:
        began = time.perf_counter()
        found = self.evaluator.hessian_product(w, d, self.multipliers)
        self.evaluator.counts.hessian_seconds += time.perf_counter() - began
        return found

    def solve_model(self, w: np.ndarray, g: np.ndarray, face: Face, radius: float, accuracy: float, limit: int) -> Step:
        """By conjugate gradients with Hessian products."""
        began, correction = time.perf_counter(), None
        if self.preconditioner is not None and self.preconditioner.used:
            correction = self.preconditioner.current()
            self.evaluator.counts.coarse_seconds += time.perf_counter() - began
        product = partial(self.hessian_product, w)
        step = solve_model(self.space, product, w, g, face, radius, accuracy, limit, correction)
        if self.preconditioner is not None:
            self.preconditioner.add(step.seen)
        return step


@dataclass(frozen=True)
class Iterate:
    """One line of a minimiser's log."""

    iteration: int
    value: float
    stationarity: float
    radius: float
    inner: int
    work: float = np.nan  # units so far; only where the caller's progress is told
    # the flat vector after an epoch of mini-batches; only where the caller's progress is told
    controls: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Outcome:
    """Where a minimiser stopped, and why."""

    w: np.ndarray
    value: float
    gradient: np.ndarray
    stationarity: float
    converged: bool
    message: str
    log: tuple[Iterate, ...]

    @property
    def iterations(self) -> int:
        return max(len(self.log) - 1, 0)

    @property
    def inner(self) -> int:
        return sum(i.inner for i in self.log)


Progress = Callable[[Iterate], None]


def lines(log: Sequence[Iterate]) -> tuple[tuple[Any, ...], ...]:
    """The log as plain tuples (iteration, value, stationarity, radius, inner)."""
    return tuple((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in log)


def kept_log(kept: Mapping[str, Any], most: int) -> list[Iterate]:
    """The first lines, at most so many, of the log in a checkpoint's state."""
    return [Iterate(*line) for line in kept.get("log", ())][:most]
