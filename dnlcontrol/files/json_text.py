"""JSON from a file, within bounds: so that what is read needs no more memory than it should."""

from __future__ import annotations

import json
from typing import NoReturn

MOST_BYTES = 32 << 20  # of a record: 250,000 lines of a log
MOST_VALUES = 2**21  # each of about 100 bytes in memory


def parsed(text: str, constants: bool = False) -> object:
    """The value of a JSON text; ``constants``: NaN and the infinities too.

    Raises ValueError where it is none, or has more than MOST_VALUES values.
    """
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        return json.loads(text, parse_constant=None if constants else _no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
