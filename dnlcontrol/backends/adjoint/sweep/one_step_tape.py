"""One value and gradient, or Hessian product, of a one-step problem by one tape over all layers.

Where the kernel reads neither t nor a triangular control and the rule is explicit, each layer is
one call,

    z^{l+1} = z^l + τ k(t_l, F(t_l, x^l, v^l), v^l),    x^l = G(t_l, g^l, z^l, v^l),    J = J(x, v)

so that a sweep that differentiates layer by layer spends its time on calls. Here autograd
differentiates J once; its derivatives in x^l and z^l are the costates λ^l and z̄^l. The tape holds
O(L·n·d) numbers for a chunk of n samples. A Hessian product is the gradient of <dJ/du, δu>, taken
on the tape of the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors, gradient_along


def tapeable(sweep: Sweep) -> bool:
    """Whether the problem is of this kind; no transform or tangents may surround a tape."""
    return bool(sweep.markov and not any(sweep.grid.own))


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


def _layers(sweep: Sweep, u: Tensors, data: Data) -> tuple[list[Tensor], list[Tensor]]:
    """x^0..x^L and z^0..z^L on the tape."""
    outer, n = sweep.problem.formulas.outer, data.free.shape[1]
    nodes: Any = {k: v.unbind(0) for k, v in u.items()}  # one backward for all layers
    z = torch.zeros(
        n, *sweep.problem.integral_shape, dtype=sweep.dtype, device=sweep.device, requires_grad=True
    )
    zs, xs = [z], []
    for l in range(sweep.depth + 1):
        shared = sweep.shared(nodes, outer, l) if outer else {}
        xs.append(sweep.state(l, data.at(l), zs[l], shared))
        if l < sweep.depth:
            zs.append(zs[l] + sweep.column(l, xs[l], *sweep.inputs(nodes, l))[0])
    return xs, zs
