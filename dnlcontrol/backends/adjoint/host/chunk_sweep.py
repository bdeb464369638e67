"""States forward and costates backward for one chunk, and their tangents, as prepared calls.

The recursions are those of affine_columns.py and affine_maps.py, with z, and the cotangents of
controls and features, in units of the rule's weight c. Along (Ẏ, Ẇ, ḃ), with H kept,

    forward   P = (Ẇ ḃ W)(Y; 1; Ẏ),   Ż += σ' ⊙ P
    adjoint   G = Z̄ ⊙ σ',   Ġ = σ' ⊙ (δZ̄ + (σ''/σ') ⊙ P ⊙ Z̄)
              δȲ = Wᵀ Ġ + Ẇᵀ G,   δ(W̄ b̄) += Ġ (Y; 1)ᵀ + G (Ẏ; 0)ᵀ
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch.autograd.forward_ad as forward_ad

from dnlcontrol.backends.adjoint.host.activation import activate, bent, times_slope
from dnlcontrol.backends.adjoint.host.implicit_layers import AtHand, ImplicitLayers
from dnlcontrol.backends.adjoint.host.memory import (
    Call,
    Prepared,
    Shared,
    add,
    add_product,
    clear,
    copy,
    product,
    scale,
)
from dnlcontrol.backends.adjoint.host.prepared_layers import ExplicitLayers
from dnlcontrol.backends.adjoint.host.workspace import HostParts, Room, RowPiece, TangentRoom
from dnlcontrol.backends.adjoint.sweep.columnwise import Data


class ChunkSweep:
    """The passes of one chunk at the controls that its parts hold."""

    def __init__(self, parts: HostParts, samples: int, most_rows: int, at_hand: AtHand) -> None:
        self.parts = parts
        self.room = Room(parts, samples, most_rows)
        self.explicit = ExplicitLayers(self.room)
        implicit = parts.sweep.grid.implicit
        self.implicit = ImplicitLayers(self.room, at_hand) if implicit else None
        self._programs: dict[tuple[bool, ...], Prepared] = {}
        self._tangents: TangentPasses | None = None

    def begin(self, data: Data) -> None:
        """The samples that the next passes are for."""
        self.room.begin(data)
        if self.implicit is not None:
            self.implicit.data = data

    def forward(self) -> None:
        """States and activations."""
        self.room.curvature = None
        self._run(())

    def backward(self, path: bool, gradient: bool, adds: bool) -> None:
        """Costates from the cost's derivatives in the states (``room.direct``).

        ``path``: in all of them, not in x^L alone; ``gradient``: with cotangents of controls;
        ``adds``: there may be some already.
        """
        self._run((path, gradient, adds))

    @property
    def tangents(self) -> TangentPasses:
        """The passes along a direction."""
        if self._tangents is None:
            self._tangents = TangentPasses(self)
        return self._tangents

    def _run(self, key: tuple[bool, ...]) -> None:
        if key not in self._programs:
            calls = partial(self._backward, *key) if key else self._forward
            self._programs[key] = Prepared(calls, self.room.few)
        self._programs[key].run()

    # -- states ----------------------------------------------------------------------------------
    def _forward(self) -> Iterator[Call]:
        room = self.room
        yield clear(room.z[0] if self.parts.sweep.markov else room.z)
        for l in range(room.depth + 1):
            yield from self._state(l)
            if l < room.depth:
                yield from self._source(l)
                yield from self.column(l)

    def _state(self, l: int) -> Iterator[Call]:
        if self.implicit is not None and self.parts.sweep.grid.own[l]:
            yield partial(self.implicit.state, l)
        else:
            yield from self.explicit.state(l)

    def _source(self, s: int) -> Iterator[Call]:
        """Y^s, where it is not x^s itself."""
        if self.parts.feature is not None:
            y = self.y(s)
            yield copy(self.room.x[s], y)
            yield activate(self.parts.feature, y)

    def y(self, s: int) -> Shared:
        """Y^s (e, n)."""
        return self.room.sources[s][: self.parts.joint.inputs]

    def column(self, s: int) -> Iterator[Call]:
        """Z += H."""
        room, weight = self.room, self.parts.weight(s)
        if self.parts.sweep.markov:
            yield copy(room.z[s], room.z[s + 1])
        later = room.later(room.z, s)
        y = room.sources[s][: self.parts.joint.width]
        for piece in room.pieces(s):
            if self.parts.inner.value is None:
                yield add_product(piece.joint, y, piece.of(later), weight)
            else:
                yield from self.activations(piece, s)
                yield add(piece.h, piece.of(later), weight)

    def activations(self, piece: RowPiece, s: int) -> Iterator[Call]:
        """H = σ(W Y + b)."""
        yield product(piece.joint, self.room.sources[s][: self.parts.joint.width], piece.h)
        yield activate(self.parts.inner, piece.h)

    # -- costates --------------------------------------------------------------------------------
    def _backward(self, path: bool, gradient: bool, adds: bool) -> Iterator[Call]:
        room, sweep = self.room, self.parts.sweep
        yield copy(room.direct[room.depth], room.lam[room.depth])
        for l in reversed(range(room.depth + 1)):
            if l < room.depth:
                yield from self._pulled_column(l, gradient, adds)
                if path:
                    yield add(room.direct[l], room.lam[l])
            if self.implicit is not None and sweep.grid.own[l]:
                yield partial(self.implicit.pull, l, gradient)
            else:
                yield from self.explicit.pull(l, gradient)
            if sweep.markov and l < room.depth:
                yield add(room.zbar[l + 1], room.zbar[l])

    def _pulled_column(self, s: int, gradient: bool, adds: bool) -> Iterator[Call]:
        """λ^s, but for the cost's own derivative."""
        room, feature = self.room, self.parts.feature
        weight = self.parts.pull_weight(s)
        ybar = room.ybar[s if feature else 0]
        if feature is None and weight == 1.0:
            ybar = room.lam[s]
        for piece in room.pieces(s):
            g = piece.of(room.later(room.zbar, s))
            if self.parts.inner.value is not None:
                if not piece.kept:
                    yield from self.activations(piece, s)
                out = room.buffers[1][: piece.last - piece.first]
                yield times_slope(self.parts.inner, g, piece.h, out)
                g = out
            if gradient:
                yield self.cotangent(piece, g, s, adds)
            yield pulled(piece, g, ybar)
        if feature is not None:
            yield times_slope(feature, ybar, self.y(s), room.lam[s])
            ybar = room.lam[s]
        if weight != 1.0:
            yield scale(ybar, weight, room.lam[s])

    def cotangent(self, piece: RowPiece, g: Shared, s: int, adds: bool) -> Call:
        """W̄ and b̄ += G (Y; 1)ᵀ."""
        y = self.room.sources[s][: self.parts.joint.width].transposed
        weight = self.parts.weight(s)
        if adds or self.parts.joint.shared or weight != 1.0:
            return add_product(g, y, piece.cotangent, weight)
        return product(g, y, piece.cotangent)


