"""Bounds of a lifted program's states and rows, and its multipliers in the order of the problem."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.discrete import DiscreteProblem


class Sides:
    """State bounds are bounds on the unknowns x; other constraints follow the state equation."""

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete = discrete
        self.shape = (
            discrete.depth + 1,
            discrete.problem.samples,
            int(np.prod(discrete.problem.state_shape, dtype=int)),
        )

    @cached_property
    def states(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the states, flat (L+1, N, *shape); several state constraints intersect."""
        low, high = np.full(self.shape, -np.inf), np.full(self.shape, np.inf)
        for block in self.discrete.rows.blocks:
            if block.formula is None:
                lower, upper = self._own(block)
                low[1:, block.samples] = np.maximum(low[1:, block.samples], lower)
                high[1:, block.samples] = np.minimum(high[1:, block.samples], upper)
        return low.ravel(), high.ravel()

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the constraint rows."""
        lower, upper = self.discrete.rows.bounds
        index = self.row_index
        return lower[index], upper[index]

    @cached_property
    def row_index(self) -> np.ndarray:
        """The entries of ``discrete.rows`` that are rows of the program: all but state bounds."""
        parts = [
            np.arange(b.part.start, b.part.stop)
            for b in self.discrete.rows.blocks
            if b.formula is not None
        ]
        return np.concatenate([np.zeros(0, dtype=int), *parts])

    def multipliers(self, on_states: np.ndarray, on_rows: np.ndarray) -> np.ndarray:
        """The multipliers of ``discrete.rows``, (rows.size,), from those of states and rows.

        ``on_states`` (states,) belong to the state bounds, ``on_rows`` to the constraint rows.
        """
        mu = np.zeros(self.discrete.rows.size)
        mu[self.row_index] = on_rows
        on_states = on_states.reshape(self.shape)
        taken = np.zeros(self.shape, dtype=bool)
        for block in self.discrete.rows.blocks:
            if block.formula is None:
                here = on_states[1:, block.samples]
                free = ~taken[1:, block.samples] & self._binding(block, here)
                mu[block.part] = np.where(free, here, 0.0).ravel()
                taken[1:, block.samples] |= free
        return mu

    def _own(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        """The sides of one state constraint, (layers, samples, size)."""
        size = (len(block.layers), len(block.samples), self.shape[2])
        lower, upper = (s[block.part].reshape(size) for s in self.discrete.rows.bounds)
        return lower, upper

    def _binding(self, block: RowBlock, values: np.ndarray) -> np.ndarray:
        """Where a block's side, by the multiplier's sign, is the binding bound of the state."""
        lower, upper = self._own(block)
        low, high = (s.reshape(self.shape)[1:, block.samples] for s in self.states)
        return np.where(values > 0, upper == high, lower == low)
