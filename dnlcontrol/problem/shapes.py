"""Shapes and axes inside a formula, settled once for all engines, by NumPy's rules."""

from __future__ import annotations

import numpy as np

from dnlcontrol.checks import InputError, InputTypeError
from dnlcontrol.problem.seam import Native


def native_shape(raw: Native) -> tuple[int, ...]:
    """The shape of a native array, integers; () for a number."""
    return tuple(int(n) for n in getattr(raw, "shape", ()))


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; InputError where the shapes do not broadcast together."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        seen = " and ".join(map(str, shapes))
        raise InputError(f"got shapes {seen}; allowed: shapes that broadcast together") from None


def check_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Raise InputError unless a @ b exists for arrays of these shapes."""
    if not a or not b or a[-1] != b[0]:
        raise InputError(
            f"matmul: got shapes {a} and {b}; allowed: ranks 1 or 2 with a common inner dimension"
        )


def checked_axis(axis: object, rank: int, name: str) -> int:
    """An axis counted from 0; InputError for one that an array of this rank lacks."""
    if (
        isinstance(axis, bool)
        or not isinstance(axis, (int, np.integer))
        or not -rank <= axis < rank
    ):
        raise InputError(
            f"namespace.{name}: got axis {axis!r}; allowed: an integer from {-rank} to {rank - 1}"
        )
    return int(axis) % rank


def checked_index(key: object, size: int) -> int | slice:
    """An index or slice counted from 0, for an axis of this size.

    Raises IndexError beyond the axis (which ends iteration), InputError for a backward slice,
    InputTypeError for any other key.
    """
    if isinstance(key, slice):
        if key.step is not None and key.step < 1:
            raise InputError(f"index {key}: got step {key.step}; allowed: steps >= 1")
        return slice(*key.indices(size))
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -size <= key < size:
            raise IndexError(f"index {key} is out of range for an axis of size {size}")
        return int(key) % size
    raise InputTypeError(f"index {key!r}: allowed in a formula: integers and slices")
