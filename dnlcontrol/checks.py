"""Errors that name the argument, what was seen and what is allowed."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, SupportsFloat, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

T = TypeVar("T")
SIZE = 10**8  # entries of an array, layers, units: float64 of more take gigabytes each
INT64 = 2**63 - 1  # the largest count of iterations, rows and the like that NumPy and torch hold
SEED = 2**128 - 1  # NumPy's generators take the bits of a seed up to here without loss
ITEMS = 10**6  # of a list that is given item by item: an iterator may be endless
MESSAGE = 200  # characters of a caller's exception in a message
SHOWN = 160  # characters of a value in a message


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
    if isinstance(seen, np.ma.MaskedArray):
        return f"masked array of shape {seen.shape}, dtype {seen.dtype}"
    if isinstance(seen, np.ndarray):
        return f"array of shape {seen.shape}, dtype {seen.dtype}"
    if _requires_grad(seen):
        return f"tensor of shape {tuple(getattr(seen, 'shape', ()))} that requires grad"
    text = seen if isinstance(seen, str) and " " in seen else _shown(seen)
    text = " ".join(text.split())
    # the reason stands at the end
    return text if len(text) <= SHOWN else f"{text[:60]} ... {text[-95:]}"


def _shown(seen: object) -> str:
    try:
        return repr(seen)
    except Exception:  # a caller's own __repr__; an integer of more digits than Python prints
        return f"an object of type {type(seen).__name__}"


def said(error: BaseException) -> str:
    """What an exception says, in one line; it may be a caller's own, which fails at that."""
    try:
        return " ".join(str(error).split())[:MESSAGE]
    except Exception:
        return "a message that cannot be read"


def positive(argument: str, value: object) -> float:
    """A finite number > 0."""
    number = real(argument, value)
    if number <= 0:
        reject(argument, value, "a finite number > 0")
    return number


def at_least(argument: str, value: object, least: float) -> float:
    """A finite number >= ``least``."""
    number = real(argument, value)
    if number < least:
        reject(argument, value, f"a finite number >= {least:g}")
    return number


def non_negative(argument: str, value: object) -> float:
    """A finite number >= 0."""
    number = real(argument, value)
    if number < 0:
        reject(argument, value, "a finite number >= 0")
    return number


def real(argument: str, value: object) -> float:
    """A finite real number."""
    allowed = "a finite number"
    refuse_hidden(argument, value, allowed)
    if isinstance(value, (bool, np.bool_, str, bytes)):
        reject_type(argument, value, allowed)
    try:
        if not np.isscalar(value) and np.ndim(cast("ArrayLike", value)) != 0:
            reject_type(argument, value, allowed)
        number = float(cast("SupportsFloat", value))
    except InputError:
        raise
    except OverflowError:
        reject(argument, value, allowed)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor without values
        reject_type(argument, value, allowed)
    if not np.isfinite(number):
        reject(argument, value, allowed)
    return number


def whole(argument: str, value: object, least: int = 1, most: int = INT64) -> int:
    """An integer from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        reject_type(argument, value, f"an integer >= {least}")
    if value < least:
        reject(argument, value, f"an integer >= {least}")
    if value > most:
        reject(argument, value, f"an integer from {least} to {most}")
    return int(value)


def size(argument: str, value: object, least: int = 1) -> int:
    """A number of layers, units, nodes or the like: an integer from ``least`` to ``SIZE``."""
    return whole(argument, value, least, SIZE)


def seed(argument: str, value: object) -> int:
    """An integer >= 0 that NumPy's generators take."""
    return whole(argument, value, 0, SEED)


def flag(argument: str, value: object) -> bool:
    """True or False; no number and no other object stands for them."""
    if not isinstance(value, bool):
        reject_type(argument, value, "True or False")
    return value


def text(argument: str, value: object, allowed: str = "a non-empty string") -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        reject_type(argument, value, allowed)
    return value


