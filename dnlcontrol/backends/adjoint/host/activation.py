"""Activations in place, with tanh by whatever is fast on this processor.

np.tanh is fast with AVX-512 alone, torch.tanh in float32 and where PyTorch has Intel's vector
library, the exponential on every processor:

    tanh a = 1 - 2/(1 + e^{2a}),    a - a³/3 + 2a⁵/15 - 17a⁷/315 for |a| < 2⁻⁷

whose first form has an absolute error of a rounding of 1, the second a relative one: together the
relative error is at most 3e-14. Which one is taken is measured once in a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch

from dnlcontrol.backends.adjoint.host.memory import Call, Shared
from dnlcontrol.backends.adjoint.sweep.affine_columns import Elements
from dnlcontrol.problem import activations

# |a| below which the series is used: its next term, 62a⁹/2835, is 3e-19 a there
SMALL = 2.0**-7
# a measurement: entries, the least of so many runs
ENTRIES, RUNS = 8192, 7
# another than np.tanh is taken where it takes less than this share of its time: the choice is then
# the same in every process of a machine
CLEARLY_FASTER = 0.6

Tanh = Callable[[Shared], Call]


def by_numpy(a: Shared) -> Call:
    """a <- tanh a, by np.tanh."""
    return partial(np.tanh, a.array, out=a.array)


def by_torch(a: Shared) -> Call:
    """a <- tanh a, by torch.tanh."""
    return a.tensor.tanh_


def by_exponential(a: Shared) -> Call:
    """a <- tanh a, by torch.exp and a series; contiguous."""
    return partial(_exponential, a, a.array.reshape(-1))


def _exponential(a: Shared, flat: np.ndarray) -> None:
    small = np.flatnonzero(np.abs(flat) < SMALL)
    x = flat[small]
    np.multiply(flat, 2.0, out=flat)
    a.tensor.exp_()
    np.add(flat, 1.0, out=flat)
    np.divide(2.0, flat, out=flat)
    np.subtract(1.0, flat, out=flat)
    q = x * x
    flat[small] = x * (1.0 - q * (1 / 3 - q * (2 / 15 - q * (17 / 315))))


CANDIDATES: dict[str, dict[str, Tanh]] = {
    "float64": {"numpy": by_numpy, "torch": by_torch, "exponential": by_exponential},
    "float32": {"numpy": by_numpy, "torch": by_torch},
}


@cache
def fastest_tanh(dtype: str) -> Tanh:
    """The candidate that is taken on this machine."""
    start = np.linspace(-2.0, 2.0, ENTRIES, dtype=dtype)
    seconds = {}
    for name, tanh in CANDIDATES[dtype].items():
        a = Shared(start.copy())
        call = tanh(a)
        seconds[name] = min(_timed(call, a.array, start) for _ in range(RUNS))
    best = min(seconds, key=lambda name: seconds[name])
    if seconds[best] >= CLEARLY_FASTER * seconds["numpy"]:
        best = "numpy"
    return CANDIDATES[dtype][best]


def _timed(call: Call, a: np.ndarray, start: np.ndarray) -> float:
    a[:] = start
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def activate(elements: Elements, a: Shared) -> Call:
    """a <- σ(a); (rows, n), contiguous."""
    if elements.value is activations.tanh:
        return fastest_tanh(a.array.dtype.name)(a)
    return partial(elements.apply, a.tensor)


def times_slope(elements: Elements, g: Shared, h: Shared, out: Shared) -> Call:
    """out <- g ⊙ σ'(h); ``out`` may be g or h."""
    if elements.value is activations.tanh:
        # one pass; bound here, since a method of Elements would look it up at every call
        op = torch.ops.aten.tanh_backward.grad_input
        return partial(op, g.tensor, h.tensor, grad_input=out.tensor)
    return partial(elements.times_slope, g.tensor, h.tensor, out=out.tensor)


def bent(elements: Elements, p: Shared, h: Shared, g: Shared, dg: Shared) -> Call:
    """p <- dg + (σ''/σ')(h) ⊙ p ⊙ g."""
    return partial(elements.bent, p.tensor, h.tensor, g.tensor, dg.tensor)
