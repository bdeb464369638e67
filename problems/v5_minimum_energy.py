"""Minimum-energy control of a fractional integral, smooth or weakly singular (V5).

    min x(1)² + ∫_0^1 u² dt,    x(t) = x_0 + ∫_0^t K(t-s) u(s) ds,    K(r) = r^{α-1}/Γ(α),  α > ½

u = -x(1) K(1-t) with x(1) = x_0/(1 + κ), κ = ∫ K² = 1/((2α-1) Γ(α)²), and J* = x_0²/(1 + κ). At
depth L the same with κ_L = τ Σ_{j<L} K(1-t_j)² = τ Σ_{i=1..L} (iτ)^{2α-2}/Γ(α)². With β = 2α - 1,
Euler-Maclaurin gives κ_L = κ + [ζ(1-β) τ^β + ½ τ + ((β-1)/12) τ² + ...]/Γ(α)²: for α > 1, c = -½
x_0²/(Γ(α) (1 + κ))²; for α < 1 the rate is β and the exponents of J_L are the sums of β, 1 and 2.
For α = ¾ these are all multiples of ½; Richardson extrapolation with them from L = 8, 16, 32, 64 is
exact to 7e-6.

Source: derived for this project; the cost is that of Gomoyunov, arXiv 1909.10985.
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, alpha: float = 1.5, start: float = 1.0) -> dnl.ControlProblem:
    scale = 1 / math.gamma(_square_integrable(alpha))
    return dnl.ControlProblem(
        name="v5_minimum_energy",
        x0=[start],
        dynamics=dnl.Volterra(lambda t, s, y, u: scale * (t - s) ** (alpha - 1) * u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: x**2,
        regularisers=[dnl.L2("u", 2.0)],
    )


def reference(*, alpha: float = 1.5, start: float = 1.0) -> dnl.Reference:
    beta, gamma = 2 * _square_integrable(alpha) - 1, math.gamma(alpha)
    kappa = 1 / (beta * gamma**2)

    def kernel(r):
        return np.asarray(r, dtype=float) ** (alpha - 1) / gamma

    def samples(L: int) -> np.ndarray:
        return kernel(np.arange(L, 0, -1) / L)

    def final_state(L: int) -> float:
        return float(start / (1 + np.sum(samples(L) ** 2) / L))

    constant = -0.5 * (start / (gamma * (1 + kappa))) ** 2
    return dnl.Reference(
        source="derived for this project; cost of Gomoyunov, arXiv 1909.10985",
        value=start**2 / (1 + kappa),
        error_constant=constant if alpha > 1 else 0.0 if alpha == 1 else None,
        orders=_orders(beta),
        controls={"u": lambda t: -start / (1 + kappa) * kernel(1 - np.asarray(t))},
        discrete_value=lambda L: start * final_state(L),
        discrete_controls=lambda L: {"u": -final_state(L) * samples(L)},
        note="" if alpha >= 1 else f"weakly singular: J_L converges at the rate {beta:g}",
    )


def _square_integrable(alpha: float) -> float:
    if not alpha > 0.5:
        checks.reject("alpha", alpha, "alpha > 1/2 (a square-integrable kernel)")
    return alpha


def _orders(beta: float) -> tuple[float, ...]:
    """The first five sums of β and 1 (2 = 1 + 1)."""
    sums = {round(i * beta + j, 12) for i in range(11) for j in range(6)} - {0.0}
    return tuple(sorted(sums)[:5])
