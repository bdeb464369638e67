"""Activations: scalar functions applied to each entry, on any backend."""

from __future__ import annotations

from typing import Any

from dnlcontrol.array import namespace


def tanh(x: Any) -> Any:
    """tanh(x)."""
    return namespace(x).tanh(x)


def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0."""
    return namespace(x).where(x > 0, x, 0.0)


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, slope·x elsewhere."""
    return namespace(x).where(x > 0, x, slope * x)


def sigmoid(x: Any) -> Any:
    """1/(1 + e^{-x}), written as (1 + tanh(x/2))/2 so that nothing overflows."""
    return 0.5 * (1.0 + namespace(x).tanh(0.5 * x))


def softplus(x: Any) -> Any:
    """log(1 + e^x), without overflow."""
    xp = namespace(x)
    positive, negative = xp.where(x > 0, x, 0.0), xp.where(x > 0, 0.0, x)
    return positive + xp.log1p(xp.exp(negative - positive))  # -|x| with a derivative of 1 at 0


def identity(x: Any) -> Any:
    """x."""
    return x
