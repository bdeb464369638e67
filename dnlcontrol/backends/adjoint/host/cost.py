"""The cost's derivatives in the states of a chunk, written into its room.

A terminal loss of losses.py alone is a few calls of NumPy (``WrittenLoss``), in float64 whatever
the states are: minimisers in float32 tell values apart by their last digits. Any other Lagrangian
goes through PyTorch, as in way.py.
"""

from __future__ import annotations

import numpy as np
import torch

from dnlcontrol.backends.adjoint.host.workspace import Room, TangentRoom
from dnlcontrol.backends.adjoint.sweep.columnwise import Data
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.vectorised import (
    Tensor,
    Tensors,
    gradient_along,
    value_and_pull,
)
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.problem.losses import HeadControls, WrittenLoss, written

# entries of a state up to which second derivatives of a terminal cost are formed as matrices: one
# product of its graph for each entry, where conjugate gradients would take about as many
FEW_ENTRIES = 4


class HostCost:
    """The Lagrangian of a chunk, its derivative in the states and the tangent of that."""

    def __init__(self, lagrangian: Lagrangian) -> None:
        self.lagrangian = lagrangian
        self.problem = lagrangian.problem
        terminal = self.problem.terminal
        self.written: WrittenLoss | None = None
        if lagrangian.running is None and terminal is not None and terminal.target is not None:
            self.written = written(terminal.function)
            self.target = np.ascontiguousarray(terminal.target.T, dtype=float)

    def reads_path(self, multipliers: Multipliers | None) -> bool:
        """Whether other states than x^L are read."""
        return not self.lagrangian.reads_end_only(multipliers)

    def _loss(self, multipliers: Multipliers | None) -> WrittenLoss | None:
        return None if self.reads_path(multipliers) else self.written

    def _states(self, room: Room | TangentRoom, multipliers: Multipliers | None) -> Tensor:
        """x (l, n, d): all, or x^L alone where no other is read."""
        seen = room.states(end_only=not self.reads_path(multipliers))
        return torch.from_numpy(seen).transpose(1, 2)

    def _head(self, u: Tensors) -> HeadControls | None:
        if "head_W" not in u:
            return None
        return HeadControls(*(u[k][0].numpy().astype(float) for k in ("head_W", "head_c")))

    def value(self, room: Room, u: Tensors, data: Data, multipliers: Multipliers | None) -> float:
        """L of a chunk."""
        loss = self._loss(multipliers)
        if loss is None:
            seen = self._states(room, multipliers)
            return float(self.lagrangian.value(seen, u, data, multipliers))
        x, y = _last(room), self.target[..., data.index]
        return loss.value(x, y, self._head(u)) / self.problem.samples

    def pull(
        self, room: Room, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors
    ) -> float:
        """L of a chunk; its derivative in the states goes into ``room.direct``.

        That in the controls is added into ``out``.
        """
        loss = self._loss(multipliers)
        if loss is not None:
            x, y = _last(room), self.target[..., data.index]
            share = 1.0 / self.problem.samples
            value, xbar, parts = loss.pull(x, y, self._head(u))
            np.multiply(xbar, share, out=room.direct.array[-1])
            self._add(parts, share, out)
            return value * share
        seen = self._states(room, multipliers)
        found, pull = value_and_pull(
            lambda x, u: self.lagrangian.value(x, u, data, multipliers),
            seen,
            self.lagrangian.visible(u),
        )
        direct, more = pull(torch.ones_like(found))
        room.direct.tensor[-len(direct) :].copy_(direct.transpose(1, 2))
        for name, part in more.items():
            out[name].add_(part)
        return float(found)

    def pull_along(
        self,
        tangents: TangentRoom,
        at: tuple[Tensors, Tensors],
        data: Data,
        multipliers: Multipliers | None,
        out: Tensors,
    ) -> None:
        """The tangents of what :meth:`pull` forms along ẋ and u̇; ``at`` is (u, u̇)."""
        loss, rooms = self._loss(multipliers), (tangents.room, tangents)
        if loss is not None:
            x, dx = (_last(room) for room in rooms)
            share = 1.0 / self.problem.samples
            y = self.target[..., data.index]
            xbar, parts = loss.pull_along((x, dx), y, self._head(at[0]), self._head(at[1]))
            np.multiply(xbar, share, out=tangents.direct.array[-1])
            self._add(parts, share, out)
            return
        if self._blockwise(tangents.room, at[0], multipliers):
            curvature = self._curvature(tangents.room, data)
            dx = tangents.states(end_only=True)[0]
            np.einsum("nij,jn->in", curvature, dx, out=tangents.direct.array[-1])
            return
        point = self._states(tangents.room, multipliers), self.lagrangian.visible(at[0])
        along = self._states(tangents, multipliers), self.lagrangian.visible(at[1])
        _, (direct, more) = gradient_along(
            lambda x, u: self.lagrangian.value(x, u, data, multipliers), point, along
        )
        tangents.direct.tensor[-len(direct) :].copy_(direct.transpose(1, 2))
        for name, part in more.items():
            out[name].add_(part)

    def _blockwise(self, room: Room, u: Tensors, multipliers: Multipliers | None) -> bool:
        """Whether the second derivative is a small matrix for each sample's x^L, and no more."""
        ends_only = not self.reads_path(multipliers)
        return ends_only and not self.lagrangian.visible(u) and room.size <= FEW_ENTRIES

    def _curvature(self, room: Room, data: Data) -> np.ndarray:
        """Second derivatives of the terminal cost in x^L, (n, d, d), formed once for its states."""
        if room.curvature is None:
            x = self._states(room, None)
            found = np.empty((room.samples, room.size, room.size), room.parts.dtype)
            for i in range(room.size):
                unit = torch.zeros_like(x)
                unit[..., i] = 1.0
                _, (column,) = gradient_along(
                    lambda x: self.lagrangian.value(x, {}, data, None), (x,), (unit,)
                )
                found[:, :, i] = column[0].numpy()
            room.curvature = found
        return room.curvature

    def _add(self, parts: HeadControls | None, share: float, out: Tensors) -> None:
        if parts is not None:
            out["head_W"][0].add_(torch.from_numpy(parts.matrix), alpha=share)
            out["head_c"][0].add_(torch.from_numpy(parts.shift), alpha=share)


def _last(room: Room | TangentRoom) -> np.ndarray:
    """x^L (d, n) in float64."""
    return room.states(end_only=True)[0].astype(float, copy=False)
