"""The structure of the elimination: pairs of layers, where their controls lie, and the Lagrangian's
terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnlcontrol.backends.exact.condensed.march import March
from dnlcontrol.backends.exact.condensed.nodes import NodeFunction, Nodes, count
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.discrete import DiscreteProblem


@dataclass(frozen=True)
class Term:
    """A node function of the Lagrangian: cost or constraint at some layers, for some samples."""

    function: NodeFunction
    layers: np.ndarray
    index: np.ndarray
    data: np.ndarray
    weight: np.ndarray | None = None  # (layers, N, outputs) of a cost
    block: RowBlock | None = None


class Reduced:
    """Structure of the elimination at one depth: nodes, index maps and the order of the
    controls.
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        self.discrete = discrete
        self.problem = discrete.problem
        self.grid = discrete.grid
        self.depth = discrete.depth
        self.samples = discrete.problem.samples
        self.size = discrete.space.size
        self.markov = self.problem.markov
        self.nodes = Nodes(discrete)
        L, f = self.depth, self.problem.formulas
        self.layers, self.sources = self.grid.pairs(self.markov)
        self.weights = self.grid.pair_weights(self.layers, self.sources)
        self.pair_index = self.nodes.index(
            self.nodes.reads(f.kernel, f.feature), self.sources, self.layers
        )
        self.node_index = self.nodes.index(self.nodes.reads(f.outer), np.arange(L + 1))
        ends = np.searchsorted(self.sources, np.arange(self.grid.side + 1))
        self.starts = ends[:-1]
        self.own = ends[:-1] if self.grid.at_nodes else None  # the pairs (l, l)
        # the pairs l > s
        self.columns = [slice(ends[s] + self.grid.at_nodes, ends[s + 1]) for s in range(L)]
        self.free = discrete.free_terms
        self.terms = self._terms()

    def pair_data(self, pairs: slice) -> np.ndarray:
        """(t_l, t_s) for each pair and sample."""
        t = np.stack(
            [self.grid.nodes[self.layers[pairs]], self.grid.nodes[self.sources[pairs]]], axis=1
        )
        return np.repeat(t[:, None], self.samples, axis=1)

    def node_data(self, layers: np.ndarray) -> np.ndarray:
        """(t_l, g) for each layer and sample."""
        t = np.broadcast_to(self.grid.nodes[layers][:, None, None], (len(layers), self.samples, 1))
        return np.concatenate([t, self.free[layers]], axis=-1)

    @cached_property
    def march(self) -> March | None:
        """The whole forward recursion where it is one step each and explicit, else None."""
        explicit = self.markov and self.nodes.outer is None and self.grid.rule == "left"
        return March(self.nodes.kernel, self.depth) if explicit else None

    def rows(self, s: int) -> slice:
        """The layers that column s acts on."""
        return slice(s + 1, s + 2) if self.markov else slice(s + 1, self.depth + 1)

    def pair_cotangents(self, zbar: np.ndarray) -> np.ndarray:
        """The cotangent of each pair's contribution, (pairs, N, dz)."""
        return self.grid.pair_cotangents(zbar, self.layers, self.sources, self.markov)

    # -- the Lagrangian's terms
    # -----------------------------------------------------------------------------------
    def _term(
        self,
        function: NodeFunction,
        layers: np.ndarray,
        owner: object,
        formula: object,
        **more: object,
    ) -> Term:
        t = np.broadcast_to(self.grid.nodes[layers][:, None, None], (len(layers), self.samples, 1))
        target = getattr(owner, "target", None)
        parts = [t]
        if target is not None:
            rows = target.reshape(self.samples, -1)
            parts.append(np.broadcast_to(rows, (len(layers), *rows.shape)))
        index = self.nodes.index(self.nodes.reads(formula), layers)  # type: ignore[arg-type]
        sites = np.concatenate(parts, axis=-1)
        return Term(function, layers, index, sites, **more)  # type: ignore[arg-type]

    def _terms(self) -> list[Term]:
        L = self.depth
        p = self.problem
        f = self.problem.formulas
        path, last = self.grid.path, np.array([L])
        terms = []
        if self.nodes.terminal is not None:
            weight = np.full((1, self.samples, 1), 1.0 / self.samples)
            terms.append(
                self._term(self.nodes.terminal, last, p.terminal, f.terminal, weight=weight)
            )
        if self.nodes.running is not None:
            tau = self.grid.running_weights[path] / self.samples
            weight = np.broadcast_to(tau[:, None, None], (len(path), self.samples, 1))
            terms.append(self._term(self.nodes.running, path, p.running, f.running, weight=weight))
        for block, function in zip(self.discrete.rows.blocks, self.nodes.rows, strict=True):
            if function is not None:
                layers = last if block.constraint.kind == "terminal" else path
                terms.append(
                    self._term(function, layers, block.constraint, block.formula, block=block)
                )
        return terms

    def cotangent(self, term: Term, mu: np.ndarray | None) -> np.ndarray | None:
        """The weights of a term's outputs in the Lagrangian, (layers, N, outputs); None when it is
        absent.
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

    # -- the order of the controls
    # ----------------------------------------------------------------------------------
    @cached_property
    def order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(order, place, prefix): entries sorted by first layer, their places, and how many act up
        to each layer.
        """
        first = np.full(self.size, self.depth + 1)
        np.minimum.at(first, self.pair_index, self.layers[:, None])
        np.minimum.at(first, self.node_index, np.arange(self.depth + 1)[:, None])
        order = np.argsort(first, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(self.size)
        return order, place, np.searchsorted(first[order], np.arange(self.depth + 1), side="right")

    def final_parts(
        self, w: np.ndarray, x: np.ndarray, zbar: np.ndarray
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

    def outer_pull(self, w: np.ndarray, z: np.ndarray, lam: np.ndarray) -> np.ndarray:
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
        """The Hessian Q of the penalties, dense."""
        return block_diagonal(self.discrete, "penalty")

    @cached_property
    def metric(self) -> np.ndarray:
        """The metric A, dense."""
        return block_diagonal(self.discrete, "metric")

    @property
    def widths(self) -> tuple[int, int]:
        """Entries of the state and of the integral of one sample."""
        return count(self.problem.state_shape), count(self.problem.integral_shape)


def block_diagonal(discrete: DiscreteProblem, what: str) -> np.ndarray:
    """Matrices between sites, repeated for every component of every control."""
    out = np.zeros((discrete.space.size, discrete.space.size))
    for block in discrete.space:
        matrix = block.penalty if what == "penalty" else block.metric.matrix
        if matrix is None:
            continue
        entries = matrix.tocoo()
        for i in range(block.components):
            rows = block.offset + entries.row * block.components + i
            columns = block.offset + entries.col * block.components + i
            out[rows, columns] += entries.data
    return out
