"""A stack from a torch.nn.Module that is a chain of Linear or Conv2d layers, each followed by ReLU or LeakyReLU."""

from __future__ import annotations

from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.depth.operators import Convolution
from dnlcontrol.certificates.depth.stacks import Stack

ALLOWED = "a chain of Linear, Conv2d (odd kernel, stride 1, zero padding to the same size), ReLU, LeakyReLU, Flatten"


def from_module(module: Any, *, input_size: tuple[int, int] | None = None, tail: Any = None) -> Stack:
    """The layers of a torch module in order; its parameters are copied.

    Parameters
    ----------
    module : torch.nn.Module, its leaves in the order in which they are applied; Identity and Flatten are passed over,
        a last Linear without an activation is a read-out and is left out of the stack (it is not a ReLU layer).
    input_size : (height, width) of the images, needed for Conv2d.
    tail : declared majorants beyond the last layer.

    Raises
    ------
    InputError : a leaf of another kind, two affine layers without an activation between them, activations of
        different slopes.
    """
    from torch import nn

    if not isinstance(module, nn.Module):
        checks.reject_type("module", module, "a torch.nn.Module")
    weights: list[Any] = []
    biases: list[Any] = []
    slopes: set[float] = set()
    pending: tuple[Any, Any] | None = None
    for name, leaf in module.named_modules():
        if next(leaf.children(), None) is not None or isinstance(leaf, (nn.Identity, nn.Flatten)):
            continue
        if isinstance(leaf, (nn.Linear, nn.Conv2d)):
            if pending is not None:
                checks.reject(name, type(leaf).__name__, "an activation between two affine layers")
            pending = _affine(name, leaf, input_size)
        elif isinstance(leaf, (nn.ReLU, nn.LeakyReLU)):
            if pending is None:
                checks.reject(name, type(leaf).__name__, "an activation after Linear or Conv2d")
            weights.append(pending[0])
            biases.append(pending[1])
            pending = None
            slopes.add(float(getattr(leaf, "negative_slope", 0.0)))
        else:
            checks.reject(name or "module", type(leaf).__name__, ALLOWED)
    if not weights:
        checks.reject("module", type(module).__name__, ALLOWED)
    if len(slopes) > 1:
        checks.reject("module", f"activations of slopes {sorted(slopes)}", "one slope for all layers")
    return Stack(weights, biases, slope=slopes.pop(), tail=tail)


def _affine(name: str, leaf: Any, size: tuple[int, int] | None) -> tuple[Any, Any]:
    """Weight and bias as float64 arrays."""
    weight = leaf.weight.detach().cpu().numpy().astype(np.float64)
    bias = None if leaf.bias is None else leaf.bias.detach().cpu().numpy().astype(np.float64)
    if weight.ndim == 2:
        return weight, bias
    kernel = weight.shape[2:]
    same = leaf.padding == "same" or tuple(leaf.padding) == tuple(k // 2 for k in kernel)
    plain = tuple(leaf.stride) == (1, 1) == tuple(leaf.dilation) and leaf.groups == 1 and leaf.padding_mode == "zeros"
    if not (same and plain and all(k % 2 for k in kernel)):
        checks.reject(name, repr(leaf), "odd kernel, stride 1, dilation 1, groups 1, zero padding to the same size")
    if size is None:
        checks.reject("input_size", None, "(height, width), for Conv2d")
    return Convolution(weight, tuple(size)), bias
