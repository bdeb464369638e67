"""Directories and files that a kill at any moment leaves whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dnlcontrol import checks


def make_directory(directory: str | os.PathLike[str]) -> Path:
    """An existing or new directory that can be written to.

    Raises InputError where there is none and none can be made, InputTypeError for no path.
    """
    folder = checks.path("directory", directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell
            pass
    except OSError as error:
        checks.reject(
            "directory",
            f"{folder} ({error.strerror})",
            "a directory that can be made and written to",
        )
    return folder


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name, flush to the disk, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