def instance(argument: str, value: object, kind: type[T], allowed: str) -> T:
    """An object of one class."""
    if not isinstance(value, kind):
        reject_type(argument, value, allowed)
    return value


def path(argument: str, value: object, allowed: str = "a path") -> Path:
    """A path that the file system can name; no number, no bytes, not empty."""
    if not isinstance(value, (str, os.PathLike)) or value == "":
        reject_type(argument, value, allowed)
    try:
        where = Path(value)
        os.lstat(where)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # told by who reads or writes it
    except OSError as error:
        reject(argument, f"{describe(value)} ({error.strerror})", allowed)
    except (TypeError, ValueError) as error:  # bytes within, a NUL in it
        reject(argument, f"{describe(value)} ({error})", allowed)
    return where


def listed(argument: str, value: object, allowed: str) -> list[Any]:
    """The items of a list, tuple, array or other iterable: no text, no mapping, not endless."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        reject_type(argument, value, allowed)
    refuse_hidden(argument, value, allowed)
    try:
        items = list(islice(value, ITEMS + 1))
    except TypeError:  # a 0-d array
        reject_type(argument, value, allowed)
    if len(items) > ITEMS:
        reject(argument, f"more than {ITEMS} items", allowed)
    return items


def mapping(argument: str, value: object, allowed: str) -> dict[str, Any]:
    """A copy of a mapping whose keys are strings."""
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        reject_type(argument, value, allowed)
    return dict(value)


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
    shape = tuple(int(n) for n in value)
    if math.prod(shape) > SIZE:
        reject(argument, value, f"at most {SIZE} entries")
    return shape


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
    refuse_hidden(argument, value, allowed)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError
        return np.array(array, dtype=np.float64)
    except MemoryError:
        reject(argument, value, f"{allowed}, which fit the memory")
    # RuntimeError: tensors that require grad in a list
    except (TypeError, ValueError, RuntimeError, OverflowError):
        reject_type(argument, value, allowed)


def _requires_grad(value: object) -> bool:
    try:
        return getattr(value, "requires_grad", False) is True
    except Exception:  # objects that refuse unknown attributes in their own words
        return False


def refuse_hidden(argument: str, value: object, allowed: str) -> None:
    """Raise for what would lose something in silence: a mask, or the graph of a gradient."""
    if isinstance(value, np.ma.MaskedArray):
        more = "without a mask; fill or drop what is masked, as with .filled(...) or .compressed()"
        reject_type(argument, value, f"{allowed}, {more}")
    if _requires_grad(value):
        reject_type(argument, value, f"{allowed}, such as tensor.detach()")


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


def takes(argument: str, value: object, count: int) -> Callable[..., Any]:
    """A callable that can be called with so many arguments by position."""
    call = function(argument, value)
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # of the C language, without a signature
        return call
    try:
        signature.bind(*range(count))
    except TypeError:
        reject_type(argument, value, f"a function of {count} argument{'s' if count > 1 else ''}")
    return call


def returned(argument: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """What a caller's function returned: finite numbers of one shape."""
    found = numbers(argument, value, f"a function that returns finite numbers of shape {shape}")
    if found.shape != shape:
        reject(argument, found, f"a function that returns shape {shape}")
    return found


def broadcast(argument: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array repeated to a shape, by NumPy's rule."""
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        reject(argument, array, f"a number or an array that broadcasts to shape {shape}")


def writable(argument: str, value: object, allowed: str = "the path of a file") -> Path:
    """The path of a file that can be written: its directory is there and open to us."""
    where = path(argument, value, allowed)
    if where.is_dir():
        reject(argument, f"{where} (a directory)", allowed)
    if not where.parent.is_dir():
        reject(argument, f"{where} (no such directory)", "a path in an existing directory")
    if not os.access(where if where.exists() else where.parent, os.W_OK):
        reject(argument, f"{where} (not writable)", allowed)
    return where
