"""The bound on the error of finite depth against the true error at depth 2,000."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.limits import infinite_depth as D
from tests.limits.infinite_depth.cases import (
    DEEP,
    NORMS,
    POOL,
    STACKS,
    Batch,
    convolution_matrix,
    inside,
)


def test_bounds_of_plain_and_leaky_stacks_hold_at_points_and_on_balls():
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
def test_bounds_of_residual_stacks_hold(M):
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


def test_bounds_of_convolutional_stacks_hold():
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


def test_bounds_hold_when_toeplitz_filters_widen():
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


def test_contractive_networks_forget_their_input():
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
