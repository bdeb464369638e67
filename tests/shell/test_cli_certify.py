"""The command certify, from a run directory or a study."""

from __future__ import annotations

import json
from typing import Any

import dnlcontrol as dnl
from dnlcontrol.results.records import plain
from tests.certificates.cases import solved
from tests.shell.command_line import MINE


def command(*arguments: Any) -> int:
    from dnlcontrol.shell.cli import main

    return main([str(a) for a in arguments])


def test_run_directories_are_certified_with_their_problem_file(tmp_path, capsys):
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(MINE)
    assert (
        command(
            "solve", file, "--depth", 3, "-p", "target=2.5", "--backend", "adjoint", "--out", run
        )
        == 0
    )
    capsys.readouterr()
    assert command("certify", run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True
    assert found["problem"] == "mine"
    assert found["depth"] == 3
    assert command("certify", run) == 0
    assert "passed" in capsys.readouterr().out.splitlines()[0]
    assert plain(dnl.certify(dnl.load(run), seed=0).to_dict()) == found
    # the file has changed since: it runs only where it is named
    file.write_text(MINE.replace("(x - target) ** 2", "2 * (x - target) ** 2"))
    assert command("certify", run) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"the problem file changed since the solve: {file}" in told.err
    assert "--problem FILE" in told.err
    assert told.err.count("\n") == 1
    assert command("certify", run, "--problem", file) == 1
    told = capsys.readouterr()
    assert "FAILED" in told.out
    assert "changed since the solve" in told.err
    assert "terminal cost" in told.err
    file.unlink()
    assert command("certify", run) == 2
    assert f"its problem file {file} is not there" in capsys.readouterr().err
    dnl.solve(solved("bounded").problem, 2, "adjoint").save(tmp_path / "bare")
    assert command("certify", tmp_path / "bare", "--json") == 2
    assert "without its problem file" in capsys.readouterr().err


def test_a_study_is_certified_at_its_deepest_level(tmp_path, capsys):
    assert command("study", "t7_h1_triangle", "--depths", "2,4", "--out", tmp_path) == 0
    capsys.readouterr()
    assert command("certify", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["depth"] == 4


def test_the_tolerance_is_that_of_the_command(tmp_path, capsys):
    """A run that was solved to 1e-3 fails at 1e-8, whatever it says, and passes at 1e-3."""
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(MINE)
    solve = ("solve", file, "--depth", 3, "--backend", "adjoint", "--tolerance", 1e-3)
    assert command(*solve, "--out", run) == 0
    capsys.readouterr()
    assert command("certify", run) == 1
    rows = capsys.readouterr().out.splitlines()
    assert [row.startswith("FAILED  tolerance ") for row in rows].count(True) == 1
    assert command("certify", run, "--tolerance", 1e-3) == 0
    assert command("certify", run, "--tolerance", 0) == 2
    assert "certify.tolerance: got 0.0" in capsys.readouterr().err
