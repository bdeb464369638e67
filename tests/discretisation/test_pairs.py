"""The table of pairs (l, s) against loops over its definition."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.pairs import Pairs
from dnlcontrol.discretisation.rules import RULES

every_table = pytest.mark.parametrize(
    ("rule", "markov", "depth"),
    [(rule, markov, depth) for rule in RULES for markov in (False, True) for depth in (1, 2, 5)],
)


def table(rule: str, markov: bool, depth: int) -> Pairs:
    return Pairs.of(Grid(depth, 1.7, rule), markov)


def by_loops(grid: Grid, markov: bool) -> list[tuple[int, int]]:
    """Each source's layers: the later ones (or the next).

    Itself first where samples sit at the nodes.
    """
    found = []
    for s in range(grid.depth + grid.at_nodes):
        last = min(s + 1, grid.depth) if markov else grid.depth
        found += [(l, s) for l in range(s if grid.at_nodes else s + 1, last + 1)]
    return found


def sums(weight: np.ndarray, grid: Grid) -> np.ndarray:
    """z^l = Σ_{s<l} c_s k_{l,s} + d_l k_{l,l} by loops, from k (L+1, L+1)."""
    z = np.zeros(grid.depth + 1)
    for l in range(grid.depth + 1):
        for s in range(l):
            z[l] += grid.later[s] * weight[l, s]
        z[l] += grid.own[l] * weight[l, l]
    return z


@every_table
def test_pairs_stand_column_by_column(rule, markov, depth):
    pairs = table(rule, markov, depth)
    assert list(zip(pairs.layers, pairs.sources, strict=True)) == by_loops(pairs.grid, markov)
    assert len(pairs) == len(pairs.layers)


@every_table
def test_starts_own_and_columns_point_into_the_table(rule, markov, depth):
    pairs = table(rule, markov, depth)
    rows = by_loops(pairs.grid, markov)
    first = [rows.index(next(p for p in rows if p[1] == s)) for s in range(pairs.grid.side)]
    assert pairs.starts.tolist() == first
    if pairs.grid.at_nodes:
        assert pairs.own is not None
        assert pairs.own.tolist() == [rows.index((l, l)) for l in range(depth + 1)]
    else:
        assert pairs.own is None
    assert len(pairs.columns) == depth
    for s, column in enumerate(pairs.columns):
        later = [(l, s) for l in range(depth + 1)[pairs.reached(s)]]
        assert rows[column] == later
        assert later == [p for p in rows if p[1] == s and p[0] > s]


@every_table
def test_weighted_pairs_sum_to_the_integrals(rule, markov, depth):
    """A kernel of (t, s), or of s alone in the Markov case, whose layers hand on what they have."""
    pairs = table(rule, markov, depth)
    grid = pairs.grid
    k = np.random.default_rng(3).standard_normal((depth + 1, depth + 1))
    if markov:
        k = np.broadcast_to(k[0], k.shape)
    expected = sums(k, grid)
    z = np.zeros(depth + 1)
    terms = k[pairs.layers, pairs.sources]
    if markov:
        np.add.at(z, pairs.layers, pairs.increments * terms)
        z = np.cumsum(z)
    else:
        np.add.at(z, pairs.layers, pairs.weights * terms)
    np.testing.assert_allclose(z, expected, rtol=0, atol=1e-14)


@every_table
def test_cotangents_are_the_slopes_of_the_pairs_contributions(rule, markov, depth):
    """Σ_l ζ_l z^l with z linear in the contributions: each slope by switching on one pair alone.

    In the Markov case ζ_l are the direct slopes and z̄^l = ζ_l + z̄^{l+1} carries the later layers;
    a contribution to (l, l) stays in its own layer, as one of (l + 1, l) is handed on.
    """
    pairs = table(rule, markov, depth)
    zeta = np.random.default_rng(4).standard_normal((depth + 1, 2, 3))
    zbar = np.cumsum(zeta[::-1], axis=0)[::-1] if markov else zeta
    got = pairs.cotangents(zbar)
    assert got.shape == (len(pairs), 2, 3)
    for i, (l, s) in enumerate(by_loops(pairs.grid, markov)):
        z = np.zeros(depth + 1)
        if markov and l > s:
            z[l:] = 1.0
        else:
            z[l] = 1.0
        np.testing.assert_allclose(got[i], np.tensordot(z, zeta, 1), rtol=0, atol=1e-14)
