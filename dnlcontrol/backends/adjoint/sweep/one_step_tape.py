"""One value and gradient, or Hessian product, of a one-step problem by one tape over all layers.

Where the kernel reads neither t nor a triangular control and the rule is explicit, each layer is
one call,

    z^{l+1} = z^l + τ k(t_l, F(t_l, x^l, v^l), v^l),    x^l = G(t_l, g^l, z^l, v^l),    J = J(x, v)

so that a sweep that differentiates layer by layer spends its time on calls. Here autograd
differentiates J once; its derivatives in x^l and z^l are the costates λ^l and z̄^l. The tape holds
O(L·n·d) numbers for a chunk of n samples, each with its record. Where that is much, states are kept
alone, and the tape is made again for a segment of layers at a time, backwards: from z^a to z^b it
takes dJ/dz^b and the cost's own derivatives in x^a..x^{b-1} to dJ/dz^a. A Hessian product is the
gradient of <dJ/du, δu>, taken on the tape of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, gradient_along
from dnlcontrol.discretisation.resources.tapes import LARGEST_TAPE, SEGMENT_TAPE, layer_bytes


def tapeable(sweep: Sweep) -> bool:
    """Whether the problem is of this kind; no transform or tangents may surround a tape."""
    return bool(sweep.markov and not any(sweep.grid.own))


def is_long(sweep: Sweep, data: Data) -> bool:
    """Whether the tape of a chunk is too large to be kept whole."""
    return sweep.depth * _bytes(sweep, data) > LARGEST_TAPE


def _bytes(sweep: Sweep, data: Data) -> int:
    return layer_bytes(sweep.problem, data.free.shape[1], sweep.dtype.itemsize)


def taped(
    sweep: Sweep, u: Tensors, data: Data, cost: Callable[[Tensor, Tensors], Tensor], out: Tensors
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The value of ``cost`` (x, u), then x, λ, z̄ and z, each (L+1, n, *shape).

    The gradient dJ/du is added into ``out``.
    """
    with torch.enable_grad():
        leaves = {k: v.detach().requires_grad_() for k, v in u.items()}
        xs, zs = _layers(sweep, leaves, data)
        value = cost(torch.stack(xs), leaves)
    wanted = [*xs, *zs, *leaves.values()]
    if value.requires_grad:
        found = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
    else:
        found = tuple(torch.zeros_like(w) for w in wanted)
    layers = sweep.depth + 1
    for (name, _), part in zip(leaves.items(), found[2 * layers :], strict=True):
        out[name].add_(part)
    x, z, lam, zbar = (
        torch.stack(list(parts)).detach()
        for parts in (xs, zs, found[:layers], found[layers : 2 * layers])
    )
    return value.detach(), x, lam, zbar, z


@dataclass(frozen=True)
class Segments:
    """A chunk's pull-back with the tape of a few layers at a time; dJ/du is added into ``out``."""

    sweep: Sweep
    u: Tensors
    data: Data
    out: Tensors

    def pull(self, z: Tensor, lam: Tensor) -> Tensor:
        """z̄ (L+1, n, *integral) from z; ``lam`` is ∂J/∂x (L+1, n, *state) and becomes λ."""
        zbar = torch.zeros_like(z)
        size, layers = max(1, SEGMENT_TAPE // _bytes(self.sweep, self.data)), self.sweep.depth + 1
        for start in reversed(range(0, layers, size)):
            part = slice(start, min(start + size, layers))
            later = zbar[part.stop] if part.stop < layers else None
            lam[part], zbar[part] = self._pull(part, z[start], lam[part], later)
        return zbar

    def _pull(
        self, part: slice, z: Tensor, direct: Tensor, later: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """λ and z̄ of the layers a..b-1, from z^a, ∂J/∂x of these layers and z̄^b."""
        with torch.enable_grad():
            leaves = {k: v.detach().requires_grad_() for k, v in self._controls(part).items()}
            xs, zs = _layers(self.sweep, leaves, self.data, part, z.detach().requires_grad_())
            total = (torch.stack(xs) * direct).sum()
            if later is not None:
                total = total + (zs[-1] * later).sum()
        count = len(xs)
        wanted = [*xs, *zs[:count], *leaves.values()]
        found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
        for (name, leaf), added in zip(leaves.items(), found[2 * count :], strict=True):
            stop = part.start + len(leaf)
            where = slice(part.start, stop) if self._on_path(name) else slice(None)
            self.out[name][where].add_(added)
        return torch.stack(found[:count]), torch.stack(found[count : 2 * count])

    def _controls(self, part: slice) -> Tensors:
        """Those that the layers of a part read: its samples of a path, constants whole."""
        return {k: v[part] if self._on_path(k) else v for k, v in self.u.items()}

    def _on_path(self, name: str) -> bool:
        return self.sweep.problem.controls[name].on == "t"


def taped_product(
    sweep: Sweep,
    u: Tensors,
    du: Tensors,
    data: Data,
    cost: Callable[[Tensor, Tensors], Tensor],
    out: Tensors,
) -> None:
    """Adds (d²J/du²) du into ``out``, J = ``cost`` (x, u)."""
    _, (parts,) = gradient_along(
        lambda u: cost(torch.stack(_layers(sweep, u, data)[0]), u), (dict(u),), (dict(du),)
    )
    for name, part in parts.items():
        out[name].add_(part)


def _layers(
    sweep: Sweep,
    u: Tensors,
    data: Data,
    part: slice | None = None,
    first: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """x^a..x^{b-1} and z^a..z^b (z^L the last) on the tape; all layers where no part is given.

    ``u``: the samples of these layers, ``first`` z^a.
    """
    layers = range(sweep.depth + 1) if part is None else range(part.start, part.stop)
    f, n = sweep.problem.formulas, data.free.shape[1]
    nodes: Any = {k: v.unbind(0) for k, v in u.items()}  # one backward for all layers
    if first is None:
        shape = (n, *sweep.problem.integral_shape)
        first = torch.zeros(shape, dtype=sweep.dtype, device=sweep.device, requires_grad=True)
    zs, xs = [first], []
    for k, l in enumerate(layers):
        shared = sweep.shared(nodes, f.outer, k) if f.outer else {}
        xs.append(sweep.state(l, data.at(l), zs[-1], shared))
        if l < sweep.depth:
            read = (
                sweep.shared(nodes, f.kernel, k),
                sweep.shared(nodes, f.feature, k) if f.feature else {},
            )
            zs.append(zs[-1] + sweep.column(l, xs[-1], {}, *read)[0])
    return xs, zs
