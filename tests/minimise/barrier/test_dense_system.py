"""Dense quadratic programs with equality rows: the conditions hold, and inertia is told."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.minimise.barrier.dense_system import DenseSystem

EPS = np.finfo(float).eps


def drawn(seed: int, n: int = 8, m: int = 3):
    rng = np.random.default_rng(seed)
    root, C = rng.standard_normal((n, n)), rng.standard_normal((m, n))
    return root @ root.T + np.eye(n), C, rng.standard_normal(n), rng.standard_normal(m)


@pytest.mark.parametrize("seed", range(5))
def test_the_conditions_hold(seed: int):
    """K d + g + Cᵀy = 0 and C d = -r, to rounding times the condition of random matrices."""
    K, C, g, r = drawn(seed)
    d, y = DenseSystem.of(K, C, np.ones(8)).solve(g, r)
    assert np.abs(K @ d + g + C.T @ y).max() < 1e4 * EPS * np.abs(K).max()
    assert np.abs(C @ d + r).max() < 1e4 * EPS


def test_scales_of_barriers_do_no_harm():
    """Diagonals from 1 to 1e12 on half of the entries: the small rows keep their digits."""
    K, C, g, r = drawn(7)
    K = K + np.diag(np.where(np.arange(8) % 2, 1e12, 0.0))
    d, y = DenseSystem.of(K, C, np.ones(8)).solve(g, r)
    assert np.abs((K @ d + g + C.T @ y)[::2]).max() < 1e-10
    assert np.abs(C @ d + r).max() < 1e-10


def test_indefinite_but_definite_on_the_null_space():
    """K = diag(-1, 1) with d_0 fixed by a row is no saddle; without the row it is shifted."""
    K, C = np.diag([-1.0, 1.0]), np.array([[1.0, 0.0]])
    fixed = DenseSystem.of(K, C, np.ones(2))
    assert fixed.shift == 0.0
    d, y = fixed.solve(np.array([0.0, 3.0]), np.array([-2.0]))
    assert np.allclose(d, [2.0, -3.0], rtol=0, atol=10 * EPS)
    assert np.allclose(y, [2.0], rtol=0, atol=10 * EPS)
    assert DenseSystem.of(K, np.zeros((0, 2)), np.ones(2)).shift > 1.0


def test_repeated_rows():
    """Rows that repeat others are left out, their multipliers 0; the others are met."""
    K, C, g, r = drawn(3)
    twice, again = np.vstack([C, C[0]]), np.append(r, r[0])
    d, y = DenseSystem.of(K, twice, np.ones(8)).solve(g, again)
    assert np.abs(twice @ d + again).max() < 1e-12
    assert np.count_nonzero(y) == 3


@pytest.mark.parametrize("where", ["matrix", "rows"])
def test_numbers_that_are_not_finite_make_no_system(where):
    """A state that has overflowed: no shift of the metric helps, and no step is made."""
    parts = {"matrix": np.eye(3), "rows": np.ones((1, 3))}
    assert DenseSystem.of(parts["matrix"], parts["rows"], np.ones(3)) is not None
    parts[where][0, 1] = np.inf
    assert DenseSystem.of(parts["matrix"], parts["rows"], np.ones(3)) is None
