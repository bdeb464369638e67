"""The first-order expansion of the left rule: the terms of c in J_L = J* + c/L + O(L^-2).

At a minimiser the value moves to first order only through the quadrature errors, weighted with the
costates (envelope theorem). Let λ^l = dL/dx^l, L the Lagrangian with all multipliers, and z̄^l =
(G_z)ᵀ λ^l be its derivative in the integral z^l alone (λ^l itself when x = g + z), so that z̄^l = τ
p(t_l) for l < L and z̄^L = ∇Φ. Sums over samples; with N samples λ carries the factor 1/N. Then c =
T c_1 and c_1 is the sum of

    running cost          -½ [ℓ]_0^T                                 (mean over the samples)
    path penalties        -½ [(α/2) |v|²]_0^T                        L2 and the mass of H1; not TvG
    integral constraints  -½ Σ μ [h]_0^T                             τ Σ h(t_l, x^l, v^l) with its μ
    memory                -½ Σ_l z̄^l · [k(t_l, t_l, x(t_l), u) - k(t_l, 0, x(0), u)]
    placement             -½ Σ_{l,s} g^{l,s} · (∂_t w - ∂_s w)       g^{l,s} = τ Σ k_wᵀ z̄^l, w of
                                                                     H1 kind
    last row              ∫ [(α/4) |q|² + ½ q · G] ds                G = Σ k_w(T, s)ᵀ z̄^L,
                                                                     q = ∂_t w(T, s)
    triangle penalties    L2 alone:  -½ ∫ r(T, s) ds - ½ ∫ [r(t, t) - r(t, 0)] dt
                          beside H1: +½ ∫ r(t, t) dt

with r = (α_2/2) |w|² for an L2 penalty of weight α_2 on a triangular control.

- For x' = f the memory and running terms are ½ ∫ ψ'·x' dt - ½ [H]_0^T, H = ℓ + ψ·f. The sum over l
  needs no density p, so that state bounds may make ψ a measure.
- Placement: the sample w^{l,s} sits half a cell from the nodes where the kernel reads t and s. Last
  row: the differences of an H1 penalty leave out the half cell next to t = T. Where w(T, s) is free
  α q = -G, which gives -|G|²/(4α); where it is held at a bound, the sample reaches the bound half a
  cell before T.
- A pure L2 penalty leaves the samples that only x^L reads at 0 where no terminal load acts on them
  (k_w(T, s)ᵀ∇Φ = 0; otherwise the limit is ill-posed); values at T are then limits from l < L.
- A path control read by the outer map has its samples at the nodes: with a difference penalty its
  mass is +½ [(α/2) |v(0)|² + (α/2) |v(T)|²].
- A feature map belongs to the kernel, k(t, s, F(s, x, v), w).

Source: derived for this project.
"""

from __future__ import annotations

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.optimum import Optimum, ahead, mass
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.problem.regularisers import H1, L2

NEGLIGIBLE = 1e-6  # a load below this share of the others is rounding or an inactive constraint


def terms(at: Optimum) -> dict[str, float]:
    """The contributions to c_1."""
    smooth = [block for block in at.triangular if block.metric.smooth]
    return {
        "running cost": _running_cost(at),
        "path penalties": _path_penalties(at),
        "integral constraints": _integral_constraints(at),
        "memory": _memory(at),
        "placement": sum(_placement(at, block) for block in smooth),
        "last row": sum(_last_row(at, block) for block in smooth),
        "triangle penalties": sum(_triangle_penalty(at, block) for block in at.triangular),
    }


def refuse(at: Optimum) -> None:
    """Refuse what the loads z̄ show: an ill-posed L2 problem, measures on a triangular control.

    Raises
    ------
    InputError that says what has no expansion of this form.
    """
    loaded = [block.name for block in at.on_last_layer if _loaded_at_the_end(at, block)]
    if loaded:
        seen = f"a terminal load on control {loaded[0]!r}, which has an L2 penalty alone or none"
        checks.reject(
            "error_constant", seen, "H1 there (else the limit is ill-posed), or no terminal load"
        )
    if not at.triangular:
        return
    for block in at.discrete.rows.blocks:
        on_state = block.formula is None or (
            block.constraint.kind == "path" and "x" in block.formula.reads
        )
        pressure = np.abs(at.mu[block.part].reshape(block.full_shape))[block.layers < at.depth]
        if on_state and np.sum(pressure) > NEGLIGIBLE * np.sum(np.abs(at.trajectory.costates)):
            seen = f"{block.constraint.name!r} active before T with triangular controls"
            checks.reject(
                "error_constant",
                seen,
                "state bounds and path constraints on x with path controls only",
            )


