"""Faces of a box against dense blocks of the metric."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.minimise.faces import Face, complementarity, held_entries, stationarity

from .functions import dense, space_of


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_riesz_map_of_a_face_inverts_the_free_block_of_the_metric(share):
    """The H¹ metric of a path has a condition number of at most 4L² + 1 = 257.

    1e-12 is 20 times what a solve loses.
    """
    rng = np.random.default_rng(1)
    space = space_of(constants=3, path=8, lower=-1.0, upper=1.0)
    held = rng.random(space.size) < share
    face, A, r = Face(space, held), dense(space.metric, space.size), rng.standard_normal(space.size)
    expected = np.zeros(space.size)
    if not held.all():
        expected[~held] = np.linalg.solve(A[np.ix_(~held, ~held)], r[~held])
    np.testing.assert_allclose(face.riesz(face.restrict(r)), expected, rtol=0, atol=1e-12)
    norm = np.sqrt(r[~held] @ expected[~held])
    assert face.dual_norm(r) == pytest.approx(norm, rel=1e-12)


def test_an_entry_is_held_where_a_gradient_step_leaves_the_box():
    """The constants' metric is Euclidean: w - r is compared with the bounds."""
    space = space_of(constants=4, lower=-1.0, upper=1.0)
    w, r = np.array([0.9, 0.9, -1.0, -1.0]), np.array([-0.2, 0.2, 0.5, -0.5])
    np.testing.assert_array_equal(held_entries(space, w, r), [True, False, True, False])
    assert complementarity(space, w, r) == pytest.approx(0.1, rel=1e-14)
    assert stationarity(space, w, r) == pytest.approx(np.hypot(0.2, 0.5), rel=1e-14)


def test_without_bounds_nothing_is_held():
    space = space_of(constants=2)
    w = np.array([1e6, -1e6])
    assert not held_entries(space, w, w).any()
    assert complementarity(space, w, w) == 0.0
