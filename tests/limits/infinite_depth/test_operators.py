"""Norms of convolutions and Toeplitz matrices against their full matrices."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.limits import infinite_depth as D
from dnlcontrol.limits.infinite_depth.operators import Matrix
from tests.limits.infinite_depth.cases import NORMS, convolution_matrix


@pytest.mark.parametrize("norm", NORMS)
def test_filter_bounds_hold(norm):
    rng = np.random.default_rng(5)
    for _ in range(20):
        out = int(rng.integers(1, 4))
        conv = D.Convolution(rng.standard_normal((out, 2, 3, 5)), (4, 6))
        full = convolution_matrix(conv.filters, (4, 6))
        np.testing.assert_allclose(conv.matrix(), full, atol=1e-15)
        assert np.linalg.norm(full, norm) <= conv.norm(norm)
        toeplitz = D.Toeplitz(rng.standard_normal(4), 6)
        assert np.linalg.norm(toeplitz.matrix(), norm) <= toeplitz.norm(norm)
        for operator in (conv, toeplitz, Matrix(rng.standard_normal((6, 4)))):
            matrix = operator.matrix()
            off = operator.off_identity(norm)
            if operator.rows < operator.columns:
                assert off == np.inf
                continue
            assert np.linalg.norm(matrix - np.eye(*matrix.shape), norm) <= off
    w = np.array([1.5, -0.25, 0.125])
    # |w_0 - 1| + Σ |w_j|
    assert D.Toeplitz(w, 9).off_identity(norm) == pytest.approx(0.875, rel=1e-14)
