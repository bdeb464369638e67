"""The arrays of one chunk of samples: states, costates, tangents and kept activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from dnlcontrol.backends.adjoint.host.joint import JointControls, ShiftControls
from dnlcontrol.backends.adjoint.host.memory import MOST_PIECES, Shared
from dnlcontrol.backends.adjoint.sweep.affine_columns import Elements
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep

# entries of a piece of a column: with its rows of z it fits a core's second level of cache; so many
# for each thread of PyTorch, which divides work of that size among them
PIECE = 1 << 15
# arrays (L+1, d, n) of a room and of its tangents, at most
ARRAYS = 15


@dataclass(frozen=True)
class HostParts:
    """What all chunks of one discrete problem share.

    States are measured in ``state_unit``: that of z where x = g + z is all there is, so that no
    layer has to multiply.
    """

    sweep: Sweep
    joint: JointControls
    state_unit: float
    shift: ShiftControls | None
    inner: Elements
    feature: Elements | None
    outer: Elements
    dtype: np.dtype

    @staticmethod
    def of(sweep: Sweep) -> HostParts:
        """Of a sweep whose columns, feature and outer map are written out."""
        columns, outer = sweep.columns, sweep.outer_map
        assert columns is not None
        assert outer is not None
        dtype = np.dtype(str(sweep.dtype).removeprefix("torch."))
        plain = outer.elements.value is None and sweep.feature_map is None
        plain = plain and outer.bias is None and not sweep.grid.implicit
        state_unit = float(sweep.grid.later[-1]) if plain else 1.0
        return HostParts(
            sweep=sweep,
            joint=JointControls(sweep.space, columns, dtype, state_unit),
            state_unit=state_unit,
            shift=None if outer.bias is None else ShiftControls(sweep.space, outer, dtype),
            inner=columns.elements,
            feature=None if sweep.feature_map is None else sweep.feature_map.elements,
            outer=outer.elements,
            dtype=dtype,
        )

    @property
    def unit(self) -> float:
        """The weight in whose units z is summed: that of most columns."""
        return float(self.sweep.grid.later[-1])

    def weight(self, s: int) -> float:
        """c_s in that unit."""
        return float(self.sweep.grid.later[s]) / self.unit

    def pull_weight(self, s: int) -> float:
        """c_s beside the pull-back by W, which is kept times the unit of the states."""
        return float(self.sweep.grid.later[s]) / self.state_unit

    def load(self, w: np.ndarray, along: bool = False) -> None:
        """Controls from a flat vector, or their tangents."""
        self.joint.load(w, along)
        if self.shift is not None:
            self.shift.load(w, along)

    def clear(self) -> None:
        """All cotangents 0."""
        self.joint.cotangent.array.fill(0.0)
        if self.shift is not None:
            self.shift.cotangent.array.fill(0.0)

    def unload(self, g: np.ndarray) -> None:
        """Cotangents into a flat vector."""
        self.joint.unload(self.unit, g)
        if self.shift is not None:
            self.shift.unload(g)


@dataclass(frozen=True, eq=False)
class RowPiece:
    """Some rows of a column: (W b), (Ẇ ḃ W), W, Ẇ, the cotangent of (W b), activations H."""

    joint: Shared
    mixed: Shared
    matrix: Shared
    along: Shared
    cotangent: Shared
    h: Shared
    kept: bool
    first: int
    last: int

    def of(self, rows: Shared) -> Shared:
        """The piece's part of a column's rows."""
        return rows[self.first : self.last]


class Room:
    """States and costates (L+1, d, n) of a chunk with n samples, samples last.

    Of source s, ``sources[s]`` is (Y; 1; Ẏ): its first k rows are what (W b) acts on, all its rows
    what (Ẇ ḃ W) does. z is kept in units of the rule's weight. Activations of the first columns are
    kept, as many rows of them as ``most_rows``; those of others are formed again.
    """

    def __init__(self, parts: HostParts, samples: int, most_rows: int) -> None:
        self.parts = parts
        self.samples = samples
        self.depth, self.size = parts.sweep.depth, parts.joint.rows
        joint = parts.joint
        self.sources = self.new(self.depth + 1, joint.width + joint.inputs)
        self.sources.array[:, joint.inputs : joint.width] = 1.0
        self.z, self.zbar = self.layers(), self.layers()
        self.x = self.layers() if parts.feature else self.sources[:, : self.size]
        self.direct = self.layers()
        # λ is z̄ where x = g + z
        self.lam = self.zbar if self._plain else self.layers()
        self.free = self.new(1 if self._constant else self.depth + 1, self.size)
        count = self.depth if parts.feature else 1
        self.ybar = self.new(count, joint.inputs)
        self.hidden = self.layers() if parts.outer.value is not None else self.z
        self.small = self.new(1, self.size)[0]
        # second derivatives of the cost at these states, where cost.py has formed them
        self.curvature: np.ndarray | None = None
        self.offsets = self._offsets(most_rows)
        self.kept = self.new(max(1, int(self.offsets.max(initial=0))))
        self.piece_rows = max(1, PIECE * torch.get_num_threads() // samples)
        self.buffers = [self.new(min(self.piece_rows, self.depth * self.size)) for _ in "hpq"]

    def new(self, *shape: int) -> Shared:
        """Memory (*shape, n)."""
        return Shared.zeros(*shape, self.samples, dtype=self.parts.dtype)

    def layers(self) -> Shared:
        """One more (L+1, d, n)."""
        return self.new(self.depth + 1, self.size)

    @property
    def _constant(self) -> bool:
        return len(self.parts.sweep.chunks[0].free) == 1

    @property
    def _plain(self) -> bool:
        sweep = self.parts.sweep
        return self.parts.outer.value is None and not sweep.markov and not sweep.grid.implicit

    def begin(self, data: Data) -> None:
        """The free term of a chunk."""
        np.divide(data.free.numpy().transpose(0, 2, 1), self.parts.state_unit, out=self.free.array)

    def states(self, end_only: bool) -> np.ndarray:
        """x (L+1, d, n) in units of the problem, or x^L (1, d, n)."""
        return in_units(self.x.array, self.parts.state_unit, end_only)

    def g(self, l: int) -> Shared:
        """g^l."""
        return self.free[l if len(self.free.array) > 1 else 0]

    # -- columns ---------------------------------------------------------------------------------
    def _offsets(self, most_rows: int) -> np.ndarray:
        """Where the kept rows of each column end, (L+1,); constant from the first not kept."""
        rows = [0 if self.parts.inner.value is None else self.length(s) for s in range(self.depth)]
        ends = np.concatenate([[0], np.cumsum(rows)])
        kept = ends[ends <= most_rows]
        return np.concatenate([kept, np.full(len(ends) - len(kept), kept[-1])])

    def length(self, s: int) -> int:
        """Rows of column s."""
        return (1 if self.parts.sweep.markov else self.depth - s) * self.size

    @cached_property
    def few(self) -> bool:
        """Whether the pieces are so few that their calls are kept."""
        count = sum(-(-self.length(s) // self.piece_rows) for s in range(self.depth))
        return count <= MOST_PIECES

    def later(self, layers: Shared, s: int) -> Shared:
        """The rows of ``layers`` that column s acts on, (rows, n)."""
        return layers[self.parts.sweep.rows(s)].rows()

    def pieces(self, s: int) -> Iterator[RowPiece]:
        """Of column s; one alone where nothing is formed entry by entry."""
        joint, length = self.parts.joint, self.length(s)
        k, e = joint.width, joint.inputs
        both = joint.both[joint.part(s)].rows()
        cotangent = joint.cotangent[joint.part(s)].rows()
        kept = self.offsets[s + 1] - self.offsets[s] == length
        size = length if self.parts.inner.value is None else self.piece_rows
        for first in range(0, length, size):
            last = min(first + size, length)
            rows = both[first:last]
            if kept:
                start = int(self.offsets[s])
                h = self.kept[start + first : start + last]
            else:
                h = self.buffers[0][: last - first]
            yield RowPiece(
                joint=rows[:, k:],
                mixed=rows[:, : k + e],
                matrix=rows[:, k : k + e],
                along=rows[:, :e],
                cotangent=cotangent[first:last],
                h=h,
                kept=kept,
                first=first,
                last=last,
            )


def states_bytes(parts: HostParts) -> int:
    """Bytes of states, costates and tangents of one sample."""
    joint = parts.joint
    arrays = joint.width + joint.inputs + ARRAYS * joint.rows
    return (parts.sweep.depth + 1) * arrays * parts.dtype.itemsize


def in_units(x: np.ndarray, unit: float, end_only: bool) -> np.ndarray:
    """States (L+1, d, n) times ``unit``, or the last of them (1, d, n)."""
    seen = x[-1:] if end_only else x
    return seen if unit == 1.0 else seen * x.dtype.type(unit)


class TangentRoom:
    """What :class:`Room` has, along a direction: ẋ, ż, δλ, δz̄ and the tangents of arguments."""

    def __init__(self, room: Room) -> None:
        joint = room.parts.joint
        self.unit = room.parts.state_unit
        self.room = room
        self.z, self.zbar = room.layers(), room.layers()
        self.direct = room.layers()
        self.lam = self.zbar if room.lam is room.zbar else room.layers()
        self.x = room.layers() if room.parts.feature else room.sources[:, joint.width :]
        self.arguments = self.z if room.parts.outer.value is None else room.layers()
        self.ybar = room.new(joint.inputs)

    def states(self, end_only: bool) -> np.ndarray:
        """ẋ (L+1, d, n) in units of the problem, or ẋ^L (1, d, n)."""
        return in_units(self.x.array, self.unit, end_only)
