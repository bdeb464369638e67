"""Multipliers carried from one depth to another: what is carried, and the same minimiser."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.solving.prolonged_multipliers import prolonged_multipliers
from problems import o4_bryson_denham, o5b_van_der_pol, v2_transient_impact

SOLVERS = {
    "adjoint": {"backend": "adjoint"},
    "lifted": {"backend": "exact", "formulation": "lifted"},
    "condensed": {"backend": "exact", "formulation": "condensed"},
}


def van_der_pol() -> dnl.ControlProblem:
    """With control bounds, a bound on the speed and an end point, all of them active."""
    plain = o5b_van_der_pol.problem()
    return dnl.ControlProblem(
        name="van der Pol",
        horizon=plain.horizon,
        x0=plain.x0,
        dynamics=plain.dynamics,
        running=plain.running,
        controls={"u": dnl.Control((), lower=-0.3, upper=1.0)},
        constraints=[
            dnl.state_bounds(lower=[-np.inf, -0.5], name="speed"),
            dnl.terminal_constraint(lambda x, c: x[0], 0.3, 0.3, name="end"),
        ],
    )


PROBLEMS = {
    "o4": (o4_bryson_denham.problem, 12),
    "v2": (v2_transient_impact.problem, 8),
    "van der Pol": (van_der_pol, 20),
}


@cache
def solved(name: str, depth: int) -> dnl.Solution:
    return dnl.solve(PROBLEMS[name][0](), depth)


# -- prolongation --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PROBLEMS)
def test_equal_depth_gives_the_multipliers_back(name: str):
    make, L = PROBLEMS[name]
    solution, discrete = solved(name, L), discretise(make(), L)
    mu = prolonged_multipliers(solution, discrete)
    assert mu is not None
    assert np.any(mu)
    for key, values in discrete.rows.by_name(mu).items():
        np.testing.assert_array_equal(values, solution.multipliers[key])


def bounded_path() -> dnl.ControlProblem:
    """min ½ ∫ (u - 1 - t)² dt with u <= 0, by a path constraint.

    μ(t) = 1 + t, so μ^l = τ (1 + t_l).
    """
    return dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=-0.5)},
        running=lambda t, x, u: 0.5 * (u.u - 1 - t) ** 2,
        constraints=[dnl.path_constraint(lambda t, x, u: u.u, upper=0.0, name="u <= 0")],
    )


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_a_density_in_closed_form_is_prolonged(backend: str):
    """Linear interpolation of 1 + t is exact up to the last node of the coarse grid.

    It is constant from there.
    """
    problem, L = bounded_path(), 4
    coarse = dnl.solve(problem, L, backend=backend)
    np.testing.assert_allclose(
        coarse.multiplier("u <= 0")[:, 0], (1 + np.arange(L) / L) / L, atol=1e-8
    )
    fine = discretise(problem, 2 * L)
    mu = prolonged_multipliers(coarse, fine)
    t = np.minimum(fine.grid.nodes[:-1], 1 - 1 / L)
    np.testing.assert_allclose(mu, (1 + t) / (2 * L), atol=1e-8)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("depth", [9, 24, 37])
def test_signs_and_rows_are_kept(name: str, depth: int):
    make, L = PROBLEMS[name]
    solution, discrete = solved(name, L), discretise(make(), depth)
    mu = discrete.rows.by_name(prolonged_multipliers(solution, discrete))
    for block in discrete.rows.blocks:
        before, after = solution.multipliers[block.constraint.name], mu[block.constraint.name]
        assert after.shape == block.full_shape
        if block.constraint.kind in ("integral", "terminal"):
            np.testing.assert_array_equal(after, before)
        else:  # one-sided bounds: one sign
            assert before.min() * after.min() >= 0
            assert before.max() * after.max() >= 0
            assert not np.any(after) or np.sign(after.sum()) == np.sign(before.sum())


def test_what_does_not_fit_is_not_carried():
    make, L = PROBLEMS["v2"]
    solution, discrete = solved("v2", L), discretise(make(), 2 * L)
    assert prolonged_multipliers(replace(solution, status=1), discrete) is None
    assert prolonged_multipliers(replace(solution, multipliers={}), discrete) is None
    other = {"everything is sold": np.zeros((1, 2))}
    assert prolonged_multipliers(replace(solution, multipliers=other), discrete) is None


def test_a_side_that_became_infinite_pushes_no_more():
    def problem(upper: float) -> dnl.ControlProblem:
        bounds = dnl.state_bounds(lower=-9.0, upper=upper, name="x")
        return dnl.ControlProblem(
            x0=[0.0],
            dynamics=dnl.ODE(lambda t, x, u: u.u),
            controls={"u": dnl.Control(())},
            terminal=lambda x, c: (x - 1) ** 2,
            regularisers=[dnl.L2("u", 0.1)],
            constraints=[bounds],
        )

    solution = dnl.solve(problem(0.5), 4, backend="adjoint")
    assert solution.multiplier("x").max() > 0.1
    assert not np.any(prolonged_multipliers(solution, discretise(problem(np.inf), 8)))
    assert dnl.solve(problem(np.inf), 4, backend="adjoint", start=solution).success


# -- solves --------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_solution_is_recognised(name: str, solver: str):
    """From its own solution a solve has nothing left to do."""
    make, L = PROBLEMS[name]
    solution = dnl.solve(make(), L, start=solved(name, L), **SOLVERS[solver])
    again = dnl.solve(make(), L, start=solution, **SOLVERS[solver])
    assert again.success
    assert again.nit <= 2
    assert dnl.distance(solution, again, norm="sup") <= 1e-8


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_same_minimiser_with_and_without_duals(name: str, solver: str):
    make, L = PROBLEMS[name]
    found = [
        dnl.solve(make(), 2 * L, start=solved(name, L), warm=warm, **SOLVERS[solver])
        for warm in ("controls", "duals")
    ]
    assert all(s.success for s in found)
    assert found[0].value == pytest.approx(found[1].value, abs=1e-10)
    # stationarity 1e-8 in the dual norm over a Hessian of at least 0.1 (V2: η/2 at these depths),
    # max over L2: √L
    assert dnl.distance(*found) <= 2e-7
    if solver == "adjoint":
        assert found[1].nit == 0 < found[0].nit


@pytest.mark.parametrize("solver", SOLVERS)
def test_wrong_duals_do_no_harm(solver: str):
    """Multipliers a hundred times too large: the solve falls back to what it does without them."""
    make, L = PROBLEMS["o4"]
    coarse = solved("o4", L)
    wrong = replace(coarse, multipliers={k: -100 * v for k, v in coarse.multipliers.items()})
    found = dnl.solve(make(), 2 * L, start=wrong, **SOLVERS[solver])
    right = dnl.solve(make(), 2 * L, start=coarse, warm="controls", **SOLVERS[solver])
    assert found.success
    assert dnl.distance(found, right, norm="sup") <= 1e-7


def test_study_carries_them():
    study = dnl.study(o4_bryson_denham.problem(), [12, 24], exact_to=24)
    assert study.success
    assert study.levels[1].adjoint.nit == 0
    assert study.levels[1].adjoint.value == pytest.approx(study.levels[1].exact.value, abs=1e-10)
    cold = dnl.study(o4_bryson_denham.problem(), [12, 24], warm="controls")
    assert cold.success
    assert cold.levels[1].adjoint.nit > 0


@pytest.mark.parametrize("wrong", ["all", None, 1])
def test_unknown_warm(wrong):
    with pytest.raises(dnl.InputError, match=r"warm: got .*; allowed: 'duals' or 'controls'"):
        dnl.solve(v2_transient_impact.problem(), 8, warm=wrong)


def test_no_iterations_beyond_the_limit():
    make, L = PROBLEMS["o4"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        found = dnl.solve(
            make(), 2 * L, start=solved("o4", L), max_iterations=2, formulation="lifted"
        )
    assert not found.success
    assert found.nit <= 2 + 2
