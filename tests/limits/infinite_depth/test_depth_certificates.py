"""Bounds of the error of finite depth, and verdicts, of section 9 of the theory."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D
from dnlcontrol.limits.infinite_depth.operators import Matrix
from dnlcontrol.limits.infinite_depth.rounding import vector_norm

STACKS = 200
DEEP = 2000
LATEST = 30
POOL = 16
NORMS = (1, 2, np.inf)
EPS = np.finfo(float).eps


# -- the true error against depth 2,000
# ------------------------------------------------------------------------


class Batch:
    """200 random stacks with exact tails; every state at depths 0..LATEST and at DEEP from plain
    NumPy.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.norm = np.array([NORMS[i % 3] for i in range(STACKS)])
        self.depth = rng.integers(0, LATEST + 1, STACKS)
        self.power = rng.random(STACKS) < 0.6
        self.c, self.cb = 10 ** rng.uniform(-2, 0, STACKS), 10 ** rng.uniform(-2, 0, STACKS)
        self.s = np.where(self.power, rng.uniform(1.2, 3, STACKS), rng.uniform(0.5, 0.97, STACKS))

    def sizes(self, c: np.ndarray, k: int) -> np.ndarray:
        return c * np.where(self.power, float(k) ** -self.s, np.minimum(self.s, 1.0) ** k)

    def bound(self, c: np.ndarray, i: int) -> D.PowerLaw | D.Geometric:
        return D.PowerLaw(c[i], self.s[i]) if self.power[i] else D.Geometric(c[i], self.s[i])

    def tail(self, i: int) -> D.Tail:
        return D.Tail(self.bound(self.c, i), self.bound(self.cb, i))

    def unit(self, *shape: int) -> np.ndarray:
        """(3, POOL, *shape): matrices or vectors of norm 1 in each of the three norms."""
        made = self.rng.standard_normal((3, POOL, *shape))
        for j, norm in enumerate(NORMS):
            for a in made[j]:
                a /= np.linalg.norm(a, norm) * (1 + 1e-12)
        return made

    def of(self, pool: np.ndarray, k: int) -> np.ndarray:
        """The pool's member of each stack at layer k."""
        i = np.arange(STACKS)
        return pool[i % 3, (i + k) % POOL]

    def follow(self, x: np.ndarray, step) -> tuple[np.ndarray, np.ndarray]:
        early = [x]
        for k in range(1, DEEP + 1):
            x = step(k, x)
            if k <= LATEST:
                early.append(x)
        return np.array(early), x

    def check(self, early: np.ndarray, late: np.ndarray, certify, vacuous_at_most: float) -> None:
        """No bound is exceeded, and most say something."""
        reports = [certify(i) for i in range(STACKS)]
        ratios = []
        for i, report in enumerate(reports):
            true = np.linalg.norm(late[i] - early[self.depth[i], i], self.norm[i])
            # both states are rounded: 2,000 layers of at most (d + 8) EPS, amplified as the bound
            # on the norms is
            size = np.linalg.norm(late[i], self.norm[i]) + report.state_norm
            rounding = DEEP * (late.shape[1] + 8) * EPS * (size + 1)
            assert true <= report.bound + rounding, (i, true, report)
            assert report.network == "converges"
            ratios.append(true / report.bound)
        assert np.mean([r.vacuous for r in reports]) <= vacuous_at_most
        assert np.median(ratios) > 0.02


def inside(
    rng: np.random.Generator, x: np.ndarray, radius: np.ndarray, norm: np.ndarray
) -> np.ndarray:
    """A random point of each ball, half of them on the sphere."""
    step = rng.standard_normal(x.shape)
    for i, row in enumerate(step):
        row *= (
            radius[i] / np.linalg.norm(row, norm[i]) * (1 - 1e-12) * rng.choice([1.0, rng.random()])
        )
    return x + step


def test_plain_leaky_and_balls():
    """Slopes 0 (ReLU), 1 and between; points and balls."""
    batch, d = Batch(1), 4
    rng = batch.rng
    Q, v = batch.unit(d, d), batch.unit(d)
    slope = np.where(rng.random(STACKS) < 0.5, 0.0, rng.random(STACKS))
    slope[::17] = 1.0
    radius = np.where(rng.random(STACKS) < 0.5, 0.0, 0.3 * rng.random(STACKS))
    x = rng.standard_normal((STACKS, d))

    def step(k, y):
        u = y + batch.sizes(batch.c, k)[:, None] * np.einsum("nij,nj->ni", batch.of(Q, k), y)
        u += batch.sizes(batch.cb, k)[:, None] * batch.of(v, k)
        return np.maximum(u, 0) + slope[:, None] * np.minimum(u, 0)

    def certify(i):
        def rule(k):
            j = (i % 3, (i + k) % POOL)
            return np.eye(d) + batch.sizes(batch.c, k)[i] * Q[j], batch.sizes(batch.cb, k)[i] * v[j]

        stack = D.from_rule(rule, tail=batch.tail(i), slope=slope[i])
        return D.certify(
            stack, x[i], depth=int(batch.depth[i]), radius=radius[i], norm=batch.norm[i]
        )

    batch.check(
        *batch.follow(inside(rng, x, radius, batch.norm), step), certify, vacuous_at_most=0.6
    )


