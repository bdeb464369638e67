"""Packing of samples by column, dense arrays and the mirror across the diagonal."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.discretisation.space.samples import DEPTHS, EVERY, HORIZON, draw, flip, layout, sites


@pytest.mark.parametrize(("place", "L"), EVERY)
def test_sites_are_packed_by_column(place, L):
    found, expected = layout(place, L), sites(place, L)
    assert found.count == len(expected)
    if place == "constant":
        assert found.positions == ()
        return
    tau = HORIZON / L
    assert [found.index(*site) for site in expected] == list(range(found.count))
    if place == "triangle":
        assert list(zip(found.layers, found.sources, strict=True)) == expected
        centres = [((l - 0.5) * tau, (s + 0.5) * tau) for l, s in expected]
    else:
        assert found.sources.tolist() == [l for (l,) in expected]
        centres = [((l + (0.0 if found.at_nodes else 0.5)) * tau,) for (l,) in expected]
    np.testing.assert_allclose(np.transpose(found.positions), centres, rtol=1e-14)


@pytest.mark.parametrize("L", DEPTHS)
def test_a_column_is_one_block(L):
    """Column s holds w^{s+1,s}, ..., w^{L,s}; the columns follow each other without gaps."""
    found, end = layout("triangle", L), 0
    for s in range(L):
        column = found.column(s)
        assert column.start == end
        assert column.step is None
        expected = [(l, s) for l in range(s + 1, L + 1)]
        assert list(zip(found.layers[column], found.sources[column], strict=True)) == expected
        end = column.stop
    assert end == found.count


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("place", "L"), EVERY)
def test_dense_and_packed_are_inverse(place, L, shape):
    found = layout(place, L)
    values = draw(found.count, *shape)
    dense = found.dense(values)
    if place == "triangle":
        assert dense.shape == (L, L, *shape)
        for l in range(1, L + 1):
            for s in range(L):
                if s < l:
                    assert np.array_equal(dense[l - 1, s], values[found.index(l, s)])
                else:
                    assert np.all(np.isnan(dense[l - 1, s]))
    else:
        assert np.array_equal(dense, values[0] if place == "constant" else values)
    assert np.array_equal(found.packed(dense), values)
    assert not np.shares_memory(dense, values)


@pytest.mark.parametrize(
    ("place", "index"),
    [
        ("triangle", (0, 0)),
        ("triangle", (2, 2)),
        ("triangle", (4, 0)),
        ("triangle", (2, -1)),
        ("triangle", (2,)),
        ("path", (3,)),
        ("path", (-1,)),
        ("path", (1, 0)),
        ("path at nodes", (4,)),
        ("constant", (1,)),
    ],
)
def test_sites_that_are_not_there(place, index):
    with pytest.raises(dnl.InputError, match=r"at\(.*allowed: 0 <= "):
        layout(place, 3).index(*index)


@pytest.mark.parametrize("L", DEPTHS)
def test_mirrored_is_the_flip_across_the_diagonal(L):
    """a_ij = a_ji = w^{max(i,j)+1, min(i,j)}."""
    found = layout("triangle", L)
    values = draw(found.count, 2)
    square = found.mirrored(values)
    for i in range(L):
        for j in range(L):
            assert np.array_equal(square[i, j], values[found.index(max(i, j) + 1, min(i, j))])


@pytest.mark.parametrize("L", DEPTHS)
def test_the_mirrored_array_is_symmetric_and_packs_again(L):
    """The mirrored array is symmetric, its diagonal is w^{i+1,i}.

    Every sample appears once or twice.
    """
    found = layout("triangle", L)
    w = draw(found.count, 2)
    a = found.mirrored(w)
    assert np.array_equal(a, flip(L, w))
    assert np.array_equal(a, a.transpose(1, 0, 2))
    for i in range(L):
        assert np.array_equal(a[i, i], w[found.index(i + 1, i)])
    assert np.array_equal(found.packed(a), w)
