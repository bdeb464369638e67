"""The printed sweep behind the tensors of the adjoint backend: whole chunks of samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from dnlcontrol.backends.adjoint.printed.direct_terms import (
    DirectTerm,
    DirectTerms,
    StatesAndControls,
)
from dnlcontrol.backends.adjoint.printed.printed_formulas import PrintedFormulas
from dnlcontrol.backends.adjoint.printed.printed_layers import Controls
from dnlcontrol.backends.adjoint.printed.printed_sweep import Passage, PrintedSweep
from dnlcontrol.backends.adjoint.printed.printed_tangent import PrintedTangent
from dnlcontrol.discretisation.discrete import DiscreteProblem

Tensor = torch.Tensor


class PrintedPasses:
    """Passes of one discrete problem in float64 on the CPU; tensors go in and out uncopied."""

    def __init__(self, discrete: DiscreteProblem, maps: PrintedFormulas) -> None:
        self.problem = discrete.problem
        self.sweep = PrintedSweep(discrete, maps)
        self.terms = DirectTerms(discrete, maps)

    @staticmethod
    def controls(u: Mapping[str, Tensor]) -> Controls:
        """name -> (sites, entries), views of the tensors (sites, *shape)."""
        return {k: v.detach().numpy().reshape(len(v), -1) for k, v in u.items()}

    def forward(self, u: Controls, free: Tensor) -> Passage:
        """The states of a chunk with the free terms (L+1 or 1, n, *shape)."""
        g = free.numpy().reshape(*free.shape[:2], -1)
        with np.errstate(all="ignore"):
            return self.sweep.forward(u, np.ascontiguousarray(np.moveaxis(g, 2, 1)))

    def states(self, u: Mapping[str, Tensor], free: Tensor) -> tuple[Tensor, Tensor]:
        """x (L+1, n, *state) and z (L+1, n, *integral), z without the layers' own sources."""
        at = self.forward(self.controls(u), free)
        return self.state_like(at.states), self.integral_like(at.earlier)

    def state_like(self, rows: np.ndarray) -> Tensor:
        """(L+1, entries, n) as (L+1, n, *state)."""
        return _tensor(rows, self.problem.state_shape)

    def integral_like(self, rows: np.ndarray) -> Tensor:
        """(L+1, entries, n) as (L+1, n, *integral)."""
        return _tensor(rows, self.problem.integral_shape)

    def value(self, u: Controls, free: Tensor, terms: list[DirectTerm]) -> float:
        """The Lagrangian's share of a chunk."""
        at = self.forward(u, free)
        with np.errstate(all="ignore"):
            return self.terms.value(terms, at.states, u)

    def pulled(
        self, u: Controls, free: Tensor, terms: list[DirectTerm], out: Controls
    ) -> tuple[float, Passage]:
        """The Lagrangian's share of a chunk, and what passed; adds its gradient into ``out``."""
        at = self.forward(u, free)
        with np.errstate(all="ignore"):
            value, direct = self.terms.pull(terms, at.states, u, out)
            self.sweep.pull_back(u, at, direct, out)
        return value, at

    def add_product(
        self, u: Controls, du: Controls, at: Passage, terms: list[DirectTerm], out: Controls
    ) -> None:
        """Adds a chunk's share of the Hessian product with δu into ``out``."""
        with np.errstate(all="ignore"):
            tangent = PrintedTangent(self.sweep, u, du, at)
            here, along = StatesAndControls(at.states, u), StatesAndControls(tangent.forward(), du)
            tangent.pull_back(self.terms.second(terms, here, along, out), out)


def _tensor(rows: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    samples_first = np.ascontiguousarray(np.moveaxis(rows, 1, 2))
    return torch.from_numpy(samples_first).reshape(*samples_first.shape[:2], *shape)
