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

FORMAT = 1


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a record in one step; numbers that are not finite become null."""
    write_atomic(path, json_bytes(record))


def json_bytes(record: Mapping[str, object]) -> bytes:
    """A record as it stands in its file."""
    return (json.dumps(plain(record), indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """A JSON object of this library's format and of one kind.

    Raises
    ------
    InputError where there is no such file, or one of another program, kind or format.
    """
    if not path.is_file():
        checks.reject(
            "run", f"{path.parent} (no {path.name})", "a run directory written by save or --out"
        )
    try:
        record = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        checks.reject(
            "run",
            f"{path}, truncated or not JSON ({error})",
            "a run directory written by save or --out",
        )
    if not isinstance(record, dict) or record.get("kind") != kind:
        checks.reject("run", f"{path} of another program", f"a {kind} written by this library")
    if record.get("format") != FORMAT:
        checks.reject(
            "run",
            f"{path} of format {record.get('format')!r}",
            f"format {FORMAT}; use the version that wrote it",
        )
    return record


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
