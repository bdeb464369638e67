"""The second-order expansion of the trapezoidal rule: the terms of c in J_L = J* + c/L² + O(L^-3).

As for the left rule the value moves to first order only through the quadrature errors, weighted
with the loads z̄ (envelope theorem). A trapezoidal sum is off by (τ²/12) [g']_a^b
(Euler-Maclaurin), a difference quotient's energy τ^{-1} Σ |Δv|² - ∫ |v'|² by -(τ²/12) ∫ |v''|². So
c = T² c_2 with c_2 the sum over 1/12 of

    running cost          [dℓ/dt]_0^T                      (mean over the samples)
    integral constraints  Σ μ [dh/dt]_0^T
    memory                Σ_l z̄^l · [d/ds k(t_l, s, F(s, x(s), v(s)), w(t_l, s))]_0^{t_l}
    path penalties        (α/2) [d|v|²/dt]_0^T             for L2 and the mass of H1,
                          -(α/2) ∫ |v''|²                  for H1,
                          -α ∫ |v''|²                      for TvG
    triangle penalties    α ∫ (w q + w_s q')(T, s) ds - (α/2) ∫∫ (|w_tt|² + |w_ss|²),
                          q = ∂_t w(T, s)

- The H1 form on the triangle is half that of the mirrored square. Its sums along t = T see the
  normal derivative q = -G/α (natural boundary condition, G as for the left rule); on s = 0 and on
  the diagonal it is 0. Beside it an L2 penalty of weight α_2 adds α_2 to the α of w q.
- Total derivatives along the solution are one-sided differences of three samples. The samples at t
  = 0 and t = T of a control without a difference penalty see the costate half a step away, an error
  O(1/L) whose square has the weight τ of two samples: O(L^-3) in J, but its difference quotient
  would be wrong by O(1). They are replaced by the parabola through the three next to them.
- Kinks of the solution (a bound that begins to hold) fall anywhere in a cell: there is no c, and an
  error says so.

Source: derived for this project.
"""

from __future__ import annotations

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.optimum import Optimum, mass
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.regularisers import H1, L2, TvG

# a multiplier below this share of the costates is rounding or an inactive constraint
NEGLIGIBLE = 1e-6
BACKWARD = np.array([1.5, -2.0, 0.5])  # g'(t) = Σ BACKWARD_j g(t - jτ)/τ + O(τ²)


def terms(at: Optimum) -> dict[str, float]:
    """The contributions to c_2."""
    parts = {
        "running cost": _running_cost(at),
        "path penalties": sum(
            _path_penalty(at, block) for block in at.discrete.space if block.layout.on == "t"
        ),
        "integral constraints": _integral_constraints(at),
        "memory": _memory(at),
        "triangle penalties": sum(_triangle_penalty(at, block) for block in at.triangular),
    }
    return {name: value / 12 for name, value in parts.items()}


# -- total derivatives along the solution
def _slope_jump(at: Optimum, formula: Formula, sample: int, *extra: np.ndarray) -> np.ndarray:
    """[d/dt fn(t, x(t), u(t))]_0^T of one sample, of the formula's shape."""
    L = at.depth
    first, last = (
        [at.value_at(formula, node, sample, *extra) for node in nodes]
        for nodes in ((0, 1, 2), (L, L - 1, L - 2))
    )
    return (np.tensordot(BACKWARD, last, 1) + np.tensordot(BACKWARD, first, 1)) / at.step


def _running_cost(at: Optimum) -> float:
    formula, cost = at.problem.formulas.running, at.problem.running
    if formula is None or cost is None:
        return 0.0
    extra = [() if cost.target is None else (cost.target[n],) for n in range(at.problem.samples)]
    return float(
        np.mean([_slope_jump(at, formula, n, *extra[n]) for n in range(at.problem.samples)])
    )


def _integral_constraints(at: Optimum) -> float:
    total = 0.0
    for block in at.discrete.rows.blocks:
        if block.constraint.kind == "integral" and block.formula is not None:
            (mu,) = at.mu[block.part].reshape(block.full_shape)
            total += sum(
                float(np.sum(mu[j] * _slope_jump(at, block.formula, n)))
                for j, n in enumerate(block.samples)
            )
    return total