@pytest.mark.parametrize("M", [1, 2, 3])
def test_residual(M):
    """W^{n,m} = W~ r_n^(1/M), b^{n,m} = b~ r'_n: p_n = r_n, β_n <= Σ_m r_n^((M-m)/M) r'_n."""
    batch, d = Batch(10 + M), 4
    Q, v = [batch.unit(d, d) for _ in range(M)], [batch.unit(d) for _ in range(M)]
    x = batch.rng.standard_normal((STACKS, d))

    def step(k, y):
        z = y
        root, shift = batch.sizes(batch.c, k) ** (1 / M), batch.sizes(batch.cb, k)
        for m in range(M):
            u = root[:, None] * np.einsum("nij,nj->ni", batch.of(Q[m], k), z) + shift[
                :, None
            ] * batch.of(v[m], k)
            z = np.maximum(u, 0) if m < M - 1 else np.maximum(y + u, 0)
        return z

    def certify(i):
        def rule(k):
            j = (i % 3, (i + k) % POOL)
            root, shift = batch.sizes(batch.c, k)[i] ** (1 / M), batch.sizes(batch.cb, k)[i]
            return [root * Q[m][j] for m in range(M)], [shift * v[m][j] for m in range(M)]

        # c <= 1, so that every power of r_n is at most 1
        tail = D.Tail(batch.bound(batch.c, i), batch.bound(M * batch.cb, i))
        stack = D.from_rule(rule, tail=tail, residual=True)
        return D.certify(stack, x[i], depth=int(batch.depth[i]), norm=batch.norm[i])

    batch.check(*batch.follow(x, step), certify, vacuous_at_most=0.8)


