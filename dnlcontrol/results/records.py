"""JSON records of this library: versioned, with plain numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.files.atomic import write_atomic
from dnlcontrol.files.fields import fitted, refuse
from dnlcontrol.files.json_text import MOST_BYTES, parsed
from dnlcontrol.results.schema import FORMAT, TABLES

WRITTEN = "a run directory written by save or --out"


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a record in one step; numbers that are not finite become null."""
    write_atomic(path, json_bytes(record))


def json_bytes(record: Mapping[str, object]) -> bytes:
    """A record as it stands in its file."""
    return (json.dumps(plain(record), indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """A JSON object of this library's format and of one kind, as its table in schema.py says.

    Raises
    ------
    InputError where there is no such file, or one of another program, kind or format.
    """
    try:
        record = parsed(_read(path).decode())
    except ValueError as error:
        if isinstance(error, checks.InputError):
            raise
        refuse(path, f"truncated or not JSON ({error})", WRITTEN)
    if not isinstance(record, dict) or record.get("kind") != kind:
        refuse(path, "of another program", f"a {kind} written by this library")
    if type(record.get("format")) is not int or record["format"] != FORMAT:
        seen = checks.describe(record.get("format"))
        refuse(path, f"of format {seen}", f"format {FORMAT}; use the version that wrote it")
    return fitted(path, TABLES[kind], record)


def _read(path: Path) -> bytes:
    """The bytes of a file of at most MOST_BYTES."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise FileNotFoundError
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        refuse(path.parent, f"(no {path.name})", WRITTEN)
    except OSError as error:
        refuse(path, f"which cannot be read ({error})", WRITTEN)
    if len(data) > MOST_BYTES:
        refuse(path, f"of more than {MOST_BYTES} bytes")
    return data


def plain(value: object) -> Any:
    """JSON types only; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if value is None else str(value)
