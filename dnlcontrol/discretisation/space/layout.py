"""Where a control's samples sit and how they are packed.

At cell centres (left rule) a control on the triangle has the samples w^{l,s}, 0 <= s < l <= L; at
the nodes (trapezoidal rule) also those with l = s. They are packed by column: column s is one
contiguous block of rising l. A path control has L samples v^0..v^{L-1} at cell centres, or L+1 at
the nodes; at the nodes also where the outer map reads it. A constant has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.grid import Grid

Index = TypeVar("Index", int, np.ndarray)


@dataclass(frozen=True)
class Layout:
    """The sample sites of one control at one depth; ``on`` is "ts", "t" or "const".

    ``at_nodes``: a path control that sits at the nodes whatever the rule.
    """

    grid: Grid
    on: str
    at_nodes: bool = False

    @property
    def side(self) -> int:
        """The number of samples along one axis."""
        return self.grid.depth + (self.at_nodes or self.grid.at_nodes)

    @property
    def count(self) -> int:
        """The number of sites."""
        n = self.side
        return {"ts": n * (n + 1) // 2, "t": n, "const": 1}[self.on]

    @property
    def first(self) -> int:
        """l - s on the diagonal of the samples: 1 at cell centres, 0 at the nodes."""
        return 1 - self.grid.at_nodes

    def sites(self, layers: Index, sources: Index) -> Index:
        """The site of w^{l,s} for integers or integer arrays l, s."""
        start: Index = sources * self.side - sources * (sources - 1) // 2
        site: Index = start + layers - sources - self.first
        return site

    def column(self, s: int) -> slice:
        """The sites w^{l,s} of column s, l from s + ``first`` to L."""
        start = self.sites(s + self.first, s)
        return slice(start, start + self.side - s)

    def later(self, s: int) -> slice:
        """The sites w^{s+1..L, s}."""
        column = self.column(s)
        return slice(column.start + 1 - self.first, column.stop)

    def own(self, l: int) -> slice:
        """The site w^{l,l}, at the nodes."""
        start = self.sites(l, l)
        return slice(start, start + 1)

    @cached_property
    def layers(self) -> np.ndarray:
        """The layer l of each site of the triangle, (count,)."""
        return self.grid.pairs()[0]

    @cached_property
    def sources(self) -> np.ndarray:
        """The source s of each site of the triangle (l on the path), (count,)."""
        return np.arange(self.count) if self.on == "t" else self.grid.pairs()[1]

    @property
    def index_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(i, j) of each site in the square array, i = l - ``first`` >= j = s, each (count,)."""
        return self.layers - self.first, self.sources

    @property
    def diagonal(self) -> np.ndarray:
        """Which sites of the triangle lie on the diagonal of the square array, (count,)."""
        i, j = self.index_pairs
        return np.asarray(i == j)

    @cached_property
    def positions(self) -> tuple[np.ndarray, ...]:
        """The sites' coordinates, each (count,): (t, s) or (t,); () for constants."""
        if self.on == "ts":
            i, j = self.index_pairs
            return self.line[i], self.line[j]
        return (self.line,) if self.on == "t" else ()

    @cached_property
    def line(self) -> np.ndarray:
        """The coordinates along one axis, cell centres or nodes, (side,)."""
        if self.side > self.grid.depth:
            return self.grid.nodes
        return (np.arange(self.side) + 0.5) * self.grid.step

    @property
    def line_mass(self) -> np.ndarray:
        """Each sample's weight in an L² integral along one axis, (side,).

        τ; τ/2 at both ends for samples at the nodes of a rule.
        """
        mass = np.full(self.side, self.grid.step)
        if self.grid.at_nodes:
            mass[[0, -1]] *= 0.5
        return mass

    def index(self, l: int, s: int | None = None) -> int:
        """The site of w^{l,s}, or of v^l.

        Raises InputError for what is no site of this layout.
        """
        L = self.grid.depth
        for k in (l, s):
            if k is not None and (isinstance(k, bool) or not isinstance(k, (int, np.integer))):
                checks.reject_type("at", k, "integers: a layer l, or a layer l and a source s")
        if self.on == "ts":
            if s is None or not 0 <= s <= l - self.first <= L - self.first:
                checks.reject(
                    "at(l, s)", f"({l}, {s})", f"0 <= s {'<' if self.first else '<='} l <= {L}"
                )
            return int(self.sites(l, s))
        if s is not None or not 0 <= l < self.count:
            checks.reject(
                "at(l)", f"({l}{'' if s is None else f', {s}'})", f"0 <= l < {self.count}"
            )
        return int(l)

    def dense(self, values: np.ndarray) -> np.ndarray:
        """Samples (count, *shape) as (L, L, *shape), entry [l-1, s], NaN for s >= l.

        On the path (count, *shape), for a constant (*shape). At the nodes (L+1, L+1, *shape), entry
        [l, s], NaN for s > l.
        """
        if self.on != "ts":
            return values.copy() if self.on == "t" else values[0].copy()
        out = np.full((self.side, self.side, *values.shape[1:]), np.nan)
        out[self.index_pairs] = values
        return out

    def packed(self, array: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`dense`, (count, *shape)."""
        if self.on == "ts":
            return np.ascontiguousarray(array[self.index_pairs])
        return np.ascontiguousarray(array if self.on == "t" else array[None])

    def mirrored(self, values: np.ndarray) -> np.ndarray:
        """Samples (count, *shape) flipped across the diagonal, a_ij = a_ji, (side, side, *shape).

        At cell centres a_ij = w^{max(i,j)+1, min(i,j)}.
        """
        i, j = self.index_pairs
        out = np.empty((self.side, self.side, *values.shape[1:]), dtype=values.dtype)
        out[i, j] = values
        out[j, i] = values
        return out
