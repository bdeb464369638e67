"""Killed at drawn moments and begun again, a study ends as one that was left alone."""

from __future__ import annotations

import pytest

from tests.generated_kills import KINDS, Kind, differences, tally_of

SMALL = Kind(
    "small study",
    ("study", "t2_scalar_resnet", "--depths", "2,4", "--every", "0"),
    "--out",
)


def test_a_killed_study_ends_as_if_it_had_not_been(tmp_path):
    tally = tally_of(3, seed=0, folder=tmp_path, kinds=[SMALL], fewest=3)
    assert tally.wrong == []
    assert sum(tally.kills.values()) == 3


@pytest.mark.slow
def test_killed_runs_of_every_kind(tmp_path):
    tally = tally_of(9, seed=1, folder=tmp_path)
    assert tally.wrong == []
    assert tally.runs >= len(KINDS)


def test_the_comparison_sees_what_differs():
    right = {"rows": [{"depth": "4", "value": "0.5", "nit": "3"}], "controls": [1.0]}
    path = {"rows": [{"depth": "4", "value": "0.5000000001", "nit": "9"}], "controls": [1.0]}
    assert differences(right, right, exact=True) == []
    assert differences(right, path, exact=False) == []
    assert len(differences(right, path, exact=True)) == 2
    wrong = {"rows": [{"depth": "4", "value": "0.51", "nit": "3"}], "controls": [1.0]}
    assert differences(right, wrong, exact=False) == ["/rows/0/value: 0.5 and 0.51"]
    assert differences(right, {"rows": [], "controls": [1.0]}, exact=False) == ["/rows: 1 and 0"]
