"""The explicit layers x = g + σ(z + b), their pull-backs and tangents, as prepared calls."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from dnlcontrol.backends.adjoint.host.activation import activate, bent, times_slope
from dnlcontrol.backends.adjoint.host.memory import Call, Shared, add, copy, scale
from dnlcontrol.backends.adjoint.host.workspace import Room, TangentRoom


class ExplicitLayers:
    """x^l from z^l, and z̄^l from λ^l."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.outer, self.shift = room.parts.outer, room.parts.shift
        # x = g + z in one unit
        self.plain = room.parts.state_unit == room.parts.unit and self.shift is None
        self.plain = self.plain and self.outer.value is None
        self.sums = Shared(np.zeros((room.size, 1), room.parts.dtype))

    def _argument(self, l: int, z: Shared, out: Shared, along: bool = False) -> Iterator[Call]:
        """z + b, or ż + ḃ, from z in units of the rule's weight, in those of the states."""
        unit = self.room.parts.unit / self.room.parts.state_unit
        yield copy(z, out) if unit == 1.0 else scale(z, unit, out)
        if self.shift is not None:
            b = (self.shift.along if along else self.shift.value)[self.shift.site(l)]
            yield partial(np.add, out.array, b.array, out=out.array)

    def state(self, l: int) -> Iterator[Call]:
        """Writes x^l."""
        room = self.room
        x, g = room.x[l], room.g(l)
        if self.plain:
            yield partial(np.add, room.z[l].array, g.array, out=x.array)
            return
        if self.outer.value is None:
            yield from self._argument(l, room.z[l], x)
            yield add(g, x)
            return
        h = room.hidden[l]
        yield from self._argument(l, room.z[l], h)
        yield activate(self.outer, h)
        yield partial(np.add, h.array, g.array, out=x.array)

    def pull(self, l: int, gradient: bool) -> Iterator[Call]:
        """Writes z̄^l; with ``gradient`` adds the cotangent of b."""
        room = self.room
        if self.outer.value is not None:
            yield times_slope(self.outer, room.lam[l], room.hidden[l], room.zbar[l])
        elif room.lam is not room.zbar:
            yield copy(room.lam[l], room.zbar[l])
        if gradient:
            yield from self._shifted(l, room.zbar[l])

    def _shifted(self, l: int, zbar: Shared) -> Iterator[Call]:
        if self.shift is not None:
            out, sums = self.shift.cotangent[self.shift.site(l)], self.sums.array
            yield partial(np.add.reduce, zbar.array, axis=1, keepdims=True, out=sums)
            yield partial(np.add, out.array, sums, out=out.array)

    def state_along(self, l: int, tangents: TangentRoom) -> Iterator[Call]:
        """Writes ẋ^l."""
        if self.outer.value is None:
            yield from self._argument(l, tangents.z[l], tangents.x[l], along=True)
            return
        p = tangents.arguments[l]
        yield from self._argument(l, tangents.z[l], p, along=True)
        yield times_slope(self.outer, p, self.room.hidden[l], tangents.x[l])

    def pull_along(self, l: int, tangents: TangentRoom) -> Iterator[Call]:
        """Writes δz̄^l, and adds the tangent of b̄."""
        room = self.room
        if self.outer.value is not None:
            h, p = room.hidden[l], room.small
            yield copy(tangents.arguments[l], p)
            yield bent(self.outer, p, h, room.lam[l], tangents.lam[l])
            yield times_slope(self.outer, p, h, tangents.zbar[l])
        elif tangents.lam is not tangents.zbar:
            yield copy(tangents.lam[l], tangents.zbar[l])
        yield from self._shifted(l, tangents.zbar[l])
