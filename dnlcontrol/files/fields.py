"""What a value that was read from a file may be: fields, of which tables of records are made.

A field is called with the place of a value in its file and the value, as ``json.loads`` gives it;
it returns the value to use, or raises :class:`Misfit`. The tables are in results/schema.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from dnlcontrol import checks

Field = Callable[[str, object], Any]
"""(place, value) -> the value to use."""

LARGEST = sys.float_info.max
MOST_WHOLE = 2**53  # every integer up to it is a float64 too
# of a place in a message: the names in a file may be long
PLACE_LENGTH = 60
MOST_SHOWN = 20  # items of a list in a message


class Misfit(Exception):
    """A value that its field does not allow; the message says where, what it is, what it may be."""

    def __init__(self, where: str, seen: object, allowed: str) -> None:
        super().__init__(f"where {_short(where)} is {_seen(seen)}, not {allowed}")


def refuse(path: Path, misfit: object, allowed: str = "a file written by this library") -> NoReturn:
    """Raise InputError for a file, in one line with its whole name."""
    text = f"run: got {path}, {misfit}; allowed: {allowed}"
    raise checks.InputError(printable(" ".join(text.split())))


def printable(text: str) -> str:
    """The text, with escapes where it has no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def fitted(path: Path, field: Field, value: object) -> dict[str, Any]:
    """The object of a file that ``field`` allows.

    Raises InputError, with the name of the file, where it allows it not.
    """
    try:
        found: dict[str, Any] = field("it", value)
    except Misfit as misfit:
        refuse(path, misfit)
    except RecursionError:
        refuse(path, "nested too deeply")
    return found


# -- single values -------------------------------------------------------------------------------
def number(least: float = -math.inf, most: float = math.inf, *, null: bool = False) -> Field:
    """A finite number within closed bounds; ``null``: what is not finite, and is read as NaN."""

    def check(where: str, value: object) -> float:
        if value is None and null:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Misfit(where, value, "a number")
        if not (least <= value <= most and abs(value) <= LARGEST):
            raise Misfit(where, value, _between("a finite number", least, most))
        return float(value)

    return check


def extended(least: float = -math.inf) -> Field:
    """A number or an infinity, at least so large."""

    def check(where: str, value: object) -> float:
        if isinstance(value, float) and math.isinf(value) and value >= least:
            return value
        return float(number(least)(where, value))

    return check


def positive(where: str, value: object) -> float:
    """A finite number > 0."""
    found: float = number()(where, value)
    if found <= 0:
        raise Misfit(where, value, "a number > 0")
    return found


def whole(least: int = 0, most: int = MOST_WHOLE) -> Field:
    """An integer within closed bounds."""

    def check(where: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Misfit(where, value, "an integer")
        if not least <= value <= most:
            raise Misfit(where, value, _between("an integer", least, most))
        return value

    return check


def flag(where: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Misfit(where, value, "true or false")
    return value


def text(where: str, value: object) -> str:
    """Text that has a UTF-8 form."""
    if not isinstance(value, str) or printable(value) != value:
        raise Misfit(where, value, "text")
    return value


def word(allowed: Collection[str]) -> Field:
    """One of a few words, those of the collection at the time of reading."""

    def check(where: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise Misfit(where, value, " or ".join(repr(w) for w in allowed))
        return value

    return check


def anything(where: str, value: object) -> object:
    """Any value of finite numbers and text."""
    if isinstance(value, dict):
        return {text(where, k): anything(f"{where}[{k!r}]", v) for k, v in value.items()}
    if isinstance(value, list):
        return [anything(where, v) for v in value]
    if isinstance(value, str):
        return text(where, value)
    if type(value) in (int, float):
        number()(where, value)
    return value


def as_it_is(_: str, value: object) -> object:
    """Any value, to be looked at later."""
    return value


def nullable(field: Field) -> Field:
    """None or what the field allows."""
    return lambda where, value: None if value is None else field(where, value)


# -- several values ------------------------------------------------------------------------------
def listing(item: Field, length: int | None = None) -> Field:
    """A list of so many items."""

    def check(where: str, value: object) -> list[Any]:
        if not isinstance(value, list) or length not in (None, len(value)):
            raise Misfit(where, value, "a list" if length is None else f"a list of {length}")
        return [item(f"{where}[{k}]", v) for k, v in enumerate(value)]

    return check


def rising(item: Field) -> Field:
    """A strictly increasing list, of one item at least."""

    def check(where: str, value: object) -> list[Any]:
        found = listing(item)(where, value)
        if not found or any(b <= a for a, b in pairwise(found)):
            raise Misfit(where, value, "a non-empty, strictly increasing list")
        return list(found)

    return check


def line(*items: Field) -> Field:
    """A list of one value for each field, as a tuple."""

    def check(where: str, value: object) -> tuple[Any, ...]:
        parts = listing(as_it_is, len(items))(where, value)
        return tuple(
            f(f"{where}[{k}]", v) for k, (f, v) in enumerate(zip(items, parts, strict=True))
        )

    return check


def block(item: Field) -> Field:
    """A number, or a rectangular list of lists of numbers, of the rank of an array: at most 2."""

    def check(where: str, value: object) -> object:
        if not isinstance(value, list):
            return item(where, value)
        rows = [check(f"{where}[{k}]", v) for k, v in enumerate(value)]
        if not rows or len({block_shape(r) for r in rows}) > 1 or len(block_shape(rows[0])) > 1:
            raise Misfit(where, value, "a rectangular array of rank 2 at most")
        return rows

    return check


def block_shape(value: object) -> tuple[int, ...]:
    """The shape of a rectangular list of lists."""
    return (len(value), *block_shape(value[0])) if isinstance(value, list) else ()


def mapping(item: Field) -> Field:
    """An object whose names are free."""

    def check(where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Misfit(where, value, "an object")
        return {text(where, k): item(f"{where}[{k!r}]", v) for k, v in value.items()}

    return check


def record(
    required: Mapping[str, Field],
    optional: Mapping[str, Field] | None = None,
    others: Field | None = anything,
) -> Field:
    """An object with some named fields.

    ``optional``: those of an earlier or later version, left out where they are not there;
    ``others``: what further fields may be, None for no further ones.
    """
    known = {**required, **(optional or {})}

    def check(where: str, value: object) -> dict[str, Any]:
        found = mapping(as_it_is)(where, value)
        missing: Sequence[str] = [k for k in required if k not in found]
        if missing:
            raise Misfit(where, f"without {', '.join(map(repr, missing))}", "complete")
        if others is None and not found.keys() <= known.keys():
            raise Misfit(where, sorted(found), f"an object of {sorted(known)}")
        return {k: known.get(k, others or anything)(f"{where}[{k!r}]", v) for k, v in found.items()}

    return check


def _seen(value: object) -> str:
    """A value in words: those of an object or a list, which may be long, by its length."""
    if isinstance(value, (list, dict)) and len(value) > MOST_SHOWN:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} items"
    return checks.describe(printable(value) if isinstance(value, str) else value)


def _between(kind: str, least: float, most: float) -> str:
    sides = [f">= {least:g}"] * math.isfinite(least) + [f"<= {most:g}"] * math.isfinite(most)
    return " ".join([kind, " and ".join(sides)]).strip()


def _short(where: str) -> str:
    where = where.removeprefix("it") or "it"
    return where if len(where) <= PLACE_LENGTH else f"{where[:PLACE_LENGTH]}..."
