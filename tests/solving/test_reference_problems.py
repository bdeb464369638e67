"""Every reference problem, solved by both backends, against its exact answer."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.results.extrapolation import extrapolate
from tests.reference_ladders import LADDERS, files

FORWARD = [
    "f1_cubic_memory",
    "f2_weakly_coupled",
    "f3_rational_kernel",
    "f4_quadratic_decay",
    "f5_oscillating",
]


@pytest.fixture(scope="module")
def ladder():
    """Solutions of one backend at every depth, each started from the one before."""
    kept: dict[tuple[str, str], list[dnl.Solution]] = {}

    def solve(case: str, backend: str) -> list[dnl.Solution]:
        if (case, backend) not in kept:
            problem, _, depths = files(case)
            solutions, start = [], None
            for depth in depths:
                start = dnl.solve(problem, depth, backend, start=start)
                solutions.append(start)
            kept[case, backend] = solutions
        return kept[case, backend]

    return solve


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
@pytest.mark.parametrize("case", LADDERS)
def test_exact_answers(case, backend, ladder):
    _, reference, depths = files(case)
    solutions = ladder(case, backend)
    assert all(s.success for s in solutions), [s.message for s in solutions]
    for solution in solutions:
        if reference.discrete_value is not None:
            expected = reference.discrete_value(solution.depth)
            assert solution.value == pytest.approx(expected, rel=1e-9, abs=1e-9)
        if reference.discrete_controls is not None:
            for name, samples in reference.discrete_controls(solution.depth).items():
                np.testing.assert_allclose(solution.controls[name].values, samples, atol=1e-7)
    values = [s.value for s in solutions]
    limit, _ = extrapolate(depths, values, reference.orders)
    assert limit == pytest.approx(reference.value, rel=1e-5)
    if reference.error_constant:
        # two terms on the last two depths leave c with an error O(1/L²) of the third term
        _, c = extrapolate(depths, values, (1.0, 2.0))
        assert c[0] == pytest.approx(reference.error_constant, rel=0.03)


@pytest.mark.parametrize("case", LADDERS)
def test_backends_agree(case, ladder):
    for exact, adjoint in zip(ladder(case, "exact"), ladder(case, "adjoint"), strict=True):
        assert exact.value == pytest.approx(adjoint.value, rel=1e-8, abs=1e-10)
        assert dnl.distance(exact, adjoint) <= 1e-5
        assert dnl.distance(exact, adjoint, "sup", "costates") <= 1e-6 * (
            1 + np.abs(exact.costates).max()
        )


@pytest.mark.parametrize(
    "case", ["t7_h1_triangle", "o1_hager", "v1_rational_memory", "v8_double_integral"]
)
def test_controls_converge_to_the_continuous_optimum(case, ladder):
    """The L² error of the piecewise-linear extension falls at first order."""
    from dnlcontrol.discretisation.space.distances import function_distance
    from dnlcontrol.results.extrapolation import fitted_rate

    _, reference, depths = files(case)
    solutions = ladder(case, "adjoint")
    for name, function in reference.controls.items():
        errors = [
            function_distance(s.controls[name].layout, s.controls[name].values, function)
            for s in solutions
        ]
        assert fitted_rate(depths, errors) > 0.9


def test_l2_penalty_on_the_triangle_is_ill_posed():
    """T4: J_L is exactly ½d²/(1+L/α), falls for ever; the state jumps in the last layer only."""
    from problems import t4_l2_triangle_terminal as t4

    problem, reference = t4.problem(), t4.reference()
    assert not reference.attained
    values = []
    for depth in (4, 8, 16, 32):
        for backend in ("exact", "adjoint"):
            solution = dnl.solve(problem, depth, backend)
            assert solution.value == pytest.approx(reference.discrete_value(depth), rel=1e-9)
        values.append(solution.value)
        jump = np.abs(np.diff(solution.states[:, 0], axis=0)).ravel()
        assert jump[-1] > 0.5 * abs(solution.states[-1, 0] - solution.states[0, 0])
        assert np.all(jump[:-1] < 1e-7)
    assert values[-1] < 0.25 * values[0]


@pytest.mark.parametrize("name", FORWARD)
def test_forward_equations(name):
    """x_L(T) - x(T) = τe + o(τ): the constant e by extrapolation of L·error/T.

    Where e = 0 the order is 2.
    """
    module = importlib.import_module(f"problems.{name}")
    problem, reference = module.problem(), module.reference()
    T, depths = problem.horizon, (100, 200, 400)
    errors = [
        float(dnl.simulate(problem, L)[-1].item() - np.asarray(reference.state(T)).item())
        for L in depths
    ]
    scaled = [e * L / T for e, L in zip(errors, depths, strict=True)]
    if reference.forward_constant:
        constant, _ = extrapolate(depths, scaled, (1.0, 2.0))
        assert constant == pytest.approx(reference.forward_constant, rel=0.02)
    else:
        assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_bang_bang():
    from problems import double_integrator_bang_bang as bang

    exact, adjoint = (dnl.solve(bang.problem(), 100, backend) for backend in ("exact", "adjoint"))
    for solution in (exact, adjoint):
        assert solution.success, solution.message
        assert solution.value == pytest.approx(bang.DISCRETE_VALUE_100, abs=1e-8)
        assert np.all(np.abs(solution.controls["u"].values) <= 1.0)
    # the cost is ∫x₁² and the set of controls convex, so that J - J* >= ∫(x₁ - x₁*)²; nothing
    # determines more: the last controls act on nothing but themselves
    apart = exact.states[:-1, 0, 0] - adjoint.states[:-1, 0, 0]
    assert exact.grid.step * apart @ apart <= adjoint.value - exact.value + 1e-10
