"""The dense Hessian, by matrix products over the controls that act up to each layer."""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.exact.condensed.structure import Reduced


class HessianBuilder:
    """Accumulates Σ [S; E]ᵀ C [S; E] in the order of the controls."""

    def __init__(self, reduced: Reduced) -> None:
        _, self.place, self.prefix = reduced.order
        self.H = np.zeros((reduced.size, reduced.size))

    def add_states(self, S: np.ndarray, l: int, C: np.ndarray) -> None:
        """Σ_n S_nᵀ C_n S_n at layer l; S (N, L+1, states, size), C (N, states, states)."""
        p = self.prefix[l]
        if p and C.any():
            left = S[:, l, :, :p]
            curved = C @ left
            self.H[:p, :p] += left.reshape(-1, p).T @ curved.reshape(-1, p)

    def add_mixed(self, S: np.ndarray, l: int, index: np.ndarray, C: np.ndarray) -> None:
        """Σ_n Eᵀ C_n S_n and its transpose; index (nodes, m), C (nodes, N, m, states)."""
        p = self.prefix[l]
        if not p or not index.size or not C.any():
            return
        nodes, m = index.shape
        left = C.transpose(0, 2, 1, 3).reshape(nodes * m, -1)
        product = left @ S[:, l, :, :p].reshape(-1, p)
        rows = self.place[index.ravel()]
        unique, inverse = np.unique(rows, return_inverse=True)
        if len(unique) < len(rows):  # path controls and constants are read by several nodes
            summed = np.zeros((len(unique), p))
            np.add.at(summed, inverse, product)
            rows, product = unique, summed
        self.H[rows, :p] += product
        self.H[:p, rows] += product.T

    def add_controls(self, index: np.ndarray, C: np.ndarray) -> None:
        """Eᵀ C E for each node; index (nodes, m), C (nodes, m, m)."""
        places = self.place[index]
        np.add.at(self.H, (places[:, :, None], places[:, None, :]), C)
