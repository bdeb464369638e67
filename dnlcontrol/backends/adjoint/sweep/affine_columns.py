"""Columns of kernels σ(W y + b), written out as in-place matrix products.

Values, pull-backs and their tangents. With m later layers, n samples, W (m·d, e) and b (m·d,) the
column's block of the packed controls, Y (e, n) and the weight c of the rule:

    forward   H = σ(W Y + b),   Z += c H
    adjoint   G = Z̄ ⊙ σ'(H),    Ȳ += c Wᵀ G,   W̄ += c G Yᵀ,   b̄ += c G 1

and their derivatives along (Ẏ, Ẇ, ḃ) and δZ̄, with P = W Ẏ + Ẇ Y + ḃ:

    forward   Ż += c σ' ⊙ P
    adjoint   Ġ = σ' ⊙ (δZ̄ + (σ''/σ') ⊙ P ⊙ Z̄)
              δȲ += c (Wᵀ Ġ + Ẇᵀ G),   δW̄ += c (G Ẏᵀ + Ġ Yᵀ),   δb̄ += c Ġ 1

σ' and σ''/σ' are functions of H. Samples lie last in memory: W Y is then one product for a whole
column, and the rows of later layers are one block. Derivatives travel beside values, as (rows, 2,
n), so that one product serves both. Rows go in pieces that stay in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, Vectorised, check_batched
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.problem import activations
from dnlcontrol.problem.dynamics import Affine

# bytes of a piece of a column: with its rows of z it fits a core's second level of cache
PIECE = 1 << 20
Elementwise = Callable[[Any], Any]


@dataclass(frozen=True)
class Elements:
    """What the sweep needs of σ; None stands for the identity."""

    value: Elementwise | None
    slope: Elementwise | None = None
    curvature_ratio: Elementwise | None = None

    def apply(self, a: Tensor) -> None:
        """a <- σ(a)."""
        if self.value is activations.tanh:
            a.tanh_()
        elif self.value is activations.relu:
            torch.clamp_min_(a, 0.0)
        elif self.value is not None:
            a.copy_(self.value(a))

    def times_slope(self, g: Tensor, h: Tensor, out: Tensor) -> None:
        """out <- g ⊙ σ'(h); ``out`` may be g or h."""
        if self.value is activations.tanh:
            torch.ops.aten.tanh_backward.grad_input(g, h, grad_input=out)
        elif self.slope is None:
            out.copy_(g)
        else:
            torch.mul(g, self.slope(h), out=out)

    def bent(self, p: Tensor, h: Tensor, g: Tensor, dg: Tensor) -> None:
        """p <- dg + (σ''/σ')(h) ⊙ p ⊙ g."""
        if self.curvature_ratio is None:
            p.copy_(dg)
        elif self.value is activations.tanh:
            torch.addcmul(dg, p.mul_(h), g, value=-2.0, out=p)
        else:
            torch.addcmul(dg, p.mul_(self.curvature_ratio(h)), g, out=p)


def elements(activation: Elementwise | None) -> Elements | None:
    """The parts of an activation that knows its derivatives; None for any other."""
    if activation is None or activation is activations.identity:
        return Elements(None)
    found = activations.derivatives(activation)
    return None if found is None else Elements(activation, found.slope, found.curvature_ratio)


@dataclass(frozen=True)
class Read:
    """The controls of one column (or their cotangents): W (rows, e), b (rows,) or None."""

    matrix: Tensor
    bias: Tensor | None

    @property
    def joint(self) -> Tensor | None:
        """(W b), (rows, e + 1), where both lie side by side in memory (:func:`side_by_side`)."""
        W = self.matrix
        b = self.bias
        e = self.matrix.shape[1]
        if b is None or W.stride(0) != e + 1 or b.data_ptr() != W.data_ptr() + e * W.element_size():
            return None
        return W.as_strided((len(W), e + 1), (e + 1, 1))


