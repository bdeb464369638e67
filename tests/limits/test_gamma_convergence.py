"""Recovery sequences and the liminf inequality: closed forms and random controls."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits.gamma_convergence import averages, extended_penalty
from problems import t3b_h1_path, t4_l2_triangle_terminal, t7_h1_triangle

DEPTHS = [8, 16, 32, 64]


def test_recovery_of_the_minimiser_converges_to_the_optimal_value():
    exact = t7_h1_triangle.reference()
    found = dnl.recovery_sequence(t7_h1_triangle.problem(), exact.controls, DEPTHS, exact.value)
    assert found.known
    assert found.passed
    assert found.rate == pytest.approx(1.0, abs=0.1)
    # no discrete control is below the discrete minimum
    assert all(
        exact.discrete_value(L) - 1e-14 <= J for L, J in zip(DEPTHS, found.values, strict=True)
    )
    # the limit from four levels alone: Richardson with the orders 1, 2, 3 leaves O(L^-4)
    unknown = dnl.recovery_sequence(t7_h1_triangle.problem(), exact.controls, DEPTHS)
    assert unknown.limit == pytest.approx(exact.value, abs=1e-6)
    assert unknown.passed
    assert unknown.rate == pytest.approx(1.0, abs=0.1)


def test_recovery_of_any_control():
    """u = t² + s: J = 1/8 + (α/2) 39/20.

    x(1) = 3/2, ‖u‖² = 1/6 + 1/5 + 1/12 and ‖∇u‖² = 3/2 on the triangle.
    """
    alpha = 0.5
    value = 0.125 + 0.5 * alpha * (1 / 6 + 1 / 5 + 1 / 12 + 3 / 2)
    found = dnl.recovery_sequence(
        t7_h1_triangle.problem(), {"u": lambda t, s: t**2 + s}, DEPTHS, value
    )
    assert found.passed
    assert found.rate == pytest.approx(1.0, abs=0.1)


def test_functions_of_numbers_will_do():
    problem = t7_h1_triangle.problem()
    arrays = dnl.recovery_sequence(problem, {"u": lambda t, s: np.where(t > 0.5, t, s)}, [4, 8])
    numbers = dnl.recovery_sequence(problem, {"u": lambda t, s: t if t > 0.5 else s}, [4, 8])
    np.testing.assert_allclose(arrays.values, numbers.values, rtol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_penalties_of_the_extension_are_never_larger(depth):
    """R_L(w) >= R(Î_L w) for every w.

    Triangle, path, path at the nodes, constants; H1, L2 and TvG.
    """
    rng = np.random.default_rng(depth)
    problem = dnl.ControlProblem(
        x0=np.ones((1, 2)),
        horizon=1.7,
        dynamics=dnl.Dense(2, form="B"),
        controls={"v": dnl.Control((2,)), "c": dnl.Control((2,), on="const")},
        running=lambda t, x, u: dnl.namespace(x).sum(u.v * x),
        terminal=lambda x, c: dnl.namespace(x).sum(c.c * x),
        regularisers=[
            dnl.H1("W", 0.3),
            dnl.L2("W", 0.2),
            dnl.H1("b", 0.7),
            dnl.TvG("v", 0.4, 0.6),
            dnl.L2("c", 1.0),
        ],
    )
    space = dnl.discretise(problem, depth).space
    for _ in range(20):
        w = rng.standard_normal(space.size)
        assert extended_penalty(problem, space, w) <= space.penalty(w) * (1 + 1e-13)
    constant = averages(
        space,
        {
            name: lambda *t, shape=b.control.shape: np.ones(shape)
            for name, b in space.blocks.items()
        },
    )
    # for a constant: b has L+1 samples of weight τ; ω = 1 for L2 on the triangle takes half the
    # diagonal cells too much
    surplus = 0.35 * 2 * 1.7 / depth + 0.1 * 4 * 0.5 * 1.7**2 / depth
    assert extended_penalty(problem, space, constant) == pytest.approx(
        space.penalty(constant) - surplus, rel=1e-12
    )


def test_liminf_along_an_oscillation_keeps_its_energy():
    """A cos(kπt) cos(kπs)/(kπ) adds (α/2) A²/4 in the limit.

    Its trace has mean 0, so that D does not change. At L = 64, k = 8: differences of a wave of k
    half periods lose (kπ/L)²/12 = 1.3 %, the mass adds 1/(2k²π²).
    """
    exact = t7_h1_triangle.reference()
    alpha = 0.5
    amplitude = 0.8
    found = dnl.liminf_check(
        t7_h1_triangle.problem(), exact.controls, DEPTHS, value=exact.value, amplitude=amplitude
    )
    assert found.passed, found.table()
    assert np.all(found.penalty_gaps >= 0)
    recovered = dnl.recovery_sequence(t7_h1_triangle.problem(), exact.controls, DEPTHS, exact.value)
    assert found.values[-1] - recovered.values[-1] == pytest.approx(
        alpha * amplitude**2 / 8, rel=0.03
    )
    assert "liminf inequality holds" in found.table()


def test_liminf_along_the_minimisers():
    """Their values rise or fall to J*: never below it by more than the slack, which is O(1/L)."""
    problem, exact = t7_h1_triangle.problem(), t7_h1_triangle.reference()
    found = dnl.liminf_check(problem, exact.controls, DEPTHS, exact.discrete_controls, exact.value)
    assert found.passed, found.table()
    np.testing.assert_allclose(found.values, [exact.discrete_value(L) for L in DEPTHS], rtol=1e-12)
    assert np.all(found.excess >= -found.slacks)


def test_liminf_on_the_path():
    exact = t3b_h1_path.reference()
    found = dnl.liminf_check(t3b_h1_path.problem(), exact.controls, DEPTHS, value=exact.value)
    assert found.passed, found.table()


def test_l2_alone_fails_the_liminf_inequality():
    """w_L -> 0 weakly in L², yet J_L(w_L) -> 0 < J(0) = ½ d².

    The row l = L moves x(1) at no cost.
    """
    problem, exact = t4_l2_triangle_terminal.problem(), t4_l2_triangle_terminal.reference()
    found = dnl.liminf_check(
        problem, {"u": lambda t, s: 0.0 * t}, DEPTHS, exact.discrete_controls, value=0.5
    )
    assert not found.passed
    assert np.all(found.penalty_gaps >= 0)  # the discrete inequality is not what fails
    assert any("the slack does not vanish" in said for said in found.failures)
    np.testing.assert_allclose(found.values, [0.5 / (1 + L / 0.5) for L in DEPTHS], rtol=1e-12)


def test_a_sequence_that_goes_elsewhere_fails():
    exact = t7_h1_triangle.reference()
    elsewhere = dnl.liminf_check(
        t7_h1_triangle.problem(), exact.controls, DEPTHS, lambda L: {"u": 0.1}
    )
    assert not elsewhere.passed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: dnl.recovery_sequence(3, {}, [2, 4]), "recovery_sequence.problem"),
        (
            lambda p: dnl.recovery_sequence(p, {}, [2, 4]),
            r"recovery_sequence.controls: got \[\]; allowed: one function",
        ),
        (
            lambda p: dnl.recovery_sequence(p, {"u": 1.0}, [2, 4]),
            r"recovery_sequence.controls\['u'\]",
        ),
        (lambda p: dnl.recovery_sequence(p, {"u": lambda t, s: t}, [4]), "at least two increasing"),
        (lambda p: dnl.liminf_check(p, {"u": lambda t, s: t}, [4, 2]), "at least two increasing"),
        (lambda p: dnl.liminf_check(p, {"u": lambda t, s: [t, s]}, [2, 4]), r"controls\['u'\]"),
        (
            lambda p: dnl.liminf_check(p, {"u": lambda t, s: t}, [2, 4], sequence=3),
            "liminf_check.sequence",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises((dnl.InputError, dnl.InputTypeError), match=message):
        call(t7_h1_triangle.problem())


def test_the_script_runs(tmp_path):
    import subprocess
    from pathlib import Path

    root = Path(__file__).parents[2]
    command = [
        sys.executable,
        "benchmarks/08_gamma_convergence.py",
        "--tiny",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gamma_convergence.png").stat().st_size > 10_000
    assert "recovery" in done.stdout
    assert "liminf" in done.stdout
