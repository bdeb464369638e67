"""Cost and constraint terms of the printed sweep, as functions of states and controls.

    L = (c/N) Σ_n [Φ + Σ_l ω_l ℓ^l] + Σ_i p_i(c_i),    c the weight of the cost

p_i(c) = μ c, or in its augmented form ρ/2 dist(c + μ/ρ, [lower, upper])² - μ²/(2ρ).
Values and cotangents of a term are (entries, layers, samples).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.adjoint.printed.node_map import (
    Entries,
    Named,
    NodeMap,
    Parts,
    Values,
    control,
)
from dnlcontrol.backends.adjoint.printed.printed_formulas import PrintedFormulas
from dnlcontrol.backends.adjoint.printed.printed_layers import Controls, stacked
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.minimise.multipliers import Multipliers

Sampled = slice | np.ndarray
"""Which samples of a chunk a term is imposed on."""

Weighing = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray | float]]
"""p of a term's values: Σ p(c), p'(c) and p''(c)."""


@dataclass(frozen=True, eq=False)
class DirectTerm:
    """One formula, or the states themselves, at the layers where it stands.

    Parameters
    ----------
    kind : "terminal", "path", "integral" or "state".
    map : None for "state".
    samples, target : of the chunk; target (entries, samples) or None.
    weigh : what the Lagrangian makes of its values.
    """

    terms: DirectTerms
    kind: str
    map: NodeMap | None
    samples: Sampled
    target: np.ndarray | None
    weigh: Weighing

    @property
    def states(self) -> slice:
        """The layers whose states it reads."""
        if self.kind == "state":
            return slice(1, None)
        return slice(self.terms.depth, None) if self.kind == "terminal" else slice(self.terms.side)

    def _seen(self, x: np.ndarray) -> np.ndarray:
        """The states that the term reads, (entries, layers, samples)."""
        return np.moveaxis(x[self.states], 1, 0)[:, :, self.samples]

    def arguments(self, x: np.ndarray, u: Controls) -> Named:
        """Of the map, from states (L+1, entries, n) and controls, or from their changes."""
        seen = self._seen(x)
        if self.kind == "terminal":
            at: dict[str, Entries] = {"x": seen[:, 0]}
        else:
            at = {"t": self.terms.nodes[None, self.states, None], "x": seen}
        for k, layout in self.terms.layouts.items():
            if layout.on == "t":
                at[control(k)] = u[k][: self.terms.side].T[:, :, None]
            elif layout.on == "const":
                at[control(k)] = u[k][0]
        if self.target is not None:
            at["target"] = self.target
        return at

    def value(self, x: np.ndarray, u: Controls) -> np.ndarray:
        """c, (entries, layers, samples)."""
        if self.map is None:
            return self._seen(x)
        n = self._seen(x).shape[2]
        return self._over_layers(self.map.value((self.terms.side, n), self.arguments(x, u)), n)

    def tangent(self, x: np.ndarray, u: Controls, dx: np.ndarray, du: Controls) -> np.ndarray:
        """δc, (entries, layers, samples)."""
        if self.map is None:
            return self._seen(dx)
        n = self._seen(x).shape[2]
        at, along = self.arguments(x, u), self.arguments(dx, du)
        return self._over_layers(self.map.tangent((self.terms.side, n), at, along), n)

    def _over_layers(self, entries: Values, n: int) -> np.ndarray:
        if self.kind == "terminal":
            return stacked(entries, n)[:, None]
        values = np.zeros((len(entries), self.terms.side, n))
        for row, entry in zip(values, entries, strict=True):
            if entry is not None:
                row[...] = entry
        if self.kind == "path":
            return values
        return np.einsum("l,iln->in", self.terms.weights, values)[:, None]

    def _at_nodes(self, c: np.ndarray) -> np.ndarray:
        """Cotangents of the map's own values from those of c."""
        if self.kind == "terminal":
            return np.asarray(c[:, 0])
        return self.terms.weights[:, None] * c if self.kind == "integral" else c

    def pull(
        self, x: np.ndarray, u: Controls, c: np.ndarray, direct: np.ndarray, out: Controls
    ) -> None:
        """Adds what the cotangent of c gives to ∂L/∂x and ∂L/∂u."""
        if self.map is None:
            self._to_states(direct, [*c])
            return
        n = c.shape[2]
        parts = self.map.pull((self.terms.side, n), self.arguments(x, u), self._at_nodes(c))
        self._give(parts, direct, out)

    def second(
        self,
        at: StatesAndControls,
        along: StatesAndControls,
        c: np.ndarray,
        change: np.ndarray,
        into: StatesAndControls,
    ) -> None:
        """Adds the derivative of :meth:`pull` along a change of (x, u) and of the cotangent."""
        if self.map is None:
            self._to_states(into.x, [*change])
            return
        parts = self.map.second(
            (self.terms.side, c.shape[2]),
            self.arguments(at.x, at.u),
            cotangent=self._at_nodes(c),
            along=self.arguments(along.x, along.u),
            change=self._at_nodes(change),
        )
        self._give(parts, into.x, into.u)

    def _give(self, parts: Parts, direct: np.ndarray, out: Controls) -> None:
        self._to_states(direct, parts.pop("x", []))
        for name, entries in parts.items():
            k = name.removeprefix("u.")
            on_path = self.terms.layouts[k].on == "t"
            target = out[k][: self.terms.side].T if on_path else out[k][0]
            for i, entry in enumerate(entries):
                if entry is not None:
                    target[i] += entry

    def _to_states(self, direct: np.ndarray, entries: Values) -> None:
        for i, entry in enumerate(entries):
            if entry is not None:
                direct[self.states, i, self.samples] += entry


