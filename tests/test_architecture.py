"""docs/architecture.md and docs/glossary.md say what is there: walks, imports, files, picture."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

from tests.test_layering import FORWARD, ONWARD, PACKAGE, STAGES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WALKS = {
    title: re.findall(r"^\d+\. `([\w/]+): ([\w.]+)`", text, re.M)
    for title, text in re.findall(r"^### (From .*?)\n(.*?)(?=^##)", PAGE, re.M | re.S)
}
STEPS = [(walk, *step) for walk, steps in WALKS.items() for step in steps]
# `problem/losses.py: name` or `problem/losses.py` on either page
FILES = sorted(set(re.findall(r"`([a-z_]+/[\w/]+\.py)(?:: (\w+))?`", PAGE + GLOSSARY)))


def definitions(path: Path) -> set[str]:
    """Names that a file defines at its top level, and ``Class.member``."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            found.add(ast.unparse(node.target))
        if isinstance(node, ast.ClassDef):
            inner = (n for n in node.body if isinstance(n, ast.FunctionDef))
            found |= {f"{node.name}.{n.name}" for n in inner}
    return found


def test_there_are_two_walks():
    assert len(WALKS) == 2
    assert min(map(len, WALKS.values())) >= 10


@pytest.mark.parametrize(("walk", "file", "name"), STEPS)
def test_every_step_of_a_walk_is_there(walk, file, name):
    assert name in definitions(PACKAGE / f"{file}.py")


@pytest.mark.parametrize("walk", WALKS)
def test_no_file_is_visited_twice(walk):
    files = [file for file, _ in WALKS[walk]]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize(("file", "name"), FILES)
def test_every_named_file_is_there(file, name):
    folder = PACKAGE if file.split("/")[0] in STAGES else ROOT
    assert (folder / file).exists()
    assert not name or name in definitions(folder / file)


def test_the_page_states_the_order_and_the_exceptions_of_the_layering_test():
    assert " < ".join(STAGES) in PAGE
    said = re.findall(r"^\| `[\w.`, ]+ \| `([\w.]+)` \| `([\w.]+)` \|$", PAGE, re.M)
    assert {(f"dnlcontrol.{a}", f"dnlcontrol.{b}") for a, b in said} == FORWARD | ONWARD


def test_the_picture_shows_the_package_as_it_is():
    """After a new file or a new import between stages: `make picture`."""
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    facts = drawn["facts"]()
    assert drawn["facts_in"](drawn["PICTURE"]) == facts
