"""The structure of the elimination: where the controls of nodes lie, and the Lagrangian's terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnlcontrol.backends.exact.condensed.march import MOST_ENTRIES, ImplicitMarch, March, Stages
from dnlcontrol.backends.exact.condensed.node_function import NodeFunction
from dnlcontrol.backends.exact.condensed.nodes import Nodes
from dnlcontrol.backends.traced_formula import count
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.pairs import Pairs
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.problem.formula import Formula


@dataclass(frozen=True)
class Term:
    """A node function of the Lagrangian: cost or constraint at some layers, for some samples.

    ``index`` (layers, m) are the entries of w that it reads, ``data`` (layers, N, k) its arguments
    without derivatives. A cost has ``weight`` (layers, N, outputs), a constraint its ``block``.
    """

    function: NodeFunction
    layers: np.ndarray
    index: np.ndarray
    data: np.ndarray
    weight: np.ndarray | None = None
    block: RowBlock | None = None


class Reduced:
    """Structure of the elimination at one depth: nodes, index maps, the order of the controls.

    Attributes
    ----------
    pair_index, node_index : the entries of w that kernel and outer map read at each pair and at
        each layer, (pairs, m) and (L+1, m).
    free : g(t_l), flat, (L+1, N, entries).
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete = discrete
        self.problem = discrete.problem
        self.grid = discrete.grid
        self._times = discrete.grid.nodes
        self.depth = discrete.depth
        self.samples = discrete.problem.samples
        self.size = discrete.space.size
        self.markov = self.problem.markov
        self.nodes = Nodes(discrete)
        self.pairs = Pairs.of(self.grid, self.markov)
        f = self.problem.formulas
        self.pair_index = self.nodes.index(
            self.nodes.reads(f.kernel, f.feature), self.pairs.sources, self.pairs.layers
        )
        self.node_index = self.nodes.index(self.nodes.reads(f.outer), np.arange(self.depth + 1))
        self.free = discrete.free_terms
        self.terms = self._terms()

    def pair_data(self, part: slice | np.ndarray) -> np.ndarray:
        """(t_l, t_s) for each pair of a part of the table and each sample, (pairs, N, 2)."""
        nodes = self._times
        t = np.stack([nodes[self.pairs.layers[part]], nodes[self.pairs.sources[part]]], axis=1)
        return np.repeat(t[:, None], self.samples, axis=1)

    def node_data(self, layers: np.ndarray) -> np.ndarray:
        """(t_l, g) for each layer and sample, (layers, N, 1 + entries of g)."""
        t = np.broadcast_to(self.grid.nodes[layers][:, None, None], (len(layers), self.samples, 1))
        return np.concatenate([t, self.free[layers]], axis=-1)

    @cached_property
    def march(self) -> March | None:
        """The whole forward recursion where it is one step each and explicit, else None."""
        explicit = self.markov and self.nodes.outer is None and self.grid.rule == "left"
        return March(self.nodes.kernel, self.depth) if explicit else None

    @cached_property
    def implicit_march(self) -> ImplicitMarch | None:
        """The same where a rule's layers are implicit and their states small, else None."""
        kernel = self.nodes.kernel
        plain = self.markov and self.nodes.outer is None and self.pairs.own is not None
        return (
            ImplicitMarch(kernel, self.depth) if plain and kernel.inputs <= MOST_ENTRIES else None
        )

    def stages(self, w: Flat) -> Stages | None:
        """All implicit layers of a one-step recursion at w, None where they are not marched."""
        if self.implicit_march is None or self.pairs.own is None:
            return None
        weights = np.stack([self.grid.later, self.grid.own[1:]])
        own = self.pairs.own
        data = self.pair_data(own)[:, 0]
        return self.implicit_march(weights, data, self.free, w[self.pair_index[own]])

    # -- the Lagrangian's terms ------------------------------------------------------------------
    def _terms(self) -> list[Term]:
        p = self.problem
        f = p.formulas
        path, last = self.grid.path, np.array([self.depth])
        terms = []
        if self.nodes.terminal is not None and p.terminal is not None:
            index, data = self._sites(f.terminal, p.terminal.target, last)
            weight = np.full((1, self.samples, 1), 1.0 / self.samples)
            terms.append(Term(self.nodes.terminal, last, index, data, weight=weight))
        if self.nodes.running is not None and p.running is not None:
            index, data = self._sites(f.running, p.running.target, path)
            tau = self.grid.running_weights[path] / self.samples
            weight = np.broadcast_to(tau[:, None, None], (len(path), self.samples, 1))
            terms.append(Term(self.nodes.running, path, index, data, weight=weight))
        for block, function in zip(self.discrete.rows.blocks, self.nodes.rows, strict=True):
            if function is not None:
                layers = last if block.constraint.kind == "terminal" else path
                index, data = self._sites(block.formula, block.constraint.target, layers)
                terms.append(Term(function, layers, index, data, block=block))
        return terms

    def _sites(
        self, formula: Formula | None, target: np.ndarray | None, layers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The entries of w that a formula reads, (layers, m), and its data (layers, N, k)."""
        t = np.broadcast_to(self.grid.nodes[layers][:, None, None], (len(layers), self.samples, 1))
        parts = [t]
        if target is not None:
            rows = target.reshape(self.samples, -1)
            parts.append(np.broadcast_to(rows, (len(layers), *rows.shape)))
        return self.nodes.index(self.nodes.reads(formula), layers), np.concatenate(parts, axis=-1)

    def cotangent(self, term: Term, mu: RowVector | None) -> np.ndarray | None:
        """The weights of a term's outputs in the Lagrangian, (layers, N, outputs).

        None when it is absent.
        """
        if term.block is None:
            return term.weight
        if mu is None:
            return None
        block = term.block
        values = mu[block.part].reshape(len(block.layers), len(block.samples), -1)
        out = np.zeros((len(term.layers), self.samples, term.function.outputs))
        if block.constraint.kind == "integral":
            out[:, block.samples] = self.grid.running_weights[self.grid.path, None, None] * values
        else:
            out[:, block.samples] = values
        return out

    # -- the order of the controls ---------------------------------------------------------------
    @cached_property
    def order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(order, place, prefix) of the entries, sorted by first layer.

        ``order`` are the entries, ``place`` their places, ``prefix`` how many act up to each layer.
        """
        first = np.full(self.size, self.depth + 1)
        np.minimum.at(first, self.pair_index, self.pairs.layers[:, None])
        np.minimum.at(first, self.node_index, np.arange(self.depth + 1)[:, None])
        order = np.argsort(first, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(self.size)
        return order, place, np.searchsorted(first[order], np.arange(self.depth + 1), side="right")

    def final_parts(
        self, w: Flat, x: np.ndarray, zbar: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """ℓ_x and k_x(T, T)ᵀ z̄ per sample, (N, dx), from x^L and a cotangent of z^L (N, dz)."""
        T, f = self.grid.nodes[-1], self.problem.formulas
        _, fx, _ = self.nodes.kernel.first(
            np.full((1, self.samples, 2), T),
            x[None],
            w[self._last(self.nodes.reads(f.kernel, f.feature))],
        )
        slope = np.zeros_like(x)
        for term in self.terms:
            if term.function is self.nodes.running and term.block is None:
                data = term.data[-1:].copy()
                data[..., 0] = T
                slope = term.function.first(
                    data, x[None], w[self._last(self.nodes.reads(f.running))]
                )[1][0, :, 0]
        return slope, np.einsum("nij,ni->nj", fx[0], zbar)

    def outer_pull(self, w: Flat, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """(G_z)ᵀ λ at T, (N, dz)."""
        if self.nodes.outer is None:
            return lam
        last = np.array([self.depth])
        through = self.nodes.outer.first(self.node_data(last), z[None], w[self.node_index[last]])[1]
        return np.asarray(np.einsum("nij,ni->nj", through[0], lam))

    def _last(self, names: list[str]) -> np.ndarray:
        """The entries of the controls' last samples, (1, entries)."""
        parts = [np.arange(0)]
        for name in names:
            block = self.discrete.space.blocks[name]
            parts.append(block.offset + block.size - block.components + np.arange(block.components))
        return np.concatenate(parts)[None]

    @cached_property
    def penalty(self) -> np.ndarray:
        """The Hessian Q of the penalties, dense, (size, size)."""
        out = np.zeros((self.size, self.size))
        for block in self.discrete.space:
            if block.penalty is None:
                continue
            entries = block.penalty.tocoo()
            for i in range(block.components):
                rows = block.offset + entries.row * block.components + i
                columns = block.offset + entries.col * block.components + i
                out[rows, columns] += entries.data
        return out

    @property
    def widths(self) -> tuple[int, int]:
        """Entries of the state and of the integral of one sample."""
        return count(self.problem.state_shape), count(self.problem.integral_shape)
