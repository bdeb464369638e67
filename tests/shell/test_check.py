"""``check`` fails where value or gradient is not finite, and says where; it says what is idle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.command_line import MINE, problem_file

COST = "(x - target) ** 2"
NOT_FINITE = {
    "a state": (
        MINE.replace("u.u)", "dnl.namespace(x).log(-x) + u.u)"),
        "'kernel' at t = 0.25, s = 0 (layer 1, source 0), sample 0 is nan",
    ),
    "a state that overflows": (
        MINE.replace("u.u)", "dnl.namespace(x).exp(1000 * x) + u.u)"),
        "is inf",
    ),
    "a terminal cost": (
        MINE.replace(COST, "dnl.namespace(x).log(-x)"),
        "'terminal' at t = 1 (layer 4), sample 0 is nan",
    ),
    "a running cost": (
        MINE.replace(
            "terminal=",
            "running=lambda t, x, u: dnl.namespace(x).sqrt(t - 0.5 - x),\n        terminal=",
        ),
        "'running' at t = 0 (layer 0), sample 0 is nan",
    ),
    "a gradient alone": (
        MINE.replace(COST, "dnl.namespace(x).sqrt(x - 1.0)"),
        "stands on the edge of where it is defined",
    ),
    "no controls": (
        MINE.replace("u.u)", "dnl.namespace(x).log(-x))")
        .replace('controls={"u": dnl.Control(())},', "")
        .replace('regularisers=[dnl.L2("u", 1.0)]', ""),
        "is nan",
    ),
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_what_is_not_finite_at_the_start_fails_and_is_named(cli, tmp_path: Path, name: str):
    text, told = NOT_FINITE[name]
    ran = cli("check", problem_file(tmp_path, text), "--depth", 4, "--json")
    assert ran.status == 1, ran
    assert ran.json["passed"] is False
    assert ran.json["not_finite"].startswith("at the start: ")
    assert told in ran.json["not_finite"]


def test_what_is_not_finite_at_the_random_control_fails(cli, tmp_path: Path):
    text = MINE.replace(COST, "dnl.namespace(x).log(1.001 - (x - 1.0) ** 2 * 1e6)")
    ran = cli("check", problem_file(tmp_path, text), "--depth", 4, "--json")
    assert ran.status == 1
    assert ran.json["not_finite"].startswith("at a random control: ")
    assert "'terminal'" in ran.json["not_finite"]


def test_a_sound_problem_passes_without_such_a_line(cli, tmp_path: Path):
    ran = cli("check", problem_file(tmp_path), "--depth", 4, "--json")
    assert ran.status == 0
    assert ran.json["passed"] is True
    assert not {"not_finite", "note"} & set(ran.json)


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        ("terminal=lambda x, c: 1.0", "the cost (terminal) reads neither the state nor a control"),
        ("terminal=None", "there is neither a running nor a terminal cost"),
    ],
)
def test_a_cost_that_no_control_changes_is_said(cli, tmp_path: Path, cost: str, told: str):
    text = MINE.replace(f"terminal=lambda x, c: {COST}", cost)
    assert told in cli("check", problem_file(tmp_path, text), "--depth", 4, "--json").json["note"]
    solved = cli("solve", problem_file(tmp_path, text), "--depth", 2, "--json")
    assert told in solved.json["message"]