def convolution_matrix(filters: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Entry by entry from the definition."""
    out, channels, *kernel = filters.shape
    matrix = np.zeros((out, *size, channels, *size))
    for i in np.ndindex(*size):
        for j in np.ndindex(*kernel):
            source = tuple(a + b - k // 2 for a, b, k in zip(i, j, kernel, strict=True))
            if all(0 <= a < n for a, n in zip(source, size, strict=True)):
                matrix[(slice(None), *i, slice(None), *source)] = filters[
                    (slice(None), slice(None), *j)
                ]
    return matrix.reshape(out * int(np.prod(size)), -1)


def test_convolutional():
    batch, size = Batch(20), (5,)
    rng = batch.rng
    filters = rng.standard_normal((3, POOL, 2, 2, 3))
    for j, norm in enumerate(NORMS):
        for w in filters[j]:
            w /= D.Convolution(w, size).norm(norm) * (1 + 1e-12)
    P = np.array([[convolution_matrix(w, size) for w in row] for row in filters])
    delta = np.zeros((2, 2, 3))
    delta[0, 0, 1] = delta[1, 1, 1] = 1
    v = batch.unit(10)
    x = rng.standard_normal((STACKS, 10))

    def step(k, y):
        u = y + batch.sizes(batch.c, k)[:, None] * np.einsum("nij,nj->ni", batch.of(P, k), y)
        return np.maximum(u + batch.sizes(batch.cb, k)[:, None] * batch.of(v, k), 0)

    def certify(i):
        def rule(k):
            j = (i % 3, (i + k) % POOL)
            weight = D.Convolution(delta + batch.sizes(batch.c, k)[i] * filters[j], size)
            return weight, batch.sizes(batch.cb, k)[i] * v[j]

        stack = D.from_rule(rule, tail=batch.tail(i))
        return D.certify(stack, x[i], depth=int(batch.depth[i]), norm=batch.norm[i])

    batch.check(*batch.follow(x, step), certify, vacuous_at_most=0.8)


def test_widening_by_toeplitz_filters():
    """Each layer up to 60 widens by two; (w_0 - 1, w_1, w_2) has l1 norm r_k."""
    batch = Batch(30)
    d = 3
    last = 60
    rng = batch.rng
    w = rng.standard_normal((POOL, 3))
    w /= np.abs(w).sum(1, keepdims=True) * (1 + 1e-12)
    x = np.zeros((STACKS, d + 2 * last))
    x[:, :d] = rng.standard_normal((STACKS, d))

    def step(k, y):
        taps = w[(np.arange(STACKS) + k) % POOL] * batch.sizes(batch.c, k)[:, None]
        u = (1 + taps[:, :1]) * y
        if k <= last:
            u[:, 1:] += taps[:, 1:2] * y[:, :-1]
            u[:, 2:] += taps[:, 2:] * y[:, :-2]
        return np.maximum(u, 0)

    def certify(i):
        def rule(k):
            taps = w[(i + k) % POOL] * batch.sizes(batch.c, k)[i]
            width = d + 2 * (min(k, last + 1) - 1)
            return D.Toeplitz(np.eye(1, 3)[0] + taps if k <= last else 1 + taps[:1], width), None

        stack = D.from_rule(rule, tail=D.Tail(batch.bound(batch.c, i), D.Zero()))
        return D.certify(stack, x[i, :d], depth=int(batch.depth[i]), norm=batch.norm[i])

    batch.check(*batch.follow(x, step), certify, vacuous_at_most=0.8)


def test_widening_by_matrices_is_compared_after_zero_padding():
    batch, d = Batch(31), 3
    grows = {2: 4, 7: 5, 30: 6, 300: 7}
    Q, v = batch.unit(7, 7), batch.unit(7)
    x = np.zeros((STACKS, 7))
    x[:, :d] = batch.rng.standard_normal((STACKS, d))

    def width(k):
        return max([d, *(w for at, w in grows.items() if at <= k)])

    def step(k, y):
        mask = np.arange(7) < width(k)
        u = y + batch.sizes(batch.c, k)[:, None] * np.einsum("nij,nj->ni", batch.of(Q, k), y)
        return mask * np.maximum(u + batch.sizes(batch.cb, k)[:, None] * batch.of(v, k), 0)

    def certify(i):
        def rule(k):
            j = (i % 3, (i + k) % POOL)
            rows = width(k)
            columns = width(k - 1)
            weight = np.eye(rows, columns) + batch.sizes(batch.c, k)[i] * Q[j][:rows, :columns]
            return weight, batch.sizes(batch.cb, k)[i] * v[j][:rows]

        stack = D.from_rule(rule, tail=batch.tail(i))
        return D.certify(stack, x[i, :d], depth=int(batch.depth[i]), norm=batch.norm[i])

    batch.check(*batch.follow(x, step), certify, vacuous_at_most=0.8)


def test_contractive():
    """tanh and ReLU; the limit is a fixed point, the same for every input of the ball."""
    batch, d = Batch(40), 4
    rng = batch.rng
    Q = batch.unit(d, d)
    v = batch.unit(d)
    W = batch.unit(d, d)
    rate, b = rng.uniform(0.1, 0.9, STACKS), rng.standard_normal((STACKS, d))
    smooth = np.arange(STACKS) % 2 == 0
    radius = np.where(rng.random(STACKS) < 0.5, 0.0, 0.3)
    x = rng.standard_normal((STACKS, d))
    limit = rate[:, None, None] * batch.of(W, 0)

    def step(k, y):
        u = np.einsum(
            "nij,nj->ni", limit + batch.sizes(batch.c, k)[:, None, None] * batch.of(Q, k), y
        )
        u += b + batch.sizes(batch.cb, k)[:, None] * batch.of(v, k)
        return np.where(smooth[:, None], np.tanh(u), np.maximum(u, 0))

    def certify(i):
        def rule(k):
            j = (i % 3, (i + k) % POOL)
            return limit[i] + batch.sizes(batch.c, k)[i] * Q[j], b[i] + batch.sizes(batch.cb, k)[
                i
            ] * v[j]

        stack = D.from_rule(
            rule, **({"activation": np.tanh, "lipschitz": 1.0} if smooth[i] else {})
        )
        contraction = D.Contraction(
            limit[i], b[i], batch.bound(batch.c, i), batch.bound(batch.cb, i)
        )
        report = D.certify(
            stack,
            x[i],
            depth=int(batch.depth[i]),
            radius=radius[i],
            norm=batch.norm[i],
            hypotheses=contraction,
        )
        assert report.degenerate
        return report

    early, _ = batch.follow(inside(rng, x, radius, batch.norm), step)
    fixed = x
    # at depth 2,000 a drift of order k^-1.2 is still there: compare with the limit itself
    for _ in range(DEEP):
        u = np.einsum("nij,nj->ni", limit, fixed) + b
        fixed = np.where(smooth[:, None], np.tanh(u), np.maximum(u, 0))
    batch.check(early, fixed, certify, vacuous_at_most=0.8)


# -- sharp cases
# --------------------------------------------------------------------------------------------------


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
    """W = I, b = 0 beyond: the negative part is lost for slope < 1 and nothing for slope 1,
    exactly.
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
    """At depth k < N the bound is (Π_k - 1) ‖N_k‖ + Σ_{j>k} β_j Π_{i>j} (1 + p_i), here by a plain
    loop.
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
    assert 0 <= report.log_bound - (root - np.log(2 * root)) <= 0.0112 and report.vacuous
    huge = D.certify(stack, 1.0, depth=1, tail=D.Tail(D.PowerLaw(1e6, 2), D.Zero()))
    assert huge.bound == np.inf and np.isfinite(huge.log_bound) and huge.vacuous
    assert "e^" in str(huge)


def test_rounding_of_the_computed_state():
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


# -- sums and norms
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [1.01, 1.5, 2.0, 7.3])
@pytest.mark.parametrize("n", [0, 1, 100, 10**7])
def test_power_law_sums(s, n):
    """Hurwitz's ζ(s, n+1) from above; the integral over the last part is off by s/24 K^(-s-1),
    relatively tiny.
    """
    from scipy.special import zeta

    exact = 2.5 * zeta(s, n + 1)
    assert exact * (1 - 1e-13) <= D.PowerLaw(2.5, s).sum_after(n) <= exact * (1 + 1e-6)


def test_sums_decrease_and_bound_partial_sums():
    for bound in (D.PowerLaw(0.7, 1.3), D.Geometric(2.0, 0.9), D.Zero()):
        sums = [bound.sum_after(n) for n in range(200)]
        logs = [bound.log_product_after(n) for n in range(200)]
        for n in range(199):
            assert sums[n] >= sums[n + 1] + bound.at(n + 1) * (1 - 1e-12) - 1e-300
            assert logs[n] >= logs[n + 1] and logs[n] <= sums[n] * (1 + 1e-12)
    assert D.Geometric(2.0, 0.5).sum_after(0) == pytest.approx(2.0, rel=1e-14)
    assert D.Geometric(1.0, 0.5).sum_after(5000) > 0  # below the smallest number, not 0
    assert D.PowerLaw(1, 1).sum_after(5) == np.inf == D.Geometric(1, 1).sum_after(5)


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


# -- the affine form
# -----------------------------------------------------------------------------------------------


def test_affine_form_is_the_network_and_the_explicit_formula():
    """N_n = (J_nW_n...J_1W_1) x + Σ_i (J_nW_n...J_{i+1}W_{i+1}) J_i b_i; rounding n (d + 3) EPS of
    the size.
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


def test_affine_form_of_other_kinds():
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


# -- verdicts
# --------------------------------------------------------------------------------------------------

ONE = D.PowerLaw(1, 0)
HARMONIC = D.PowerLaw(1, 1)
# rule, x, the truth, declarations (tail, minorant, hypotheses), condition and network with all of
# them
EXAMPLES = {
    "W = 0, b = c": (
        lambda k: (0.0, 2.0),
        1.0,
        "converges",
        (None, D.Tail(weights=ONE), D.Contraction(0.0, 2.0)),
        ("violated", "converges"),
    ),
    "W = 1 - 1/(n+1)": (
        lambda k: (1 - 1 / (k + 1), None),
        1.0,
        "converges",
        (D.Tail(None, D.Zero()), D.Tail(weights=D.PowerLaw(0.5, 1)), D.Decay(D.PowerLaw(0.5, 1))),
        ("violated", "converges"),
    ),
    "W = 1 + 1/n, b = 0, x > 0": (
        lambda k: (1 + 1 / k, None),
        1.0,
        "diverges",
        (None, D.Tail(weights=HARMONIC), D.NonnegativeTail()),
        ("violated", "diverges"),
    ),
    "W = 1, b = 1/n": (
        lambda k: (1.0, 1 / k),
        1.0,
        "diverges",
        (None, D.Tail(biases=HARMONIC), D.NonnegativeTail()),
        ("violated", "diverges"),
    ),
    "W = 1 + 1/n, x < 0": (  # the first layer leaves 0, which stays
        lambda k: (1 + 1 / k, None),
        -1.0,
        "converges",
        (None, D.Tail(weights=HARMONIC), D.NonnegativeTail()),
        ("violated", "undecided"),
    ),
    "W = 1, b = -1": (
        lambda k: (1.0, -1.0),
        3.5,
        "converges",
        (None, D.Tail(biases=ONE), ()),
        ("violated", "undecided"),
    ),
    "W = 1 + 1/n²": (
        lambda k: (1 + 1 / k**2, 0.0),
        1.0,
        "converges",
        (D.Tail(D.PowerLaw(1, 2), D.Zero()), None, D.NonnegativeTail()),
        ("satisfied", "converges"),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_scalar_examples(name):
    """The verdicts of theory.md section 9; with fewer declarations a verdict weakens and is never
    wrong.
    """
    rule, x, truth, declared, verdicts = EXAMPLES[name]
    for kept in itertools.product((False, True), repeat=3):
        tail, minorant, hypotheses = (
            d if k else e for d, k, e in zip(declared, kept, (None, None, ()), strict=True)
        )
        report = D.certify(
            D.from_rule(rule), x, depth=10, tail=tail, minorant=minorant, hypotheses=hypotheses
        )
        assert report.network in (truth, "undecided")
        assert report.condition in (verdicts[0], "undecidable")
        if all(kept):
            assert (report.condition, report.network) == verdicts
        if not any(kept):
            assert (report.condition, report.network) == ("undecidable", "undecided")
            assert report.bound == np.inf and report.vacuous and report.depth_for(1e-3) is None
        assert report.degenerate <= (report.network == "converges")


NILPOTENT = [[[0.0, 1.0], [0.0, 0.0]]] * 2
# rule of two inner layers, or one; x, the truth, declarations, condition and network with all of
# them
RESIDUAL = {
    "W² W¹ = 1/n": (
        lambda k: ([k**-0.5] * 2, None),
        1.0,
        "diverges",
        (None, None, D.NonnegativeTail(increments=HARMONIC)),
        ("violated", "diverges"),
    ),
    "W² b¹ = 1/n": (
        lambda k: ([0.0, 1 / k], [1.0, 0.0]),
        0.0,
        "diverges",
        (None, None, D.NonnegativeTail(shifts=HARMONIC)),
        ("violated", "diverges"),
    ),
    "W² W¹ = 0, ‖W²‖ ‖W¹‖ = 1": (  # minorants of p_k prove no growth
        lambda k: (NILPOTENT, None),
        [1.0, 1.0],
        "converges",
        (None, D.Tail(weights=ONE), D.NonnegativeTail()),
        ("violated", "undecided"),
    ),
    "x (1 - 1/(n+1))": (
        lambda k: ([1.0, -1 / (k + 1)], None),
        1.0,
        "converges",
        (D.Tail(None, D.Zero()), D.Tail(weights=D.PowerLaw(0.5, 1)), D.Decay(D.PowerLaw(0.5, 1))),
        ("violated", "converges"),
    ),
    "W = -1, b = c": (
        lambda k: ([-1.0], [2.0]),
        1.0,
        "converges",
        (None, D.Tail(weights=ONE), D.Contraction(0.0, 2.0)),
        ("violated", "converges"),
    ),
    "W² W¹ = 1/n²": (
        lambda k: ([1 / k, 1 / k], None),
        1.0,
        "converges",
        (D.Tail(D.PowerLaw(1, 2), D.Zero()), None, D.NonnegativeTail()),
        ("satisfied", "converges"),
    ),
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_examples_of_residual_blocks(name):
    """As for the scalar examples: with fewer declarations a verdict weakens and is never wrong, and
    the bound holds.
    """
    rule, x, truth, declared, verdicts = RESIDUAL[name]
    stack = D.from_rule(rule, residual=True)
    for kept in itertools.product((False, True), repeat=3):
        tail, minorant, hypotheses = (
            d if k else e for d, k, e in zip(declared, kept, (None, None, ()), strict=True)
        )
        report = D.certify(stack, x, depth=10, tail=tail, minorant=minorant, hypotheses=hypotheses)
        assert report.network in (truth, "undecided")
        assert report.condition in (verdicts[0], "undecidable")
        if all(kept):
            assert (report.condition, report.network) == verdicts
        if report.network == "converges":
            assert np.abs(stack(x, DEEP) - stack(x, 10)).max() <= report.bound * (1 + 1e-12)
        assert np.isfinite(report.bound) == (report.network == "converges")


def test_necessary_conditions_of_residual_blocks():
    """With one inner layer as for I + W; with more they speak of the branch, which norms bound from
    above alone.
    """

    def necessary(rule, hypotheses, **declared):
        report = D.certify(
            D.from_rule(rule, residual=True), 1.0, depth=5, hypotheses=hypotheses, **declared
        )
        return report.necessary, report.assumptions[-2]

    away, gone = D.Tail(weights=ONE), D.Tail(D.PowerLaw(1, 2), D.Zero())
    assert necessary(lambda k: ([-1.0], [2.0]), (), minorant=away)[0] == "not examined"
    assert necessary(lambda k: ([-1.0], [2.0]), D.PositiveLimits(), minorant=away)[0] == "violated"
    told, text = necessary(lambda k: ([1.0, 1.0], None), D.PositiveLimits(), minorant=away)
    # W² σ(W¹ x) may vanish with ‖W²‖ ‖W¹‖ = 1
    assert told == "undecidable" and "not W^{n,m} -> 0" in text
    grows = [D.PositiveLimits(), D.NonnegativeTail(increments=ONE)]
    assert necessary(lambda k: ([1.0, 1.0], None), grows)[0] == "violated"
    assert (
        necessary(lambda k: ([1 / k, 1 / k], None), D.PositiveLimits(), tail=gone)[0] == "satisfied"
    )
    points = D.RegularDomain([[1.0], [2.0]])
    told, text = necessary(lambda k: ([1 / k, 1 / k], None), points, tail=gone)
    assert told == "satisfied" and "A_n" in text
    apart = D.RegularDomain([[1.0], [-2.0]])
    assert necessary(lambda k: ([1 / k, 1 / k], None), apart, tail=gone)[0] == "hypothesis fails"


def test_a_finite_prefix_extends_both_ways():
    stack = D.Stack([np.eye(2)] * 5)
    x = np.ones(2)
    assert (
        D.certify(stack, x).condition == "undecidable"
        and D.certify(stack, x).network == "undecided"
    )
    assert D.certify(stack, x, tail=D.PowerLaw(1, 2)).network == "converges"
    growing = D.certify(stack, x, minorant=D.Tail(weights=HARMONIC), hypotheses=D.NonnegativeTail())
    assert (growing.condition, growing.network) == ("violated", "diverges")
    assert D.certify(stack, x, minorant=D.Tail(weights=HARMONIC)).network == "undecided"
    # an infinite majorant says nothing
    assert D.certify(stack, x, tail=D.PowerLaw(1, 1)).condition == "undecidable"
    half = D.certify(stack, x, tail=D.Tail(weights=D.Zero()))
    assert half.condition == "undecidable" and any("p_k <= 0" in text for text in half.assumptions)


@pytest.mark.parametrize("slope", [0.0, 0.5])
@pytest.mark.parametrize("residual", [False, True])
def test_no_verdict_says_more_than_its_assumptions(slope, residual):
    """Every combination of declarations: each verdict only with the declarations that prove it, all
    of them listed.

    Of residual stacks minorants of p_k and β_k prove no growth.
    """
    one = [np.eye(2)] if residual else np.eye(2)
    stack = D.Stack([one], slope=slope, residual=residual)
    bounds = (None, D.PowerLaw(1, 2), HARMONIC)
    hypotheses = [D.NonnegativeTail(), D.Decay(HARMONIC)]
    chosen = [h for r in range(3) for h in itertools.combinations(hypotheses, r)]
    for p, beta, low_p, low_beta, given in itertools.product(
        bounds, bounds, bounds, bounds, chosen
    ):
        tail, minorant = D.Tail(p, beta), D.Tail(low_p, low_beta)
        contradictory = any(
            above is not None and below is not None and above.summable and below.diverges
            for above, below in (
                (p, low_p),
                (beta, low_beta),
                (p, HARMONIC if hypotheses[1] in given else None),
            )
        )
        if contradictory or len(given) == 2:
            with pytest.raises(dnl.InputError, match=r"finite sum|Decay and NonnegativeTail"):
                D.certify(stack, np.ones(2), tail=tail, minorant=minorant, hypotheses=given)
            continue
        report = D.certify(stack, np.ones(2), tail=tail, minorant=minorant, hypotheses=given)
        finite = all(b is not None and b.summable for b in (p, beta))
        infinite = any(b is not None and b.diverges for b in (low_p, low_beta))
        decays = hypotheses[1] in given and beta is not None and beta.summable
        assert report.condition == (
            "satisfied" if finite else "violated" if infinite else "undecidable"
        )
        expected = "converges" if finite or decays else "undecided"
        if expected == "undecided" and infinite and hypotheses[0] in given and not residual:
            expected = "diverges"
        assert report.network == expected
        assert np.isfinite(report.bound) == (report.network == "converges")
        declared = sum(b is not None for b in (p, beta, low_p, low_beta)) + len(given)
        assert sum("declared" in text for text in report.assumptions) >= declared


def test_necessary_conditions_only_under_their_hypothesis():
    forgets = D.from_rule(lambda k: (0.0, 2.0), minorant=D.Tail(weights=ONE))
    assert D.certify(forgets, 1.0, depth=5).necessary == "not examined"
    assert D.certify(forgets, 1.0, depth=5, hypotheses=D.PositiveLimits()).necessary == "violated"
    points = [[1.0], [2.0]]
    falls = D.from_rule(lambda k: (1.0, -1.0), minorant=D.Tail(biases=ONE))
    assert (
        D.certify(falls, 9.0, depth=5, hypotheses=D.RegularDomain(points)).necessary
        == "hypothesis fails"
    )
    high = D.RegularDomain([[10.0], [20.0]])
    # W = I, b = -1: products are I, yet N_n does not converge
    report = D.certify(falls, 9.0, depth=5, hypotheses=high)
    assert report.necessary == "violated" and "cannot converge" in report.assumptions[-2]
    assert (
        D.certify(forgets, 1.0, depth=5, hypotheses=D.RegularDomain(points)).necessary
        == "hypothesis fails"
    )
    good = D.from_rule(lambda k: (1 + 1 / k**2, None), tail=D.Tail(D.PowerLaw(1, 2), D.Zero()))
    assert D.certify(good, 1.0, depth=5, hypotheses=D.PositiveLimits()).necessary == "satisfied"
    plain = D.Stack([[[1.0]]])
    assert D.certify(plain, 1.0, hypotheses=D.PositiveLimits()).necessary == "undecidable"
    # σ(x/a) = x for x < 0: W_n = I/a is no perturbation of I
    with pytest.raises(dnl.InputError, match="leaky"):
        D.certify(D.Stack([[[2.0]]], slope=0.5), -1.0, hypotheses=D.RegularDomain([[-1.0], [-2.0]]))
    for points in (None, [[1.0]], [[1.0], [1.0]]):
        with pytest.raises(dnl.InputError, match="points"):
            D.RegularDomain(points)


def test_limits_of_points_determine_the_limits_of_the_weights():
    """[W_n b_n] = X_n [X_{n-1}; 1]^-1 for m + 1 positive, affinely independent states: W_n -> I,
    b_n -> 0.
    """
    rng = np.random.default_rng(9)
    Q, v = rng.random((3, 3)), rng.random(3)  # states stay positive
    stack = D.from_rule(lambda k: (np.eye(3) + 0.3 * Q / k**2, 0.3 * v / k**2))
    X = 5 + rng.random((4, 3))
    before, after = stack(X, 60), stack(X, 61)
    both = np.linalg.solve(np.column_stack([before, np.ones(4)]), after).T
    W, b = stack.layer(61).weight.matrix(), stack.layer(61).shift
    condition = np.linalg.cond(np.column_stack([before, np.ones(4)]))
    np.testing.assert_allclose(both, np.column_stack([W, b]), atol=100 * EPS * condition)


# -- depth_for, output, input
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_depth_for(slope):
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
    assert abs(stack(1.0, n)[0] - 2.0) <= 1e-6 and n < 200


def test_report_is_json_and_readable():
    report = D.certify(D.Stack([np.eye(2)]), np.ones(2), norm=np.inf)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["condition"] == "undecidable" and told["norm"] == "inf" and told["bound"] == "inf"
    assert "undecidable" in str(report) and "1." in str(report)
    bare = D.certify(D.Stack([np.eye(2)], tail=D.Zero()))
    assert bare.network == "converges" and bare.bound == np.inf and bare.depth_for(1.0) is None


def test_layers_that_shrink_have_no_bound_before_them():
    """A first layer 4 -> 2 is not a perturbation of the identity; from there on everything
    holds.
    """
    stack = D.Stack([0.5 * np.ones((2, 4)), np.eye(2) * 1.1], tail=D.PowerLaw(0.1, 3))
    report = D.certify(stack, np.ones(4))
    assert list(np.isfinite(report.log_bounds)) == [False, True, True]
    assert report.network == "converges" and not report.vacuous


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: D.Stack([]), "weights"),
        (lambda: D.Stack([np.eye(2), np.eye(3)]), "layer 2"),
        (lambda: D.Stack([np.eye(2)], [np.ones(3)]), "bias of layer 1"),
        (lambda: D.Stack([np.eye(2)], slope=1.5), "slope"),
        (lambda: D.Stack([np.eye(2)], activation=np.tanh), "lipschitz"),
        (lambda: D.Stack([[np.ones((3, 2))]], residual=True), "keeps the width"),
        (lambda: D.Stack([[[np.nan]]]), "layer 1"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(3)), "x: got"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), norm=3), "norm"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), depth=2), "depth"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), radius=-1), "radius"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), tail=1.0), "tail"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), hypotheses=["x"]), "hypotheses"),
        (lambda: D.certify(D.from_rule(lambda k: (1.0, None)), 1.0), "depth"),
        (lambda: D.certify(np.eye(2)), "stack"),
        (lambda: D.NonnegativeTail(increments=1.0), "increments"),
        (
            lambda: D.certify(
                D.Stack([[1.0, 1.0]], residual=True), 1.0, hypotheses=D.Contraction(0.5)
            ),
            "one inner layer",
        ),
        (lambda: D.PowerLaw(-1, 2), "c: got"),
        (lambda: D.Decay(D.PowerLaw(1, 2)), "non-summable"),
        (lambda: D.Contraction(0.5, 0.0, D.PowerLaw(1, 0)), "tends to 0"),
        (lambda: D.Declared(lambda k: 1.0, lambda n: 1.0, diverges=True), "diverges"),
        (lambda: D.Convolution(np.ones((1, 1, 2)), (4,)), "odd"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(dnl.InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("rule", "declared"),
    [
        (lambda k: (1 + 2 / k**2, None), {"tail": D.PowerLaw(1, 2)}),
        (lambda k: (1.0, 1 / k), {"tail": D.PowerLaw(1, 2)}),
        (lambda k: (1 + 1 / k**2, None), {"minorant": D.Tail(weights=HARMONIC)}),
        (lambda k: (1 - 1 / k, None), {"hypotheses": D.NonnegativeTail()}),
        (lambda k: (1.0, None), {"hypotheses": D.Decay(HARMONIC)}),
        (lambda k: (0.5, 1.0), {"hypotheses": D.Contraction(0.4, 1.0)}),
        (lambda k: (0.5, 1.0), {"hypotheses": D.Contraction(0.5, 2.0)}),
    ],
)
def test_a_rule_can_contradict_what_is_declared(rule, declared):
    with pytest.raises(dnl.InputError, match="at layer"):
        D.certify(D.from_rule(rule), 1.0, depth=4, **declared)


@pytest.mark.parametrize(
    ("rule", "hypothesis"),
    [
        (lambda k: ([1.0, -1.0], None), D.NonnegativeTail()),
        (lambda k: ([1 / k, 1.0], None), D.NonnegativeTail(increments=ONE)),
        (lambda k: ([1.0, 1.0], [0.0, 1 / k**2]), D.NonnegativeTail(shifts=HARMONIC)),
        (lambda k: ([1.0, -1 / k**2], None), D.Decay(HARMONIC)),
        (lambda k: ([-0.5], None), D.Contraction(0.4, 0.0)),
    ],
)
def test_a_residual_rule_can_contradict_too(rule, hypothesis):
    with pytest.raises(dnl.InputError, match="at layer"):
        D.certify(D.from_rule(rule, residual=True), 1.0, depth=4, hypotheses=hypothesis)


SHRINKS, CONST = D.Decay(HARMONIC), 0.5 * np.eye(2)
CROSSED = {  # tail, minorant, hypotheses that no layers satisfy, plain or with one inner layer
    "finite tail, W_k shrinks": (D.Zero(), None, SHRINKS),
    "finite tail, W_k -> I/2": (D.Zero(), None, D.Contraction(CONST)),
    "p_k <= 1/k, W_k -> I + tiny": (HARMONIC, None, D.Contraction(np.eye(2) * (1 - 1e-9))),
    "b_k -> 1, finite sum": (
        D.Tail(None, D.PowerLaw(1, 2)),
        None,
        D.Contraction(CONST, [1.0, 1.0]),
    ),
    "b_k -> 0 summably, Σ b_k = ∞": (None, D.Tail(None, HARMONIC), D.Contraction(CONST)),
    "W_k = I, p_k >= 1": (None, D.Tail(ONE), D.Contraction(np.eye(2))),
    "p_k >= 1, W_k -> I/2": (None, D.Tail(ONE), D.Contraction(CONST)),
    "p_k <= 1/(2k) <= d_k": (D.PowerLaw(0.5, 1), None, SHRINKS),
    "p_k <= k^-2 / 2 <= p_k": (D.PowerLaw(0.5, 2), D.PowerLaw(1, 2), ()),
    "shrinks and grows": (
        D.Tail(None, D.Zero()),
        None,
        [SHRINKS, D.NonnegativeTail(increments=HARMONIC)],
    ),
    "shrinks, W_k -> 2 I": (None, None, [SHRINKS, D.Contraction(2 * np.eye(2))]),
    "shrinks slower than W_k": (None, None, [D.Decay(D.PowerLaw(0.6, 0)), D.Contraction(CONST)]),
    "d_k = 2": (None, None, D.Decay(D.PowerLaw(2, 0))),
    "grows, W_k -> I/2": (None, None, [D.NonnegativeTail(), D.Contraction(CONST)]),
    "grows, b_k -> -1": (None, None, [D.NonnegativeTail(), D.Contraction(np.eye(2), [0.0, -1.0])]),
    "finite tail, c_k >= 1/k": (D.PowerLaw(1, 2), None, D.NonnegativeTail(shifts=HARMONIC)),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", CROSSED)
def test_declarations_can_contradict_each_other(name, residual):
    tail, minorant, hypotheses = CROSSED[name]
    stack = D.Stack([[np.zeros((2, 2))]], residual=True) if residual else D.Stack([np.eye(2)])
    with pytest.raises(dnl.InputError, match=r"Decay|Contraction|minorant|NonnegativeTail"):
        D.certify(stack, np.ones(2), tail=tail, minorant=minorant, hypotheses=hypotheses)


def test_limits_that_are_convolutions():
    """A large one is looked at in a part of its columns; filters that reach beyond the image do not
    count.
    """
    for size in ((4, 4), (200, 300)):
        half = D.Convolution(0.5 * np.eye(3)[1].reshape(1, 1, 1, 3), size)
        limit = D.Contraction(half)
        stack = D.Stack([half])
        assert D.certify(stack, hypotheses=limit).degenerate
        for other in ({"tail": D.Zero()}, {"hypotheses": [limit, D.NonnegativeTail()]}):
            with pytest.raises(dnl.InputError, match="Contraction"):
                D.certify(stack, **{"hypotheses": limit} | other)
    identity = D.Convolution(np.array([7.0, 1.0, 7.0]).reshape(1, 1, 1, 3), (5, 1))
    assert (
        D.certify(D.Stack([identity]), tail=D.Zero(), hypotheses=D.Contraction(identity)).network
        == "converges"
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [False, True])
def test_true_declarations_do_not_contradict(norm, residual):
    """W_k = W + E/k, b_k = b + e/k with everything declared that the triangle inequality gives.

    The limit of a contraction is found by iteration, at most 0.9 per step: 0.9^400 < 1e-18.
    """
    rng, size = np.random.default_rng(12), lambda a: np.linalg.norm(a, norm)
    kinds = set()
    for i in range(40):
        W, E, b, e = (
            s * rng.standard_normal(d)
            for s, d in zip(rng.random(4), [(3, 3), (3, 3), 3, 3], strict=True)
        )
        if i % 4 == 1:
            W, b = np.eye(3), np.zeros(3)
        if i % 4 == 2:
            W = np.eye(3) + np.abs(W)
            E = np.abs(E)
            b = np.abs(b)
            e = np.abs(e)
        if i % 4 == 3:
            W, E = 0.5 * W / size(W), 0.4 * E / size(E)
        drift = size(E)
        p, beta = size(W - np.eye(3)), size(b)
        tail = D.Tail(D.PowerLaw(p + drift, 0), D.PowerLaw(beta + size(e), 0))
        least = D.Tail(D.PowerLaw(max(0.0, p - drift), 0), D.PowerLaw(max(0.0, beta - size(e)), 0))
        given = [D.Contraction(W, b, D.PowerLaw(drift, 1), D.PowerLaw(size(e), 1))]
        if size(W) + drift < 1:
            given.append(D.Decay(D.PowerLaw(1 - size(W) - drift, 0)))
        if (W + np.minimum(E, 0) - np.eye(3)).min() >= 0 and min(b.min(), e.min()) >= 0:
            given.append(D.NonnegativeTail(least.weights, least.biases))

        def rule(k, W=W, E=E, b=b, e=e):
            full, shift = W + E / k, b + e / k
            return ([full - np.eye(3)], [shift]) if residual else (full, shift)

        stack = D.from_rule(rule, residual=residual)
        kinds |= {type(hypothesis) for hypothesis in given}
        for case in (
            stack,
            D.Stack(*zip(*(rule(k) for k in (1, 2)), strict=True), residual=residual),
        ):
            report = D.certify(
                case, np.ones(3), depth=2, norm=norm, tail=tail, minorant=least, hypotheses=given
            )
            if size(W) <= 0.9:
                assert report.network == "converges" and report.degenerate
                limit = np.ones(3)
                for _ in range(400):
                    limit = np.maximum(W @ limit + b, 0)
                assert size(stack(np.ones(3), 2) - limit) <= report.bound * (1 + 1e-12) + 1e-15
    assert kinds == {D.Contraction, D.Decay, D.NonnegativeTail}


def test_layers_beyond_may_differ_from_the_first():
    """A rule is looked at in more layers than the next: more inner layers later, or plain
    layers.
    """
    half = -0.5 * np.eye(2)

    def deeper(k):
        return ([half] * (1 if k == 1 else 2), None)

    contraction = D.Contraction(0.5 * np.eye(2), weights=D.PowerLaw(10, 1))
    with pytest.raises(dnl.InputError, match="one inner layer"):
        D.certify(D.from_rule(deeper, residual=True), np.ones(2), depth=0, hypotheses=contraction)

    def necessary(rule, hypothesis=None, **declared):
        stack = D.from_rule(rule, residual=True)
        hypotheses = (
            [D.PositiveLimits()] if hypothesis is None else [D.PositiveLimits(), hypothesis]
        )
        report = D.certify(stack, np.ones(2), depth=0, hypotheses=hypotheses, **declared)
        return report.necessary, report.assumptions[-2]

    text = necessary(lambda k: (np.eye(2), None))[1]
    assert "W_n -> I" in text and "W_n -> 0" not in text
    text = necessary(lambda k: (np.eye(2), None) if k % 2 else ([half / k], None))[1]
    assert "W_n -> I" in text and "W_n -> 0" in text
    text = necessary(deeper)[1]
    assert "W_n -> 0" in text and "along the paths" in text  # layer 1 is one of those looked at
    # 0.5 I in plain layers, a contraction there too: N_n forgets x, so that the limits are not
    # independent
    told, text = necessary(lambda k: (0.5 * np.eye(2), None), D.Contraction(0.5 * np.eye(2)))
    assert told == "hypothesis fails" and "same for every input" in text
    assert necessary(lambda k: (2 * np.eye(2), None), D.Contraction(2 * np.eye(2)))[0] == "violated"
    with pytest.raises(dnl.InputError, match="the width 3 of W"):
        necessary(lambda k: (np.eye(2), None), D.Contraction(np.eye(3)))


def test_user_declared_tails():
    own = D.Declared(lambda k: 1 / (k * (k + 1)), lambda n: 1 / (n + 1))
    stack = D.from_rule(lambda k: (1 + 1 / (k * (k + 1)), None), tail=D.Tail(own, D.Zero()))
    report = D.certify(stack, 1.0, depth=20)
    assert stack(1.0, DEEP)[0] - stack(1.0, 20)[0] <= report.bound < 0.06 * report.state_norm
    assert report.condition == "satisfied" and any("lambda" in text for text in report.assumptions)


def test_nothing_heavy_is_loaded():
    code = "import sys, dnlcontrol as dnl\ndnl.certificates.depth.certify, dnl.init.summable(0.5)\n"
    code += "print(*({'torch', 'scipy', 'casadi', 'pandas', 'matplotlib'} & sys.modules.keys()))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == []
