"""Errors that name the argument, what was seen and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, SupportsFloat, cast

import numpy as np
from numpy.typing import ArrayLike


class InputError(ValueError):
    """Bad input: the message names the argument, what was seen and what is allowed, in one line."""


class InputTypeError(InputError, TypeError):
    """Bad input of the wrong type."""


class ConvergenceWarning(UserWarning):
    """A solve stopped before its tolerance (``success=False``), or states are not to be trusted."""


def reject(argument: str, seen: object, allowed: str) -> NoReturn:
    """Raise the standard one-line error."""
    raise InputError(f"{argument}: got {describe(seen)}; allowed: {allowed}")


def reject_type(argument: str, seen: object, allowed: str) -> NoReturn:
    """Raise the standard one-line error for a wrong type."""
    raise InputTypeError(f"{argument}: got {describe(seen)}; allowed: {allowed}")


def describe(seen: object) -> str:
    """One short line about a value, for an error message."""
    if isinstance(seen, np.ndarray):
        return f"array of shape {seen.shape}, dtype {seen.dtype}"
    text = seen if isinstance(seen, str) and " " in seen else repr(seen)
    text = " ".join(text.split())
    # the reason stands at the end
    return text if len(text) <= 160 else f"{text[:60]} ... {text[-95:]}"


def positive(argument: str, value: object) -> float:
    """A finite number > 0."""
    number = real(argument, value)
    if number <= 0:
        reject(argument, value, "a finite number > 0")
    return number


def non_negative(argument: str, value: object) -> float:
    """A finite number >= 0."""
    number = real(argument, value)
    if number < 0:
        reject(argument, value, "a finite number >= 0")
    return number


def real(argument: str, value: object) -> float:
    """A finite real number."""
    if isinstance(value, (bool, np.bool_, str)) or (
        not np.isscalar(value) and np.ndim(cast("ArrayLike", value)) != 0
    ):
        reject_type(argument, value, "a finite number")
    try:
        number = float(cast("SupportsFloat", value))
    except (TypeError, ValueError):
        reject_type(argument, value, "a finite number")
    if not np.isfinite(number):
        reject(argument, value, "a finite number")
    return number


def whole(argument: str, value: object, least: int = 1) -> int:
    """An integer >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        reject_type(argument, value, f"an integer >= {least}")
    if value < least:
        reject(argument, value, f"an integer >= {least}")
    return int(value)


def shape_of(argument: str, value: object) -> tuple[int, ...]:
    """A shape of rank <= 2 with positive entries; an integer d stands for (d,)."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = (int(value),)
    allowed = "a tuple of at most two integers >= 1"
    if not isinstance(value, (tuple, list)):
        reject_type(argument, value, allowed)
    if len(value) > 2 or any(
        isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in value
    ):
        reject(argument, value, allowed)
    if any(n < 1 for n in value):
        reject(argument, value, allowed)
    return tuple(int(n) for n in value)


def numbers(
    argument: str, value: object, allowed: str = "an array of finite numbers"
) -> np.ndarray:
    """A float64 array without NaN or infinity."""
    array = array_of(argument, value, allowed)
    if not np.all(np.isfinite(array)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        reject(argument, f"{array[where]} at index {where}", allowed)
    return array


def array_of(argument: str, value: object, allowed: str = "an array of numbers") -> np.ndarray:
    """A float64 array; infinities and NaN are let through."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError
        return np.array(array, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a torch tensor that requires grad
        reject_type(argument, value, allowed)


def choice(argument: str, value: object, options: tuple[str, ...]) -> str:
    """One of a few names."""
    if not isinstance(value, str) or value not in options:
        reject(argument, value, " or ".join(repr(o) for o in options))
    return str(value)


def function(argument: str, value: object) -> Callable[..., Any]:
    """A callable."""
    if not callable(value):
        reject_type(argument, value, "a function")
    return value
