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

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch

from dnlcontrol.backends.adjoint.host.passes import Passes
from dnlcontrol.backends.adjoint.printed.printed_layers import Controls
from dnlcontrol.backends.adjoint.printed.printed_passes import PrintedPasses
from dnlcontrol.backends.adjoint.printed.printed_sweep import Passage
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.one_step_tape import (
    tapeable,
)
from dnlcontrol.backends.adjoint.sweep.stored_jacobians import Linearised
from dnlcontrol.backends.adjoint.sweep.stored_products import StoredProducts
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors
from dnlcontrol.backends.adjoint.swept import (
    AffineColumns,
    Chain,
    Dual,
    KeptPassages,
    Passed,
    Swept,
    Taped,
    TapedColumns,
)
from dnlcontrol.backends.adjoint.vectors import Vectors
from dnlcontrol.discretisation.resources.kept import copied
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.multipliers import Multipliers


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
    """Whether the columns, and the maps around them, are written out, on the CPU, in its memory."""
    if sweep.device.type != "cpu" or not copied(sweep.space.size, sweep.dtype.itemsize):
        return False
    known = sweep.columns is not None and sweep.outer_map is not None
    feature = sweep.formulas.feature is None or sweep.feature_map is not None
    return known and feature


def _swept_way_of(sweep: Sweep) -> type[Swept]:
    if sweep.printed is not None:
        return Printed
    if sweep.chain is not None:
        return Chain
    if tapeable(sweep):
        return Taped if sweep.columns is None else TapedColumns
    return Dual if sweep.columns is None else AffineColumns


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
