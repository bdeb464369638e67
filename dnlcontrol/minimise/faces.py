"""Faces of the box of control bounds: which entries are held, and the metric on the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlBlock, ControlSpace
from dnlcontrol.discretisation.space.flat import Flat

Solver = tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]
"""Components, sites, and the solution of A_FF z = r for r of the shape (sites, components)."""


def held_entries(space: ControlSpace, w: Flat, r: Flat) -> np.ndarray:
    """Entry i is held when w_i - r_i / A_ii lies on or beyond its bound; boolean, (space.size,)."""
    if not space.bounded:
        return np.zeros(space.size, dtype=bool)
    lower, upper = space.bounds
    step = w - r / space.metric_diagonal
    return np.asarray((step <= lower) | (step >= upper))


def complementarity(space: ControlSpace, w: Flat, r: Flat) -> float:
    """The largest distance of a held entry to the bound that holds it."""
    held = held_entries(space, w, r)
    if not held.any():
        return 0.0
    lower, upper = space.bounds
    distance = np.where(w - r / space.metric_diagonal <= lower, w - lower, upper - w)
    return float(np.max(np.abs(distance[held])))


class Face:
    """The entries F that are free to move, with the Riesz map A_FF^{-1} on them.

    ``held`` and ``free`` are boolean, (space.size,); ``whole``: nothing is held.
    """

    def __init__(self, space: ControlSpace, held: np.ndarray) -> None:
        self.space = space
        self.free = ~held
        self.whole = not held.any()
        self._solvers: dict[str, list[Solver]] = {}
        if not self.whole:
            self._solvers = {b.name: _solvers(b, self.free[b.part]) for b in space}

    def restrict(self, r: Flat) -> Flat:
        """r_F, zero elsewhere."""
        return np.where(self.free, r, 0.0)

    def riesz(self, r: Flat) -> Flat:
        """A_FF^{-1} r_F, zero elsewhere."""
        if self.whole:
            return self.space.riesz(r)
        out = np.zeros(self.space.size)
        for block in self.space:
            values, result = block.view(r), np.zeros((block.layout.count, block.components))
            for components, sites, solve in self._solvers[block.name]:
                where = np.ix_(sites, components)
                result[where] = solve(values[where])
            out[block.part] = result.reshape(-1)
        return out

    def dual_norm(self, r: Flat) -> float:
        """(r_Fᵀ A_FF^{-1} r_F)^{1/2}."""
        r = self.restrict(r)
        return float(np.sqrt(max(r @ self.riesz(r), 0.0)))


def _solvers(block: ControlBlock, free: np.ndarray) -> list[Solver]:
    """One solver for each set of components whose free sites agree; ``free`` is (block.size,)."""
    from scipy.sparse.linalg import splu

    masks = free.reshape(block.layout.count, block.components)
    groups: dict[bytes, list[int]] = {}
    for i in range(block.components):
        groups.setdefault(np.packbits(masks[:, i]).tobytes(), []).append(i)
    found: list[Solver] = []
    for components in groups.values():
        sites = np.flatnonzero(masks[:, components[0]])
        if not len(sites):
            continue
        if len(sites) == block.layout.count:
            solve = block.metric.solve
        else:
            factor = splu(block.metric.matrix[sites][:, sites].tocsc())
            solve = factor.solve
        found.append((np.array(components), sites, solve))
    return found


def stationarity(space: ControlSpace, w: Flat, r: Flat) -> float:
    """(r_Fᵀ A_FF^{-1} r_F)^{1/2} over the entries F that are not held; comparable across depths."""
    return Face(space, held_entries(space, w, r)).dual_norm(r)
