"""The width-and-depth equation: orders in width and depth, its adjoint, and its exact answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator

EPS = np.finfo(float).eps


def kernel(y, z, t):
    return np.cos(2.0 * y - z + t) * (1.0 + y * z)


def bias(y, t):
    return 0.5 * np.sin(3.0 * y + t)


def forward(nodes: int, rule: str, depth: int) -> float:
    """∫ e^y f(y, 1) dy by the rule."""
    pde = dnl.WidthPDE(nodes, rule)
    problem = dnl.ControlProblem(x0=pde.sample(lambda y: 1.0 + y**2)[None], dynamics=pde)
    end = dnl.simulate(problem, depth, pde.controls(kernel, bias))[-1, 0]
    return float(pde.q @ (np.exp(pde.y) * end))


def training(
    nodes: int = 6,
    data: int = 2,
    rule: str = "midpoint",
    weight: float = 0.05,
    smooth=None,
    **options,
):
    """Two functions to be moved onto two others."""
    pde = dnl.WidthPDE(nodes, rule)
    x0 = np.stack([np.cos((k + 1) * np.pi * pde.y) for k in range(data)])
    goal = np.stack([0.6 * np.sin((k + 1) * np.pi * pde.y) + x0[k] for k in range(data)])
    problem = dnl.ControlProblem(
        name="width",
        x0=x0,
        dynamics=pde,
        terminal=pde.squared(goal),
        running=None if smooth is None else pde.slopes(smooth, smooth),
        regularisers=[dnl.L2("w", weight), dnl.L2("b", 2 * weight)],
        **options,
    )
    return pde, problem


def test_order_in_width():
    """Midpoint: N^-2, against Gauss at the same depth.

    Gauss converges geometrically for analytic data.
    """
    exact = forward(24, "gauss", 6)
    errors = np.abs([forward(n, "midpoint", 6) - exact for n in (16, 32, 64)])
    assert abs(forward(20, "gauss", 6) - exact) < 1e-3 * errors[-1]
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2.0, atol=0.05)


def test_order_in_depth():
    """Euler: L^-1, from values at three depths alone."""
    values = np.array([forward(8, "gauss", depth) for depth in (32, 64, 128)])
    gaps = np.abs(np.diff(values))
    assert abs(np.log2(gaps[0] / gaps[1]) - 1.0) < 0.05


@pytest.mark.parametrize("rule", ["midpoint", "gauss"])
def test_adjoint_has_the_transposed_kernel(rule):
    """The costate and δJ/δw by their formulas: sums of O(1) terms.

    p^l(z) = p^{l+1}(z) + τ ∫ w(y,z) σ'(ξ(y)) p^{l+1}(y) dy and δJ/δw = mean of σ'(ξ) p ⊗ f.
    """
    depth, (pde, problem) = 5, training(rule=rule, weight=0.0)
    discrete = dnl.discretise(problem, depth)
    flat = 0.3 * np.random.default_rng(0).standard_normal(discrete.space.size)
    at = Evaluator(discrete).trajectory(flat)
    parts, gradients = discrete.space.split(flat), discrete.space.split(at.gradient)
    w, b = pde.functions(parts["w"], parts["b"])
    tau = 1.0 / depth
    q = pde.q
    S = problem.samples
    p = S * at.integral_costates / q  # as functions of y
    for l in range(1, depth):
        slope = 1.0 - np.tanh(at.states[l] @ (w[l] * q).T + b[l]) ** 2
        expected = p[l + 1] + tau * ((slope * p[l + 1] * q) @ w[l])
        np.testing.assert_allclose(p[l], expected, rtol=0, atol=1e-13 * np.abs(p).max() * pde.nodes)
        density = np.einsum("si,sj->ij", slope * p[l + 1], at.states[l]) / S
        scaled = tau * np.sqrt(np.outer(q, q)) * density
        np.testing.assert_allclose(
            gradients["w"][l], scaled, rtol=0, atol=1e-13 * np.abs(scaled).max() * pde.nodes
        )


def test_batched_kernel_and_both_backends():
    _, problem = training(nodes=3, smooth=0.01)
    start = {"w": dnl.smooth_random(1, 0.1), "b": dnl.smooth_random(1, 0.1)}
    one, two = (dnl.solve(problem, 3, backend=name, start=start) for name in ("exact", "adjoint"))
    # both stop at stationarity 1e-8, and J is quadratic about a minimiser of curvature >= weight
    assert one.success
    assert two.success
    assert abs(one.value - two.value) < 1e-13
    assert dnl.taylor_test(problem, depth=3)


def test_rank_is_at_most_the_number_of_data():
    """σ_{S+1}(w^l) <= st/(λ√τ), by Weyl.

    λ τ w^l + (a sum of S rank-one terms) = r^l, |r^l| <= √τ·stationarity.
    """
    depth = 6
    weight = 0.05
    data = 2
    _, problem = training(nodes=7, data=data, weight=weight)
    found = dnl.solve(problem, depth, backend="adjoint", tolerance=1e-10)
    singular = np.linalg.svd(found.controls["w"].values, compute_uv=False)
    assert found.success
    assert singular[:, data - 1].min() > 1e-3
    assert singular[:, data:].max() <= found.stationarity * np.sqrt(depth) / weight + 10 * EPS


def test_reduced_hamiltonian_is_the_full_minimum():
    """Against BFGS on all N+1 unknowns from many starts.

    Its gradient 1e-9 leaves (1e-9)²/λ in the value.
    """
    rng, pde = np.random.default_rng(4), dnl.WidthPDE(5, "gauss")
    f, p = rng.standard_normal((3, 5)), 2.0 * rng.standard_normal((3, 5))
    lam = 0.3
    kappa = 0.7
    q = pde.q
    w, b, value = pde.minimise_hamiltonian(f, p, lam, kappa)
    w, b = pde.functions(w, b)
    assert np.linalg.matrix_rank(w, tol=1e-10) <= 3
    for i in range(pde.nodes):

        def full(v, i=i):
            return float(
                p[:, i] @ np.tanh(f @ (q * v[:-1]) + v[-1])
                + 0.5 * lam * q @ v[:-1] ** 2
                + kappa / 2 * v[-1] ** 2
            )

        best = min(
            minimize(full, s * rng.standard_normal(6), tol=1e-10).fun
            for s in np.repeat([0.1, 1.0, 5.0], 8)
        )
        assert abs(full(np.append(w[i], b[i])) - value[i]) < 1e-12 * (1 + abs(value[i]))
        assert abs(best - value[i]) < 1e-9 * (1 + abs(best))


def test_reduced_hamiltonian_without_a_bias():
    """M without 1/κ: against BFGS on the N unknowns w(y, .)."""
    rng, pde = np.random.default_rng(11), dnl.WidthPDE(4, "midpoint")
    f = rng.standard_normal((2, 4))
    p = 2.0 * rng.standard_normal((2, 4))
    lam = 0.3
    q = pde.q
    w, b, value = pde.minimise_hamiltonian(f, p, lam, None)
    assert not b.any()
    w, _ = pde.functions(w)
    for i in range(pde.nodes):

        def full(v, i=i):
            return float(p[:, i] @ np.tanh(f @ (q * v)) + 0.5 * lam * q @ v**2)

        best = min(
            minimize(full, s * rng.standard_normal(4), tol=1e-10).fun
            for s in np.repeat([0.1, 1.0, 5.0], 8)
        )
        assert abs(full(w[i]) - value[i]) < 1e-12 * (1 + abs(value[i]))
        assert abs(best - value[i]) < 1e-9 * (1 + abs(best))


@pytest.mark.parametrize("kappa", [1.3, None])
@pytest.mark.parametrize("data", ["more than nodes", "repeated", "affinely dependent"])
def test_reduced_hamiltonian_with_dependent_states(data, kappa):
    """M singular: H at the returned w, b is the returned minimum.

    Neither random controls nor BFGS do better. At a stationary point found to 1e-14 (Newton's
    decrement 1e-28) H differs by rounding alone.
    """
    rng = np.random.default_rng(7)
    pde = dnl.WidthPDE(3, "gauss")
    lam = 0.7
    f = rng.standard_normal((9 if data == "more than nodes" else 2, 3))
    f = {"repeated": f[[0, 0, 1]], "affinely dependent": np.stack([*f, 0.5 * f.sum(0)])}.get(
        data, f
    )
    p = 2.0 * rng.standard_normal(f.shape)
    q = pde.q
    weight = kappa or 1.0

    def full(w, b, i):
        return p[:, i] @ np.tanh(f @ (q * w) + b) + 0.5 * lam * q @ w**2 + 0.5 * weight * b**2

    # a start that no control reaches is projected
    for start in (None, rng.standard_normal((3, len(f)))):
        w, b, value = pde.minimise_hamiltonian(f, p, lam, kappa, start)
        w, b = pde.functions(w, b)
        for i in range(pde.nodes):
            assert abs(full(w[i], b[i], i) - value[i]) < 1e-12 * (1 + abs(value[i]))
            assert kappa is not None or b[i] == 0
            for size in np.repeat([1e-3, 0.1, 1.0, 5.0], 50):
                dw, db = (
                    size * rng.standard_normal(3),
                    size * rng.standard_normal() * (kappa is not None),
                )
                assert full(w[i] + dw, b[i] + db, i) >= value[i] - 1e-12 * (1 + abs(value[i]))
                assert full(dw, db, i) >= value[i]

    def unknowns(v, i):
        return float(full(v[:3], v[3] if kappa else 0.0, i))

    for i in range(pde.nodes):
        best = min(
            minimize(unknowns, s * rng.standard_normal(4), (i,)).fun
            for s in np.repeat([0.1, 1.0, 5.0], 8)
        )
        assert best >= value[i] - 1e-9 * (1 + abs(best))


def test_the_optimal_control_minimises_the_hamiltonian():
    """Pontryagin, layer by layer: the global minimiser of H over (w, b) is the optimal control.

    H is that with ψ^{l+1}. The layer's gradient is at most √τ·stationarity and H is at least
    λ/2-convex near its minimiser here, so that the two are within 2·stationarity/(λ√τ).
    """
    depth, weight = 6, 0.2
    pde, problem = training(nodes=6, data=2, weight=weight)
    found = dnl.solve(problem, depth, backend="adjoint", tolerance=1e-10)
    evaluator = Evaluator(dnl.discretise(problem, depth))
    flat = evaluator.space.assemble({k: c.values for k, c in found.controls.items()})
    at = evaluator.trajectory(flat)
    for l in range(depth):
        w, b, _ = pde.minimise_hamiltonian(
            at.states[l], at.integral_costates[l + 1] / pde.q, weight, 2 * weight
        )
        gap = 2 * found.stationarity * np.sqrt(depth) / weight + 1e-12
        assert np.abs(w - found.controls["w"].values[l]).max() < gap
        assert np.abs(b - found.controls["b"].values[l]).max() < gap


@pytest.mark.parametrize("rule", ["midpoint", "gauss"])
def test_exact_steering(rule):
    """Rounding: condition of the Gram matrix times the number of terms."""
    pde = dnl.WidthPDE(12, rule)
    start = np.stack([np.ones(12), pde.y, pde.y**2])
    end = start + np.stack([0.8 * np.sin(3 * pde.y), -0.9 * pde.y, 0.5 * np.cos(5 * pde.y)])
    problem = dnl.ControlProblem(x0=start, dynamics=pde)
    states = dnl.simulate(problem, 7, pde.steer(start, end, 7))
    condition = max(np.linalg.cond((a * pde.q) @ a.T) for a in states)
    np.testing.assert_allclose(states[-1], end, rtol=0, atol=100 * EPS * condition)
    with pytest.raises(dnl.InputError, match="outside the activation's range"):
        pde.steer(start, start + 1.5, 7)
    with pytest.raises(dnl.InputError, match="linearly dependent"):
        pde.steer(start[[0, 0]], end[[0, 0]], 7)


def test_steady_states_stay():
    pde = dnl.WidthPDE(6, "gauss")
    controls = {
        k: v(0.0)
        for k, v in pde.controls(lambda y, z, t: kernel(y, z, t) + 2 * (y > z), bias).items()
    }
    f = pde.steady_state(controls["w"], controls["b"])
    states = dnl.simulate(dnl.ControlProblem(x0=f[None], dynamics=pde), 4, controls)
    assert np.abs(states - f).max() < 1e3 * EPS * np.linalg.cond(controls["w"]) * np.abs(f).max()
    with pytest.raises(dnl.InputError, match="range does not hold"):
        pde.steady_state(np.zeros((6, 6)), np.ones(6))


@pytest.mark.parametrize("rule", ["midpoint", "gauss"])
def test_penalties_are_norms(rule):
    """L2: ∫∫ (y² z)² = 1/15, exact by Gauss, to N^-2 by midpoint. Slopes: linear functions exactly.

    Of w = 2y + 3z the differences give 4 + 9 on the length y_N - y_1 that they cover, of b = 2y
    they give 4.
    """
    pde = dnl.WidthPDE(24, rule)

    def value(w, **options):
        problem = dnl.ControlProblem(x0=np.ones((1, 24)), dynamics=pde, **options)
        discrete = dnl.discretise(problem, 2)
        return discrete.value(discrete.space.initial(pde.controls(w, lambda y, t: 2 * y)))

    square = value(lambda y, z, t: y**2 * z, regularisers=[dnl.L2("w", 2.0)])
    assert abs(square - 1 / 15) < (24**-2 if rule == "midpoint" else 10 * EPS)
    covered = pde.y[-1] - pde.y[0]
    assert (
        abs(value(lambda y, z, t: 2 * y + 3 * z, running=pde.slopes(w=2.0)) - 13 * covered)
        < 1e4 * EPS
    )
    assert (
        abs(value(lambda y, z, t: 0 * y * z, running=pde.slopes(b=2.0)) - 4 * covered) < 1e4 * EPS
    )


def test_the_experiment_runs_at_a_tiny_size(tmp_path):
    command = [sys.executable, "benchmarks/12_width_pde.py", "--tiny", "--out", str(tmp_path)]
    root = Path(__file__).parents[2]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "| width PDE | emsa |" in told
    assert (tmp_path / "width_pde.png").exists()
