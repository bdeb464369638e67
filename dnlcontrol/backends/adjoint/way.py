"""Ways to the derivatives of a discrete problem: one is chosen once for each evaluator.

    way            of a problem whose                         gradient    Hessian products
    Stored         derivatives at all nodes are few           matrix products on what is stored
    OnHost         kernel is σ(W y + b), on the CPU           prepared calls (host/), both
    Printed        formulas are short, on the CPU             columns in printed NumPy, both
    Chain          layers are x + c σ(W x + b)                layers written out, both
    TapedColumns   explicit steps have a kernel σ(W y + b)    tape        columns written out
    Taped          layers are explicit steps                  tape        tape
    AffineColumns  kernel is σ(W y + b)                       columns written out, both
    Dual           kernel is any other                        columns     dual numbers

The first row that fits counts. All give the same numbers to rounding; penalties on controls are the
evaluator's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad

from dnlcontrol.backends.adjoint.host.passes import Passes
from dnlcontrol.backends.adjoint.printed.printed_layers import Controls
from dnlcontrol.backends.adjoint.printed.printed_passes import PrintedPasses
from dnlcontrol.backends.adjoint.printed.printed_sweep import Passage
from dnlcontrol.backends.adjoint.sweep.affine_tangent import AffineTangent
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.one_step_tape import (
    Segments,
    is_long,
    tapeable,
    taped,
    taped_product,
)
from dnlcontrol.backends.adjoint.sweep.stored_jacobians import Linearised
from dnlcontrol.backends.adjoint.sweep.stored_products import StoredProducts
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


class Way(Protocol):
    """The Lagrangian's derivatives at w, without penalties on controls."""

    def states(self, w: Flat) -> Iterator[tuple[Data, Tensor]]:
        """Each chunk and its states x (L+1, n, *state), valid until the next."""

    def value(self, w: Flat, multipliers: Multipliers | None) -> float:
        """L, by the states alone."""

    def value_and_gradient(self, w: Flat, multipliers: Multipliers | None) -> tuple[float, Flat]:
        """L and dL/dw (size,), over all samples; the caller may write into it."""

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """(d²L/dw²) d (size,), over all samples; the caller may write into it."""

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """One chunk's share of L; with ``costates`` what passed, too.

        The chunk's share of dL/du is added into ``out``.
        """


def way_of(
    sweep: Sweep, lagrangian: Lagrangian, vectors: Vectors, stored: bool | None = None
) -> Way:
    """The first way that fits.

    ``stored``: whether to store derivatives; None: where they are few and columns are not written
    out, which is faster than forming them.
    """
    swept = _swept_way_of(sweep)(sweep, lagrangian, vectors)
    if stored is None:
        stored = Linearised.fits(sweep) and sweep.columns is None
    if stored:
        return Stored(swept)
    return OnHost(swept) if _on_host(sweep) else swept


def _on_host(sweep: Sweep) -> bool:
    """Whether the columns, and the maps around them, are written out, on the CPU."""
    known = sweep.columns is not None and sweep.outer_map is not None
    feature = sweep.formulas.feature is None or sweep.feature_map is not None
    return known and feature and sweep.device.type == "cpu"


def _swept_way_of(sweep: Sweep) -> type[Swept]:
    if sweep.printed is not None:
        return Printed
    if sweep.chain is not None:
        return Chain
    if tapeable(sweep):
        return Taped if sweep.columns is None else TapedColumns
    return Dual if sweep.columns is None else AffineColumns


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