class Product:
    """W Y + b over some rows as one product (W b)(Y; 1).

    A copy (W b) is small beside a pass over its result.

    With tangents Y has 2n columns, (Y, Ẏ), and the 1 becomes (1, 0).
    """

    def __init__(self, read: Read, y: Tensor, count: int) -> None:
        self.read, self.y = read, y
        self.joint, self.copy = read.joint, read.matrix[:0]
        if read.bias is not None:
            self.y = torch.cat([y, torch.zeros_like(y[:1])])
            self.y[-1, :count] = 1.0

    def rows(self, part: slice) -> Tensor:
        if self.joint is not None:
            return self.joint[part]
        matrix = self.read.matrix[part]
        if self.read.bias is None:
            return matrix
        if len(self.copy) < len(matrix):
            self.copy = matrix.new_empty(len(matrix), matrix.shape[1] + 1)
        joint = self.copy[: len(matrix)]
        joint[:, :-1].copy_(matrix)
        joint[:, -1].copy_(self.read.bias[part])
        return joint

    def into(self, part: slice, out: Tensor) -> None:
        torch.mm(self.rows(part), self.y, out=out)


@dataclass(frozen=True)
class Columns:
    """The column products of one discrete problem."""

    matrix: str
    bias: str | None
    elements: Elements
    # of triangular controls; None where W and b are path controls or constants
    layout: Layout | None
    on: str

    def read(self, u: Tensors, s: int) -> Read:
        """Views of column s of the controls ``u``, or of cotangents in the same places."""
        if self.layout is not None:
            part = self.layout.later(s)
        else:
            part = slice(s, s + 1) if self.on == "t" else slice(0, 1)
        matrix = u[self.matrix][part]
        bias = None if self.bias is None else u[self.bias][part].view(-1)
        return Read(matrix.view(-1, matrix.shape[-1]), bias)

    def kernel(self, t: Tensor, s: Tensor, y: Tensor, ts: Tensors, shared: Tensors) -> Tensor:
        """σ(W y + b) over layers and samples, (m, n, d), to be compared with the formula."""
        u = {**shared, **ts}
        parts = [
            u[k] if self.layout is not None else u[k][None]
            for k in (self.matrix, self.bias)
            if k is not None
        ]
        out = y @ parts[0].transpose(1, 2)
        out = out + parts[1][:, None] if self.bias is not None else out
        return out if self.elements.value is None else self.elements.value(out)

    def _pieces(self, rows: int, width: int, like: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the rows, with a buffer (rows here, width) for each."""
        size = max(1, PIECE // (width * like.element_size())) if like.device.type == "cpu" else rows
        buffer = like.new_empty(min(size, rows), width)
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            yield slice(start, stop), buffer[: stop - start]

    # -- first order -----------------------------------------------------------------------------
    def add(self, z: Tensor, y: Tensor, read: Read, weight: float) -> None:
        """z (rows, n) += c σ(W Y + b)."""
        if self.elements.value is None and read.bias is None:
            z.addmm_(read.matrix, y, alpha=weight)  # no pass over z besides the product's own
            return
        product = Product(read, y, y.shape[1])
        for part, h in self._pieces(len(z), z.shape[1], z):
            product.into(part, h)
            self.elements.apply(h)
            z[part].add_(h, alpha=weight)

    def pull(
        self, zbar: Tensor, y: Tensor, read: Read, weight: float, ybar: Tensor, out: Read
    ) -> None:
        """Adds the cotangents of Y into ``ybar`` (e, n), those of W and b into ``out``."""
        product = Product(read, y, y.shape[1])
        joint = out.joint
        for part, g in self._pieces(len(zbar), zbar.shape[1], zbar):
            if self.elements.value is None:
                g = zbar[part]
            else:
                product.into(part, g)
                self.elements.apply(g)
                self.elements.times_slope(zbar[part], g, out=g)
            ybar.addmm_(read.matrix[part].T, g, alpha=weight)
            if joint is not None:
                joint[part].addmm_(g, product.y.T, alpha=weight)
                continue
            out.matrix[part].addmm_(g, y.T, alpha=weight)
            if out.bias is not None:
                out.bias[part].add_(g.sum(1), alpha=weight)

    # -- second order: values and tangents side by side, (rows, 2, n) ----------------------------
    def _values(
        self, part: slice, product: Product, along: Product, h: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Views of ``h`` (rows, 2n) filled with H and P."""
        n = h.shape[1] // 2
        product.into(part, h)
        h[:, n:].addmm_(along.rows(part), along.y)
        self.elements.apply(h[:, :n])
        return h[:, :n], h[:, n:]

    def add_pair(self, z: Tensor, y: Tensor, read: Read, along: Read, weight: float) -> None:
        """z (rows, 2n) += c (H, σ' P); ``y`` is (Y, Ẏ), (e, 2n)."""
        n = y.shape[1] // 2
        if self.elements.value is None and read.bias is None:
            z.addmm_(read.matrix, y, alpha=weight)
            z[:, n:].addmm_(along.matrix, y[:, :n], alpha=weight)
            return
        products = Product(read, y, n), Product(along, y[:, :n], n)
        for part, buffer in self._pieces(len(z), z.shape[1], z):
            h, p = self._values(part, *products, buffer)
            self.elements.times_slope(p, h, out=p)
            z[part].add_(buffer, alpha=weight)

    def pull_pair(
        self,
        zbar: Tensor,
        y: Tensor,
        read: Read,
        along: Read,
        weight: float,
        ybar: Tensor,
        out: Read,
    ) -> None:
        """Adds the pair's cotangent into ``ybar`` (e, 2n), tangents of W̄ and b̄ into ``out``."""
        n = y.shape[1] // 2
        swapped = torch.cat([y[:, n:], y[:, :n]], dim=1)
        products = Product(read, y, n), Product(along, y[:, :n], n)
        for part, buffer in self._pieces(len(zbar), zbar.shape[1], zbar):
            g, dg = zbar[part, :n], zbar[part, n:]
            if self.elements.value is None:
                buffer = zbar[part]
                h = g
                p = dg
            else:
                h, p = self._values(part, *products, buffer)
                self.elements.bent(p, h, g, dg)
                self.elements.times_slope(p, h, out=p)
                self.elements.times_slope(g, h, out=h)
            ybar.addmm_(read.matrix[part].T, buffer, alpha=weight)
            ybar[:, n:].addmm_(along.matrix[part].T, h, alpha=weight)
            out.matrix[part].addmm_(buffer, swapped.T, alpha=weight)
            if out.bias is not None:
                out.bias[part].add_(p.sum(1), alpha=weight)


def side_by_side(flat: Tensor, space: ControlSpace, columns: Columns | None) -> dict[str, Tensor]:
    """Views of ``flat`` by control, (sites, *shape).

    The W and b of a column product lie as (W b), row by row.

    One product then serves both, without a copy.
    """
    views = {}
    offset = 0
    joined = () if columns is None or columns.bias is None else (columns.matrix, columns.bias)
    if columns is not None and joined:
        count, (d, e) = (
            space.blocks[columns.matrix].layout.count,
            space.blocks[columns.matrix].control.shape,
        )
        offset = count * d * (e + 1)
        joint = flat[:offset].view(count, d, e + 1)
        views = {columns.matrix: joint[..., :e], str(columns.bias): joint[..., e]}
    for block in space:
        if block.name not in joined:
            views[block.name] = flat[offset : offset + block.size].view(
                block.layout.count, *block.control.shape
            )
            offset += block.size
    return views


def affine_columns(discrete: DiscreteProblem, vectorised: Vectorised) -> Columns | None:
    """The column products of a dynamics that declares an affine kernel.

    None where the declaration does not apply.
    """
    problem = discrete.problem
    if not vectorised.batched:
        return None
    affine, shapes = (
        problem.dynamics.affine,
        (problem.state_shape, problem.feature_shape, problem.integral_shape),
    )
    if not isinstance(affine, Affine) or any(len(s) != 1 for s in shapes):
        return None
    known, names = (
        elements(affine.activation),
        [k for k in (affine.matrix, affine.bias) if k is not None],
    )
    if known is None or any(k not in problem.controls for k in names):
        return None
    places = {problem.controls[k].on for k in names}
    if len(places) > 1 or problem.markov != (places != {"ts"}):
        return None
    (on,) = places
    layout = discrete.space.blocks[affine.matrix].layout if on == "ts" else None
    found = Columns(affine.matrix, affine.bias, known, layout, on)
    check_batched(vectorised, found.kernel, "affine")
    return found
