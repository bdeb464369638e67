"""Directories and files that a kill, a signal or a full disk at any moment leaves whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from dnlcontrol import checks
from dnlcontrol.files.interrupts import interrupts

TEMPORARY = ".tmp"  # the end of the name of a file that is not whole yet


def make_directory(directory: str | os.PathLike[str]) -> Path:
    """An existing or new directory.

    Raises InputError where there is none and none can be made, InputTypeError for no path.
    """
    try:
        folder = Path(directory)
    except TypeError:
        checks.reject_type("directory", directory, "a path")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        checks.reject("directory", f"{folder} ({error.strerror})", "a directory that can be made")
    return folder


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name, flush to the disk, then rename.

    Raises OSError that names the file; what stood there before is then still there.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Files that belong together: all are on the disk before the first is renamed, in this order.

    Raises OSError that names the file which could not be written; then none is replaced, and no
    temporary file is left.
    """
    waiting: dict[Path, Path] = {}
    with interrupts.waiting():
        try:
            for path, data in files.items():
                waiting[path] = _temporary(path)
                _write(waiting[path], data, path)
            for path, temporary in waiting.items():
                os.replace(temporary, path)
        finally:
            for temporary in waiting.values():
                temporary.unlink(missing_ok=True)


def remove_remains(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a directory."""
    if os.name != "posix":  # elsewhere os.kill asks nothing: it kills
        return
    for path in folder.glob(f".*{TEMPORARY}"):
        pid = path.name.split(".")[-3]
        if pid.isdecimal() and not _alive(int(pid)):
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside a file that no other thread or process writes to."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")


def _write(temporary: Path, data: bytes, path: Path) -> None:
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True
