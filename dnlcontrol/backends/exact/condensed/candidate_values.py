"""The discrete Hamiltonian at other values of one control: adjoint/node_hamiltonian.py in CasADi.

States, costates and all other controls are held, so that every node's value is changed at once: h
of a node is the sum of the contributions that read the control there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator, quiet
from dnlcontrol.backends.exact.condensed.node_function import NodeFunction
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.multipliers import Multipliers

# the sites that nodes read, the entries of w that they read, and their share of h at these
Part = tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]


class CandidateValues:
    """h of every site of a control at w (size,), for the multipliers' Lagrangian."""

    def __init__(self, evaluator: ReducedEvaluator, w: Flat, multipliers: Multipliers) -> None:
        mu = multipliers.mu if len(multipliers.mu) else None
        self.at, self.w = evaluator.point(w), w
        r = self.reduced = evaluator.reduced
        self.lam, zbar, _ = self.at.adjoint(mu)
        self.on_kernel = r.pairs.weights[:, None, None] * r.pairs.cotangents(zbar)
        self.terms = [
            (t.function, t.data, self.at.x[t.layers], t.index, c)
            for t in r.terms
            if (c := r.cotangent(t, mu)) is not None
        ]

    @quiet
    def every(self, block: ControlBlock, candidates: np.ndarray) -> np.ndarray:
        """h at candidates (m, sites, components), each site on its own; (m, sites)."""
        out = np.zeros(candidates.shape[:2])
        if block.penalty is not None:
            out += 0.5 * block.penalty.diagonal() * (candidates**2).sum(axis=2)
        parts = self._parts(block)
        for values, candidate in zip(out, candidates, strict=True):
            w = self.w.copy()
            block.view(w)[:] = candidate
            for sites, index, part in parts:
                values += np.bincount(sites, part(w[index]), minlength=len(values))
        return out

    def _parts(self, block: ControlBlock) -> list[Part]:
        """What reads the block: the site that each node reads, its entries, and its share of h."""
        r, found = self.reduced, self.terms
        every = slice(None)
        kernel = r.nodes.kernel, r.pair_data(every), self.at.x[r.pairs.sources], r.pair_index
        found = [(*kernel, self.on_kernel), *found]
        if r.nodes.outer is not None:
            data = r.node_data(np.arange(r.depth + 1))
            found = [(r.nodes.outer, data, self.at.z, r.node_index, self.lam), *found]
        return [
            (sites, index, partial(_share, function, data, x, weight))
            for function, data, x, index, weight in found
            if (sites := _sites(block, index)) is not None
        ]


def _share(
    function: NodeFunction, data: np.ndarray, x: np.ndarray, weight: np.ndarray, q: np.ndarray
) -> np.ndarray:
    """The weighted sum of a node function's outputs over the samples, (nodes,), at controls q."""
    return np.asarray((weight * function.value(data, x, q)).sum(axis=(1, 2)))


def _sites(block: ControlBlock, index: np.ndarray) -> np.ndarray | None:
    """The block's site that each row of entries (rows, m) reads; None where none does."""
    own = np.flatnonzero((index[:1] >= block.offset) & (index[:1] < block.offset + block.size))
    return None if not len(own) else (index[:, own[0]] - block.offset) // block.components
