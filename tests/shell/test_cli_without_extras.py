"""The command line where pandas and matplotlib are not installed, and pictures cannot be drawn."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import path
from tests.shell.command_line import STUDY_KEYS, problem_file

NO_PICTURES = "dnlcontrol: no pictures: matplotlib is not installed"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package can be found or imported."""
    find = importlib.util.find_spec
    hidden = ("pandas", "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in hidden else find(n))
    for name in list(sys.modules):
        if name.split(".")[0] in hidden:
            monkeypatch.setitem(sys.modules, name, None)
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)


def test_a_study_keeps_its_table_and_says_that_there_are_no_pictures(cli, bare, tmp_path: Path):
    ran = cli("study", problem_file(tmp_path), "--depths", "1,2", "--out", tmp_path / "run")
    assert ran.status == 0
    assert "J_L" in ran.out
    assert "table and solutions in" in ran.out
    assert ran.err.startswith(NO_PICTURES)
    assert ran.err.count("\n") == 1
    lines = (tmp_path / "run" / "table.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["depth", "1", "2"]
    assert not list((tmp_path / "run").glob("*.png"))


def test_json_stays_alone_on_standard_output(cli, bare, tmp_path: Path):
    folder = tmp_path / "run"
    ran = cli("study", problem_file(tmp_path), "--depths", "1,2", "--out", folder, "--json")
    assert set(ran.json) >= STUDY_KEYS
    assert ran.err.startswith(NO_PICTURES)


def test_the_table_is_the_one_that_pandas_writes(tmp_path: Path):
    pd = pytest.importorskip("pandas")
    study = dnl.study(path(), [1, 2, 4], exact_to=1, directory=tmp_path)
    study.table().to_csv(tmp_path / "by_pandas.csv")
    ours, theirs = (pd.read_csv(tmp_path / n) for n in ("table.csv", "by_pandas.csv"))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert (tmp_path / "table.csv").read_text() == (tmp_path / "by_pandas.csv").read_text()
    assert np.isnan(ours["controls_L2_step"][0])
