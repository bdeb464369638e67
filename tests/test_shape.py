"""The package keeps the shape that .ci/shape.py measures; no rule is broken more than before."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / ".ci"
SHAPE = runpy.run_path(str(TOOLS / "shape.py"))
RATCHET = runpy.run_path(str(TOOLS / "ratchet.py"))
MEASURES = SHAPE["measures"]()


@pytest.mark.parametrize("name", SHAPE["CEILINGS"])
def test_no_measure_is_above_its_ceiling(name):
    assert MEASURES[name] <= SHAPE["CEILINGS"][name], SHAPE["where"]().get(name)


def test_every_measure_has_a_ceiling():
    assert set(MEASURES) == set(SHAPE["CEILINGS"])


def test_no_file_breaks_a_rule_more_often_than_its_record_says():
    """A file that moved takes its record along: `make ratchet`.

    It refuses where a rule's total would grow.
    """
    grown = RATCHET["grown"](RATCHET["counts"](), RATCHET["kept"]())
    assert not grown, "\n".join(grown)


def test_growth_is_seen_file_by_file():
    before = {"a.py": {"ARG001": 2}, "b.py": {"SLF001": 1}}
    fell = {"a.py": {"ARG001": 1}}
    moved = {"a.py": {"ARG001": 1}, "c.py": {"ARG001": 1}}
    assert RATCHET["grown"](before, before) == RATCHET["grown"](fell, before) == []
    assert RATCHET["grown"](moved, before) == ["c.py: ARG001 1 times, at most 0"]
    assert RATCHET["totals"](moved) == {"ARG001": 2}
