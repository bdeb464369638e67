"""One writer at a time in a run directory; readers are never kept out.

The lock is the operating system's on a file in the directory, which ends with its process: what a
killed run leaves behind keeps nobody out.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from dnlcontrol import checks
from dnlcontrol.files.atomic import make_directory, remove_remains

LOCK = ".lock"
Writer = tuple[int, int]  # process and thread
_held: dict[Path, Writer] = {}


@contextmanager
def held(folder: Path, argument: str = "directory") -> Iterator[None]:
    """The right to write in an existing directory; within it, the same thread has it at once.

    Raises
    ------
    InputError where another process or thread has it, which it names, or where no file can be made.
    """
    place, writer = folder.resolve(), (os.getpid(), threading.get_ident())
    if _held.get(place) == writer:
        yield
        return
    with _locked(place / LOCK, argument):
        _held[place] = writer
        remove_remains(place)
        try:
            yield
        finally:
            del _held[place]


@contextmanager
def held_or_none(directory: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """:func:`held` on a directory that is made where there is none; nothing for None."""
    if directory is None:
        yield None
        return
    folder = make_directory(directory)
    with held(folder):
        yield folder


@contextmanager
def _locked(path: Path, argument: str) -> Iterator[None]:
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        allowed = "another directory, or wait until that run has ended"
        checks.reject(argument, f"{path.parent}, in use by {_holder(path)}", allowed)
    except PermissionError as error:
        seen = f"{path.parent} ({error.strerror})"
        checks.reject(argument, seen, "a directory that can be written to")
    try:
        with suppress(OSError):  # on a full disk it is a lock without a name
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        # before the release: whoever has opened it meanwhile sees that it is gone
        with suppress(OSError):
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
