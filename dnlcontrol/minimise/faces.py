"""Faces of the box of control bounds: which entries are held, and the metric on the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlBlock, ControlSpace


def held_entries(space: ControlSpace, w: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Entry i is held when w_i - r_i / A_ii lies on or beyond its bound; a boolean vector."""
    if not space.bounded:
        return np.zeros(space.size, dtype=bool)
    lower, upper = space.bounds
    step = w - r / space.metric_diagonal
    return (step <= lower) | (step >= upper)


def complementarity(space: ControlSpace, w: np.ndarray, r: np.ndarray) -> float:
    """The largest distance of a held entry to the bound that holds it."""
    held = held_entries(space, w, r)
    if not held.any():
        return 0.0
    lower, upper = space.bounds
    distance = np.where(w - r / space.metric_diagonal <= lower, w - lower, upper - w)
    return float(np.max(np.abs(distance[held])))


class Face:
    """The entries that are free to move, with the Riesz map A_FF^{-1} on them."""

    def __init__(self, space: ControlSpace, held: np.ndarray) -> None:
        self.space = space
        self.free = ~held
        self.whole = not held.any()
        self._solvers: dict[str, list[tuple[np.ndarray, np.ndarray, Any]]] = {}
        if not self.whole:
            self._solvers = {b.name: _solvers(b, self.free[b.part]) for b in space}

    def restrict(self, r: np.ndarray) -> np.ndarray:
        return np.where(self.free, r, 0.0)

    def riesz(self, r: np.ndarray) -> np.ndarray:
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

    def dual_norm(self, r: np.ndarray) -> float:
        """(r_Fᵀ A_FF^{-1} r_F)^{1/2}."""
        r = self.restrict(r)
        return float(np.sqrt(max(r @ self.riesz(r), 0.0)))


def _solvers(block: ControlBlock, free: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """One solver for each set of components whose free sites agree: (components, sites, solve)."""
    from scipy.sparse.linalg import splu

    masks = free.reshape(block.layout.count, block.components)
    groups: dict[bytes, list[int]] = {}
    for i in range(block.components):
        groups.setdefault(np.packbits(masks[:, i]).tobytes(), []).append(i)
    found = []
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


def stationarity(space: ControlSpace, w: np.ndarray, r: np.ndarray) -> float:
    """(r_Fᵀ A_FF^{-1} r_F)^{1/2} over the entries F that are not held; comparable across depths."""
    return Face(space, held_entries(space, w, r)).dual_norm(r)
