"""Upper bounds in floating point: every quantity is rounded up by a margin counted in operations.

A sum, product or quotient of non-negative numbers in n operations has a relative error of at most n
u/(1 - n u), u = 2^-53 (the order does not matter), which is below n EPS, EPS = 2u; `up` therefore
multiplies by 1 + (n + 1) EPS and adds one subnormal per operation for underflow. The spectral norm
is LAPACK's largest singular value, whose relative error is a modestly growing function of the shape
times u; the margin taken for it is (32 + 8 max(shape)) EPS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks

EPS = float(np.finfo(np.float64).eps)
SUBNORMAL = 5e-324
NORMS = (1, 2, np.inf)
LARGEST_SVD = 1024  # beyond it the spectral norm is bounded by sqrt(‖A‖_1 ‖A‖_∞)


def up(value: ArrayLike, operations: int = 1) -> Any:
    """An upper bound of a non-negative quantity computed in so many operations, of its shape.

    Of a number: a float. An exact 0 stays 0.
    """
    value = np.asarray(value, dtype=np.float64)
    with np.errstate(over="ignore"):
        raised = np.nextafter(value * (1 + (operations + 1) * EPS) + operations * SUBNORMAL, np.inf)
    raised = np.where(value == 0, 0.0, raised)
    return raised if raised.ndim else float(raised)


def norm_of(argument: str, value: object) -> float:
    """1, 2 or infinity.

    Raises
    ------
    InputError for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in NORMS:
        checks.reject(argument, value, "1, 2 or numpy.inf")
    return float(value)


def vector_norm(x: np.ndarray, norm: float) -> float:
    """‖x‖, rounded up; scaled by the largest entry so that squares do not underflow."""
    size = np.abs(np.asarray(x, dtype=np.float64)).ravel()
    largest = float(size.max(initial=0.0))
    if largest == 0.0 or norm == np.inf or not np.isfinite(largest):
        return largest
    if norm == 1:
        return float(up(size.sum(), size.size))
    return float(up(largest * np.sqrt(np.sum((size / largest) ** 2)), size.size + 6))


def matrix_norm(A: np.ndarray, norm: float) -> float:
    """The induced norm of a matrix (rows, columns), rounded up."""
    size = np.abs(A)
    if not size.any():
        return 0.0
    if norm == np.inf:
        return float(up(size.sum(1).max(), A.shape[1]))
    if norm == 1:
        return float(up(size.sum(0).max(), A.shape[0]))
    mixed = mixed_norm(matrix_norm(A, 1), matrix_norm(A, np.inf))
    if max(A.shape) > LARGEST_SVD:
        return mixed
    return min(mixed, float(up(np.linalg.norm(A, 2), 32 + 8 * max(A.shape))))


def mixed_norm(one: float, infinity: float) -> float:
    """‖A‖_2 <= sqrt(‖A‖_1 ‖A‖_∞), rounded up."""
    return float(up(np.sqrt(one) * np.sqrt(infinity), 4))
