"""Volterra equation, kernel (t-s)²(u-x): maximise the final state with quadratic effort (V1).

    min -x(1) + ∫_0^1 u² dt,    x(t) = ∫_0^t (t-s)² (u(s) - x(s)) ds

By Laplace transform x(t) = ∫_0^t p(t-s) u(s) ds, p having the transform 2/(z³ + 2): with ω =
2^{1/3}, p(r) = (2/(3ω²)) [e^{-ωr} - e^{ωr/2} (cos(√3ωr/2) - √3 sin(√3ωr/2))]. So u(t) = ½ p(1-t)
and J* = -¼ ∫ p². At depth L the response is p_j = (jτ)² - τ Σ_{0<i<j} ((j-i)τ)² p_i, with u_s = ½
p_{L-s}, J_L = -¼ τ Σ_{j=1..L} p_j². The defect of the left rule, -½τ D(t) with D(t) = k(t,t) -
k(t,0) = -t² u(0), moves x(1) by ½τ u(0) p(1), and that of ∫u² is -½τ [u²]_0^1 = ½τ u(0)²; with u(0)
= ½ p(1) together c = -p(1)²/8.

Source: Giordano, Yurchenko-Tytarenko, doi 10.1007/s10203-023-00409-x (the deterministic part of
their problem).
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl

OMEGA = 2.0 ** (1.0 / 3.0)


def problem() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        name="v1_rational_memory",
        x0=[0.0],
        dynamics=dnl.Volterra(lambda t, s, y, u: (t - s) ** 2 * (u.u - y)),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: -x,
        regularisers=[dnl.L2("u", 2.0)],
    )


def reference() -> dnl.Reference:
    nodes, weights = np.polynomial.legendre.leggauss(30)  # p is entire: exact to rounding

    def state(t):
        t = np.asarray(t, dtype=float)[..., None]
        s = 0.5 * t * (1 + nodes)
        return (0.5 * t * weights * _response(t - s) * 0.5 * _response(1 - s)).sum(-1)

    return dnl.Reference(
        source="Giordano, Yurchenko-Tytarenko, doi 10.1007/s10203-023-00409-x (deterministic part)",
        value=-0.125 * float(weights @ _response(0.5 * (1 + nodes)) ** 2),
        error_constant=-(float(_response(1.0)) ** 2) / 8,
        controls={"u": lambda t: 0.5 * _response(1 - np.asarray(t))},
        state=state,
        discrete_value=lambda L: -0.25 * float(np.sum(_discrete(L) ** 2)) / L,
        discrete_controls=lambda L: {"u": 0.5 * _discrete(L)[::-1]},
    )


def _response(r):
    """p(r)."""
    phase = math.sqrt(3.0) * OMEGA * np.asarray(r) / 2
    wave = np.exp(OMEGA * np.asarray(r) / 2) * (np.cos(phase) - math.sqrt(3.0) * np.sin(phase))
    return 2 / (3 * OMEGA**2) * (np.exp(-OMEGA * np.asarray(r)) - wave)


def _discrete(L: int) -> np.ndarray:
    """p_1..p_L."""
    square = (np.arange(L + 1) / L) ** 2
    p = square[1:].copy()
    for j in range(1, L):
        p[j] -= square[j:0:-1] @ p[:j] / L
    return p