class Printed(Swept):
    """Columns in NumPy from the formulas as traced; what passed is kept for Hessian products."""

    def value(self, w: Flat, multipliers: Multipliers | None) -> float:
        """By the forward pass alone."""
        u, passes = self._controls(w), self._passes
        return sum(
            passes.value(u, data.free, passes.terms.of(data.index, multipliers))
            for data in self.sweep.chunks
        )

    def value_and_gradient(self, w: Flat, multipliers: Multipliers | None) -> tuple[float, Flat]:
        """By the passes, which are kept."""
        g: Flat = np.zeros(self.sweep.space.size)
        return self._passed(w, multipliers, g)[0], g

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """By the derivative of the passes that were kept."""
        passages = self._passed(w, multipliers, None)[1]
        product: Flat = np.zeros(self.sweep.space.size)
        u, du, out = (self._controls(v) for v in (w, d, product))
        for data, at in zip(self.sweep.chunks, passages, strict=True):
            terms = self._passes.terms.of(data.index, multipliers)
            self._passes.add_product(u, du, at, terms, out)
        return product

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """One chunk forward and backward."""
        passes = self._passes
        views = passes.controls(u), passes.controls(out)
        terms = passes.terms.of(data.index, multipliers)
        value, at = passes.pulled(views[0], data.free, terms, views[1])
        total = torch.tensor(value, dtype=torch.float64)
        if not costates:
            return total, None
        x, lam = passes.state_like(at.states), passes.state_like(at.costates)
        zbar, z = passes.integral_like(at.cotangents), passes.integral_like(at.earlier)
        return total, Passed(x, lam, zbar, z)

    @property
    def _passes(self) -> PrintedPasses:
        assert self.sweep.printed is not None
        return self.sweep.printed

    def _controls(self, w: Flat) -> Controls:
        return self._passes.controls(self.vectors.controls(w))

    def _passed(
        self, w: Flat, multipliers: Multipliers | None, g: Flat | None
    ) -> tuple[float, list[Passage]]:
        """L and the passages of all chunks at w; fills the gradient that is asked for."""
        known = self.kept.get("passages")
        if g is None and known is not None and known.fits(w, multipliers):
            return known.value, known.passages
        u = self._controls(w)
        out = self._controls(np.zeros(self.sweep.space.size) if g is None else g)
        found = [
            self._passes.pulled(u, data.free, self._passes.terms.of(data.index, multipliers), out)
            for data in self.sweep.chunks
        ]
        value, passages = sum(v for v, _ in found), [at for _, at in found]
        self.kept["passages"] = KeptPassages(np.array(w, dtype=float), multipliers, value, passages)
        return value, passages


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


class OnHost:
    """Prepared calls of NumPy and PyTorch: host/. ``swept`` pulls single chunks."""

    def __init__(self, swept: Swept) -> None:
        self.swept = swept
        self.passes = Passes(swept.sweep, swept.lagrangian, swept.vectors)

    def states(self, w: Flat) -> Iterator[tuple[Data, Tensor]]:
        """Each chunk and its states."""
        for data, room in self.passes.states(w):
            yield data, torch.from_numpy(room.states(end_only=False)).transpose(1, 2)

    def value(self, w: Flat, multipliers: Multipliers | None) -> float:
        """L, by the states alone."""
        return self.passes.value(w, multipliers)

    def value_and_gradient(self, w: Flat, multipliers: Multipliers | None) -> tuple[float, Flat]:
        """L and dL/dw (size,)."""
        return self.passes.value_and_gradient(w, multipliers)

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """(d²L/dw²) d (size,)."""
        return self.passes.hessian_product(w, d, multipliers)

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """One chunk, by the sweep."""
        return self.swept.pull(u, data, multipliers, out, costates)


class Stored:
    """Derivatives at all nodes kept: stored_jacobians.py, stored_products.py.

    They are those of the last control and of the last multipliers. ``swept`` pulls single chunks.
    """

    def __init__(self, swept: Swept) -> None:
        self.swept = swept
        self._point: tuple[bytes, Linearised] | None = None
        self._products: tuple[Linearised, Multipliers | None, StoredProducts] | None = None

    def states(self, w: Flat) -> Iterator[tuple[Data, Tensor]]:
        """Each chunk and its states, by the sweep."""
        return self.swept.states(w)

    def value(self, w: Flat, multipliers: Multipliers | None) -> float:
        """L, by the sweep."""
        return self.swept.value(w, multipliers)

    def value_and_gradient(self, w: Flat, multipliers: Multipliers | None) -> tuple[float, Flat]:
        """L and dL/dw (size,)."""
        stored = self._at(w, multipliers)
        return stored.value, stored.gradient.copy()

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None) -> Flat:
        """(d²L/dw²) d (size,)."""
        return self._at(w, multipliers).hessian_product(d)

    def pull(
        self, u: Tensors, data: Data, multipliers: Multipliers | None, out: Tensors, costates: bool
    ) -> tuple[Tensor, Passed | None]:
        """One chunk, by the sweep."""
        return self.swept.pull(u, data, multipliers, out, costates)

    def _at(self, w: Flat, multipliers: Multipliers | None) -> StoredProducts:
        key = np.asarray(w, dtype=float).tobytes()
        if self._point is None or self._point[0] != key:
            self._point = key, Linearised(self.swept.sweep, self.swept.lagrangian, w)
        at, known = self._point[1], self._products
        if known is None or known[0] is not at or known[1] is not multipliers:
            known = self._products = at, multipliers, StoredProducts(at, multipliers)
        return known[2]
