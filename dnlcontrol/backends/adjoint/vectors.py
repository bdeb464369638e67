"""Flat controls in NumPy's float64, and the tensors by name that a device computes with."""

from __future__ import annotations

import numpy as np
import torch

from dnlcontrol.backends.adjoint.sweep.affine_columns import Columns, side_by_side
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat


class Vectors:
    """Between w (size,) and {name: (sites, *shape)} on a device, in the evaluator's precision.

    Parameters
    ----------
    space : whose blocks the names are.
    columns : of the kernel, where it has them: they say how float32 copies are to lie.
    """

    def __init__(
        self,
        space: ControlSpace,
        device: torch.device,
        dtype: torch.dtype,
        columns: Columns | None,
    ) -> None:
        self.space = space
        self.device, self.dtype = device, dtype
        self.columns = columns
        self._narrow: tuple[Tensor, Tensor] | None = None  # control and gradient in float32

    def tensor(self, w: Flat) -> Tensor:
        """w (size,) on the device; shares memory with it where that is possible."""
        w = np.ascontiguousarray(w, dtype=float)
        return torch.as_tensor(w if w.flags.writeable else w.copy()).to(
            device=self.device, dtype=self.dtype
        )

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """name -> (sites, *shape), views of a flat vector (size,)."""
        return {b.name: flat[b.part].view(b.layout.count, *b.control.shape) for b in self.space}

    def controls(self, w: Flat) -> dict[str, Tensor]:
        """name -> (sites, *shape), of w (size,)."""
        return self.views(self.tensor(w))

    def zeros(self) -> Tensor:
        """(size,) on the device."""
        return torch.zeros(self.space.size, dtype=self.dtype, device=self.device)

    def control_and_gradient(self, w: Flat) -> tuple[dict[str, Tensor], dict[str, Tensor], Flat]:
        """Controls and zeros by name, and the flat vector (size,) that :meth:`widen` will fill.

        Copies in float32 are kept from call to call, since new memory costs time, and lie as suits
        the columns.
        """
        # NumPy asks for large pages: much cheaper to touch than PyTorch's memory
        g: Flat = np.zeros(self.space.size)
        if self.dtype == torch.float64:
            own = torch.from_numpy(g) if self.device.type == "cpu" else self.zeros()
            return self.controls(w), self.views(own), g
        if self._narrow is None:
            self._narrow = self.zeros(), self.zeros()
        control, gradient = self._narrow
        gradient.zero_()
        u, out = (side_by_side(flat, self.space, self.columns) for flat in (control, gradient))
        for name, part in self.views(torch.as_tensor(np.asarray(w, dtype=float))).items():
            u[name].copy_(part)
        return u, out, g

    def widen(self, out: Tensors, g: Flat) -> None:
        """Copy ``out`` into ``g`` (size,), unless it lies there."""
        for name, part in self.views(torch.from_numpy(g)).items():
            if out[name].data_ptr() != part.data_ptr():
                part.copy_(out[name])


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The same numbers in float64 on the CPU, of the same shape."""
    return np.asarray(tensor.detach().cpu().double())
