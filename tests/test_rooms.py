"""Tests stand in the room of what they test, and no test file is long."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "dnlcontrol"
LONGEST = 450  # lines; a file of more tests several things
FILES = sorted(TESTS.rglob("*.py"))
FOLDERS = sorted({file.parent for file in FILES} - {TESTS})


def below(path: Path) -> str:
    return path.relative_to(TESTS).as_posix()


@pytest.mark.parametrize("folder", FOLDERS, ids=below)
def test_every_folder_is_a_folder_of_the_package(folder: Path):
    assert (PACKAGE / below(folder)).is_dir()
    assert (folder / "__init__.py").is_file(), "two files of one name need packages"


@pytest.mark.parametrize("file", FILES, ids=below)
def test_no_file_is_long(file: Path):
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines: split it by what it tests"
