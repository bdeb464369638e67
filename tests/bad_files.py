"""Run directories and what happens to them between saving and loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dnlcontrol as dnl
from tests.bad_input import path, solved

WRITTEN = "written by save or --out"


def written(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def cut(file: Path, length: int = 60) -> None:
    file.write_bytes(file.read_bytes()[:length])


def run(folder: Path, of: Callable[..., dnl.ControlProblem] = path) -> Path:
    solved(of).save(folder)
    return folder


def ladder(folder: Path, **changed: Any) -> Path:
    dnl.study(path(**changed), [1, 2], directory=folder)
    return folder


def after(folder: Path, spoil: Callable[[Path], Any], make: Callable[[Path], Any] = run) -> Any:
    """Load what ``make`` wrote after something happened to it."""
    make(folder)
    spoil(folder)
    return dnl.load(folder)
