"""Where a control's samples sit and how they are packed.

A control on the triangle has the samples w^{l,s}, 0 <= s < l <= L, packed by column: column s is the
contiguous block l = s+1..L. A path control has L samples v^0..v^{L-1} at cell centres, or L+1 at the nodes
when the outer map reads it. A constant has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnlcontrol import checks
from dnlcontrol.grid import Grid


@dataclass(frozen=True)
class Layout:
    """The sample sites of one control at one depth; ``on`` is "ts", "t" or "const"."""

    grid: Grid
    on: str
    at_nodes: bool = False

    @property
    def count(self) -> int:
        """The number of sites."""
        L = self.grid.depth
        return {"ts": L * (L + 1) // 2, "t": L + self.at_nodes, "const": 1}[self.on]

    def column(self, s: int) -> slice:
        """The sites w^{s+1..L, s} of column s."""
        L = self.grid.depth
        start = s * L - s * (s - 1) // 2
        return slice(start, start + L - s)

    @cached_property
    def layers(self) -> np.ndarray:
        """The layer l of each site of the triangle."""
        return np.concatenate([self.grid.rows(s) for s in range(self.grid.depth)])

    @cached_property
    def sources(self) -> np.ndarray:
        """The source s of each site of the triangle (l on the path)."""
        L = self.grid.depth
        if self.on == "t":
            return np.arange(self.count)
        return np.repeat(np.arange(L), L - np.arange(L))

    @cached_property
    def positions(self) -> tuple[np.ndarray, ...]:
        """The coordinates of the sites: (t, s) on the triangle, (t,) on the path, () for constants."""
        tau = self.grid.step
        if self.on == "ts":
            return (self.layers - 0.5) * tau, (self.sources + 0.5) * tau
        if self.on == "t":
            return ((np.arange(self.count) + (0.0 if self.at_nodes else 0.5)) * tau,)
        return ()

    @property
    def line(self) -> np.ndarray:
        """The coordinates along one axis: cell centres, or nodes."""
        count = self.grid.depth + (1 if self.at_nodes else 0)
        return (np.arange(count) + (0.0 if self.at_nodes else 0.5)) * self.grid.step

    def index(self, l: int, s: int | None = None) -> int:
        """The site of w^{l,s}, or of v^l."""
        L = self.grid.depth
        for k in (l, s):
            if k is not None and (isinstance(k, bool) or not isinstance(k, (int, np.integer))):
                checks.reject_type("at", k, "integers: a layer l, or a layer l and a source s")
        if self.on == "ts":
            if s is None or not 0 <= s < l <= L:
                checks.reject("at(l, s)", f"({l}, {s})", f"0 <= s < l <= {L}")
            return int(s * L - s * (s - 1) // 2 + l - s - 1)
        if s is not None or not 0 <= l < self.count:
            checks.reject("at(l)", f"({l}{'' if s is None else f', {s}'})", f"0 <= l < {self.count}")
        return int(l)

    def dense(self, values: np.ndarray) -> np.ndarray:
        """(L, L, *shape) on the triangle, entry [l-1, s], NaN for s >= l; (count, *shape) on the path."""
        if self.on != "ts":
            return values.copy() if self.on == "t" else values[0].copy()
        L = self.grid.depth
        out = np.full((L, L, *values.shape[1:]), np.nan)
        out[self.layers - 1, self.sources] = values
        return out

    def packed(self, array: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`dense`."""
        if self.on == "ts":
            return np.ascontiguousarray(array[self.layers - 1, self.sources])
        return np.ascontiguousarray(array if self.on == "t" else array[None])

    def mirrored(self, values: np.ndarray) -> np.ndarray:
        """The flip across the diagonal: a_ij = a_ji = w^{max(i,j)+1, min(i,j)}, shape (L, L, *shape)."""
        L = self.grid.depth
        out = np.empty((L, L, *values.shape[1:]), dtype=values.dtype)
        out[self.layers - 1, self.sources] = values
        out[self.sources, self.layers - 1] = values
        return out
