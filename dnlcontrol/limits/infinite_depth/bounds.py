"""Bounds of ‖N_∞ - N_k‖ at every depth k <= n, in the log domain, rounded up [derived].

With x^k = σ(u_k), u_k = x^{k-1} + e_k, ‖e_k‖ <= p_k ‖x^{k-1}‖ + β_k and |σ(u)| <= |u| the norms are
at most M_k = (1 + p_k) M_{k-1} + β_k, with M_∞ finite when Σ p_k and Σ β_k are. Entry by entry,
u_- >= 0 the size of the negative part, σ(u) = u + (1 - a) u_-, so that

    x^K - x^n = Σ e_k + (1 - a) Σ (u_k)_-,
    (u_{k+1})_- <= a (u_k)_- + (e_{k+1})_-,   (u_{n+1})_- <= (x^n)_- + (e_{n+1})_-

Summing the second line over k gives (1 - a) Σ (u_k)_- <= (x^n)_- + Σ (e_k)_-, hence
-Σ (e_k)_- <= x^K - x^n <= (x^n)_- + Σ (e_k)_+ and, in an absolute norm and for every slope 0 <= a <
1,

    ‖N_∞ - N_n‖ <= ‖(N_n)_-‖ + M_∞ - M_n,      M_n = ‖N_n‖,
    M_∞ - M_n <= (Π_n - 1) M_n + Π_n B_n,       Π_n = Π_{k>n} (1 + p_k),  B_n = Σ_{k>n} β_k.

The first term is absent for ReLU after a layer (the state is non-negative) and for a = 1. Known
layers k <= n enter exactly: M_∞ - M_k = (Π_k - 1) M_k + C_k with C_k = C_{k+1} + β_{k+1} Π_{k+1},
C_n <= Π_n B_n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dnlcontrol.limits.infinite_depth.majorants import Tail
from dnlcontrol.limits.infinite_depth.path import Path
from dnlcontrol.limits.infinite_depth.rounding import EPS, up

Real = float | np.ndarray
DEEPEST = 2**60  # no depth beyond it is looked for


def log_of(value: Real) -> Any:
    """log with log 0 = -inf and no warning."""
    with np.errstate(divide="ignore"):
        return np.log(value)


def log_expm1(S: Real) -> Any:
    """log(exp(S) - 1) for S >= 0 without overflow: S + log(-expm1(-S))."""
    return np.where(np.isinf(S), np.inf, S + log_of(-np.expm1(-np.where(np.isinf(S), 1.0, S))))


def raised(logarithm: Real, *terms: Real, steps: int = 1) -> Any:
    """A logarithm rounded up: one unit per step of the largest logarithm that took part."""
    size = np.ones_like(np.asarray(logarithm, dtype=float))
    for term in (logarithm, *terms):
        size = np.maximum(size, np.where(np.isfinite(term), np.abs(term), 0.0))
    return logarithm + (steps + 8) * EPS * size


def summed_log_bounds(path: Path, tail: Tail, slope: float) -> np.ndarray:
    """log of the bound at the depths 0..n of the path, (n + 1,), the tail beyond."""
    assert tail.weights is not None and tail.biases is not None
    n = path.depth
    S = np.empty(n + 1)
    S[n] = tail.weights.log_product_after(n)
    with np.errstate(over="ignore"):
        S[:n] = up(S[n] + np.cumsum(np.log1p(path.perturbations)[::-1])[::-1], n + 2)
    log_C = np.empty(n + 1)
    log_C[n] = S[n] + log_of(tail.biases.sum_after(n))
    log_beta = log_of(path.biases)
    for k in range(n - 1, -1, -1):
        step = np.inf if np.isinf(S[k + 1]) else log_beta[k] + S[k + 1]
        log_C[k] = np.logaddexp(log_C[k + 1], step)
    return combined(
        S, log_of(path.norms), log_C, log_of(path.negatives if slope < 1 else np.zeros(n + 1)), n
    )


def combined(
    S: np.ndarray, log_norm: Real, log_C: Real, log_negative: Real, steps: int
) -> np.ndarray:
    """log of negative + (e^S - 1) norm + C, raised, of the shape of S; infinite where S is."""
    grown = np.where(np.isinf(S), np.inf, log_expm1(S) + np.where(np.isinf(S), 0.0, log_norm))
    total = np.logaddexp(np.logaddexp(grown, log_C), log_negative)
    return np.where(
        np.isinf(S), np.inf, raised(total, S, grown, log_C, log_negative, steps=2 * steps)
    )


def beyond(path: Path, tail: Tail, slope: float, depth: int) -> float:
    """log of a bound at a depth beyond the path, from the path's end and the tail alone.

    ‖N_m‖ <= M_∞ = Π_n M_n + Π_n B_n for m >= n, and the negative part obeys m_k <= a (m_{k-1} +
    δ_k) with Σ δ_k = M_∞ - M_n: at m it is at most a^(m-n) m_n + a^(m-h+1) Σ_{n<k<=h} δ_k + a
    Σ_{k>h} δ_k, h = (n + m) // 2.
    """
    assert tail.weights is not None and tail.biases is not None
    n = path.depth
    if not path.norms[n] < np.inf:
        return np.inf
    log_M = np.logaddexp(
        tail.weights.log_product_after(n) + log_of(path.norms[n]),
        tail.weights.log_product_after(n) + log_of(tail.biases.sum_after(n)),
    )

    def rest(k: int) -> np.ndarray:
        S = np.asarray(tail.weights.log_product_after(k))  # type: ignore[union-attr]
        biases = log_of(tail.biases.sum_after(k))  # type: ignore[union-attr]
        return combined(S, log_M, S + biases, -np.inf, 4)

    log_negative: Any = -np.inf
    if 0 < slope < 1 or (slope == 0 and path.negatives[n] > 0):
        half, log_a = (n + depth) // 2, float(log_of(slope))
        kept = (depth - n) * log_a + log_of(path.negatives[n]) if slope else -np.inf
        early = (depth - half + 1) * log_a + rest(n) if slope else -np.inf
        log_negative = np.logaddexp(np.logaddexp(kept, early), log_a + rest(half))
        log_negative = raised(log_negative, kept, early, steps=4)
    return float(raised(np.logaddexp(rest(depth), log_negative), log_M, steps=4))


def first_below(
    log_eps: float, log_bounds: np.ndarray, further: Callable[[int], float]
) -> int | None:
    """The least depth from which on every bound is <= eps.

    Among the known depths, else by bisection beyond.
    """
    known = len(log_bounds) - 1
    if log_bounds[known] <= log_eps:
        above = np.flatnonzero(~(log_bounds <= log_eps))
        return int(above[-1]) + 1 if above.size else 0
    step = 1
    while further(known + step) > log_eps:
        step *= 2
        if step > DEEPEST:
            return None
    low, high = known + step // 2, known + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if further(middle) > log_eps else (low, middle)
    return high
