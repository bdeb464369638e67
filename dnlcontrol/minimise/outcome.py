"""What a minimiser is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.quadratic_model import Step


class SmoothFunction(Protocol):
    """What the trust-region method needs: value, gradient, and the minimum of the
    quadratic model.
    """

    @property
    def space(self) -> ControlSpace: ...

    def value_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]: ...

    def hessian_product(self, w: np.ndarray, d: np.ndarray) -> np.ndarray: ...

    def solve_model(
        self,
        w: np.ndarray,
        g: np.ndarray,
        face: Face,
        radius: float,
        accuracy: float,
        max_products: int,
    ) -> Step: ...


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
