"""The table of benchmarks/19: what is counted where, and the page it goes into."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "19_reliability.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reliability", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reliability"] = module
    spec.loader.exec_module(module)
    return module


def test_lines_and_their_columns(script):
    said = {
        "KeyError: 'x'": "foreign exceptions",
        "casadi.CasadiException: no": "foreign exceptions",
        "a traceback: status 1": "tracebacks",
        "ValueError: Traceback (most recent call last)": "tracebacks",
        "wrong: the table differs": "stale or wrong",
        "accepted a damaged file": "stale or wrong",
    }
    assert {line: script.column_of(line) for line in said} == said
    row = script.Row("files", 9, 1.4, [(i, line) for i, line in enumerate(said)])
    assert script.table([row], ["kills"]) == [
        "| kind | count | foreign exceptions | tracebacks | stale or wrong | seconds |",
        "|---|--:|--:|--:|--:|--:|",
        "| files | 9 | 2 | 2 | 2 | 1 |",
        "| kills: no generator | 0 | | | | |",
    ]


def test_what_a_trial_raises_is_counted(script, monkeypatch):
    def trial(seed):
        if seed == 1:
            raise KeyError("x")
        return None if seed else "wrong: 0"

    monkeypatch.setattr(script, "trial_of", lambda kind: trial)
    made = script.row("files", range(3), 1)
    assert made.lines == [(0, "wrong: 0"), (1, "KeyError: 'x'")]
    assert made.numbers() == [1, 0, 1]


def test_the_page(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\nold\n".join(script.MARKS) + "\nafter\n")
    script.write(page, ["| new |"], ["--kills", "3"])
    assert page.read_text() == (
        f"before\n{script.MARKS[0]}\nMade by `python benchmarks/19_reliability.py --kills 3`:\n\n"
        f"| new |\n{script.MARKS[1]}\nafter\n"
    )
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="--write: got"):
        script.write(page, [], [])
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert [text.count(mark) for mark in script.MARKS] == [1, 1]


@pytest.mark.slow
def test_one_kind_from_the_command_line():
    line = [sys.executable, SCRIPT, "--only", "problems", "--seed", "3", "--problems", "2"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| problems | 2 | 0 | 0 | 0 |" in done.stdout
