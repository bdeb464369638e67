"""The affine form of a piecewise linear stack in a region."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D
from tests.limits.infinite_depth.cases import EPS


def test_affine_form_is_the_network_and_the_explicit_formula():
    """N_n = (J_nW_n...J_1W_1) x + Σ_i (J_nW_n...J_{i+1}W_{i+1}) J_i b_i.

    Rounding n (d + 3) EPS of the size.
    """
    rng = np.random.default_rng(6)
    for slope in (0.0, 0.2):
        W, b = rng.standard_normal((8, 5, 5)) / 2, rng.standard_normal((8, 5))
        stack, x = D.Stack(W, b, slope=slope), rng.standard_normal(5)
        J = D.activation_matrices(stack, x)
        form = D.affine_form(stack, x)
        A = np.linalg.multi_dot([J[i] @ W[i] for i in reversed(range(8))])
        c = sum(
            np.linalg.multi_dot([np.eye(5), *(J[k] @ W[k] for k in range(7, i, -1)), J[i] @ b[i]])
            for i in range(8)
        )
        size = np.abs(form.matrix).sum() + np.abs(x).sum() + np.abs(b).sum() + 1
        tolerance = 8 * 8 * EPS * size * np.prod([max(1, np.linalg.norm(w, 2)) for w in W])
        np.testing.assert_allclose(form.matrix, A, atol=tolerance, rtol=0)
        np.testing.assert_allclose(form.offset, c, atol=tolerance, rtol=0)
        np.testing.assert_allclose(form(x), stack(x), atol=tolerance, rtol=0)
        assert [list(p) for p in D.activation_pattern(stack, x)] == [
            list(np.diag(j) == 1) for j in J
        ]
        near = x + 1e-9 * rng.standard_normal(5)
        np.testing.assert_allclose(form(near), stack(near), atol=tolerance, rtol=0)


def test_affine_form_is_the_network_for_residual_convolutional_and_wide_stacks():
    rng = np.random.default_rng(7)
    residual = D.Stack(
        rng.standard_normal((4, 3, 5, 5)) / 3, rng.standard_normal((4, 3, 5)), residual=True
    )
    conv = D.Stack(
        [D.Convolution(rng.standard_normal((2, 2, 3)), (4,))] * 3, rng.standard_normal((3, 2))
    )
    wide = D.Stack([D.Toeplitz(rng.standard_normal(3), 4), rng.standard_normal((8, 6))])
    for stack in (residual, conv, wide):
        x = rng.standard_normal(stack.width)
        form = D.affine_form(stack, x)
        np.testing.assert_allclose(
            form(x), stack(x), rtol=1e-12, atol=1e-12 * np.abs(form.matrix).max()
        )
    assert len(D.activation_pattern(residual, np.ones(5))) == 12
    with pytest.raises(dnl.InputError, match="piecewise linear"):
        D.affine_form(D.Stack([np.eye(2)], activation=np.tanh, lipschitz=1), np.ones(2))