def _loaded_at_the_end(at: Optimum, block: ControlBlock) -> bool:
    """Whether the samples that only x^L reads feel ∇Φ: on the triangle k_w(T, s)ᵀ z̄^L.

    The load is that on the control itself: a terminal cost may well act on other parts of the
    state. Those samples are 0 then, and what they would miss of the running cost is O(τ).
    """
    load = np.abs(block.view(at.data_gradient))
    ends = _end_sites(at, block) if block.layout.on == "ts" else [-1]
    last = np.max(load[ends], initial=0.0)
    return bool(last > NEGLIGIBLE * np.max(load, initial=0.0))


def _running_cost(at: Optimum) -> float:
    formula, cost = at.problem.formulas.running, at.problem.running
    if formula is None or cost is None:
        return 0.0
    extra = [() if cost.target is None else (cost.target[n],) for n in range(at.problem.samples)]
    return -0.5 * float(
        np.mean([at.rise(formula, n, *extra[n]) for n in range(at.problem.samples)])
    )


def _path_penalties(at: Optimum) -> float:
    total = 0.0
    for block in at.discrete.space:
        if block.layout.on != "t":
            continue
        v = at.at_nodes[block.name]
        start, end = (
            0.5 * mass(at.problem, block, L2, H1) * float(np.sum(v[node] ** 2)) for node in (0, -1)
        )
        total += (
            0.5 * (start + end)
            if block.layout.at_nodes and block.metric.smooth
            else -0.5 * (end - start)
        )
    return total


def _integral_constraints(at: Optimum) -> float:
    total = 0.0
    for block in at.discrete.rows.blocks:
        if block.constraint.kind == "integral" and block.formula is not None:
            (mu,) = at.mu[block.part].reshape(block.full_shape)
            total += sum(
                float(np.sum(mu[j] * at.rise(block.formula, n)))
                for j, n in enumerate(block.samples)
            )
    return -0.5 * total


def _memory(at: Optimum) -> float:
    total = 0.0
    for l in range(1, at.depth + 1):
        defect = at.kernel(l, l) - at.kernel(l, 0)
        if not np.all(np.isfinite(defect)):
            t = at.discrete.grid.nodes[l]
            seen = f"k(t, t) or k(t, 0) infinite or undefined at t = {t:g}"
            checks.reject(
                "error_constant",
                seen,
                "a kernel that is finite up to s = t (else the rate is not 1)",
            )
        total += float(np.vdot(at.loads[l], defect))
    return -0.5 * total


def _placement(at: Optimum, block: ControlBlock) -> float:
    slope_t, slope_s = _slopes(at, block)
    slope_t[-1] = _slope_at_the_end(at, block)
    along = (slope_t - slope_s)[block.layout.layers - 1, block.layout.sources]
    return -0.5 * float(np.vdot(block.view(at.data_gradient), along))


def _last_row(at: Optimum, block: ControlBlock) -> float:
    q, G = _slope_at_the_end(at, block), _end_load(at, block)
    return at.step * float(np.sum(0.25 * mass(at.problem, block, H1) * q**2 + 0.5 * q * G))


def _slope_at_the_end(at: Optimum, block: ControlBlock) -> np.ndarray:
    """q = ∂_t w(T, s), (L, components): -G/α where w(T, s) is free."""
    held = block.view(at.held)[_end_sites(at, block)]
    return np.where(
        held, _slopes(at, block)[0][-1], -_end_load(at, block) / mass(at.problem, block, H1)
    )


def _end_load(at: Optimum, block: ControlBlock) -> np.ndarray:
    """G(s) = Σ k_w(T, s)ᵀ z̄^L, (L, components)."""
    return block.view(at.data_gradient)[_end_sites(at, block)] / at.step


def _end_sites(at: Optimum, block: ControlBlock) -> np.ndarray:
    """The sites w^{L, 0..L-1}."""
    return np.array([block.layout.index(at.depth, s) for s in range(at.depth)])


def _slopes(at: Optimum, block: ControlBlock) -> tuple[np.ndarray, np.ndarray]:
    """∂_t w and ∂_s w at the cell centres, (L, L, components) each.

    By differences of the mirrored array.
    """
    square = block.layout.mirrored(block.view(at.w))
    return np.gradient(square, at.step, axis=0), np.gradient(square, at.step, axis=1)


def _triangle_penalty(at: Optimum, block: ControlBlock) -> float:
    layout, L = block.layout, at.depth
    r = 0.5 * mass(at.problem, block, L2) * np.sum(block.view(at.w) ** 2, axis=1)
    layers = range(1, L + 1)
    diagonal = r[[layout.index(l, l - 1) for l in layers]]
    if block.metric.smooth:  # the L2 mass counts the half cells beyond the diagonal in full
        return 0.5 * at.step * float(np.sum(diagonal))
    left = r[[layout.index(l, 0) for l in layers]]
    row = at.step * np.bincount(layout.layers, r)  # ∫ r(t_l, s) ds
    return -0.5 * float(ahead(row[:L])[0]) - 0.5 * at.step * float(np.sum((diagonal - left)[:-1]))
