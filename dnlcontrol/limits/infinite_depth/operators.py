"""The linear maps of a layer.

A matrix, a convolution with zero padding, a Toeplitz matrix that widens. Each knows how to act on
vectors (last axis), its induced norm and the norm of W - E, both rounded up, where E is the
identity followed by zero rows when the width grows: states of different widths are compared after
zero padding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.rounding import matrix_norm, mixed_norm, up


class Operator(ABC):
    """A linear map from R^columns to R^rows.

    `terms` products are summed at most for one entry of the result.
    """

    rows: int
    columns: int
    terms: int

    @abstractmethod
    def apply(self, x: np.ndarray) -> np.ndarray:
        """W x for x of shape (..., columns)."""

    @abstractmethod
    def absolute(self) -> Operator:
        """The map with the absolute values of its entries."""

    @abstractmethod
    def norm(self, norm: float) -> float:
        """An upper bound of the induced norm."""

    @abstractmethod
    def off_identity(self, norm: float) -> float:
        """An upper bound of ‖W - E‖; infinite when the width shrinks."""

    def matrix(self) -> np.ndarray:
        """The map as a matrix (rows, columns)."""
        return self.apply(np.eye(self.columns)).T

    def bias(self, argument: str, value: ArrayLike | None) -> np.ndarray:
        """A bias (rows,); None is 0.

        Raises
        ------
        InputError for another shape.
        """
        if value is None:
            return np.zeros(self.rows)
        array = np.atleast_1d(checks.numbers(argument, value))
        if array.shape != (self.rows,):
            checks.reject(argument, array, f"shape ({self.rows},)")
        return array


@dataclass(frozen=True, eq=False)
class Matrix(Operator):
    """A dense matrix."""

    entries: np.ndarray

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.entries.shape[0]

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.entries.shape[1]

    @property
    def terms(self) -> int:  # type: ignore[override]
        return self.columns

    def apply(self, x: np.ndarray) -> np.ndarray:
        return x @ self.entries.T

    def absolute(self) -> Matrix:
        return Matrix(np.abs(self.entries))

    def norm(self, norm: float) -> float:
        return matrix_norm(self.entries, norm)

    def off_identity(self, norm: float) -> float:
        if self.rows < self.columns:
            return np.inf
        return float(up(matrix_norm(self.entries - np.eye(self.rows, self.columns), norm)))

    def matrix(self) -> np.ndarray:
        return self.entries.copy()


@dataclass(frozen=True, eq=False)
class ConvolutionOperator(Operator):
    """Correlation with odd filters, stride 1, zero padding to the same size.

    The state is (channels, *size) flattened.

    (W x)[o, i] = Σ_c Σ_j filters[o, c, j] x[c, i + j - centre]. With |w| summed over the other
    indices ‖W‖_∞ <= max over o, ‖W‖_1 <= max over c, ‖W‖_2 <= the square root of the product
    [derived].

    Parameters
    ----------
    filters : (channels out, channels in, *kernel), kernel sizes odd.
    size : the extents of the image, one per kernel dimension.
    """

    filters: np.ndarray
    size: tuple[int, ...]

    def __post_init__(self) -> None:
        filters = checks.numbers("filters", self.filters)
        given: object = self.size
        extents = (given,) if isinstance(given, (int, np.integer)) else given
        allowed = "the extents of the image, one per kernel dimension"
        size = tuple(checks.size("size", n) for n in checks.listed("size", extents, allowed))
        if math.prod(size) > checks.SIZE:
            checks.reject("size", self.size, f"at most {checks.SIZE} pixels")
        if filters.ndim != 2 + len(size) or any(k % 2 == 0 for k in filters.shape[2:]):
            checks.reject(
                "filters",
                filters,
                f"(channels out, channels in, *kernel), {len(size)} odd kernel sizes",
            )
        object.__setattr__(self, "filters", filters)
        object.__setattr__(self, "size", size)

    @property
    def rows(self) -> int:  # type: ignore[override]
        return int(self.filters.shape[0] * np.prod(self.size))

    @property
    def columns(self) -> int:  # type: ignore[override]
        return int(self.filters.shape[1] * np.prod(self.size))

    @property
    def terms(self) -> int:  # type: ignore[override]
        return int(np.prod(self.filters.shape[1:]))

    def apply(self, x: np.ndarray) -> np.ndarray:
        out, channels, *kernel = self.filters.shape
        batch = x.shape[:-1]
        image = x.reshape(-1, channels, *self.size)
        result = np.zeros((len(image), out, *self.size))
        for offset in np.ndindex(*kernel):
            shifts = [j - k // 2 for j, k in zip(offset, kernel, strict=True)]
            if any(abs(s) >= n for s, n in zip(shifts, self.size, strict=True)):
                continue
            to = tuple(
                slice(max(0, -s), n - max(0, s)) for s, n in zip(shifts, self.size, strict=True)
            )
            source = tuple(
                slice(max(0, s), n - max(0, -s)) for s, n in zip(shifts, self.size, strict=True)
            )
            weight = self.filters[(slice(None), slice(None), *offset)]
            result[(slice(None), slice(None), *to)] += np.einsum(
                "oc,nc...->no...", weight, image[(slice(None), slice(None), *source)]
            )
        return result.reshape(*batch, self.rows)

    def absolute(self) -> ConvolutionOperator:
        return ConvolutionOperator(np.abs(self.filters), self.size)

    def norm(self, norm: float) -> float:
        return filter_norm(self.filters, norm)

    def off_identity(self, norm: float) -> float:
        out, channels = self.filters.shape[:2]
        if out < channels:
            return np.inf
        centre = tuple(k // 2 for k in self.filters.shape[2:])
        rest = self.filters.copy()
        for c in range(channels):
            rest[(c, c, *centre)] -= 1.0
        return float(up(filter_norm(rest, norm)))

    def bias(self, argument: str, value: ArrayLike | None) -> np.ndarray:
        """(channels,), one number per channel, or (rows,), one per entry."""
        if value is not None and np.shape(value) == self.filters.shape[:1]:
            value = np.repeat(checks.numbers(argument, value), int(np.prod(self.size)))
        return super().bias(argument, value)


def filter_norm(filters: np.ndarray, norm: float) -> float:
    """The bound of a convolution's induced norm from its filters (out, channels, *kernel)."""
    size = np.abs(filters).sum(axis=tuple(range(2, filters.ndim)))
    if not size.any():
        return 0.0
    infinity = float(up(size.sum(1).max(), filters[0].size))
    one = float(up(size.sum(0).max(), filters[:, 0].size))
    return {1.0: one, 2.0: mixed_norm(one, infinity)}.get(norm, infinity)


