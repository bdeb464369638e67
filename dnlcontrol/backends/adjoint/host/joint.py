"""The controls of affine columns and of outer maps, in the layout that their products want."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnlcontrol.backends.adjoint.host.memory import Shared
from dnlcontrol.backends.adjoint.sweep.affine_columns import Columns
from dnlcontrol.backends.adjoint.sweep.affine_maps import OuterMap
from dnlcontrol.discretisation.space.control_space import ControlBlock, ControlSpace
from dnlcontrol.discretisation.space.flat import Flat


class JointControls:
    """(Ẇ ḃ W b) of every site, and the cotangent of (W b) in units of the rule's weight.

    With W (d, e) and k = e + 1, or e without a bias: ``both`` (sites, d, 2k) and ``cotangent``
    (sites, d, k). (W b) then lies beside (Ẇ ḃ W): each serves as one matrix. W and Ẇ are kept times
    ``state_unit``, in which the states are measured.
    """

    def __init__(
        self, space: ControlSpace, columns: Columns, dtype: np.dtype, state_unit: float
    ) -> None:
        self.columns = columns
        names = [columns.matrix, *([columns.bias] if columns.bias else [])]
        self.blocks = [space.blocks[name] for name in names]
        self.rows, self.inputs = self.blocks[0].control.shape
        self.width = self.inputs + len(names) - 1
        self.sites = self.blocks[0].layout.count
        self.units = [state_unit, 1.0]
        self.both = Shared.zeros(self.sites, self.rows, 2 * self.width, dtype=dtype)
        self.cotangent = Shared.zeros(self.sites, self.rows, self.width, dtype=dtype)

    @property
    def shared(self) -> bool:
        """Whether all columns read one site."""
        return self.columns.on == "const"

    def part(self, s: int) -> slice:
        """The sites of column s."""
        if self.columns.layout is not None:
            return self.columns.layout.later(s)
        return slice(0, 1) if self.shared else slice(s, s + 1)

    def load(self, w: Flat, along: bool = False) -> None:
        """Fill (W b), or (Ẇ ḃ) with ``along``, from a flat vector."""
        start = 0 if along else self.width
        for block, first, last, unit in self._parts(start):
            values = block.values(w).reshape(self.sites, self.rows, last - first)
            out = self.both.array[:, :, first:last]
            np.multiply(values, unit, out=out, casting="same_kind")

    def unload(self, unit: float, g: Flat) -> None:
        """Write ``unit`` times the cotangents into a flat vector."""
        for block, first, last, own in self._parts(0):
            out = block.values(g).reshape(self.sites, self.rows, last - first)
            np.multiply(self.cotangent.array[:, :, first:last], unit * own, out=out)

    def _parts(self, start: int) -> Iterator[tuple[ControlBlock, int, int, float]]:
        """W and b: where their columns begin and end, and their units."""
        ends = start, start + self.inputs, start + self.width
        yield from zip(self.blocks, ends[:-1], ends[1:], self.units, strict=False)


class ShiftControls:
    """b of an outer map g + σ(z + b), its tangent and its cotangent, (sites, d, 1) each."""

    def __init__(self, space: ControlSpace, outer: OuterMap, dtype: np.dtype) -> None:
        assert outer.bias is not None
        self.path = outer.path
        self.block = space.blocks[outer.bias]
        shape = self.block.layout.count, self.block.components, 1
        self.value, self.along, self.cotangent = (Shared.zeros(*shape, dtype=dtype) for _ in "123")

    def site(self, l: int) -> int:
        """The site of layer l."""
        return l if self.path else 0

    def load(self, w: Flat, along: bool = False) -> None:
        """Fill b, or ḃ with ``along``, from a flat vector."""
        (self.along if along else self.value).array[..., 0] = self.block.view(w)

    def unload(self, g: Flat) -> None:
        """Write the cotangents into a flat vector."""
        self.block.view(g)[:] = self.cotangent.array[..., 0]
