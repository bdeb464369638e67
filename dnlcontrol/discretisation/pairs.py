"""The table of pairs (l, s): every kernel evaluation of one discretisation, column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.grid import Grid


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs (l, s) of k(t_l, t_s, y^s, w^{l,s}), sources ascending, of each source its layers.

        Volterra    z^l = Σ_{s <= l} ω_{l,s} k(t_l, t_s, ...)
        Markov      z^l = z^{l-1} - d_{l-1} k_{l-1,l-1} + c_{l-1} k_{l,l-1} + d_l k_{l,l}

    where the second holds for kernels that do not read t, so that each column needs l = s (a rule
    at the nodes) and l = s + 1 only.

    Attributes
    ----------
    layers, sources : l and s, (pairs,).
    weights : ω of k(t_l, t_s, ...) in z^l, (pairs,): c_s for l > s, d_l for l = s.
    starts : the first pair of each column s, (side,).
    own : the pairs (l, l), (L+1,), None where the rule has none.
    columns : for s = 0..L-1 the pairs l > s of column s, contiguous.

    >>> pairs = Pairs.of(Grid(2, 1.0), markov=False)
    >>> list(zip(pairs.layers.tolist(), pairs.sources.tolist()))
    [(1, 0), (2, 0), (2, 1)]
    >>> pairs.columns
    (slice(0, 2, None), slice(2, 3, None))
    """

    grid: Grid
    markov: bool
    layers: np.ndarray
    sources: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    own: np.ndarray | None
    columns: tuple[slice, ...]

    @classmethod
    def of(cls, grid: Grid, markov: bool) -> Pairs:
        """The table of a grid; ``markov``: of each column l = s and l = s + 1 alone."""
        layers, sources = grid.pairs(markov)
        ends = np.searchsorted(sources, np.arange(grid.side + 1)).tolist()
        starts = np.array(ends[:-1])
        return cls(
            grid=grid,
            markov=markov,
            layers=layers,
            sources=sources,
            weights=grid.pair_weights(layers, sources),
            starts=starts,
            own=starts if grid.at_nodes else None,
            columns=tuple(slice(ends[s] + grid.at_nodes, ends[s + 1]) for s in range(grid.depth)),
        )

    def __len__(self) -> int:
        return len(self.layers)

    def reached(self, s: int) -> slice:
        """The layers l > s that column s acts on, one for each entry of ``columns[s]``."""
        return slice(s + 1, s + 2) if self.markov else slice(s + 1, self.grid.depth + 1)

    def cotangents(self, zbar: np.ndarray) -> np.ndarray:
        """The cotangent of each pair's contribution, (pairs, ...), from z̄ (L+1, ...)."""
        return self.grid.pair_cotangents(zbar, self.layers, self.sources, self.markov)

    @property
    def increments(self) -> np.ndarray:
        """The weight of each pair in z^l - z^{l-1}, (pairs,), in a recursion of one step."""
        own = np.where(self.layers > self.sources, self.grid.own[self.sources], 0.0)
        return np.asarray(self.weights - own)
