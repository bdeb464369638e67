"""The method of multipliers around each minimiser, on quadratic programs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, minimize

from dnlcontrol.minimise import augmented_lagrangian as module
from dnlcontrol.minimise.augmented_lagrangian import augmented_lagrangian
from dnlcontrol.minimise.lbfgs import lbfgs
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.newton import newton

from .functions import Lagrangian, LinearRows, WithRows, quadratic, rosenbrock, space_of
from .test_active_set import best_active_set, program


def solved(evaluator, minimiser=newton, mu=None, start=None, tolerance=1e-8, limit=1000):
    start = np.zeros(evaluator.space.size) if start is None else start
    return augmented_lagrangian(evaluator, minimiser, start, mu, tolerance, limit, kind=Lagrangian)


@pytest.mark.parametrize("polish", [True, False])
@pytest.mark.parametrize("minimiser", [newton, lbfgs])
@pytest.mark.parametrize("seed", range(2))
def test_a_quadratic_program_is_solved_as_by_its_best_active_set(
    minimiser, seed, polish, monkeypatch
):
    """With Newton steps on the active rows, and by updates of the multipliers alone."""
    if not polish:
        monkeypatch.setattr(module, "newton_on_active", lambda *a, **k: None)
    evaluator, H, b, C = program(seed)
    result = solved(evaluator, minimiser)
    w, mu = best_active_set(H, b, C, evaluator.rows.upper)
    assert result.feasibility <= 1e-8
    assert result.rounds > 1 or polish
    np.testing.assert_allclose(result.outcome.w, w, atol=1e-7)
    np.testing.assert_allclose(result.mu, mu, rtol=1e-5, atol=1e-6)


def test_rosenbrock_under_a_row_in_a_box_ends_where_scipy_ends():
    space = space_of(constants=3, lower=-1.0, upper=0.9)
    function = rosenbrock(space)
    C = np.array([[1.0, 1.0, 1.0]])
    evaluator = WithRows(function, LinearRows(C, np.array([-np.inf]), np.array([1.0])))
    start = np.full(3, 0.2)
    result = solved(evaluator, start=start)
    theirs = minimize(
        function.f,
        start,
        jac=function.gradient,
        method="SLSQP",
        bounds=Bounds(*space.bounds),
        constraints=[LinearConstraint(C, -np.inf, 1.0)],
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert result.feasibility <= 1e-8
    assert result.mu[0] > 0
    np.testing.assert_allclose(result.outcome.w, theirs.x, atol=1e-6)
    assert result.outcome.value <= function.f(theirs.x) + 1e-8


def test_multipliers_that_are_carried_save_every_round():
    evaluator, *_ = program(0)
    first = solved(evaluator)
    again = solved(evaluator, mu=first.mu, start=first.outcome.w)
    assert again.rounds == 0
    assert again.iterations == 0
    np.testing.assert_allclose(again.outcome.w, first.outcome.w, atol=1e-8)


def test_wrong_multipliers_that_are_carried_do_no_harm():
    evaluator, H, b, C = program(0)
    result = solved(evaluator, mu=np.array([-50.0, 50.0, -50.0]))
    w, _ = best_active_set(H, b, C, evaluator.rows.upper)
    assert result.feasibility <= 1e-8
    np.testing.assert_allclose(result.outcome.w, w, atol=1e-7)


def test_rows_that_contradict_each_other_are_called_infeasible():
    space = space_of(constants=2)
    C = np.array([[1.0, 0.0], [1.0, 0.0]])
    evaluator = WithRows(
        quadratic(space, np.eye(2), np.zeros(2)),
        LinearRows(C, np.array([1.0, -np.inf]), np.array([np.inf, -1.0])),
    )
    result = solved(evaluator)
    assert result.feasibility == pytest.approx(1.0, rel=1e-3)
    assert "infeasible" in result.message


def test_it_says_after_how_many_updates_it_stopped(monkeypatch):
    monkeypatch.setattr(module, "newton_on_active", lambda *a, **k: None)
    evaluator, *_ = program(1)
    result = solved(evaluator, limit=1)
    assert result.feasibility > 1e-8
    assert result.message.startswith("stopped after 1 multiplier updates")


def test_updated_multipliers_are_the_gradient_of_the_penalty():
    """dJ_ρ/dw = dJ/dw + Cᵀμ⁺ at every w."""
    evaluator, *_ = program(2)
    rng = np.random.default_rng(6)
    at = Multipliers(rng.standard_normal(3), np.array([1.0, 10.0, 100.0]))
    w = rng.standard_normal(6)
    plus = at.updated(evaluator.constraint_values(w), evaluator.rows.bounds)
    expected = evaluator.function.gradient(w) + evaluator.rows.C.T @ plus
    steps = 1e-6 * np.eye(6)
    slope = [(evaluator.value(w + e, at) - evaluator.value(w - e, at)) / 2e-6 for e in steps]
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
