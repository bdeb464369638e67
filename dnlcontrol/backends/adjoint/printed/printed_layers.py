"""What printed formulas take at each layer, column and pair, and their values there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dnlcontrol.backends.adjoint.printed.node_map import Entries, NodeMap, control
from dnlcontrol.backends.adjoint.printed.printed_formulas import PrintedFormulas
from dnlcontrol.backends.adjoint.printed.source import Values
from dnlcontrol.discretisation.discrete import DiscreteProblem

Controls = Mapping[str, np.ndarray]
"""name -> (sites, entries of one sample)."""


class PrintedLayers:
    """The formulas of one discrete problem at its layers and columns, with their arguments."""

    def __init__(self, discrete: DiscreteProblem, maps: PrintedFormulas) -> None:
        self.maps, self.problem = maps, discrete.problem
        self.grid, self.depth = discrete.grid, discrete.depth
        self.nodes = discrete.grid.nodes
        self.times = self.nodes[None, :, None]
        # numbers of Python's: one is taken from each for every column
        self.later, self.own = discrete.grid.later.tolist(), discrete.grid.own.tolist()
        self.markov = discrete.problem.markov
        self.layouts = {b.name: b.layout for b in discrete.space}

    # -- arguments of the formulas ---------------------------------------------------------------
    def rows(self, s: int) -> slice:
        """The later layers that column s reaches directly."""
        return slice(s + 1, s + 2 if self.markov else self.depth + 1)

    def shared(self, map_: NodeMap | None, u: Controls, l: int) -> dict[str, Entries]:
        """The path controls at l and the constants that a formula reads, a number an entry."""
        if map_ is None:
            return {}
        return {
            control(k): u[k][l if layout.on == "t" else 0]
            for k, layout in self.layouts.items()
            if k in map_.formula.reads and layout.on != "ts"
        }

    def column(self, u: Controls, s: int, y: Entries, own: bool = False) -> dict[str, Entries]:
        """What the kernel takes in column s, or at the pair (s, s)."""
        rows = slice(s, s + 1) if own else self.rows(s)
        at: dict[str, Entries] = {
            "t": self.times[:, rows],
            "s": self.nodes[s : s + 1],
            "y": y,
            **self.shared(self.maps.kernel, u, s),
        }
        for k, layout in self.layouts.items():
            if layout.on == "ts" and k in self.maps.kernel.formula.reads:
                sites = layout.own(s) if own else layout.later(s)
                at[control(k)] = u[k][sites].T[:, :, None]
        return at

    def source_arguments(self, u: Controls, s: int, x: np.ndarray) -> dict[str, Entries]:
        return {"s": self.nodes[s : s + 1], "x": x, **self.shared(self.maps.feature, u, s)}

    def outer_arguments(self, u: Controls, l: int, g: Entries, z: Entries) -> dict[str, Entries]:
        t = self.nodes[l : l + 1]
        return {"t": t, "g": g, "z": z, **self.shared(self.maps.outer, u, l)}

    def source(self, u: Controls, s: int, x: np.ndarray) -> np.ndarray:
        """y^s = F(t_s, x, v^s), (entries, n)."""
        if self.maps.feature is None:
            return x
        n = x.shape[-1]
        return stacked(self.maps.feature.value((1, n), self.source_arguments(u, s, x)), n)

    def outer(self, u: Controls, l: int, g: np.ndarray, z: np.ndarray) -> np.ndarray:
        """G(t_l, g, z, v^l), (entries, n)."""
        if self.maps.outer is None:
            return np.asarray(g + z)
        n = z.shape[-1]
        return stacked(self.maps.outer.value((1, n), self.outer_arguments(u, l, g, z)), n)


def stacked(entries: Values, n: int) -> np.ndarray:
    """The entries of a value over samples as one array, (entries, n)."""
    found = np.zeros((len(entries), n))
    put(found, entries)
    return found


def put(into: np.ndarray, entries: Values, weight: float = 1.0) -> None:
    """Write ``weight`` times the entries into the rows of an array (entries, n) of zeros."""
    for row, entry in zip(into, entries, strict=False):
        if entry is not None:
            np.multiply(entry, weight, out=row)


def add(later: np.ndarray, entries: Values, weight: float) -> None:
    """Add ``weight`` times the entries, over layers and samples, to (m, entries, n)."""
    for i, entry in enumerate(entries):
        if entry is not None:
            later[:, i] += weight * entry