def _memory(at: Optimum) -> float:
    """Σ_l z̄^l · [d/ds k(t_l, s, ...)]; a one-step kernel does not read t_l."""
    L, total = at.depth, 0.0
    if at.problem.markov:
        values = np.stack([at.kernel(s, s) for s in range(L + 1)])
        slopes = np.gradient(values, at.step, axis=0, edge_order=2)
        return float(np.vdot(at.loads[1:], slopes[1:] - slopes[0]))
    for l in range(2, L + 1):  # l = 1 has one cell, whose slope is that of both ends
        first, last = ([at.kernel(l, s) for s in nodes] for nodes in ((0, 1, 2), (l, l - 1, l - 2)))
        jump = (np.tensordot(BACKWARD, last, 1) + np.tensordot(BACKWARD, first, 1)) / at.step
        total += float(np.vdot(at.loads[l], jump))
    return total


# -- penalties
def _path_penalty(at: Optimum, block: ControlBlock) -> float:
    v, tau = at.at_nodes[block.name].reshape(at.depth + 1, -1), at.step
    second = tau * float(np.sum(np.diff(v, 2, axis=0) ** 2)) / tau**4
    square = np.sum(v**2, axis=1)
    jump = float(BACKWARD @ square[:-4:-1] + BACKWARD @ square[:3]) / tau
    bent = 0.5 * mass(at.problem, block, H1) + mass(at.problem, block, TvG)
    return 0.5 * mass(at.problem, block, L2, H1) * jump - bent * second


def _triangle_penalty(at: Optimum, block: ControlBlock) -> float:
    alpha = mass(at.problem, block, H1)
    tau = at.step
    L = at.depth
    w = block.layout.mirrored(block.view(at.w))  # (L+1, L+1, components)
    line = block.layout.line_mass
    sites = np.array([block.layout.index(L, s) for s in range(L + 1)])
    # the data part of the gradient at (T, s) is weight_s k_wᵀ z̄^L
    load = block.view(at.data_gradient)[sites] / line[:, None]
    q = -load / alpha
    slope, bend = (np.gradient(a, tau, axis=0, edge_order=2) for a in (w[-1], q))
    edge = line @ (
        mass(at.problem, block, H1, L2) * np.sum(w[-1] * q, axis=1)
        + alpha * np.sum(slope * bend, axis=1)
    )
    second = np.empty_like(w)
    second[1:-1] = w[2:] - 2 * w[1:-1] + w[:-2]
    second[0], second[-1] = 2 * (w[1] - w[0]), 2 * (w[-2] - w[-1] + tau * q)
    # of w_tt on the square
    inside = float(np.einsum("i,j,ijk->", line, line, (second / tau**2) ** 2))
    return float(edge) - 0.5 * alpha * inside


# -- what is not covered
def refuse(at: Optimum) -> None:
    """Kinks, kernels that are not smooth up to s = t, triangular controls without H1.

    Raises
    ------
    InputError that says what has no expansion of this form.
    """
    for block in at.discrete.space:
        if block.layout.on == "const":
            continue
        held = block.view(at.held)
        if np.any(held.any(axis=0) & ~held.all(axis=0)):
            seen = f"control {block.name!r} at a bound on a part of its way"
            checks.reject(
                "error_constant",
                seen,
                "no bound that begins or ceases to hold (rule 'left' has one)",
            )
        if block.layout.on == "ts" and (not mass(at.problem, block, H1) or held.any()):
            seen = f"triangular control {block.name!r} without H1, or at a bound"
            checks.reject(
                "error_constant",
                seen,
                "H1 and no active bound on triangular controls (rule 'trapezoid')",
            )
    for row in at.discrete.rows.blocks:
        pressure = np.abs(at.mu[row.part].reshape(row.full_shape))[row.layers < at.depth]
        along = row.formula is None or row.constraint.kind == "path"
        if along and np.sum(pressure) > NEGLIGIBLE * np.sum(np.abs(at.trajectory.costates)):
            seen = f"{row.constraint.name!r} active before T"
            checks.reject(
                "error_constant", seen, "state bounds and path constraints that are not active"
            )
    if not np.all(np.isfinite(at.kernel_slope())):
        seen = "a kernel whose slope in s is infinite at s = t"
        checks.reject(
            "error_constant",
            seen,
            "a kernel that is differentiable up to s = t (else the rate is not 2)",
        )
