"""Layers that are implicit in their own state, one by one through implicit_stage.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.autograd.forward_ad as forward_ad

from dnlcontrol.backends.adjoint.host.memory import Shared
from dnlcontrol.backends.adjoint.host.workspace import Room, TangentRoom
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.implicit_stage import Stage
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors


@dataclass
class AtHand:
    """The controls of a pass and their tangents, and where cotangents go, all by name."""

    u: Tensors = field(default_factory=dict)
    du: Tensors = field(default_factory=dict)
    out: Tensors = field(default_factory=dict)

    def dual(self) -> Tensors:
        """The controls with their tangents."""
        return {k: forward_ad.make_dual(v, self.du[k]) for k, v in self.u.items()}


class ImplicitLayers:
    """x^l from z^l by Newton's method, and the implicit function theorem backwards."""

    def __init__(self, room: Room, at_hand: AtHand) -> None:
        self.room, self.at_hand = room, at_hand
        self.data: Data | None = None
        # x̄^l, from which λ^l is found
        self.xbar = room.layers()

    @property
    def _sweep(self) -> Sweep:
        return self.room.parts.sweep

    def _stage(self, u: Tensors, l: int) -> Stage:
        assert self.data is not None
        return self._sweep.stage(u, self.data, l)

    def _z(self, z: Shared) -> Tensor:
        return z.tensor.T * self.room.parts.unit

    def state(self, l: int) -> None:
        """Writes x^l."""
        found = self._stage(self.at_hand.u, l).solve(
            self.room.x[l - 1].tensor.T, self._z(self.room.z[l])
        )
        self.room.x[l].tensor.copy_(found.T)

    def pull(self, l: int, gradient: bool) -> None:
        """Writes λ^l and z̄^l; with ``gradient`` adds the cotangents of the controls."""
        room = self.room
        self.xbar[l].tensor.copy_(room.lam[l].tensor)
        lam, zbar, parts = self._stage(self.at_hand.u, l).pull_back(
            room.x[l].tensor.T, self._z(room.z[l]), room.lam[l].tensor.T
        )
        room.lam[l].tensor.copy_(lam.T)
        room.zbar[l].tensor.copy_(zbar.T)
        if gradient:
            self._add(l, parts)

    def state_along(self, l: int, tangents: TangentRoom) -> None:
        """Writes ẋ^l; within a dual level, like the next."""
        room = self.room
        before = _dual(room.x[l - 1], tangents.x[l - 1])
        z = forward_ad.make_dual(self._z(room.z[l]), self._z(tangents.z[l]))
        _write(self._stage(self.at_hand.dual(), l).solve(before, z), tangents.x[l])

    def pull_along(self, l: int, tangents: TangentRoom) -> None:
        """Writes δλ^l and δz̄^l, and adds the tangents of the controls' cotangents."""
        room = self.room
        x = _dual(room.x[l], tangents.x[l])
        z = forward_ad.make_dual(self._z(room.z[l]), self._z(tangents.z[l]))
        stage = self._stage(self.at_hand.dual(), l)
        lam, zbar, parts = stage.pull_back(x, z, _dual(self.xbar[l], tangents.lam[l]))
        _write(lam, tangents.lam[l])
        _write(zbar, tangents.zbar[l])
        self._add(l, parts, along=True)

    def _add(self, l: int, parts: tuple[Any, ...], along: bool = False) -> None:
        """Add cotangents, or their tangents, to those at hand."""
        out, sweep = self.at_hand.out, self._sweep
        added, *own = parts
        sweep.add_shared(out, _tangents(added) if along else added, l)
        for ts, *shared in own:
            sweep.add(out, _tangents(ts) if along else ts, l, own=True)
            for some in shared:
                sweep.add_shared(out, _tangents(some) if along else some, l)


def _dual(value: Shared, tangent: Shared) -> Tensor:
    """(d, n) and (d, n) as a dual number (n, d)."""
    return forward_ad.make_dual(value.tensor.T, tangent.tensor.T)


def _write(dual: Tensor, out: Shared) -> None:
    """The tangent of a dual number (n, d) as (d, n)."""
    tangent = forward_ad.unpack_dual(dual).tangent
    if tangent is None:
        out.array.fill(0.0)
    else:
        out.tensor.copy_(tangent.T)


def _tangents(parts: Tensors) -> Tensors:
    found = {k: forward_ad.unpack_dual(v).tangent for k, v in parts.items()}
    return {k: v for k, v in found.items() if v is not None}
