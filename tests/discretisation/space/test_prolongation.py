"""The way between depths: prolongation samples the extension, restriction averages cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dnlcontrol.discretisation.space.distances import control_distance
from dnlcontrol.discretisation.space.extension import Extension, prolong, restrict
from tests.discretisation.space.samples import EXACT, HORIZON, ON, draw, flip, layout

PAIRS = [(1, 4), (3, 5), (4, 8), (8, 4), (6, 6), (5, 2), (2, 6)]


@pytest.mark.parametrize("place", ON)
@pytest.mark.parametrize(("coarse", "fine"), PAIRS)
def test_prolongation_samples_the_extension(place, coarse, fine):
    source, target = layout(place, coarse), layout(place, fine)
    w = draw(source.count, 2)
    found = prolong(source, w, target)
    control = Extension("w", source, w)
    assert found.shape == (target.count, 2)
    assert found == pytest.approx(control(*target.positions), rel=0, abs=EXACT)
    if coarse == fine:
        assert found == pytest.approx(w, rel=0, abs=EXACT)


@pytest.mark.parametrize("place", ["triangle", "path"])
def test_tripling_the_depth_keeps_the_samples(place):
    """The centres of L are centres of 3L: the finer extension passes through the coarse samples."""
    source, target = layout(place, 4), layout(place, 12)
    w = draw(source.count)
    finer = Extension("w", target, prolong(source, w, target))
    assert finer(*source.positions) == pytest.approx(w, rel=0, abs=EXACT)


def test_nested_nodes_keep_the_function():
    source, target = layout("path at nodes", 3), layout("path at nodes", 6)
    v, t = draw(source.count, 2), np.linspace(0, HORIZON, 50)
    finer = Extension("v", target, prolong(source, v, target))
    assert finer(t) == pytest.approx(Extension("v", source, v)(t), rel=0, abs=EXACT)
    assert restrict(target, finer.values, source) == pytest.approx(v, rel=0, abs=EXACT)


@pytest.mark.parametrize("place", ["triangle", "path"])
@pytest.mark.parametrize(("fine", "coarse"), PAIRS)
def test_restriction_averages_the_cells(place, fine, coarse):
    """Against the mean over a grid on which both depths' cells are unions of cells."""
    source, target = layout(place, fine), layout(place, coarse)
    w, n = draw(source.count, 2), math.lcm(fine, coarse)
    cell = (np.arange(n) * fine) // n
    values = flip(fine, w)[np.ix_(cell, cell)] if place == "triangle" else w[cell]
    for _ in range(1 if place == "path" else 2):
        values = np.moveaxis(values.reshape(coarse, n // coarse, *values.shape[1:]).mean(1), 0, -2)
    expected = values if place == "path" else target.packed(values)
    assert restrict(source, w, target) == pytest.approx(expected, rel=0, abs=EXACT)


@pytest.mark.parametrize("place", ON)
@pytest.mark.parametrize(("coarse", "fine"), [(3, 6), (4, 12), (3, 5), (1, 3)])
def test_constants_survive_both_ways(place, coarse, fine):
    source, target = layout(place, coarse), layout(place, fine)
    w = np.full((source.count, 2), 1.25)
    up = prolong(source, w, target)
    assert up == pytest.approx(1.25, rel=EXACT)
    assert restrict(target, up, source) == pytest.approx(1.25, rel=EXACT)


@pytest.mark.parametrize("factor", [2, 3])
def test_linear_functions_survive_away_from_the_boundary(factor):
    """The cells away from the ends and from the diagonal.

    On the path all cells but the two end cells; on the triangle all that touch neither t = T nor
    s = 0 and, unless the function is one of t + s, lie two cells off the diagonal, where the mirror
    bends it.
    """
    L = 6
    source, target = layout("path", L), layout("path", factor * L)
    v = 2.0 - 3.0 * source.line
    back = restrict(target, prolong(source, v, target), source)
    assert back[1:-1] == pytest.approx(v[1:-1], rel=1e-13)
    # flat in the outer half cells
    assert abs(back[0] - v[0]) > 0.01
    assert abs(back[-1] - v[-1]) > 0.01
    source, target = layout("triangle", L), layout("triangle", factor * L)
    t, s = source.positions
    l, j = source.layers, source.sources
    inside = (l < L) & (j > 0)
    for w, kept in ((1.0 + 2.0 * (t + s), inside), (1.0 + 2.0 * t - s, inside & (l - 1 - j >= 2))):
        back = restrict(target, prolong(source, w, target), source)
        assert kept.sum() >= 3
        assert back[kept] == pytest.approx(w[kept], rel=1e-13)


def test_prolonged_controls_come_close():
    """‖Î_{kL} P w - Î_L w‖ falls to 0 as k grows, with order 1.5.

    What is left comes from the outer half cells of width τ/2k.
    """
    source = layout("triangle", 3)
    w = draw(source.count)
    found = []
    for k in (8, 16):
        target = layout("triangle", 3 * k)
        found.append(control_distance(source, w, target, prolong(source, w, target)))
    assert found[1] < found[0] / 2
