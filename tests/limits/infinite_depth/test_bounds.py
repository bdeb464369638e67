"""Bounds of the error of finite depth where they are known exactly, and the depths they give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dnlcontrol.limits import infinite_depth as D
from dnlcontrol.limits.infinite_depth.rounding import vector_norm
from tests.limits.infinite_depth.cases import NORMS


@pytest.mark.parametrize("norm", NORMS)
def test_the_bound_is_attained(norm):
    """W_k = 1 + k^-2, b = 0, x > 0: N_∞ = x sinh(π)/π, and the bound is the error itself.

    The excess of log Π_n: beyond K = 512 terms k^-2 stands for its log1p, Σ k^-4/2 = (n+K)^-3/6,
    and the midpoint rule for the sum, (s/24) (n+K)^-3 = (n+K)^-3/12; relative to the bound it is
    multiplied by e^S/(e^S - 1).
    """
    stack = D.from_rule(lambda k: (1 + 1 / k**2, 0.0), tail=D.Tail(D.PowerLaw(1, 2), D.Zero()))
    for n in (0, 1, 7, 100):
        report = D.certify(stack, 2.0, depth=n, norm=norm)
        true = 2 * np.sinh(np.pi) / np.pi - stack(2.0, n)[0]
        growth = true / report.state_norm  # e^S - 1
        excess = 0.25 * (n + 512.0) ** -3 * (1 + growth) / growth
        assert (
            -1e-11 <= report.bound / true - 1 <= excess + 1e-11
        )  # 1e-11: rounding of 100 layers, cancellation in true
        assert report.vacuous == (report.bound > report.state_norm)


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.9, 1.0])
def test_the_negative_part_of_a_leaky_network(slope):
    """W = I, b = 0 beyond: the negative part is lost for slope < 1, nothing for slope 1.

    Both hold exactly.
    """
    stack = D.Stack([np.eye(2)], slope=slope)
    report = D.certify(stack, [-1.0, 2.0], norm=1, tail=D.Zero())
    assert report.bound == pytest.approx(0.0 if slope in (0.0, 1.0) else slope, abs=1e-12)


def test_the_bound_is_below_that_with_the_factor_1_plus_a():
    """theory.md has ‖(N_n)_-‖ + (1 + a)(M_∞ - M_n); the factor 1 + a is not needed."""
    tail = D.PowerLaw(0.3, 2)
    slope = 0.7
    x = np.array([1.0, -0.5])
    stack = D.Stack([np.eye(2)], slope=slope, tail=tail)
    report = D.certify(stack, x, norm=2)
    M = vector_norm(stack(x), 2)
    growth = np.exp(tail.log_product_after(1))
    increment = (growth - 1) * M + growth * tail.sum_after(1)
    assert report.bound == pytest.approx(slope * 0.5 + increment, rel=1e-12)
    assert report.bound < slope * 0.5 + (1 + slope) * increment


def test_known_layers_enter_exactly():
    """The bound at depth k < N, by a plain loop.

    (Π_k - 1) ‖N_k‖ + Σ_{j>k} β_j Π_{i>j} (1 + p_i).
    """
    rng = np.random.default_rng(0)
    W = [np.eye(3) + 0.1 * rng.standard_normal((3, 3)) for _ in range(6)]
    b = [0.1 * rng.standard_normal(3) for _ in range(6)]
    stack, x = D.Stack(W, b, tail=D.Zero()), np.ones(3)
    report = D.certify(stack, x)
    for k in range(1, 7):
        M = M_k = np.linalg.norm(stack(x, k))
        for j in range(k, 6):
            M = (1 + np.linalg.norm(W[j] - np.eye(3), 2)) * M + np.linalg.norm(b[j])
        assert np.exp(report.log_bounds[k]) == pytest.approx(M - M_k, rel=1e-11, abs=1e-14)
    assert D.certify(stack, x, depth=2).bound == pytest.approx(np.exp(report.log_bounds[2]))


def test_the_log_domain_outlives_overflow():
    stack = D.from_rule(
        lambda k: (np.eye(1) * (1 + 3000 / k**2), None), tail=D.Tail(D.PowerLaw(3000, 2), D.Zero())
    )
    report = D.certify(stack, 1.0, depth=1)
    # Π (1 + c/k²) = sinh(π√c)/(π√c): log = π√c - log(2π√c) for large c
    root = np.pi * np.sqrt(3000)
    # beyond the 512 terms c/k² stands for its log1p: the excess is Σ_{k>513} (c/k²)²/2 = c²/(6 ·
    # 513³) = 0.0111
    assert 0 <= report.log_bound - (root - np.log(2 * root)) <= 0.0112
    assert report.vacuous
    huge = D.certify(stack, 1.0, depth=1, tail=D.Tail(D.PowerLaw(1e6, 2), D.Zero()))
    assert huge.bound == np.inf
    assert np.isfinite(huge.log_bound)
    assert huge.vacuous
    assert "e^" in str(huge)


def test_the_computed_state_is_within_its_rounding():
    """Against extended precision (64-bit mantissa), whose own error is 2^11 times smaller."""
    rng = np.random.default_rng(3)
    for residual, norm in itertools.product((False, True), NORMS):
        M = 2 if residual else 1
        W = [
            [
                (0 if residual else 1) * np.eye(5) + 0.3 * rng.standard_normal((5, 5))
                for _ in range(M)
            ]
            for _ in range(60)
        ]
        b = [[rng.standard_normal(5) for _ in range(M)] for _ in range(60)]
        x = rng.standard_normal(5)
        exact = x.astype(np.longdouble)
        for weights, biases in zip(W, b, strict=True):
            z = exact
            for m, (A, c) in enumerate(zip(weights, biases, strict=True)):
                u = A.astype(np.longdouble) @ z + c
                z = np.maximum(u + exact if residual and m == M - 1 else u, 0)
            exact = z
        stack = (
            D.Stack(W, b, residual=True)
            if residual
            else D.Stack([w[0] for w in W], [c[0] for c in b])
        )
        error = float(np.linalg.norm((stack(x) - exact).astype(float), norm))
        report = D.certify(stack, x, norm=norm)
        assert 0 < error <= report.rounding


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_depth_for_is_the_first_depth_below_eps(slope):
    stack = D.from_rule(
        lambda k: (np.eye(2) + np.diag([1.0, -1.0]) / k**2, [-0.5 / k**3, 0.0]),
        slope=slope,
        tail=D.Tail(D.PowerLaw(1, 2), D.PowerLaw(0.5, 3)),
    )
    x = np.array([1.0, -1.0])
    report = D.certify(stack, x, depth=50)
    for eps in (3.0, 0.3, 0.05, 1e-2):
        n = report.depth_for(eps)
        exact = D.certify(stack, x, depth=n)
        assert exact.bound <= eps * (1 + 1e-9)
        if 0 < n <= 50:
            assert np.exp(report.log_bounds[n - 1]) > eps
    far = report.depth_for(1e-9)
    assert 1e8 < far < 1e11
    assert report.depth_for(1e-300) is None
    zero = D.certify(D.Stack([np.eye(2) * 2, np.eye(2), np.eye(2)], tail=D.Zero()), np.ones(2))
    assert zero.depth_for(1e-12) == 1


def test_depth_for_of_a_contraction():
    stack = D.from_rule(lambda k: (0.5 + 0.3 * 0.9**k, 1.0))
    given = D.Contraction(0.5, 1.0, D.Geometric(0.3, 0.9), D.Zero())
    report = D.certify(stack, 1.0, depth=5, hypotheses=given)
    n = report.depth_for(1e-6)
    assert abs(stack(1.0, n)[0] - 2.0) <= 1e-6
    assert n < 200


def test_layers_that_shrink_have_no_bound_before_them():
    """A first layer 4 -> 2 does not perturb the identity; from there on everything holds."""
    stack = D.Stack([0.5 * np.ones((2, 4)), np.eye(2) * 1.1], tail=D.PowerLaw(0.1, 3))
    report = D.certify(stack, np.ones(4))
    assert list(np.isfinite(report.log_bounds)) == [False, True, True]
    assert report.network == "converges"
    assert not report.vacuous
