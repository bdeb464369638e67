"""What a minimiser is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.lanczos import Ends
from dnlcontrol.minimise.quadratic_model import Step

NOT_FINITE = (
    "the cost or its gradient is not finite at the start; start elsewhere or bound the controls"
)


class SmoothFunction(Protocol):
    """J(w) in a box: what a minimiser needs of it. w, g and d are (space.size,)."""

    @property
    def space(self) -> ControlSpace:
        """The box of controls and its metric."""
        ...

    def value_and_gradient(self, w: Flat) -> tuple[float, Flat]:
        """J(w) and its gradient, (space.size,)."""
        ...

    def hessian_product(self, w: Flat, d: Flat) -> Flat:
        """H(w) d, (space.size,)."""
        ...

    def solve_model(
        self, w: Flat, g: Flat, face: Face, radius: float, accuracy: float, max_products: int
    ) -> Step:
        """The step of its quadratic model at w; see :meth:`QuadraticModel.minimise`."""
        ...


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
    controls: Flat | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Outcome:
    """Where a minimiser stopped, and why.

    ``message`` is a sentence with a remedy unless it ``converged``; ``ends`` are the curvatures on
    the free entries at w, where they were looked at.
    """

    w: Flat
    value: float
    gradient: Flat
    stationarity: float
    converged: bool
    message: str
    log: tuple[Iterate, ...]
    ends: Ends | None = None

    @property
    def iterations(self) -> int:
        """Lines of the log after the start."""
        return max(len(self.log) - 1, 0)

    @property
    def inner(self) -> int:
        """Inner iterations (products, or evaluations of a line search) of the whole log."""
        return sum(i.inner for i in self.log)


Progress = Callable[[Iterate], None]


def finite(value: float, g: Flat) -> bool:
    """Whether J and its gradient are numbers."""
    return bool(np.isfinite(value) and np.all(np.isfinite(g)))


def not_started(w: Flat, value: float, g: Flat, radius: float) -> Outcome:
    """The outcome at a start that is not :func:`finite`, not converged."""
    return Outcome(
        w,
        value,
        g,
        stationarity=np.inf,
        converged=False,
        message=NOT_FINITE,
        log=(Iterate(0, value, np.inf, radius, 0),),
    )


def reached(stationarity: float, tolerance: float) -> str:
    """The message of a minimiser that converged."""
    return f"stationarity {stationarity:.1e} <= {tolerance:.0e}"


def lines(log: Sequence[Iterate]) -> tuple[tuple[Any, ...], ...]:
    """The log as plain tuples (iteration, value, stationarity, radius, inner)."""
    return tuple((i.iteration, i.value, i.stationarity, i.radius, i.inner) for i in log)


def kept_log(kept: Mapping[str, Any], most: int) -> list[Iterate]:
    """The first lines, at most so many, of the log in a checkpoint's state."""
    return [Iterate(*line) for line in kept.get("log", ())][:most]
