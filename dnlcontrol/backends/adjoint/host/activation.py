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

from dnlcontrol.backends.adjoint.host.memory import Call, Memory
from dnlcontrol.backends.adjoint.sweep.affine_columns import Elements
from dnlcontrol.problem import activations

# |a| below which the series is used: its next term, 62a⁹/2835, is 3e-19 a there
SMALL = 2.0**-7
# a measurement: entries, the least of so many runs
ENTRIES, RUNS = 8192, 7
# another than np.tanh is taken where it takes less than this share of its time: the choice is then
# the same in every process of a machine
CLEARLY_FASTER = 0.6

Tanh = Callable[[Memory, Memory], Call]


def by_numpy(a: Memory, spare: Memory) -> Call:
    """a <- tanh a, by np.tanh."""
    return partial(np.tanh, a.array, out=a.array)


def by_torch(a: Memory, spare: Memory) -> Call:
    """a <- tanh a, by torch.tanh."""
    return a.tensor.tanh_


def by_exponential(a: Memory, spare: Memory) -> Call:
    """a <- tanh a, by torch.exp and a series; ``spare`` is of the same shape, both contiguous."""
    return partial(_exponential, a, a.array.reshape(-1), spare.array.reshape(-1))


def _exponential(a: Memory, flat: np.ndarray, spare: np.ndarray) -> None:
    np.abs(flat, out=spare)
    small = np.flatnonzero(spare < SMALL)
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
        a, spare = Memory(start.copy()), Memory(start.copy())
        call = tanh(a, spare)
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


def activate(elements: Elements, a: Memory, spare: Memory) -> Call:
    """a <- σ(a); both (rows, n), contiguous, of the same shape."""
    if elements.value is activations.tanh:
        return fastest_tanh(a.array.dtype.name)(a, spare)
    return partial(elements.apply, a.tensor)


def times_slope(elements: Elements, g: Memory, h: Memory, out: Memory) -> Call:
    """out <- g ⊙ σ'(h); ``out`` may be g or h."""
    if elements.value is activations.tanh:
        # one pass; bound here, since a method of Elements would look it up at every call
        op = torch.ops.aten.tanh_backward.grad_input
        return partial(op, g.tensor, h.tensor, grad_input=out.tensor)
    return partial(elements.times_slope, g.tensor, h.tensor, out=out.tensor)


def bent(elements: Elements, p: Memory, h: Memory, g: Memory, dg: Memory) -> Call:
    """p <- dg + (σ''/σ')(h) ⊙ p ⊙ g."""
    return partial(elements.bent, p.tensor, h.tensor, g.tensor, dg.tensor)
