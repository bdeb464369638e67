"""Optimal execution with exponentially decaying price impact and an integral constraint (V2).

    min ∫_0^1 (u x + η u²) dt,    x(t) = ∫_0^t e^{-ρ(t-s)} u(s) ds,    ∫_0^1 u dt = 1

The cost is ½ <u, Eu> + η |u|², E the kernel e^{-ρ|t-s|}; stationarity is Eu + 2ηu = μ. Applying ρ²
- ∂² gives u = c_0 + a cosh(κ(t-½)), κ² = ρ² + ρ/η, and μ = 2c_0 (η + 1/ρ); the condition at t = 0
  is c_0 = η a
(κ sinh(κ/2) + ρ cosh(κ/2)), the constraint c_0 + 2a sinh(κ/2)/κ = 1, and J* = ½ μ = c_0 (η + 1/ρ).
The left rule leaves the diagonal of E out: the discrete cost is (τ²/2) uᵀEu + τ(η - τ/2) |u|²,
everything else is of second order, so c = -½ ∫ u² dt. With M = (τ²/2) E + τ(η - τ/2) I the discrete
optimum is u = M^{-1}1/(τ 1ᵀM^{-1}1), J_L = 1/(τ² 1ᵀM^{-1}1). On a coarse grid J_L = -∞ (η = 0.1, ρ
= 1: at L = 2, 3, 4).

x_0 = 0 is repeated `samples` times; the constraint does not read x, so it is imposed once.

Source: model of Obizhaeva and Wang; Gatheral, Schied, Slynko (2012).
"""

from __future__ import annotations

import math

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, samples: int = 1, rho: float = 1.0, eta: float = 0.1) -> dnl.ControlProblem:
    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(-rho * (t - s)) * u.u

    return dnl.ControlProblem(
        name="v2_transient_impact",
        x0=np.zeros(checks.whole("samples", samples)),
        dynamics=dnl.Volterra(kernel),
        controls={"u": dnl.Control((), initial=1.0)},
        running=lambda t, x, u: u.u * x,
        regularisers=[dnl.L2("u", 2 * checks.positive("eta", eta))],
        constraints=[
            dnl.integral_constraint(lambda t, x, u: u.u, 1.0, 1.0, name="everything is sold")
        ],
    )


def reference(*, samples: int = 1, rho: float = 1.0, eta: float = 0.1) -> dnl.Reference:
    rho, eta = checks.positive("rho", rho), checks.positive("eta", eta)
    kappa = math.sqrt(rho**2 + rho / eta)
    sinh, cosh = math.sinh(kappa / 2), math.cosh(kappa / 2)
    ratio = eta * (kappa * sinh + rho * cosh)  # c_0/a
    a = 1 / (ratio + 2 * sinh / kappa)
    c0 = ratio * a
    square = c0**2 + 4 * c0 * a * sinh / kappa + a**2 * (0.5 + math.sinh(kappa) / (2 * kappa))

    def state(t):
        """c_0 and a cosh, each convolved with the kernel; ρ² - κ² = -ρ/η."""
        t = np.asarray(t, dtype=float)
        decay = np.exp(-rho * t)

        def wave(r):
            return (
                -eta / rho * (rho * np.cosh(kappa * (r - 0.5)) - kappa * np.sinh(kappa * (r - 0.5)))
            )

        return c0 * (1 - decay) / rho + a * (wave(t) - decay * wave(0.0))

    return dnl.Reference(
        source="model: Obizhaeva and Wang; Gatheral, Schied, Slynko (2012)",
        value=c0 * (eta + 1 / rho),
        error_constant=-0.5 * square,
        controls={"u": lambda t: c0 + a * np.cosh(kappa * (np.asarray(t) - 0.5))},
        state=state,
        discrete_value=lambda L: L**2 / float(_discrete(L, rho, eta).sum()),
        discrete_controls=lambda L: {
            "u": L * _discrete(L, rho, eta) / _discrete(L, rho, eta).sum()
        },
        note="unbounded below on coarse grids; Euler's method for x' = -ρx + u has another error "
        "constant",
    )


def _discrete(L: int, rho: float, eta: float) -> np.ndarray:
    """M^{-1} 1."""
    i = np.arange(L)
    M = np.exp(-rho * np.abs(i[:, None] - i) / L) / (2 * L**2) + np.eye(L) * (eta - 0.5 / L) / L
    if np.linalg.eigvalsh(M)[0] <= 0:
        checks.reject("depth", L, "a depth at which the discrete problem is convex (a larger one)")
    return np.linalg.solve(M, np.ones(L))
