"""The value function on a grid against open-loop optima of the same depth.

The two agree to the order of the grid.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from problems import o1_hager, o2_dt_qp, o5b_van_der_pol, t7_h1_triangle


def riccati(problem: str, depth: int) -> np.ndarray:
    """P_l, l = 0..L, of the discrete value P_l x² of O1 and O2: the recursions of problems/."""
    tau, P = 1 / depth, [0.0 if problem == "o1" else 10.0]
    for _ in range(depth):
        p = P[-1]
        if problem == "o1":
            K = (0.5 + (1 + tau / 2) * p) / (1 + tau * p)
            P.append(tau * (K**2 - K + 1.25) + p * (1 + tau / 2 - tau * K) ** 2)
        else:
            K = (1 - tau) * p / (11 + tau * p)
            P.append(tau * (11 * K**2 + 1) + p * (1 - tau - tau * K) ** 2)
    return np.array(P[::-1])


CASES = {
    "o1": (o1_hager, 1.0, -0.2, 1.4, (-4.0, 4.0)),
    "o2": (o2_dt_qp, 10.0, -2.0, 12.0, (-15.0, 15.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_linear_quadratic(name):
    """V is convex, so interpolation and a search that stops early only add.

    Each step adds at most h²/8·V'' = h²P/4.
    """
    module, start, lower, upper, sides = CASES[name]
    depth, errors = 8, []
    for points in (33, 65, 129):
        V = dnl.hamilton_jacobi(module.problem(), depth, lower, upper, points, bounds={"u": sides})
        exact, P = module.reference().discrete_value(depth), riccati(name, depth)
        h = V.axes[0][1] - V.axes[0][0]
        errors.append(V.value(0.0, start) - exact)
        assert abs(P[0] * start**2 - exact) < 1e-12 * exact
        assert -1e-12 * exact <= errors[-1] <= h**2 / 4 * P[1:].sum() + 1e-6 * exact
        loop = V.simulate()
        assert loop.inside
        assert -1e-12 * exact <= loop.cost - exact <= errors[-1] + h**2 / 4 * P[1:].sum()
    # the share of h²/8 that a path meets depends on where it crosses the cells: over two halvings
    # it averages
    assert abs(np.log2(errors[0] / errors[2]) / 2 - 2.0) < 0.35


def test_feedback_minimises_the_hamiltonian_of_the_value_function():
    """u = argmin ℓ + D_x V f on O1: 2u + x + V'(x') = 0 with the next state x' = x + τ (½ x + u).

    I[V] has the slopes of chords, V' up to P h, and x' moves by τ δ: |δ| (1 + τ P) <= P h / 2 + the
    end of the search.
    """
    depth, points = 8, 257
    V = dnl.hamilton_jacobi(o1_hager.problem(), depth, -0.2, 1.4, points, bounds={"u": (-4, 4)})
    P = riccati("o1", depth)
    h = V.axes[0][1] - V.axes[0][0]
    tau = 1 / depth
    for l in (0, 3, 6):
        for x in (0.3, 0.7, 1.0):
            gain = (0.5 + (1 + tau / 2) * P[l + 1]) / (1 + tau * P[l + 1])
            u = float(V.feedback(l * tau, x)["u"])
            assert abs(u + gain * x) <= P[l + 1] * h + 8 / 16 * 2.0**-13


def test_three_dimensions():
    """Linear-quadratic with D = 3 against the discrete Riccati recursion.

    0 <= V_h - V <= (1/8) Σ_l Σ_i h_i² 2 P_ii.
    """
    A = np.array([[0, 1, 0], [0, 0, 1], [-1, -0.5, -1.0]])
    B = np.array([0, 0.5, 1.0])
    start = [0.4, -0.2, 0.3]
    depth = 4
    tau = 1 / depth
    problem = dnl.ControlProblem(
        name="three",
        x0=[start],
        controls={"u": dnl.Control((), lower=-2, upper=2)},
        dynamics=dnl.ODE(
            lambda t, x, u: dnl.namespace(x).asarray(A) @ x + dnl.namespace(x).asarray(B) * u.u
        ),
        running=lambda t, x, u: x @ x + u.u**2,
        terminal=lambda x, c: 2 * (x @ x),
    )
    P = [2 * np.eye(3)]
    F = np.eye(3) + tau * A
    b = tau * B
    for _ in range(depth):  # V^l = xᵀ P x
        Q = P[-1]
        gain = F.T @ Q @ b
        P.append(tau * np.eye(3) + F.T @ Q @ F - np.outer(gain, gain) / (tau + b @ Q @ b))
    exact = np.array(start) @ P[-1] @ start
    assert abs(exact - dnl.solve(problem, depth, backend="adjoint").value) < 1e-12
    errors = []
    for points in (9, 17, 33):
        V = dnl.hamilton_jacobi(problem, depth, -1.0, 1.0, points, candidates=9)
        errors.append(V.value(0.0, start) - exact)
        bound = (2 / (points - 1)) ** 2 / 4 * sum(np.trace(Q) for Q in P[:-1])
        # the search ends on a grid of 4/8 2^-14 in u, where V'' is below 2τ (1 + τ tr P)
        assert 0 <= errors[-1] + 1e-9 <= bound
        loop = V.simulate()
        assert loop.inside
        assert -1e-12 <= loop.cost - exact <= 2 * bound
    assert abs(np.log2(errors[0] / errors[2]) / 2 - 2.0) < 0.35


def test_closed_loop_cost_is_that_of_the_evaluator():
    problem = o5b_van_der_pol.problem()
    V = dnl.hamilton_jacobi(problem, 6, -1.5, 1.5, 21, bounds={"u": (-2.0, 2.0)})
    loop = V.simulate()
    discrete = dnl.discretise(problem, 6)
    flat = discrete.space.assemble(loop.controls)
    assert abs(Evaluator(discrete).value(flat) - loop.cost) < 1e-13
    np.testing.assert_allclose(discrete.states(flat), loop.states, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(V.feedback(0.0, problem.x0[0])["u"], loop.controls["u"][0])
    again = V.simulate(problem.x0[0])
    assert again.cost == loop.cost


def test_van_der_pol():
    """|V_h - J_L| <= (L/8) Σ h² max |V_ii|, and second order.

    V_ii are the second differences of V_h itself.
    """
    problem, depth = o5b_van_der_pol.problem(), 8
    exact = dnl.solve(problem, depth, backend="adjoint").value
    errors = []
    for points in (31, 61, 121):
        V = dnl.hamilton_jacobi(problem, depth, -1.5, 1.5, points, bounds={"u": (-2.0, 2.0)})
        second = [np.abs(np.diff(V.values[1:], 2, axis=k)).max() for k in (1, 2)]  # h² V_ii
        errors.append(abs(V.value(0.0, problem.x0[0]) - exact))
        assert errors[-1] <= depth / 8 * sum(second)
        loop = V.simulate()
        assert loop.inside
        assert 0 <= loop.cost - exact + 1e-9 <= depth / 4 * sum(second)
    assert abs(np.log2(errors[0] / errors[2]) / 2 - 2.0) < 0.35


def neuron(samples: int) -> dnl.ControlProblem:
    """x' = tanh(K x + b) for all samples at once: a residual network of width 1 under training."""
    x0 = np.linspace(-0.5, 0.5, samples)[:, None] + 0.2
    return dnl.ControlProblem(
        name="neuron",
        x0=x0,
        dynamics=dnl.ResNet(1),
        controls={
            "K": dnl.Control((1, 1), lower=-3, upper=3, initial=0.1),
            "b": dnl.Control((1,), lower=-3, upper=3, initial=0.1),
        },
        terminal=dnl.losses.squared(x0 * np.abs(x0) + 0.5),
        regularisers=[dnl.L2("K", 0.05), dnl.L2("b", 0.05)],
    )


