"""Nodes and weights of one discretisation: a rule at one depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.rules import RULES

MOST_LAYERS = 2**31  # whose pairs, L(L+1)/2, still have numbers of 64 bits


@dataclass(frozen=True)
class Grid:
    """A rule at depth L, on t_l = lτ with τ = T/L; its weights c, d, ω are those of ``Rule``.

        x^l = G(t_l, g(t_l), z^l, v^l)
        z^l = Σ_{s<l} c_s k(t_l, t_s, y^s, w^{l,s}) + d_l k(t_l, t_l, y^l, w^{l,l})

    Raises InputError for a depth not in 1..MOST_LAYERS or a rule that is none of ``RULES``.

    >>> Grid(4, 2.0).nodes.tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0]
    >>> Grid(2, 1.0, "trapezoid").running_weights.tolist()
    [0.25, 0.5, 0.25]
    """

    depth: int
    horizon: float
    rule: str = "left"

    def __post_init__(self) -> None:
        checks.whole("depth", self.depth, 1, MOST_LAYERS)
        checks.positive("horizon", self.horizon)
        checks.choice("rule", self.rule, tuple(RULES))

    @property
    def step(self) -> float:
        """τ = T/L."""
        return self.horizon / self.depth

    @property
    def nodes(self) -> np.ndarray:
        """t_0..t_L, shape (L+1,)."""
        return self.horizon * np.arange(self.depth + 1) / self.depth

    @property
    def at_nodes(self) -> bool:
        """Whether control samples sit at the nodes (with s = l and l = L), not at cell centres."""
        return RULES[self.rule].at_nodes

    @property
    def side(self) -> int:
        """The number of sources, and of control samples along one axis: L, or L+1 at the nodes."""
        return self.depth + self.at_nodes

    @cached_property
    def path(self) -> np.ndarray:
        """The layers of running cost and path constraints, 0..L-1 or 0..L at the nodes, (side,)."""
        return np.arange(self.side)

    @cached_property
    def running_weights(self) -> np.ndarray:
        """ω_l of the running cost at the nodes 0..L, (L+1,)."""
        return RULES[self.rule].running(self.depth, self.step)

    @cached_property
    def later(self) -> np.ndarray:
        """c_s, s = 0..L-1, (L,)."""
        return RULES[self.rule].later(self.depth, self.step)

    @cached_property
    def own(self) -> np.ndarray:
        """d_l, l = 0..L, (L+1,); positive where the state equation is implicit in x^l."""
        return RULES[self.rule].own(self.depth, self.step)

    @property
    def implicit(self) -> bool:
        """Whether a layer's state equation has its own state on the right side."""
        return bool(np.any(self.own))

    def rows(self, s: int) -> np.ndarray:
        """The layers l of the samples w^{l,s}: s+1..L, or s..L at the nodes."""
        return np.arange(s + 1 - self.at_nodes, self.depth + 1)

    def pair_count(self, one_step: bool = False) -> int:
        """How many pairs :meth:`pairs` has, without forming them."""
        if one_step:
            return self.depth + self.side * self.at_nodes
        return self.side * (self.side + 1) // 2

    def pairs(self, one_step: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(l, s) of every kernel evaluation, column by column, each (pairs,).

        ``one_step``: those with l = s and s+1 only, in O(L).
        """
        first = np.arange(self.side) + 1 - self.at_nodes
        counts = self.depth + 1 - first
        if one_step:
            counts = np.minimum(counts, 1 + self.at_nodes)
        sources = np.repeat(np.arange(self.side), counts)
        offsets = np.repeat(first - np.cumsum(counts) + counts, counts)
        return np.arange(len(sources)) + offsets, sources

    def pair_weights(self, layers: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """The weight of k(t_l, t_s, ...) in z^l for pairs of layers l and sources s, (pairs,)."""
        later = np.append(self.later, 0.0)[sources]
        return np.asarray(np.where(layers == sources, self.own[layers], later))

    def pair_cotangents(
        self, zbar: np.ndarray, layers: np.ndarray, sources: np.ndarray, one_step: bool
    ) -> np.ndarray:
        """The cotangents (pairs, ...) of the contributions of pairs (l, s), from z̄ (L+1, ...).

        In a recursion of one step z̄^l also carries the later layers, which the layer's own source
        does not reach.
        """
        out = zbar[layers]
        if one_step:
            own = (layers == sources) & (layers < self.depth)
            out[own] -= zbar[layers[own] + 1]
        return np.asarray(out)
