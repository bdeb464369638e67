"""All chunks of a discrete problem at one control: what is known of it is not formed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dnlcontrol.backends.adjoint.host.chunk_sweep import ChunkSweep
from dnlcontrol.backends.adjoint.host.cost import HostCost
from dnlcontrol.backends.adjoint.host.implicit_layers import AtHand
from dnlcontrol.backends.adjoint.host.workspace import HostParts, Room, states_bytes
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensors
from dnlcontrol.backends.adjoint.vectors import Vectors
from dnlcontrol.discretisation.resources import kept
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.multipliers import Multipliers


@dataclass
class Known:
    """A control, and what of it lies in the rooms."""

    w: Flat
    states: bool = False
    costates: bool = False
    multipliers: Multipliers | None = None

    def has(self, multipliers: Multipliers | None) -> bool:
        """Whether costates are those of some multipliers."""
        return self.costates and self.multipliers is multipliers


class Passes:
    """States, gradients and Hessian products over all samples, without penalties on controls.

    Each chunk has a room of its own where they fit ``KEPT_BYTES``; all products at one control then
    share its states, costates and activations. Else chunks of a size take turns in one room.
    """

    def __init__(self, sweep: Sweep, lagrangian: Lagrangian, vectors: Vectors) -> None:
        self.sweep, self.lagrangian = sweep, lagrangian
        self.vectors = vectors
        self.parts = HostParts.of(sweep)
        self.cost = HostCost(lagrangian)
        self.at_hand = AtHand()
        self.states_bytes = states_bytes(self.parts)
        self.resident = self.states_bytes * sweep.problem.samples <= kept.KEPT_BYTES
        self._rooms: dict[int, ChunkSweep] = {}
        self._known: Known | None = None

    # -- rooms -----------------------------------------------------------------------------------
    def _chunks(self) -> Iterator[tuple[int, Data, ChunkSweep]]:
        """Each chunk with its number and its room."""
        for k, data in enumerate(self.sweep.chunks):
            samples = data.free.shape[1]
            key = k if self.resident else samples
            new = key not in self._rooms
            if new:
                most = self._most_rows(samples)
                self._rooms[key] = ChunkSweep(self.parts, samples, most, self.at_hand)
            if new or not self.resident:
                self._rooms[key].begin(data)
            yield k, data, self._rooms[key]

    def _most_rows(self, samples: int) -> int:
        """Rows of activations that a room of so many samples may keep."""
        everyone = self.sweep.problem.samples if self.resident else samples
        left = max(0, kept.KEPT_BYTES - self.states_bytes * everyone)
        return left // (everyone * self.parts.dtype.itemsize)

    def _at(self, w: Flat) -> Known:
        """What is known at w (size,), whose controls are then loaded."""
        known = self._known
        if known is None or not np.array_equal(known.w, w):
            known = self._known = Known(np.array(w, dtype=float))
            self.parts.load(known.w)
            self.at_hand.u = self._controls(known.w)
        return known

    def _controls(self, w: Flat) -> Tensors:
        """Those that something besides the columns reads, by name."""
        if self.sweep.grid.implicit:
            return self.vectors.controls(w)
        controls = self.sweep.problem.controls
        if all(control.on == "ts" for control in controls.values()):
            return {}
        return self.lagrangian.visible(self.vectors.controls(w))

    # -- answers ---------------------------------------------------------------------------------
    def states(self, w: Flat) -> Iterator[tuple[Data, Room]]:
        """Each chunk with its states, valid until the next."""
        known = self._at(w)
        for _, data, chunk in self._chunks():
            with torch.no_grad(), np.errstate(all="ignore"):
                if not known.states:
                    chunk.forward()
            yield data, chunk.room
        known.states = self.resident

    def value(self, w: Flat, multipliers: Multipliers | None) -> float:
        """L."""
        total = 0.0
        for data, room in self.states(w):
            with torch.no_grad(), np.errstate(all="ignore"):
                total += self.cost.value(room, self.at_hand.u, data, multipliers)
        return total

    def value_and_gradient(self, w: Flat, multipliers: Multipliers | None) -> tuple[float, Flat]:
        """L and dL/dw (size,); at a control whose states are known, by the costates alone."""
        known = self._at(w)
        if known.has(multipliers):
            known.states = False  # nothing is stored of values: asked again, they are formed again
        known.costates = False
        total, path = 0.0, self.cost.reads_path(multipliers)
        self._begin()
        with torch.no_grad(), np.errstate(all="ignore"):
            for k, data, chunk in self._chunks():
                if not known.states:
                    chunk.forward()
                total += self._cost(chunk, data, multipliers)
                chunk.backward(path, gradient=True, adds=k > 0)
        known.states = known.costates = self.resident
        known.multipliers = multipliers
        return total, self._gradient()

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """(d²L/dw²) d (size,)."""
        known, path = self._at(w), self.cost.reads_path(multipliers)
        ready = known.has(multipliers)
        self.parts.load(d, along=True)
        self.at_hand.du = self._controls(d)
        with torch.no_grad(), np.errstate(all="ignore"):
            if self.resident and not ready:
                self._costates(known, multipliers)
            self._begin()
            for k, data, chunk in self._chunks():
                if not self.resident:
                    chunk.forward()
                    self._cost(chunk, data, multipliers, unused=True)
                    chunk.backward(path, gradient=False, adds=False)
                self._along(chunk, data, multipliers, adds=k > 0)
        return self._gradient()

    def _costates(self, known: Known, multipliers: Multipliers | None) -> None:
        """Those of all chunks, at the control that is loaded."""
        path = self.cost.reads_path(multipliers)
        for _, data, chunk in self._chunks():
            if not known.states:
                chunk.forward()
            self._cost(chunk, data, multipliers, unused=True)
            chunk.backward(path, gradient=False, adds=False)
        known.states = known.costates = True
        known.multipliers = multipliers

    # -- pieces ----------------------------------------------------------------------------------
    def _begin(self) -> None:
        """All cotangents 0."""
        self.parts.clear()
        self.at_hand.out = self._others()

    def _others(self) -> Tensors:
        """Zeros for the cotangents that do not come from the columns."""
        u = self.at_hand.u
        return {name: torch.zeros_like(part) for name, part in u.items()}

    def _gradient(self) -> Flat:
        """All cotangents in one vector."""
        g: Flat = np.zeros(self.sweep.space.size)
        self.parts.unload(g)
        for name, part in self.at_hand.out.items():
            self.sweep.space.blocks[name].values(g)[:] += part.numpy()
        return g

    def _cost(
        self,
        chunk: ChunkSweep,
        data: Data,
        multipliers: Multipliers | None,
        unused: bool = False,
    ) -> float:
        """L of a chunk and its derivative in the states; ``unused``: not that in the controls."""
        out = self._others() if unused else self.at_hand.out
        return self.cost.pull(chunk.room, self.at_hand.u, data, multipliers, out)

    def _along(
        self, chunk: ChunkSweep, data: Data, multipliers: Multipliers | None, adds: bool
    ) -> None:
        """The tangents of one chunk."""
        tangents, at = chunk.tangents, (self.at_hand.u, self.at_hand.du)
        tangents.forward()
        self.cost.pull_along(tangents.here, at, data, multipliers, self.at_hand.out)
        tangents.backward(self.cost.reads_path(multipliers), adds)