@pytest.mark.parametrize(("samples", "points"), [(1, (41, 81)), (2, (21, 41)), (3, (13, 25))])
def test_one_neuron_in_training(samples, points):
    """The joint state of all samples; the open-loop optimum by multistart is the global one."""
    problem, depth = neuron(samples), 4
    exact = min(
        dnl.solve(problem, depth, backend="adjoint", start={"K": k, "b": b}).value
        for k in (-1.0, 1.0)
        for b in (-0.5, 0.5)
    )
    errors = []
    for n in points:
        V = dnl.hamilton_jacobi(problem, depth, -0.8, 1.6, n, candidates=9)
        second = [np.abs(np.diff(V.values[1:], 2, axis=k + 1)).max() for k in range(samples)]
        errors.append(V.value(0.0, problem.x0) - exact)
        assert abs(errors[-1]) <= depth / 8 * sum(second) + 1e-6
        assert V.simulate().cost >= exact - 1e-8
    assert abs(errors[1]) < 0.5 * abs(errors[0])


def test_monotone():
    """A larger terminal cost gives a larger value everywhere."""

    def values(shift):
        problem = dnl.ControlProblem(
            x0=[[0.0]],
            dynamics=dnl.ODE(lambda t, x, u: u.u - x**3),
            controls={"u": dnl.Control((), lower=-1, upper=1)},
            running=lambda t, x, u: u.u**2 + 0 * x[0],
            terminal=lambda x, c: abs(x[0]) + shift * x[0] ** 2,
        )
        return dnl.hamilton_jacobi(problem, 4, -1, 1, 31).values

    low, high = values(0.0), values(0.3)
    # the local search may stop a little above the minimum: half of 2^-14 of the spacing of the
    # candidates
    assert np.all(high - low >= -(2.0**-14))


def test_bad_input():
    problem = o1_hager.problem()
    for call, message in (
        (lambda: dnl.hamilton_jacobi(problem, 4, 0, 1), "finite bounds"),
        (lambda: dnl.hamilton_jacobi(problem, 4, 1, 0, bounds={"u": (-1, 1)}), "lower < upper"),
        (lambda: dnl.hamilton_jacobi(problem, 4, 0, 1, bounds={"v": (-1, 1)}), "unknown control"),
        (lambda: dnl.hamilton_jacobi(t7_h1_triangle.problem(), 4, 0, 1), "an ODE"),
        (lambda: dnl.hamilton_jacobi(neuron(4), 4, 0, 1), "at most 3"),
        (
            lambda: dnl.hamilton_jacobi(problem, 4, 0, 1, 5, bounds={"u": (-1, 1)}).value(2.0, 0.5),
            "a time in",
        ),
    ):
        with pytest.raises(dnl.InputError, match=message):
            call()


def test_the_experiment_runs_at_a_tiny_size(tmp_path):
    command = [sys.executable, "benchmarks/11_hamilton_jacobi.py", "--tiny", "--out", str(tmp_path)]
    root = Path(__file__).parents[2]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert "| one neuron, two samples | 4 | 13 |" in told
    assert (tmp_path / "hjb.png").exists()