@dataclass(frozen=True, eq=False)
class Toeplitz(Operator):
    """Convolution with w_0..w_s that widens: (W x)_i = Σ_j w_j x_{i-j}, i = 0..width + s - 1.

    Row and column sums give ‖W - E‖ <= |w_0 - 1| + Σ_{j>=1} |w_j| in all three norms [derived].
    """

    filter: np.ndarray
    width: int

    def __post_init__(self) -> None:
        filter_ = checks.numbers("filter", self.filter)
        if filter_.ndim != 1 or not filter_.size:
            checks.reject("filter", filter_, "shape (s + 1,)")
        object.__setattr__(self, "filter", filter_)
        object.__setattr__(self, "width", checks.size("width", self.width))

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self.width + self.filter.size - 1

    @property
    def columns(self) -> int:  # type: ignore[override]
        return self.width

    @property
    def terms(self) -> int:  # type: ignore[override]
        return min(self.filter.size, self.width)

    def apply(self, x: np.ndarray) -> np.ndarray:
        result = np.zeros((*x.shape[:-1], self.rows))
        for j, w in enumerate(self.filter):
            result[..., j : j + self.width] += w * x
        return result

    def absolute(self) -> Toeplitz:
        return Toeplitz(np.abs(self.filter), self.width)

    def norm(self, norm: float) -> float:
        return float(up(np.abs(self.filter).sum(), self.filter.size))

    def off_identity(self, norm: float) -> float:
        return float(
            up(np.abs(self.filter - np.eye(1, self.filter.size)[0]).sum(), self.filter.size + 1)
        )


def as_operator(argument: str, value: object) -> Operator:
    """A matrix (a number is 1 by 1), or an operator as it is.

    Raises
    ------
    InputError for anything else.
    """
    if isinstance(value, Operator):
        return value
    array = checks.numbers(
        argument, value, "a matrix of finite numbers, Convolution(...) or Toeplitz(...)"
    )
    if array.ndim == 0:
        array = array.reshape(1, 1)
    if array.ndim != 2 or not array.size:
        checks.reject(argument, array, "a matrix, Convolution(...) or Toeplitz(...)")
    return Matrix(array)
