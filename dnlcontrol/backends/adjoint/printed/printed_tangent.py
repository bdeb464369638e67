"""The derivative of the printed sweep's passes along a change of the controls."""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.adjoint.printed.printed_layers import Controls, add, put, stacked
from dnlcontrol.backends.adjoint.printed.printed_sweep import Passage, PrintedSweep
from dnlcontrol.backends.adjoint.printed.source import Values


class PrintedTangent:
    """Both passes differentiated at one control along δu, on what a passage has kept.

    Attributes
    ----------
    change : δx, δz and δy, made by :meth:`forward`.
    """

    def __init__(self, sweep: PrintedSweep, u: Controls, du: Controls, at: Passage) -> None:
        self.sweep, self.at = sweep, at
        self.u, self.du = u, du
        self.maps, self.n = sweep.maps, at.samples
        x, z = np.zeros_like(at.states), np.zeros_like(at.earlier)
        y = x if at.sources is at.states else np.zeros_like(at.sources)
        self.change = Passage(at.free, x, z, z.copy() if sweep.grid.implicit else z, y)

    # -- forward ---------------------------------------------------------------------------------
    def forward(self) -> np.ndarray:
        """δx, (L+1, entries, n)."""
        for l in range(self.sweep.depth + 1):
            self._layer(l)
            if l < self.sweep.depth:
                later = self.change.earlier[self.sweep.rows(l)]
                add(later, self._kernel(l, self.change.sources[l], own=False), self.sweep.later[l])
                if self.sweep.markov:
                    self.change.earlier[l + 1] += self.change.earlier[l]
        return self.change.states

    def _layer(self, l: int) -> None:
        """δx^l and δy^l from δz^l."""
        d = self.change
        d.integrals[l] = d.earlier[l]
        if self.sweep.own[l]:
            forced = d.earlier[l] + self._own(l, np.zeros_like(d.states[l]))
            stage = self.sweep.stage(self.u, self.at, l)
            d.states[l] = stage.change(self.at.states[l], self._outer(l, forced))
            d.integrals[l] += self._own(l, d.states[l])
        else:
            d.states[l] = self._outer(l, d.integrals[l])
        if d.sources is not d.states and (l < self.sweep.depth or self.sweep.own[l]):
            d.sources[l] = self._source(l, d.states[l])

    def _kernel(self, l: int, dy: np.ndarray, own: bool) -> Values:
        sweep = self.sweep
        at = sweep.column(self.u, l, self.at.sources[l], own)
        rows = 1 if own or sweep.markov else sweep.depth - l
        return self.maps.kernel.tangent((rows, self.n), at, sweep.column(self.du, l, dy, own))

    def _own(self, l: int, dx: np.ndarray) -> np.ndarray:
        """d_l δk(t_l, t_l, ...), (entries, n)."""
        found = np.zeros((1, *self.at.earlier[l].shape))
        add(found, self._kernel(l, self._source(l, dx), own=True), self.sweep.own[l])
        return np.asarray(found[0])

    def _source(self, l: int, dx: np.ndarray) -> np.ndarray:
        if self.maps.feature is None:
            return dx
        args = self.sweep.source_arguments(self.u, l, self.at.states[l])
        along = self.sweep.source_arguments(self.du, l, dx)
        return stacked(self.maps.feature.tangent((1, self.n), args, along), self.n)

    def _outer(self, l: int, dz: np.ndarray) -> np.ndarray:
        if self.maps.outer is None:
            return dz.copy()
        args = self.sweep.outer_arguments(self.u, l, self.at.free_at(l), self.at.integrals[l])
        along = self.sweep.outer_arguments(self.du, l, self.at.free_at(l), dz)
        return stacked(self.maps.outer.tangent((1, self.n), args, along), self.n)

    # -- backward --------------------------------------------------------------------------------
    def pull_back(self, direct: np.ndarray, out: Controls) -> None:
        """Adds the change of dL/du into ``out``, from that of ∂L/∂x^l, (L+1, entries, n)."""
        lam, zbar = direct.copy(), np.zeros_like(self.at.cotangents)
        for l in reversed(range(self.sweep.depth + 1)):
            if l < self.sweep.depth:
                ybar = self._pull_column(l, zbar, out)
                lam[l] += self._pull_source(l, self.at.pulled[l], ybar, out)
            if self.sweep.own[l]:
                lam[l] = self._costate(l, lam[l])
            zbar[l] = self._pull_outer(l, lam[l], out)
            if self.sweep.own[l]:
                self._pull_own(l, zbar[l], out)
            if self.sweep.markov and l < self.sweep.depth:
                zbar[l] += zbar[l + 1]

    def _costate(self, l: int, xbar: np.ndarray) -> np.ndarray:
        """δλ^l, which solves (I - r_x)ᵀ δλ = δx̄ + what the own source's curvature gives."""
        bent = self._pull_outer(l, np.zeros_like(xbar), None)
        right = xbar + self._pull_own(l, bent, None)
        return self.sweep.stage(self.u, self.at, l).costate(self.at.states[l], right)

    def _pull_column(self, s: int, zbar: np.ndarray, out: Controls) -> np.ndarray:
        """δȳ^s from the later layers."""
        rows = self.sweep.rows(s)
        c, change = (np.moveaxis(a[rows], 1, 0) for a in (self.at.cotangents, zbar))
        return self._pull_kernel(s, c, change, own=False, out=out)

    def _pull_kernel(
        self, s: int, c: np.ndarray, change: np.ndarray, *, own: bool, out: Controls | None
    ) -> np.ndarray:
        """The change of weight k_yᵀ c, (entries of y, n); c and its change (entries, m, n)."""
        weight = self._weight(s, own)
        parts = self.maps.kernel.second(
            (c.shape[1], self.n),
            self.sweep.column(self.u, s, self.at.sources[s], own),
            cotangent=c,
            along=self.sweep.column(self.du, s, self.change.sources[s], own),
            change=change,
        )
        ybar = np.zeros_like(self.at.sources[s])
        put(ybar, parts.pop("y", []), weight)
        if out is not None:
            self.sweep.give(out, parts, s, weight, own=own)
        return ybar

    def _weight(self, s: int, own: bool) -> float:
        """d_s of the layer's own source, or c_s of later layers."""
        return self.sweep.own[s] if own else self.sweep.later[s]

    def _pull_own(self, l: int, zbar: np.ndarray, out: Controls | None) -> np.ndarray:
        """The change of d_l F_xᵀ k_yᵀ z̄^l for a change of z̄^l, (entries of x, n)."""
        c = self.at.layer_cotangents[l][:, None]
        at = self.sweep.column(self.u, l, self.at.sources[l], own=True)
        pulled = np.zeros_like(self.at.sources[l])
        put(pulled, self.maps.kernel.pull((1, self.n), at, c).get("y", []), self.sweep.own[l])
        change = self._pull_kernel(l, c, zbar[:, None], own=True, out=out)
        return self._pull_source(l, pulled, change, out)

    def _pull_source(
        self, s: int, ybar: np.ndarray, change: np.ndarray, out: Controls | None
    ) -> np.ndarray:
        """δx̄^s from ȳ^s and its change."""
        if self.maps.feature is None:
            return change
        parts = self.maps.feature.second(
            (1, self.n),
            self.sweep.source_arguments(self.u, s, self.at.states[s]),
            cotangent=ybar,
            along=self.sweep.source_arguments(self.du, s, self.change.states[s]),
            change=change,
        )
        xbar = np.zeros_like(self.at.states[s])
        put(xbar, parts.pop("x", []))
        if out is not None:
            self.sweep.give(out, parts, s)
        return xbar

    def _pull_outer(self, l: int, change: np.ndarray, out: Controls | None) -> np.ndarray:
        """The change of G_zᵀ λ^l for a change of λ^l."""
        if self.maps.outer is None:
            return change.copy()
        g, d = self.at.free_at(l), self.change
        parts = self.maps.outer.second(
            (1, self.n),
            self.sweep.outer_arguments(self.u, l, g, self.at.integrals[l]),
            cotangent=self.at.costates[l],
            along=self.sweep.outer_arguments(self.du, l, g, d.integrals[l]),
            change=change,
        )
        zbar = np.zeros_like(d.integrals[l])
        put(zbar, parts.pop("z", []))
        if out is not None:
            self.sweep.give(out, parts, l)
        return zbar
