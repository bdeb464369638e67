"""Memory that NumPy and PyTorch share, and calls on it that are made once.

A sweep is the same calls on the same memory each time. At small sizes most of its time would be
the making of views and tensors: here a call is a function of no arguments, with its views bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch

Call = Callable[[], object]

# entries of a result from which PyTorch's call is the cheaper one: it costs 1 µs more than NumPy's,
# but its products of wide matrices are faster, and it obeys PyTorch's number of threads. Gradient
# at (d, N, L) = (4, 150, 64) with 2^13, 2^15, 2^20: 0.88, 0.83, 0.84 of a fused C loop
LARGE = 1 << 15
# pieces of columns whose calls are kept: about 5 kB each
MOST_PIECES = 4096


@dataclass(frozen=True, eq=False)
class Shared:
    """An array, and the tensor of the same memory."""

    array: np.ndarray

    @staticmethod
    def zeros(*shape: int, dtype: np.dtype) -> Shared:
        """New memory, not touched before it is used."""
        return Shared(np.zeros(shape, dtype))

    @cached_property
    def tensor(self) -> torch.Tensor:
        """Shares the memory of ``array``."""
        return torch.from_numpy(self.array)

    def __getitem__(self, index: int | slice | tuple[slice, ...]) -> Shared:
        return Shared(self.array[index])

    def rows(self) -> Shared:
        """(..., n) as (rows, n)."""
        return Shared(self.array.reshape(-1, self.array.shape[-1]))

    @property
    def transposed(self) -> Shared:
        """(n, m) of (m, n)."""
        return Shared(self.array.T)

    @property
    def large(self) -> bool:
        """Whether PyTorch's calls are the cheaper ones."""
        return self.array.size >= LARGE


def product(a: Shared, b: Shared, out: Shared) -> Call:
    """out <- a b."""
    if out.large or a.large:
        return partial(torch.mm, a.tensor, b.tensor, out=out.tensor)
    return partial(np.matmul, a.array, b.array, out=out.array)


def add_product(a: Shared, b: Shared, out: Shared, weight: float = 1.0) -> Call:
    """out += weight a b."""
    return partial(out.tensor.addmm_, a.tensor, b.tensor, alpha=weight)


def add(a: Shared, out: Shared, weight: float = 1.0) -> Call:
    """out += weight a."""
    if out.large or weight != 1.0:
        return partial(out.tensor.add_, a.tensor, alpha=weight)
    return partial(np.add, out.array, a.array, out=out.array)


def scale(a: Shared, weight: float, out: Shared) -> Call:
    """out <- weight a."""
    return partial(np.multiply, a.array, weight, out=out.array)


def copy(a: Shared, out: Shared) -> Call:
    """out <- a."""
    return partial(np.copyto, out.array, a.array)


def clear(out: Shared) -> Call:
    """out <- 0."""
    return partial(np.copyto, out.array, 0.0)


class Prepared:
    """Calls one after the other; made once, or each time anew where they are too many to keep."""

    def __init__(self, calls: Callable[[], Iterator[Call]], kept: bool) -> None:
        self._make = calls
        self._kept = kept
        self._calls: list[Call] | None = None

    def run(self) -> None:
        """All of them."""
        calls: Iterable[Call] = self._calls or ()
        if self._calls is None:
            calls = self._make()
            if self._kept:
                calls = self._calls = list(calls)
        for call in calls:
            call()
