"""Bad problem files and parameters are refused with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dnlcontrol.problem.from_file import load_problem, parse_parameters
from tests.bad_files import written
from tests.bad_input import assert_told, noting


def file(folder: Path, text: str, **parameters: Any) -> Any:
    """A problem file's ProblemFile."""
    return load_problem(str(written(folder, "mine.py", text.encode()) / "mine.py"), parameters)


def reference(folder: Path, text: str) -> Any:
    return file(folder, f"def problem(): ...\n{text}").reference()


ROWS = [
    noting(
        lambda: load_problem("no_such"), "PROBLEM", "no_such", "t7_h1_triangle", "unknown problem"
    ),
    noting(
        lambda: load_problem("no_such.py"),
        "PROBLEM",
        "no_such.py (no such file)",
        "a .py file",
        "missing file",
    ),
    noting(
        lambda: parse_parameters(["alpha"]),
        "-p",
        "'alpha'",
        "name=value",
        "parameter without a value",
    ),
    noting(
        lambda: parse_parameters(["2a=1"]),
        "-p",
        "'2a=1'",
        "name=value",
        "parameter with a wrong name",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


FILES = [
    noting(
        lambda d: file(d, "def problem(:"),
        "PROBLEM",
        "SyntaxError",
        "can be imported",
        "syntax error",
    ),
    noting(
        lambda d: file(d, "1 / 0"),
        "PROBLEM",
        "ZeroDivisionError",
        "can be imported",
        "file that raises",
    ),
    noting(
        lambda d: file(d, "import sys; sys.exit(0)"),
        "PROBLEM",
        "SystemExit",
        "can be imported",
        "file that exits",
    ),
    noting(
        lambda d: file(d, "x = 1"),
        "PROBLEM",
        "no function problem()",
        "problem(**parameters)",
        "no problem in it",
    ),
    noting(
        lambda d: file(d, "def problem(): return 3").problem(),
        "mine.py: problem()",
        "3",
        "a ControlProblem",
        "returns 3",
    ),
    noting(
        lambda d: file(d, "def problem(): 1 / 0").problem(),
        "mine.py: problem()",
        "ZeroDivisionError",
        "that runs",
        "problem() that raises",
    ),
    noting(
        lambda d: file(d, "def problem(a=1): ...", b=2).problem(),
        "-p b",
        "'b'",
        "parameters of mine.py: a",
        "unknown parameter",
    ),
    noting(
        lambda d: reference(d, "def reference(): 1 / 0"),
        "mine.py: reference()",
        "ZeroDivisionError",
        "that runs",
        "reference() that raises",
    ),
    noting(
        lambda d: reference(d, "def reference(): return 0.5"),
        "mine.py: reference()",
        "0.5",
        "a Reference",
        "reference() that returns a number",
    ),
    noting(
        lambda d: reference(d, "reference = 0.5"),
        "mine.py: reference",
        "0.5",
        "a function",
        "reference = number",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), FILES)
def test_the_message_about_a_file_names_argument_seen_and_allowed(
    call, argument: str, seen: str, allowed: str, tmp_path: Path
):
    assert_told(lambda: call(tmp_path), argument, seen, allowed)


def test_a_rejected_parameter_means_no_reference(tmp_path: Path):
    text = "from dnlcontrol import checks\ndef reference(): checks.reject('alpha', 1, 'alpha = 0')"
    assert reference(tmp_path, text) is None
