"""One-step networks x^{l+1} = x^l + c σ(W^l x^l + b^l) written out: value, gradient and Hessian products.

With X^l (d, n), samples last in memory, a row of ones below it, and M^l = (W^l b^l), a layer is

    forward   H = σ(M X),   X⁺ = X + c H
    adjoint   G = Z̄ ⊙ σ'(H),   M̄ += c G Xᵀ,   Z̄ += c Wᵀ G + J_x

where Z̄ is dJ/dx^l with all later layers (ψ^l, theory.md, section 5) and J_x the direct derivative. Along (Ẋ, Ṁ), with
P = M Ẋ + Ṁ X and Q = σ' ⊙ P,

    forward   Ẋ⁺ = Ẋ + c Q
    adjoint   Ġ = δZ̄ ⊙ σ' + (σ''/σ') ⊙ Q ⊙ Z̄,   δM̄ += c (G Ẋᵀ + Ġ Xᵀ),   δZ̄ += c (Wᵀ Ġ + Ẇᵀ G) + δJ_x

All in place: a layer is a handful of calls. X and H are kept, O(L·n·d) numbers; G replaces H, and M̄ is one batched
product for a block of layers that stays in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dnlcontrol.backends.adjoint.columns import Columns
from dnlcontrol.backends.adjoint.vectorised import Tensor, Tensors
from dnlcontrol.discrete import DiscreteProblem

BLOCK = 1 << 20  # bytes of G in a block of layers: with its X it fits a core's second level of cache


@dataclass(frozen=True)
class Chain:
    """The layers of one discrete problem; ``weight`` is the rule's c."""

    columns: Columns
    depth: int
    weight: float

    # -- pieces ---------------------------------------------------------------------------------------------------
    def _controls(self, u: Tensors) -> tuple[Tensor, Tensor | None]:
        """W (L, d, d) and b (L, d), or cotangents in the same places; constants are repeated."""
        names = [self.columns.matrix, *([self.columns.bias] if self.columns.bias else [])]
        parts = [u[k].expand(self.depth, *u[k].shape[1:]) if self.columns.on == "const" else u[k] for k in names]
        return parts[0], parts[1] if len(parts) > 1 else None

    def joint(self, u: Tensors) -> Tensor:
        """M (L, d, d + 1), or (L, d, d) without a bias."""
        matrix, bias = self._controls(u)
        return matrix if bias is None else torch.cat([matrix, bias.unsqueeze(2)], dim=2)

    def _rows(self, start: Tensor, *tangent: int) -> tuple[Tensor, Tensor]:
        """Room for x^0..x^L, (L+1, d (+ 1), *tangent, n), the ones written below, and the view of its first d rows."""
        size, count = start.shape
        below = int(self.columns.bias is not None)
        room = start.new_empty(self.depth + 1, size + below, *tangent, count)
        if below:
            room[:, size:] = 0.0 if tangent else 1.0
        if below and tangent:
            room[:, size, 0] = 1.0
        states = room[:, :size]
        (states[0, :, 0] if tangent else states[0]).copy_(start)
        if tangent:
            states[0, :, 1] = 0.0
        return room, states

    def _blocks(self, row: Tensor) -> Iterator[tuple[int, int]]:
        """First and last + 1 layer of each block, from the end."""
        size = max(1, BLOCK // (row.numel() * row.element_size()))
        for stop in range(self.depth, 0, -size):
            yield max(0, stop - size), stop

    def _add(self, out: Tensors, product: Tensor, start: int, stop: int) -> None:
        """c times the products G Xᵀ of some layers into the cotangents of W and b."""
        part, total = slice(start, stop), product
        if self.columns.on == "const":
            part, total = slice(0, 1), product.sum(0, keepdim=True)
        size = total.shape[1]
        out[self.columns.matrix][part].add_(total[..., :size], alpha=self.weight)
        if self.columns.bias is not None:
            out[self.columns.bias][part].add_(total[..., size], alpha=self.weight)

    # -- first order ----------------------------------------------------------------------------------------------
    def states(self, u: Tensors, start: Tensor, keep: bool = False) -> tuple[Tensor, Tensor]:
        """X with its ones, (L+1, d (+ 1), n), from x^0 = ``start`` (d, n), and H (L, d, n), if it is to be kept."""
        room, states = self._rows(start)
        hidden = start.new_empty(self.depth if keep else 1, *start.shape)
        h = hidden.unbind(0) if keep else (hidden[0],) * self.depth
        heads, layers = states.unbind(0), zip(self.joint(u).unbind(0), room.unbind(0), h, strict=False)
        for l, (joint, x, h_l) in enumerate(layers):
            torch.mm(joint, x, out=h_l)
            self.columns.elements.apply(h_l)
            torch.add(heads[l], h_l, alpha=self.weight, out=heads[l + 1])
        return room, hidden

    def pull_back(self, u: Tensors, room: Tensor, hidden: Tensor, direct: Tensor, out: Tensors,
                  zbar: Tensor | None = None) -> None:  # fmt: skip
        """Adds dJ/du into ``out``; ``direct`` is J_x (L+1, d, n), or (1, d, n) where only x^L has one.

        H becomes G. Z̄ of all layers goes into ``zbar`` (L+1, d, n) if it is asked for.
        """
        matrices, carried = self._controls(u)[0].transpose(1, 2).unbind(0), direct[-1].contiguous().clone()
        h = hidden.unbind(0)
        if zbar is not None:
            zbar[-1] = carried
        for start, stop in self._blocks(carried):
            for l in reversed(range(start, stop)):
                self.columns.elements.times_slope(carried, h[l], out=h[l])
                carried.addmm_(matrices[l], h[l], alpha=self.weight)
                if len(direct) > 1:
                    carried += direct[l]
                if zbar is not None:
                    zbar[l] = carried
            self._add(out, torch.bmm(hidden[start:stop], room[start:stop].transpose(1, 2)), start, stop)

    def costates(self, u: Tensors, slopes: Tensor, direct: Tensor) -> Tensor:
        """λ^l = dJ/dx^l by its own layer alone, (L+1, d, n), from G."""
        lam = torch.zeros(self.depth + 1, *slopes.shape[1:], dtype=slopes.dtype, device=slopes.device)
        torch.bmm(self._controls(u)[0].transpose(1, 2), slopes, out=lam[:-1])
        lam *= self.weight
        lam[-len(direct) :] += direct
        return lam

    # -- second order: values and tangents side by side, (rows, 2, n) ------------------------------------------------
    def pairs(self, u: Tensors, du: Tensors, start: Tensor) -> tuple[Tensor, Tensor]:
        """(X, Ẋ) with the row (1, 0), (L+1, d (+ 1), 2, n), and (H, Q), (L, d, 2, n)."""
        count, elements = start.shape[1], self.columns.elements
        room, states = self._rows(start, 2)
        hidden = start.new_empty(self.depth, len(start), 2, count)
        heads, flat = states.flatten(2).unbind(0), hidden.flatten(2).unbind(0)
        layers = zip(self.joint(u).unbind(0), self.joint(du).unbind(0), room.flatten(2).unbind(0), flat, strict=False)
        for l, (joint, along, x, both) in enumerate(layers):
            h, q = both[:, :count], both[:, count:]
            torch.mm(joint, x, out=both)
            q.addmm_(along, x[:, :count])
            elements.apply(h)
            elements.times_slope(q, h, out=q)
            torch.add(heads[l], both, alpha=self.weight, out=heads[l + 1])
        return room, hidden

    def pull_pairs(
        self, u: Tensors, du: Tensors, room: Tensor, hidden: Tensor, direct: Tensor, out: Tensors
    ) -> None:
        """Adds the tangent of dJ/du into ``out``; ``direct`` is (J_x, δJ_x), (L+1 or 1, d, 2, n)."""
        matrices, along = (self._controls(v)[0].transpose(1, 2).unbind(0) for v in (u, du))
        carried, elements, c = direct[-1].flatten(1).clone(), self.columns.elements, self.weight
        count = carried.shape[1] // 2
        flat, free = hidden.flatten(2).unbind(0), torch.empty_like(carried[:, :count])
        g, dg = carried[:, :count], carried[:, count:]
        for start, stop in self._blocks(carried):
            for l in reversed(range(start, stop)):
                h, q = flat[l][:, :count], flat[l][:, count:]
                elements.times_slope(dg, h, out=free)
                elements.bent(q, h, g, free)
                elements.times_slope(g, h, out=h)
                carried.addmm_(matrices[l], flat[l], alpha=c)
                dg.addmm_(along[l], h, alpha=c)
                if len(direct) > 1:
                    carried += direct[l].flatten(1)
            part = slice(start, stop)
            product = torch.bmm(hidden[part, :, 1], room[part, :, 0].transpose(1, 2))
            product.baddbmm_(hidden[part, :, 0], room[part, :, 1].transpose(1, 2))
            self._add(out, product, start, stop)


def chain(discrete: DiscreteProblem, columns: Columns | None) -> Chain | None:
    """The layers of a one-step network x = g + z with an affine kernel; None for any other problem."""
    formulas, grid = discrete.problem.formulas, discrete.grid
    if columns is None or not discrete.problem.markov or formulas.outer or formulas.feature:
        return None
    if any(grid.own) or np.ptp(grid.later) or (formulas.free_term and "t" in formulas.free_term.reads):
        return None
    return Chain(columns, discrete.depth, float(grid.later[0]))
