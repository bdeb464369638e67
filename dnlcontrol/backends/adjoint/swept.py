"""Ways that go through the samples chunk by chunk: columns, tapes and chains of layers (way.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad

from dnlcontrol.backends.adjoint.printed.printed_sweep import Passage
from dnlcontrol.backends.adjoint.sweep.affine_tangent import AffineTangent
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.one_step_tape import (
    Segments,
    is_long,
    taped,
    taped_product,
)
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, value_and_pull
from dnlcontrol.backends.adjoint.vectors import Vectors, to_numpy
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.multipliers import Multipliers


class Passed(NamedTuple):
    """States and costates of a chunk of n samples, each (L+1, n, *state or *integral shape)."""

    states: Tensor  # x
    costates: Tensor  # λ
    integral_costates: Tensor  # z̄
    earlier: Tensor  # the part of z^l from earlier layers


@dataclass(frozen=True)
class KeptPassages:
    """What passed at one control with one set of multipliers."""

    w: Flat
    multipliers: Multipliers | None
    value: float
    passages: list[Passage]

    def fits(self, w: Flat, multipliers: Multipliers | None) -> bool:
        """Whether it belongs to these."""
        return self.multipliers is multipliers and np.array_equal(self.w, w)


@dataclass(frozen=True)
class Swept(ABC):
    """A way that goes through the samples chunk by chunk."""

    sweep: Sweep
    lagrangian: Lagrangian
    vectors: Vectors
    kept: dict[str, KeptPassages] = field(default_factory=dict)

    def states(self, w: Flat) -> Iterator[tuple[Data, Tensor]]:
        """Each chunk and its states."""
        u = self.vectors.controls(w)
        for data in self.sweep.chunks:
            with torch.no_grad():
                x = self.sweep.passing_states(u, data)
            yield data, x

    def value(self, w: Flat, multipliers: Multipliers | None) -> float:
        """L, by the states alone."""
        u, total = self.vectors.controls(w), 0.0
        for data, x in self.states(w):
            with torch.no_grad():
                total += float(self.lagrangian.value(x, u, data, multipliers))
        return total

    def value_and_gradient(self, w: Flat, multipliers: Multipliers | None) -> tuple[float, Flat]:
        """L and dL/dw (size,)."""
        u, out, g = self.vectors.control_and_gradient(w)
        total = 0.0
        with torch.no_grad():
            for data in self.sweep.chunks:
                total += float(self.pull(u, data, multipliers, out, costates=False)[0])
        self.vectors.widen(out, g)
        return total, g

    @abstractmethod
    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """(d²L/dw²) d (size,)."""

    @abstractmethod
    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """One chunk forward and backward, see :class:`Way`."""

    # -- what several ways share -----------------------------------------------------------------
    def cost(
        self, data: Data, multipliers: Multipliers | None
    ) -> Callable[[Tensor, Tensors], Tensor]:
        """L of one chunk as a function of the states (L+1, n, *state) and all controls."""
        return lambda x, u: self.lagrangian.value(x, self.lagrangian.visible(u), data, multipliers)

    def direct(
        self, x: Tensor, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors
    ) -> tuple[Tensor, Tensor]:
        """L of a chunk and its derivative in x, (L+1, n, *state), or (1, n, *state) of x^L alone.

        That in the controls is added into ``out``.
        """
        seen = x[-1:] if self.lagrangian.reads_end_only(multipliers) else x
        value, pull = value_and_pull(
            lambda x, u: self.lagrangian.value(x, u, data, multipliers),
            seen,
            self.lagrangian.visible(u),
        )
        direct, parts = pull(torch.ones_like(value))
        for name, part in parts.items():
            out[name] += part
        return value, direct


class ByColumns(Swept):
    """Gradients column by column: columnwise.py."""

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """Forward and backward; also on dual numbers."""
        x, z = self.sweep.states(u, data)
        value, direct = self.direct(x, u, data, multipliers, out)
        lam, zbar = self.sweep.pull_back(u, data, x, z, direct, out)
        return value, Passed(x, lam, zbar, z) if costates else None


class ByTape(Swept):
    """Gradients by one tape over all layers: one_step_tape.py."""

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """Forward on the tape, and back along it; a long one in parts."""
        if is_long(self.sweep, data):
            x, z = self.sweep.states(u, data)
            value, direct = self.direct(x, u, data, multipliers, out)
            lam = torch.zeros_like(x)
            lam[-len(direct) :] = direct
            zbar = Segments(self.sweep, u, data, out).pull(z, lam)
            return value, Passed(x, lam, zbar, z) if costates else None
        value, *passed = taped(self.sweep, u, data, self.cost(data, multipliers), out)
        return value, Passed(*passed) if costates else None


class AlongColumns(Swept):
    """Hessian products of a kernel σ(W y + b): affine_tangent.py."""

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """By values and tangents side by side."""
        product = self.vectors.zeros()
        u, du = self.vectors.controls(w), self.vectors.controls(d)
        out = self.vectors.views(product)
        with turn(), torch.no_grad(), forward_ad.dual_level():
            tangent = AffineTangent(self.sweep, self.lagrangian, u, du)
            for data in self.sweep.chunks:
                tangent.add(data, multipliers, out)
        return to_numpy(product)


class AffineColumns(ByColumns, AlongColumns):
    """Columns written out."""


class TapedColumns(ByTape, AlongColumns):
    """A tape for gradients, columns written out for Hessian products."""


class Chain(AlongColumns):
    """The layers of a one-step network written out: affine_chain.py."""

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """Layer by layer."""
        chain = self.sweep.chain
        assert chain is not None
        layers = chain.forward(u, data.free[0].T, fresh=costates)
        x = layers.states.transpose(1, 2)
        value, direct = self.direct(x, u, data, multipliers, out)
        direct = direct.transpose(1, 2)
        if not costates:
            chain.pull_back(u, layers, direct, out)
            return value, None
        zbar = x.new_empty(layers.states.shape)
        chain.pull_back(u, layers, direct, out, zbar)
        lam = chain.costates(u, layers.hidden, direct)
        return value, Passed(x, lam.transpose(1, 2), zbar.transpose(1, 2), x - data.free)


class Taped(ByTape):
    """A tape for gradients, and for their products with a direction."""

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """The gradient of <dL/dw, d>; along a long tape column by column, on dual numbers."""
        if any(is_long(self.sweep, data) for data in self.sweep.chunks):
            return Dual(self.sweep, self.lagrangian, self.vectors).hessian_product(
                w, d, multipliers
            )
        product = self.vectors.zeros()
        u, du = self.vectors.controls(w), self.vectors.controls(d)
        out = self.vectors.views(product)
        with torch.no_grad():
            for data in self.sweep.chunks:
                taped_product(self.sweep, u, du, data, self.cost(data, multipliers), out)
        return to_numpy(product)


class Dual(ByColumns):
    """Columns by the formula, and the same on dual numbers."""

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """The tangent of the gradient sweep."""
        vectors = self.vectors
        with turn(), torch.no_grad(), forward_ad.dual_level():
            u = vectors.views(forward_ad.make_dual(vectors.tensor(w), vectors.tensor(d)))
            total = vectors.zeros()
            for data in self.sweep.chunks:
                self.pull(u, data, multipliers, vectors.views(total), costates=False)
            tangent = forward_ad.unpack_dual(total).tangent
        return np.zeros(self.sweep.space.size) if tangent is None else to_numpy(tangent)
