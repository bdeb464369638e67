"""What backends hand over: an evaluator, its counts, the result of a solve."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dnlcontrol.minimise.evaluator import Products

if TYPE_CHECKING:
    from dnlcontrol.discretisation.discrete import DiscreteProblem
    from dnlcontrol.discretisation.space.flat import Flat
    from dnlcontrol.minimise.lanczos import Ends
    from dnlcontrol.minimise.preconditioner import Preconditioner

SOLVED = 0
LIMIT = 1
INFEASIBLE = 2
STALLED = 3
NO_MINIMISER = 4  # stationary, and the Lagrangian bends down along a direction that is free


class BackendEvaluator(Products, Protocol):
    """What both backends can form at controls w, all of it exact for the discrete problem.

    Besides :class:`Products`: what certificates and reports ask for.
    """

    @property
    def discrete(self) -> DiscreteProblem:
        """The problem at one depth."""

    @property
    def counts(self) -> Counts:
        """How often each product was formed so far."""

    def states(self, w: Flat) -> np.ndarray:
        """x, (L+1, N, *state shape)."""

    def final_parts(
        self, w: Flat, x: np.ndarray, zbar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """ℓ_x and (k(T, T, F(x), u))_xᵀ z̄, both (N, *state shape).

        ``x`` and ``zbar`` are x^L and a cotangent of z^L.
        """

    def outer_pull(self, w: Flat, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """(G_z)ᵀ λ at T for z^L and a cotangent of x^L, (N, *integral shape)."""


@dataclass(frozen=True)
class BackendResult:
    """Controls and multipliers, how the solver ended, and its own costates where it has them.

    ``evaluator`` recomputes everything that is reported; ``costates`` are ψ where the rows are
    ``one_step``, else λ. ``preconditioner`` may serve a finer level; ``ends`` are the curvatures on
    the free entries at w, where the minimiser looked at them. ``refused``: not solved, whatever the
    measures say, as the message explains. ``elsewhere``: found infeasible from other starts too, or
    whatever the start.
    """

    evaluator: BackendEvaluator
    w: np.ndarray
    multipliers: np.ndarray
    message: str
    status: int
    nit: int
    log: tuple[Any, ...] = ()
    nfev: int | None = None
    costates: np.ndarray | None = None
    one_step: bool = False
    formulation: str = ""
    preconditioner: Preconditioner | None = None
    ends: Ends | None = None
    refused: bool = False
    elsewhere: bool = False


@dataclass
class Counts:
    """How often each product was formed, and what they cost the minimiser.

    ``coarse_seconds``: preparing start and preconditioner; the values formed in that time are
    ``timed_values``.
    """

    values: int = 0
    gradients: int = 0
    hessians: int = 0
    gradient_seconds: float = 0.0
    hessian_seconds: float = 0.0
    coarse_seconds: float = 0.0
    timed_values: int = 0

    def add(self, others: Counts) -> None:
        """Count the work of another evaluator, too."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(others, f.name))

    @property
    def product_cost(self) -> float:
        """The measured time of a Hessian product in gradients, at least 2.

        It is 2 where nothing was measured.
        """
        if not (self.hessians and self.gradients and self.gradient_seconds > 0):
            return 2.0
        return max(
            2.0, self.hessian_seconds / self.hessians * self.gradients / self.gradient_seconds
        )

    def work(self, extra: int = 0) -> dict[str, float]:
        """Work in units of one gradient at this level; ``extra`` gradients were formed besides."""
        if not self.gradients:
            return {}
        second = self.gradient_seconds / self.gradients
        coarse = self.coarse_seconds / second if second > 0 else 0.0
        total = (
            self.values
            - self.timed_values
            + self.gradients
            + extra
            + self.product_cost * self.hessians
            + coarse
        )
        return {
            "units": total,
            "product_cost": self.product_cost,
            "coarse": coarse,
            "gradient_seconds": second,
        }
