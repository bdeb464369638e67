"""What a discretisation rule consists of."""

from __future__ import annotations

import numpy as np


class Rule:
    """Quadrature weights on the nodes t_l = lτ, l = 0..L:

        z^l = Σ_{s<l} c_s k(t_l, t_s, y^s, w^{l,s}) + d_l k(t_l, t_l, y^l, w^{l,l})

        J = (1/N) Σ_n [Φ(x_n^L) + Σ_l ω_l ℓ(t_l, x_n^l, v^l)]

    A subclass states its three vectors; it becomes available by its entry in ``RULES``. Everything
    else (sweeps, transcriptions, layouts, metrics) is written in terms of them.

    Attributes
    ----------
    name : what ``rule=`` is called.
    at_nodes : where control samples sit. False: at cell centres, w^{l,s} with s < l and
        v^0..v^{L-1}. True: at the nodes, w^{l,s} with s <= l and v^0..v^L. A rule with d_l > 0
        reads w^{l,l} and must say True.
    exponents : the powers of 1/L that the value's error begins with, for smooth problems.
    """

    name: str
    at_nodes: bool
    exponents: tuple[float, ...]

    def later(self, depth: int, step: float) -> np.ndarray:
        """c_s, s = 0..L-1, (L,): the weight of source s in every later layer."""
        raise NotImplementedError

    def own(self, depth: int, step: float) -> np.ndarray:
        """d_l, l = 0..L, (L+1,): the weight of a layer's own source; d_0 = 0, since z^0 = 0."""
        raise NotImplementedError

    def running(self, depth: int, step: float) -> np.ndarray:
        """ω_l, l = 0..L, (L+1,)."""
        raise NotImplementedError