@dataclass(frozen=True)
class StatesAndControls:
    """States (L+1, entries, n) and controls, or derivatives in them."""

    x: np.ndarray
    u: Controls


class DirectTerms:
    """The Lagrangian of the samples of one chunk, with its derivatives in (x, u)."""

    def __init__(self, discrete: DiscreteProblem, maps: PrintedFormulas) -> None:
        self.maps, self.problem = maps, discrete.problem
        self.rows, self.nodes = discrete.rows, discrete.grid.nodes
        self.layouts = {b.name: b.layout for b in discrete.space}
        self.side, self.depth = discrete.grid.side, discrete.depth
        self.weights = discrete.grid.running_weights[discrete.grid.path]

    def of(self, index: slice, multipliers: Multipliers | None) -> list[DirectTerm]:
        """The terms of a chunk."""
        p, share = self.problem, 1.0 / self.problem.samples
        held = multipliers if multipliers is not None and self.rows.size else None
        found = []
        for kind, map_, cost in (
            ("terminal", self.maps.terminal, p.terminal),
            ("integral", self.maps.running, p.running),
        ):
            if map_ is not None and cost is not None:
                target = _rows_of(cost.target, index)
                weigh = _weighed(share if held is None else held.cost * share)
                found.append(DirectTerm(self, kind, map_, slice(None), target, weigh))
        return found if held is None else found + self._constraints(index, held)

    def _constraints(self, index: slice, multipliers: Multipliers) -> list[DirectTerm]:
        found = []
        for block, map_ in zip(self.rows.blocks, self.maps.rows, strict=True):
            here = np.flatnonzero((block.samples >= index.start) & (block.samples < index.stop))
            if not len(here):
                continue
            chosen = block.samples[here] - index.start
            everyone = np.array_equal(chosen, np.arange(index.stop - index.start))
            samples: Sampled = slice(None) if everyone else chosen
            target = _rows_of(block.constraint.target, block.samples[here])
            weigh = self._penalised(block, here, multipliers)
            found.append(DirectTerm(self, block.constraint.kind, map_, samples, target, weigh))
        return found

    def _penalised(self, block: RowBlock, here: np.ndarray, multipliers: Multipliers) -> Weighing:
        """p of one block, whose values come as (entries, layers, samples)."""
        layers, samples = block.full_shape[:2]
        index = np.arange(block.size).reshape(layers, samples, -1)[:, here] + block.offset
        index = np.moveaxis(index, 2, 0)
        mu = multipliers.mu[index]
        if not np.any(multipliers.rho):
            return lambda c: (float(np.vdot(mu, c)), mu, 0.0)
        rho = np.broadcast_to(multipliers.rho, multipliers.mu.shape)[index]
        lower, upper = (side[index] for side in self.rows.bounds)

        def penalty(c: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            shifted = c + mu / rho
            above, below = shifted > upper, shifted < lower
            outside = np.where(above, shifted - upper, np.where(below, shifted - lower, 0.0))
            value = 0.5 * np.sum(rho * outside**2) - np.sum(mu**2 / (2 * rho))
            return float(value), rho * outside, rho * (above | below)

        return penalty

    # -- what the sweep asks for -----------------------------------------------------------------
    def value(self, terms: list[DirectTerm], x: np.ndarray, u: Controls) -> float:
        """L."""
        return sum(term.weigh(term.value(x, u))[0] for term in terms)

    def pull(
        self, terms: list[DirectTerm], x: np.ndarray, u: Controls, out: Controls
    ) -> tuple[float, np.ndarray]:
        """L and ∂L/∂x (L+1, entries, n); adds ∂L/∂u into ``out``."""
        direct, total = np.zeros_like(x), 0.0
        for term in terms:
            value, c, _ = term.weigh(term.value(x, u))
            term.pull(x, u, c, direct, out)
            total += value
        return total, direct

    def second(
        self,
        terms: list[DirectTerm],
        at: StatesAndControls,
        along: StatesAndControls,
        out: Controls,
    ) -> np.ndarray:
        """The derivative of :meth:`pull` along a change of (x, u)."""
        direct = np.zeros_like(at.x)
        for term in terms:
            _, c, curvature = term.weigh(term.value(at.x, at.u))
            change = curvature * term.tangent(at.x, at.u, along.x, along.u)
            term.second(at, along, c, change, StatesAndControls(direct, out))
        return direct


def _weighed(share: float) -> Weighing:
    """A cost: its values times a share."""
    return lambda c: (share * float(np.sum(c)), np.full(c.shape, share), 0.0)


def _rows_of(target: np.ndarray | None, rows: slice | np.ndarray) -> np.ndarray | None:
    """The targets of some samples, (entries, samples)."""
    if target is None:
        return None
    found = np.asarray(target[rows], dtype=float)
    return np.ascontiguousarray(found.reshape(len(found), -1).T)
