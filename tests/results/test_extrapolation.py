"""Rates through three levels, and what each further exponent moves the limit by."""

from __future__ import annotations

import math

import pytest

from dnlcontrol.results.extrapolation import corrections, extrapolate, local_rate

LADDERS = ([4, 8, 16], [3, 5, 12], [10, 11, 40])


@pytest.mark.parametrize("depths", LADDERS)
@pytest.mark.parametrize("p", [-0.7, 0.3, 0.5, 1.0, 2.5, 4.0])
def test_three_levels_determine_the_exponent(depths: list[int], p: float):
    """J_L = 3 - 2 L^{-p}, whatever the ladder; the values lose digits with p."""
    values = [3 - 2 * L**-p for L in depths]
    assert local_rate(depths, values) == pytest.approx(p, abs=1e-8)
    if p > 0:
        assert extrapolate(depths, values, (p,))[0] == pytest.approx(3, abs=1e-12)


def test_only_the_last_three_levels_count():
    assert local_rate([1, 4, 8, 16], [99, *(1 / L for L in (4, 8, 16))]) == pytest.approx(1)


@pytest.mark.parametrize("values", [[1.0, 2.0, 1.5], [1.0, 2.0, 2.0], [1.0, math.nan, 0.0]])
def test_no_exponent_fits_what_turns_stops_or_is_no_number(values: list[float]):
    assert math.isnan(local_rate([4, 8, 16], values))


def test_corrections_are_the_columns_of_the_extrapolation_table():
    """With values that a term fits exactly, the next ones move nothing."""
    depths = [4, 8, 16, 32]
    values = [1 + 2 / L + 3 / L**2 for L in depths]
    found = corrections(depths, values, (1.0, 2.0, 3.0))
    one = extrapolate(depths, values, (1.0,))[0]
    assert found == pytest.approx([one - values[-1], 1 - one, 0], abs=1e-14)
    # the second column is what the coarsest of three levels is worth
    assert found[1] == pytest.approx(extrapolate(depths, values, (1.0, 2.0))[0] - one)
    assert corrections([8], [1.0], (1.0,)) == []
