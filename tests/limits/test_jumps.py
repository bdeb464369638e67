"""Formulas that jump have no error constant of the known form, and are refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl

RULES = ("left", "trapezoid")


def steered(kernel, **options) -> dnl.ControlProblem:
    """½ ∫ u² + 5 x(1)², x(t) = 1 + ∫ (k x + u) ds."""
    return dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.Volterra(kernel),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: 5 * x**2,
        **{"running": lambda t, x, u: 0.5 * u.u**2, **options},
    )


def delayed() -> dnl.ControlProblem:
    """x'(t) = x(t - 1) + u on [0, 2], x = 1 before 0."""
    xp = dnl.namespace
    return dnl.ControlProblem(
        horizon=2.0,
        x0=[1.0],
        dynamics=dnl.Volterra(
            lambda t, s, x, u: xp(x).where(s <= t - 1.0, x, 0.0 * x) + u.u,
            free_term=lambda t, x0: x0 + xp(t).minimum(t, 1.0),
        ),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: 0.5 * u.u**2,
        terminal=lambda x, c: 5 * x**2,
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("depth", [40, 80])
def test_a_delay_is_refused(rule: str, depth: int):
    solution = dnl.solve(delayed(), depth, "exact", rule=rule)
    assert solution.success
    with pytest.raises(dnl.InputError, match=r"kernel that jumps at .* \(t - s = 1\)"):
        dnl.error_constant(solution)


JUMPS = {
    "finite lifetime": (
        lambda t, s, x, u: dnl.namespace(x).where(t - s < 0.25, x, 0.0 * x) + u.u,
        "t - s = 0.25",
    ),
    "lifetime below the step": (
        lambda t, s, x, u: dnl.namespace(x).where(t - s < 0.02, x, 0.0 * x) + u.u,
        "t - s = 0.02",
    ),
    "sign": (lambda t, s, x, u: dnl.namespace(x).sign(t - s - 0.4) * x + u.u, "t - s = 0.4"),
    "comparison": (lambda t, s, x, u: (t - s < 0.5) * x + u.u, "t - s = 0.5"),
    "pulse": (lambda t, s, x, u: (t - s > 0.5) * (t - s < 0.52) * 5 * x + u.u, "t - s = 0.5"),
    "quotient": (
        lambda t, s, x, u: (t - s - 0.37) / dnl.namespace(x).abs(t - s - 0.37) * x + u.u,
        "t - s = 0.37",
    ),
    "switch in s": (lambda t, s, x, u: dnl.namespace(x).where(s < 0.5, x, 2 * x) + u.u, "s = 0.5"),
    "switch in t": (lambda t, s, x, u: dnl.namespace(x).where(t < 0.5, x, 2 * x) + u.u, "t = 0.5"),
    "on the diagonal": (
        lambda t, s, x, u: dnl.namespace(x).where(s < t, x, 0.0 * x) + u.u,
        "t - s = 0",
    ),
    "threshold of the state": (
        lambda t, s, x, u: dnl.namespace(x).where(x < 0.9, -x, -2 * x) + u.u,
        "kernel that jumps",
    ),
}


@pytest.mark.parametrize("case", JUMPS)
def test_a_kernel_that_jumps_is_refused(case: str):
    kernel, place = JUMPS[case]
    solution = dnl.solve(steered(kernel), 20, "exact")
    with pytest.raises(dnl.InputError, match="kernel that jumps at") as error:
        dnl.error_constant(solution)
    assert place in str(error.value)


def test_a_running_cost_and_a_free_term_that_jump_are_refused():
    def late(t, x, u):
        return 0.5 * u.u**2 + dnl.namespace(x).where(t < 0.3, 0.0 * x, x**2)

    cost = dnl.solve(steered(lambda t, s, x, u: u.u - x, running=late), 12, "exact")
    with pytest.raises(dnl.InputError, match=r"running that jumps at t = 0\.3"):
        dnl.error_constant(cost)
    kicked = dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.Volterra(
            lambda t, s, x, u: u.u,
            free_term=lambda t, x0: x0 + dnl.namespace(t).where(t < 0.6, 0.0 * t, 1.0),
        ),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: u.u**2 + x**2,
    )
    with pytest.raises(dnl.InputError, match=r"free_term that jumps at t = 0\.6"):
        dnl.error_constant(dnl.solve(kicked, 12, "exact"))


CONTINUOUS = {
    "kink in t - s": lambda t, s, x, u: dnl.namespace(x).minimum(t - s, 0.5) * x + u.u,
    "rational": lambda t, s, x, u: x / (1 + t - s) + u.u,
    "kink of the state": lambda t, s, x, u: (
        dnl.namespace(x).exp(s - t) * dnl.namespace(x).maximum(x - 0.5, 0.0) + u.u
    ),
    "weak singularity": lambda t, s, x, u: x * dnl.namespace(x).abs(t - s) ** 0.3 + u.u,
}


@pytest.mark.parametrize("case", CONTINUOUS)
def test_a_continuous_kernel_keeps_its_constant(case: str):
    """L (J_L - J_2L) 2 tends to c; 15 % are left at L = 40 by the next term."""
    problem = steered(CONTINUOUS[case])
    coarse, fine = (dnl.solve(problem, L, "exact") for L in (40, 80))
    assert dnl.error_constant(fine).constant == pytest.approx(
        80 * (coarse.value - fine.value), rel=0.15
    )


def test_a_kink_is_refused_at_second_order():
    solution = dnl.solve(steered(CONTINUOUS["kink in t - s"]), 20, "exact", rule="trapezoid")
    with pytest.raises(dnl.InputError, match=r"kernel that has a kink at .* \(t - s = 0\.5\)"):
        dnl.error_constant(solution)
    smooth = dnl.solve(steered(CONTINUOUS["rational"]), 20, "exact", rule="trapezoid")
    assert math.isfinite(dnl.error_constant(smooth).constant)


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_an_l2_penalty_whose_own_last_row_is_not_loaded(backend: str):
    """x' = ∫ u(t, s) ds, ½ (x(1) - 1)² + ¼ ∫∫ u²: well posed, J* = ¼, c = ⅛.

    The terminal load acts on x, and u feeds y = ∫ u ds alone.
    """
    problem = dnl.ControlProblem(
        x0=[[0.0, 0.0]],
        dynamics=dnl.Volterra(lambda t, s, y, u: dnl.namespace(y).stack([y[1], u.u])),
        controls={"u": dnl.Control((), on="ts")},
        terminal=lambda x, c: 0.5 * (x[0] - 1) ** 2,
        regularisers=[dnl.L2("u", 0.5)],
    )
    found = [dnl.error_constant(dnl.solve(problem, L, backend)) for L in (16, 32)]
    errors = np.array([one.constant for one in found]) - 1 / 8
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)
    limits = np.array([one.corrected for one in found]) - 1 / 4
    assert limits[1] == pytest.approx(limits[0] / 4, rel=0.05)