def pulled(piece: RowPiece, g: Shared, ybar: Shared) -> Call:
    """Ȳ += Wᵀ G, from 0 at the first piece."""
    return (add_product if piece.first else product)(piece.matrix.transposed, g, ybar)


class TangentPasses:
    """The tangents of the passes, at the states and costates that they left."""

    def __init__(self, sweep: ChunkSweep) -> None:
        self.sweep = sweep
        self.room, self.parts = sweep.room, sweep.parts
        self.here = TangentRoom(sweep.room)
        self._programs: dict[tuple[bool, ...], Prepared] = {}

    def forward(self) -> None:
        """ẋ and ż."""
        self._run(())

    def backward(self, path: bool, adds: bool) -> None:
        """δλ and δz̄ from ``here.direct``, and the tangents of the cotangents of controls."""
        self._run((path, adds))

    def _run(self, key: tuple[bool, ...]) -> None:
        if key not in self._programs:
            calls = partial(self._backward, *key) if key else self._forward
            self._programs[key] = Prepared(calls, self.room.few)
        if self.sweep.implicit is None:
            self._programs[key].run()
            return
        with forward_ad.dual_level():
            self._programs[key].run()

    # -- states ----------------------------------------------------------------------------------
    def _forward(self) -> Iterator[Call]:
        room, here = self.room, self.here
        sweep = self.parts.sweep
        yield clear(here.z[0] if sweep.markov else here.z)
        for l in range(room.depth + 1):
            if self.sweep.implicit is not None and sweep.grid.own[l]:
                yield partial(self.sweep.implicit.state_along, l, here)
            else:
                yield from self.sweep.explicit.state_along(l, here)
            if l < room.depth:
                yield from self._source(l)
                yield from self._column(l)

    def _source(self, s: int) -> Iterator[Call]:
        """Ẏ^s, where it is not ẋ^s itself."""
        if self.parts.feature is not None:
            y, ydot = self.sweep.y(s), self._ydot(s)
            yield times_slope(self.parts.feature, self.here.x[s], y, ydot)

    def _ydot(self, s: int) -> Shared:
        return self.room.sources[s][self.parts.joint.width :]

    def _column(self, s: int) -> Iterator[Call]:
        """Ż += σ' ⊙ P."""
        room, here = self.room, self.here
        weight = self.parts.weight(s)
        if self.parts.sweep.markov:
            yield copy(here.z[s], here.z[s + 1])
        later = room.later(here.z, s)
        for piece in room.pieces(s):
            if self.parts.inner.value is None:
                yield add_product(piece.mixed, room.sources[s], piece.of(later), weight)
                continue
            p, _ = self._buffers(piece)
            yield from self._arguments(piece, s, p)
            yield times_slope(self.parts.inner, p, piece.h, p)
            yield add(p, piece.of(later), weight)

    def _buffers(self, piece: RowPiece) -> tuple[Shared, Shared]:
        rows = piece.last - piece.first
        return self.room.buffers[1][:rows], self.room.buffers[2][:rows]

    def _arguments(self, piece: RowPiece, s: int, p: Shared) -> Iterator[Call]:
        """P, and H where it is not kept."""
        if not piece.kept:
            yield from self.sweep.activations(piece, s)
        yield product(piece.mixed, self.room.sources[s], p)

    # -- costates --------------------------------------------------------------------------------
    def _backward(self, path: bool, adds: bool) -> Iterator[Call]:
        room, here = self.room, self.here
        sweep = self.parts.sweep
        yield copy(here.direct[room.depth], here.lam[room.depth])
        for l in reversed(range(room.depth + 1)):
            if l < room.depth:
                yield from self._pulled_column(l, adds)
                if path:
                    yield add(here.direct[l], here.lam[l])
            if self.sweep.implicit is not None and sweep.grid.own[l]:
                yield partial(self.sweep.implicit.pull_along, l, here)
            else:
                yield from self.sweep.explicit.pull_along(l, here)
            if sweep.markov and l < room.depth:
                yield add(here.zbar[l + 1], here.zbar[l])

    def _pulled_column(self, s: int, adds: bool) -> Iterator[Call]:
        """δλ^s, but for the cost's own derivative."""
        room, here = self.room, self.here
        feature = self.parts.feature
        lam, weight = here.lam[s], self.parts.pull_weight(s)
        ybar = lam if feature is None and weight == 1.0 else here.ybar
        for piece in room.pieces(s):
            g, dg = (piece.of(room.later(rows, s)) for rows in (room.zbar, here.zbar))
            p, q = dg, g
            if self.parts.inner.value is not None:
                p, q = self._buffers(piece)
                yield from self._arguments(piece, s, p)
                yield bent(self.parts.inner, p, piece.h, g, dg)
                yield times_slope(self.parts.inner, p, piece.h, p)
                yield times_slope(self.parts.inner, g, piece.h, q)
            yield from self._cotangents(piece, (p, q), s, adds)
            yield pulled(piece, p, ybar)
            yield add_product(piece.along.transposed, q, ybar)
        if feature is None:
            if weight != 1.0:
                yield scale(ybar, weight, lam)
            return
        y, small = self.sweep.y(s), room.small
        yield copy(here.x[s], small)
        yield bent(feature, small, y, room.ybar[s], ybar)
        yield times_slope(feature, small, y, small)
        yield scale(small, weight, lam)

    def _cotangents(
        self, piece: RowPiece, slopes: tuple[Shared, Shared], s: int, adds: bool
    ) -> Iterator[Call]:
        """δ(W̄ b̄) += Ġ (Y; 1)ᵀ + G (Ẏ; 0)ᵀ."""
        yield self.sweep.cotangent(piece, slopes[0], s, adds)
        out = piece.cotangent[:, : self.parts.joint.inputs]
        yield add_product(slopes[1], self._ydot(s).transposed, out, self.parts.weight(s))
