"""Ritz pairs against dense eigenvalues of the pencil H v = θ A v."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.lanczos import lowest_curvature, ritz_pairs

from .functions import EPS, dense, space_of


def symmetric(rng, size):
    M = rng.standard_normal((size, size))
    return M + M.T


@pytest.fixture
def pencil():
    """H and A of 12 entries, and the space of A."""
    space = space_of(constants=4, path=8)
    return symmetric(np.random.default_rng(2), space.size), dense(space.metric, space.size), space


def test_a_whole_krylov_space_gives_every_eigenpair(pencil):
    """cond A is at most 300, ‖H‖ about 10: 12 · 300 · 10 ε = 8e-12."""
    H, A, space = pencil
    start = np.random.default_rng(3).standard_normal(space.size)
    values, vectors, residuals = ritz_pairs(
        H.__matmul__, space.riesz, space.metric, start, space.size
    )
    np.testing.assert_allclose(values, eigh(H, A)[0], atol=1e-11)
    np.testing.assert_allclose(vectors @ A @ vectors.T, np.eye(space.size), atol=1e-11)
    np.testing.assert_allclose(H @ vectors.T, (A @ vectors.T) * values, atol=1e-9)
    assert residuals.max() <= 1e-8


def test_every_residual_is_that_of_its_pair_and_bounds_the_distance_to_an_eigenvalue(pencil):
    H, A, space = pencil
    start = np.random.default_rng(4).standard_normal(space.size)
    values, vectors, residuals = ritz_pairs(H.__matmul__, space.riesz, space.metric, start, 5)
    off = H @ vectors.T - (A @ vectors.T) * values
    np.testing.assert_allclose(
        np.sqrt(np.sum(off * np.linalg.solve(A, off), 0)), residuals, rtol=1e-9
    )
    exact = eigh(H, A)[0]
    distance = np.abs(values[:, None] - exact).min(axis=1)
    assert np.all(distance <= residuals + 1e3 * EPS)


def test_an_invariant_krylov_space_ends_the_iterations():
    """A start in the span of three eigenvectors: three pairs, however many steps are allowed."""
    space = space_of(constants=10)
    H = np.diag(np.arange(1.0, 11.0))
    start = np.zeros(10)
    start[[1, 4, 8]] = [1.0, -2.0, 0.5]
    values, _, _ = ritz_pairs(H.__matmul__, space.riesz, space.metric, start, 10)
    np.testing.assert_allclose(values, [2.0, 5.0, 9.0], rtol=1e-12)


@pytest.mark.parametrize("held", [[], [0, 3, 7]])
def test_the_lowest_curvature_is_the_least_eigenvalue_on_the_face(pencil, held):
    H, A, space = pencil
    free = ~np.isin(np.arange(space.size), held)
    value, v = lowest_curvature(H.__matmul__, Face(space, ~free))
    expected = eigh(H[np.ix_(free, free)], A[np.ix_(free, free)])[0][0]
    assert expected < 0
    assert value == pytest.approx(expected, rel=1e-10)
    assert v @ A @ v == pytest.approx(1.0, rel=1e-11)
    assert not v[~free].any()
    assert v @ H @ v == pytest.approx(expected, rel=1e-10)


def test_a_definite_matrix_has_no_negative_curvature(pencil):
    H, A, space = pencil
    shift = 1e-3 - eigh(H, A)[0][0]
    value, v = lowest_curvature((H + shift * A).__matmul__, Face(space, np.zeros(12, dtype=bool)))
    assert value == 0.0
    assert not v.any()
