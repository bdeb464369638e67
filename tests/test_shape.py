"""The package keeps the shape that .ci/shape.py measures."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SHAPE = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "shape.py"))
MEASURES = SHAPE["measures"]()


@pytest.mark.parametrize("name", SHAPE["CEILINGS"])
def test_no_measure_is_above_its_ceiling(name):
    assert MEASURES[name] <= SHAPE["CEILINGS"][name], SHAPE["where"]().get(name)


def test_every_measure_has_a_ceiling():
    assert set(MEASURES) == set(SHAPE["CEILINGS"])
