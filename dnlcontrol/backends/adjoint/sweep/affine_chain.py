"""One-step networks x^{l+1} = x^l + c σ(W^l x^l + b^l) written out.

Value, gradient and Hessian products. With X^l (d, n), samples last in memory, a row of ones below
it, and M^l = (W^l b^l), a layer is

    forward   H = σ(M X),   X⁺ = X + c H
    adjoint   G = Z̄ ⊙ σ'(H),   M̄ += c G Xᵀ,   Z̄ += c Wᵀ G + J_x

where Z̄ is dJ/dx^l with all later layers (ψ^l, theory.md, section 5) and J_x the direct derivative.
Along (Ẋ, Ṁ), with P = M Ẋ + Ṁ X and Q = σ' ⊙ P,

    forward   Ẋ⁺ = Ẋ + c Q
    adjoint   Ġ = δZ̄ ⊙ σ' + (σ''/σ') ⊙ Q ⊙ Z̄
              δM̄ += c (G Ẋᵀ + Ġ Xᵀ),   δZ̄ += c (Wᵀ Ġ + Ẇᵀ G) + δJ_x

All in place: a layer is a handful of calls. X and H are kept, O(L·n·d) numbers; G replaces H, and
M̄ is one batched product for a block of layers that stays in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from dnlcontrol.backends.adjoint.sweep.affine_columns import Columns
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors
from dnlcontrol.discretisation.discrete import DiscreteProblem

# bytes of G in a block of layers: with its X it fits a core's second level of cache
BLOCK = 1 << 20


class Layers:
    """Room for X with the row below it and for H, and views of each layer.

    X is (L+1, d (+ 1), *pair, n), H is (L, d, *pair, n).
    """

    def __init__(self, room: Tensor, hidden: Tensor) -> None:
        size = hidden.shape[1]
        self.room = room
        self.hidden = hidden
        self.states = room[:, :size]
        self.below = room[:, size:]
        self.pair = hidden.ndim == 4
        flat = (room, self.states, hidden)
        self.x, self.heads, self.h = ((t.flatten(2) if self.pair else t).unbind(0) for t in flat)
        if self.pair:
            self.first_x = room[:, :, 0].unbind(0)
            self.first, self.second = (hidden[:, :, i].unbind(0) for i in (0, 1))

    def begin(self, start: Tensor) -> None:
        """x^0 = ``start`` (d, n), tangent 0; the row below is 1, or (1, 0)."""
        (self.states[0, :, 0] if self.pair else self.states[0]).copy_(start)
        (self.below[:, :, 0] if self.pair else self.below).fill_(1.0)
        if self.pair:
            self.states[0, :, 1] = 0.0
            self.below[:, :, 1] = 0.0


class Kept:
    """Room that is used again from call to call.

    Memory that is new to a process costs more than what is done in it.
    """

    def __init__(self) -> None:
        self.memory: dict[str, Tensor] = {}
        self.layers: dict[bool, Layers] = {}

    def take(self, room: tuple[int, ...], hidden: tuple[int, ...], like: Tensor) -> Layers:
        """Layers of these shapes; what was taken before is no longer valid."""
        pair = len(hidden) == 4
        found = self.layers.get(pair)
        if found is None or found.room.shape != room or found.hidden.shape != hidden:
            found = self.layers[pair] = Layers(
                self._part("room", room, like), self._part("hidden", hidden, like)
            )
        return found

    def _part(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        size = math.prod(shape)
        if name not in self.memory or len(self.memory[name]) < size:
            self.memory[name] = like.new_empty(size)
            self.layers.clear()
        return self.memory[name][:size].view(shape)


@dataclass(frozen=True)
class AffineChain:
    """The layers of one discrete problem; ``weight`` is the rule's c."""

    columns: Columns
    depth: int
    weight: float
    kept: Kept = field(default_factory=Kept, compare=False)

    # -- pieces ----------------------------------------------------------------------------------
    def _controls(self, u: Tensors) -> tuple[Tensor, Tensor | None]:
        """W (L, d, d) and b (L, d), or cotangents in the same places; constants are repeated."""
        names = [self.columns.matrix, *([self.columns.bias] if self.columns.bias else [])]
        parts = [
            u[k].expand(self.depth, *u[k].shape[1:]) if self.columns.on == "const" else u[k]
            for k in names
        ]
        return parts[0], parts[1] if len(parts) > 1 else None

    def joint(self, u: Tensors) -> Tensor:
        """M (L, d, d + 1), or (L, d, d) without a bias."""
        matrix, bias = self._controls(u)
        return matrix if bias is None else torch.cat([matrix, bias.unsqueeze(2)], dim=2)

    def _layers(self, start: Tensor, *pair: int, fresh: bool = False) -> Layers:
        """Room for the layers with x^0 filled in; ``fresh`` where the caller keeps it."""
        size, count = start.shape
        below = int(self.columns.bias is not None)
        shapes = (self.depth + 1, size + below, *pair, count), (self.depth, size, *pair, count)
        layers = (
            Layers(*(start.new_empty(s) for s in shapes))
            if fresh
            else self.kept.take(*shapes, start)
        )
        layers.begin(start)
        return layers

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

    # -- first order -----------------------------------------------------------------------------
    def forward(self, u: Tensors, start: Tensor, fresh: bool = False) -> Layers:
        """X and H from x^0 = ``start`` (d, n); without ``fresh`` valid until the next call."""
        layers = self._layers(start, fresh=fresh)
        elements = self.columns.elements
        c = self.weight
        for joint, x, h, head, above in zip(
            self.joint(u).unbind(0),
            layers.x,
            layers.h,
            layers.heads,
            layers.heads[1:],
            strict=False,
        ):
            torch.mm(joint, x, out=h)
            elements.apply(h)
            torch.add(head, h, alpha=c, out=above)
        return layers

    def pull_back(
        self, u: Tensors, layers: Layers, direct: Tensor, out: Tensors, zbar: Tensor | None = None
    ) -> None:
        """Adds dJ/du into ``out``.

        ``direct`` is J_x (L+1, d, n), or (1, d, n) where only x^L has one.

        H becomes G. Z̄ of all layers goes into ``zbar`` (L+1, d, n) if it is asked for.
        """
        matrices, carried = (
            self._controls(u)[0].transpose(1, 2).unbind(0),
            direct[-1].contiguous().clone(),
        )
        elements = self.columns.elements
        c = self.weight
        h = layers.h
        if zbar is not None:
            zbar[-1] = carried
        for start, stop in self._blocks(carried):
            for l in reversed(range(start, stop)):
                elements.times_slope(carried, h[l], out=h[l])
                carried.addmm_(matrices[l], h[l], alpha=c)
                if len(direct) > 1:
                    carried += direct[l]
                if zbar is not None:
                    zbar[l] = carried
            part = slice(start, stop)
            self._add(
                out, torch.bmm(layers.hidden[part], layers.room[part].transpose(1, 2)), start, stop
            )

    def costates(self, u: Tensors, slopes: Tensor, direct: Tensor) -> Tensor:
        """λ^l = dJ/dx^l by its own layer alone, (L+1, d, n), from G."""
        lam = torch.zeros(
            self.depth + 1, *slopes.shape[1:], dtype=slopes.dtype, device=slopes.device
        )
        torch.bmm(self._controls(u)[0].transpose(1, 2), slopes, out=lam[:-1])
        lam *= self.weight
        lam[-len(direct) :] += direct
        return lam

    # -- second order: values and tangents side by side, (rows, 2, n) ----------------------------
    def pairs(self, u: Tensors, du: Tensors, start: Tensor) -> Layers:
        """(X, Ẋ) and (H, Q), valid until the next call."""
        layers = self._layers(start, 2)
        elements = self.columns.elements
        c = self.weight
        controls = zip(self.joint(u).unbind(0), self.joint(du).unbind(0), strict=True)
        for l, (joint, along) in enumerate(controls):
            h, q = layers.first[l], layers.second[l]
            torch.mm(joint, layers.x[l], out=layers.h[l])
            q.addmm_(along, layers.first_x[l])
            elements.apply(h)
            elements.times_slope(q, h, out=q)
            torch.add(layers.heads[l], layers.h[l], alpha=c, out=layers.heads[l + 1])
        return layers

    def pull_pairs(
        self, u: Tensors, du: Tensors, layers: Layers, direct: Tensor, out: Tensors
    ) -> None:
        """Adds the tangent of dJ/du into ``out``.

        ``direct`` is (J_x, δJ_x), (L+1 or 1, d, 2, n).
        """
        matrices, along = (self._controls(v)[0].transpose(1, 2).unbind(0) for v in (u, du))
        carried = direct[-1].flatten(1).clone()
        elements = self.columns.elements
        c = self.weight
        count = carried.shape[1] // 2
        g, dg = carried[:, :count], carried[:, count:]
        free = torch.empty_like(g)
        room = layers.room
        hidden = layers.hidden
        for start, stop in self._blocks(carried):
            for l in reversed(range(start, stop)):
                h, q = layers.first[l], layers.second[l]
                elements.times_slope(dg, h, out=free)
                elements.bent(q, h, g, free)
                elements.times_slope(g, h, out=h)
                carried.addmm_(matrices[l], layers.h[l], alpha=c)
                dg.addmm_(along[l], h, alpha=c)
                if len(direct) > 1:
                    carried += direct[l].flatten(1)
            part = slice(start, stop)
            product = torch.bmm(hidden[part, :, 1], room[part, :, 0].transpose(1, 2))
            product.baddbmm_(hidden[part, :, 0], room[part, :, 1].transpose(1, 2))
            self._add(out, product, start, stop)


def affine_chain(discrete: DiscreteProblem, columns: Columns | None) -> AffineChain | None:
    """The layers of a one-step network x = g + z with an affine kernel.

    None for any other problem.
    """
    formulas, grid = discrete.problem.formulas, discrete.grid
    if columns is None or not discrete.problem.markov or formulas.outer or formulas.feature:
        return None
    if (
        any(grid.own)
        or np.ptp(grid.later)
        or (formulas.free_term and "t" in formulas.free_term.reads)
    ):
        return None
    return AffineChain(columns, discrete.depth, float(grid.later[0]))
