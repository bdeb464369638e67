"""The discrete Hamiltonian at other values of one control: adjoint/node_hamiltonian.py in CasADi.

States, costates and all other controls are held, so that every node's value is changed at once: h
of a node is the sum of the contributions that read the control there.
"""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator, quiet
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.multipliers import Multipliers


class NodeValues:
    """h of every site of a control at w (size,), for the multipliers' Lagrangian."""

    def __init__(self, evaluator: ReducedEvaluator, w: Flat, multipliers: Multipliers) -> None:
        mu = multipliers.mu if len(multipliers.mu) else None
        self.at, self.w = evaluator.point(w), w
        r = self.reduced = evaluator.reduced
        self.lam, zbar, _ = self.at.adjoint(mu)
        self.on_kernel = r.pairs.weights[:, None, None] * r.pairs.cotangents(zbar)
        self.terms = [(t, c) for t in r.terms if (c := r.cotangent(t, mu)) is not None]

    @quiet
    def every(self, block: ControlBlock, candidates: np.ndarray) -> np.ndarray:
        """h at candidates (m, sites, components), each site on its own; (m, sites)."""
        out = np.zeros(candidates.shape[:2])
        if block.penalty is not None:
            out += 0.5 * block.penalty.diagonal() * (candidates**2).sum(axis=2)
        for values, candidate in zip(out, candidates, strict=True):
            w = self.w.copy()
            block.view(w)[:] = candidate
            self._add(block, w, values)
        return out

    def _add(self, block: ControlBlock, w: Flat, out: np.ndarray) -> None:
        """Add what reads the block's controls in w to the sites that it reads them at."""
        r = self.reduced
        pairs = _sites(block, r.pair_index)
        if pairs is not None:
            k = r.nodes.kernel.value(
                r.pair_data(slice(None)), self.at.x[r.pairs.sources], w[r.pair_index]
            )
            np.add.at(out, pairs, (self.on_kernel * k).sum(axis=(1, 2)))
        layers = _sites(block, r.node_index)
        if layers is not None and r.nodes.outer is not None:
            data = r.node_data(np.arange(r.depth + 1))
            x = r.nodes.outer.value(data, self.at.z, w[r.node_index])
            np.add.at(out, layers, (self.lam * x).sum(axis=(1, 2)))
        for term, weight in self.terms:
            nodes = _sites(block, term.index)
            if nodes is not None:
                c = term.function.value(term.data, self.at.x[term.layers], w[term.index])
                np.add.at(out, nodes, (weight * c).sum(axis=(1, 2)))


def _sites(block: ControlBlock, index: np.ndarray) -> np.ndarray | None:
    """The block's site that each row of entries (rows, m) reads; None where none does."""
    own = np.flatnonzero((index[:1] >= block.offset) & (index[:1] < block.offset + block.size))
    return None if not len(own) else (index[:, own[0]] - block.offset) // block.components
