"""The column sweep of columnwise.py on printed formulas: NumPy, samples last, no tape.

    forward    x^l = G(t_l, g^l, z^l, v^l),  z^{l>s} += c_s k(t_l, t_s, F(x^s), w^{l,s})
    backward   λ^s += Σ_l c_s (k_y F_x)ᵀ z̄^l,  z̄^l = G_zᵀ λ^l
    product    the derivative of both passes, on the states and costates that were kept

Where a rule is implicit, z^l has the layer's own source with weight d_l, and λ^l solves with
I - G_z d_l k_y F_x (implicit_layer of printed_stage.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dnlcontrol.backends.adjoint.printed.node_map import Parts
from dnlcontrol.backends.adjoint.printed.printed_layers import Controls, PrintedLayers, add, put
from dnlcontrol.backends.adjoint.printed.printed_stage import PrintedStage


def _nothing() -> np.ndarray:
    return np.zeros((0, 0, 0))


@dataclass
class Passage:
    """What one chunk of n samples left behind, samples last.

    Attributes
    ----------
    free : g, (L+1 or 1, entries, n).
    states : x^l, (L+1, entries, n).
    earlier, integrals : z^l without and with the layer's own source, (L+1, entries, n).
    sources : y^l, (L+1, entries, n).
    costates, cotangents : λ^l and z̄^l, once pulled back.
    layer_cotangents : G_zᵀ λ^l, which of z̄^l comes from the layer itself.
    pulled : ȳ^l from the later layers, (L+1, entries, n).
    """

    free: np.ndarray
    states: np.ndarray
    earlier: np.ndarray
    integrals: np.ndarray
    sources: np.ndarray
    costates: np.ndarray = field(default_factory=_nothing)
    cotangents: np.ndarray = field(default_factory=_nothing)
    layer_cotangents: np.ndarray = field(default_factory=_nothing)
    pulled: np.ndarray = field(default_factory=_nothing)

    @property
    def samples(self) -> int:
        """n."""
        return int(self.states.shape[-1])

    def free_at(self, l: int) -> np.ndarray:
        """g^l, (entries, n)."""
        free: np.ndarray = self.free[l if len(self.free) > 1 else 0]
        return free


class PrintedSweep(PrintedLayers):
    """Both passes of one discrete problem; their tangents are in printed_tangent.py."""

    def stage(self, u: Controls, at: Passage, l: int) -> PrintedStage:
        """x = G(t_l, g, z + d_l k(t_l, t_l, F(x), w), v) as an equation in x."""
        return PrintedStage(self, u, l, at.free_at(l), at.earlier[l])

    # -- forward ---------------------------------------------------------------------------------
    def forward(self, u: Controls, free: np.ndarray) -> Passage:
        """States of one chunk, free (L+1 or 1, entries, n)."""
        p, n = self.problem, free.shape[-1]
        layers = self.depth + 1
        x = np.zeros((layers, _entries(p.state_shape), n))
        z = np.zeros((layers, _entries(p.integral_shape), n))
        y = x if self.maps.feature is None else np.zeros((layers, _entries(p.feature_shape), n))
        found = Passage(free, x, z, np.zeros_like(z) if self.grid.implicit else z, y)
        for l in range(layers):
            self._layer(u, found, l)
            if l < self.depth:
                self._add_column(u, found, l)
        return found

    def _layer(self, u: Controls, at: Passage, l: int) -> None:
        """x^l and y^l from z^l."""
        x, z = at.states, at.earlier[l]
        if self.own[l]:
            x[l], at.integrals[l] = self.stage(u, at, l).solved(x[l - 1])
            self._add_source(u, at, l)
            return
        if at.integrals is not at.earlier:
            at.integrals[l] = z
        if self.maps.outer is None:
            np.add(at.free_at(l), z, out=x[l])
        else:
            x[l] = self.outer(u, l, at.free_at(l), z)
        self._add_source(u, at, l)

    def _add_source(self, u: Controls, at: Passage, l: int) -> None:
        """y^l, where a later layer or the layer itself reads it."""
        if at.sources is not at.states and (l < self.depth or self.own[l]):
            at.sources[l] = self.source(u, l, at.states[l])

    def _add_column(self, u: Controls, at: Passage, s: int) -> None:
        """Column s into the z of later layers."""
        later = at.earlier[self.rows(s)]
        arguments = self.column(u, s, at.sources[s])
        add(later, self.maps.kernel.value((len(later), at.samples), arguments), self.later[s])
        if self.markov:
            at.earlier[s + 1] += at.earlier[s]

    # -- backward --------------------------------------------------------------------------------
    def pull_back(self, u: Controls, at: Passage, direct: np.ndarray, out: Controls) -> None:
        """λ and z̄ of a passage from ∂L/∂x^l, (L+1, entries, n); adds dL/du into ``out``."""
        at.costates, at.layer_cotangents = direct.copy(), np.zeros_like(at.earlier)
        at.cotangents = at.layer_cotangents.copy() if self.markov else at.layer_cotangents
        at.pulled = np.zeros_like(at.sources)
        for l in reversed(range(self.depth + 1)):
            if l < self.depth:
                self._pull_column(u, at, l, out)
            if self.own[l]:
                at.costates[l] = self.stage(u, at, l).costate(at.states[l], at.costates[l])
            self._pull_layer(u, at, l, out)
            if self.markov:
                at.cotangents[l] = at.layer_cotangents[l]
                if l < self.depth:
                    at.cotangents[l] += at.cotangents[l + 1]

    def _pull_column(self, u: Controls, at: Passage, s: int, out: Controls) -> None:
        """Column s: ȳ^s and the share of λ^s from the z̄ of later layers."""
        weight, c = self.later[s], np.moveaxis(at.cotangents[self.rows(s)], 1, 0)
        parts = self.maps.kernel.pull((c.shape[1], at.samples), self.column(u, s, at.sources[s]), c)
        put(at.pulled[s], parts.pop("y", []), weight)
        self.give(out, parts, s, weight)
        at.costates[s] += self._pull_source(u, at, s, at.pulled[s], out)

    def _pull_source(
        self, u: Controls, at: Passage, s: int, ybar: np.ndarray, out: Controls
    ) -> np.ndarray:
        """The cotangent of x^s from that of y^s; the feature's controls go into ``out``."""
        feature = self.maps.feature
        if feature is None:
            return ybar
        parts = feature.pull((1, at.samples), self.source_arguments(u, s, at.states[s]), ybar)
        xbar = np.zeros_like(at.states[s])
        put(xbar, parts.pop("x", []))
        self.give(out, parts, s)
        return xbar

    def _pull_layer(self, u: Controls, at: Passage, l: int, out: Controls) -> None:
        """z̄^l from λ^l, and what the layer's own source and outer map give to ``out``."""
        zbar, lam = at.layer_cotangents[l], at.costates[l]
        if self.maps.outer is None:
            zbar[...] = lam
        else:
            args = self.outer_arguments(u, l, at.free_at(l), at.integrals[l])
            parts = self.maps.outer.pull((1, at.samples), args, lam)
            put(zbar, parts.pop("z", []))
            self.give(out, parts, l)
        if self.own[l]:
            weight = self.own[l]
            args = self.column(u, l, at.sources[l], own=True)
            parts = self.maps.kernel.pull((1, at.samples), args, zbar[:, None])
            ybar = np.zeros_like(at.sources[l])
            put(ybar, parts.pop("y", []), weight)
            self.give(out, parts, l, weight, own=True)
            self._pull_source(u, at, l, ybar, out)

    def give(
        self, out: Controls, parts: Parts, l: int, weight: float = 1.0, own: bool = False
    ) -> None:
        """Add cotangents of the controls that column or layer l reads into ``out``."""
        for name, entries in parts.items():
            k = name.removeprefix("u.")
            layout = self.layouts[k]
            if layout.on == "ts":
                target = out[k][layout.own(l) if own else layout.later(l)].T
            else:
                target = out[k][l if layout.on == "t" else 0]
            for i, entry in enumerate(entries):
                if entry is not None:
                    target[i] += weight * entry


def _entries(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=int))
