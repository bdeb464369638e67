"""Newton steps on active rows against every active set of a quadratic program."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, minimize

from dnlcontrol.minimise.active_set import Patience, active_sides, newton_on_active, signed

from .functions import Function, LinearRows, WithRows, definite, quadratic, space_of

INF = np.inf


def program(seed, size=6, rows=3, bound=np.inf):
    """min ½wᵀHw - bᵀw, -1/2 <= Cw <= 1/2, |w| <= bound."""
    rng = np.random.default_rng([40, seed])
    space = space_of(constants=size, lower=-bound, upper=bound)
    H, b, C = definite(rng, size), 10 * rng.standard_normal(size), rng.standard_normal((rows, size))
    sides = np.full(rows, 0.5)
    return WithRows(quadratic(space, H, b), LinearRows(C, -sides, sides)), H, b, C


def best_active_set(H, b, C, sides):
    """The one active set whose KKT system has feasible rows and multipliers of the right signs."""
    for state in product((-1, 0, 1), repeat=len(C)):
        state = np.array(state)
        on = state != 0
        n, m = len(H), int(on.sum())
        K = np.block([[H, C[on].T], [C[on], np.zeros((m, m))]])
        found = np.linalg.solve(K, np.concatenate([b, (state * sides)[on]]))
        mu = np.zeros(len(C))
        mu[on] = found[n:]
        if np.all(np.abs(C @ found[:n]) <= sides + 1e-12) and np.all(mu * state >= 0):
            return found[:n], mu
    raise AssertionError


@pytest.mark.parametrize("seed", range(4))
def test_a_quadratic_program_is_solved_as_by_its_best_active_set(seed):
    """Nothing is assumed active at the start, w = 0 with μ = 0; tolerance over curvature 1."""
    evaluator, H, b, C = program(seed)
    point = newton_on_active(evaluator, np.zeros(6), np.zeros(3), 1.0, 1e-10)
    w, mu = best_active_set(H, b, C, evaluator.rows.upper)
    assert point is not None
    assert point.stationarity <= 1e-10
    assert np.any(mu != 0)
    np.testing.assert_allclose(point.w, w, atol=1e-9)
    np.testing.assert_allclose(point.mu, mu, atol=1e-7)
    assert point.value == pytest.approx(evaluator.value(w), abs=1e-9)


@pytest.mark.parametrize("seed", [6, 8, 9])
def test_held_controls_and_active_rows_together(seed):
    """From near a solution (scipy's, disturbed by 1e-3) with the multipliers that fit there.

    Every optimality condition by itself: signs at bounds and sides, residuals, complementarity.
    """
    evaluator, H, b, C = program(seed, bound=0.5)
    box, rows = Bounds(*evaluator.space.bounds), LinearConstraint(C, -0.5, 0.5)
    f = evaluator.function
    near = minimize(
        f.f, np.zeros(6), jac=f.gradient, method="SLSQP", bounds=box, constraints=[rows]
    ).x
    free, on = np.abs(np.abs(near) - 0.5) > 1e-5, np.abs(np.abs(C @ near) - 0.5) < 1e-5
    mu = np.zeros(3)
    mu[on] = np.linalg.lstsq(C[on][:, free].T, -f.gradient(near)[free], rcond=None)[0]
    start = near + 1e-3 * np.random.default_rng(seed).standard_normal(6)
    point = newton_on_active(evaluator, np.clip(start, -0.5, 0.5), mu, 0.0, 1e-10)
    assert point is not None
    r, c = H @ point.w - b + C.T @ point.mu, C @ point.w
    at_upper, at_lower = point.w == 0.5, point.w == -0.5
    assert np.any(at_upper | at_lower)
    assert np.any(point.mu != 0)
    assert np.all(r[at_upper] <= 1e-9)
    assert np.all(r[at_lower] >= -1e-9)
    assert np.abs(r[~(at_upper | at_lower)]).max() <= 1e-9
    assert np.all(np.abs(c) <= 0.5 + 1e-12)
    assert np.abs(point.mu * (np.abs(c) - 0.5)).max() <= 1e-9
    assert np.all(point.mu * c >= 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_active_set_begins_with_the_multipliers_that_fit_the_gradient_best(seed):
    """Least ‖g + Cᵀμ‖ over the active rows: C (g + Cᵀμ) = 0.

    The third look at one point is the first with the new set.
    """
    looks = []

    class Seen(WithRows):
        def trajectory(self, w, multipliers=None):
            looks.append((w.copy(), multipliers.mu.copy()))
            return super().trajectory(w, multipliers)

    evaluator, H, b, C = program(seed, rows=5)
    newton_on_active(Seen(evaluator.function, evaluator.rows), np.zeros(6), np.zeros(5), 1.0, 1e-10)
    changed = [k for k in range(2, len(looks)) if np.array_equal(looks[k][0], looks[k - 2][0])]
    assert changed
    for k in changed:
        w, mu = looks[k]
        on = mu != 0
        assert np.abs(C[on] @ (H @ w - b + C.T @ mu)).max(initial=0.0) <= 1e-8


@pytest.mark.parametrize("seed", [20, 22])
def test_active_sets_that_come_back_are_left_one_row_at_a_time(seed):
    """With all wrong rows at once these programs go round in a circle."""
    evaluator, H, b, C = program(seed, rows=5)
    point = newton_on_active(evaluator, np.zeros(6), np.zeros(5), 1.0, 1e-10)
    assert point is not None
    np.testing.assert_allclose(
        point.w, best_active_set(H, b, C, evaluator.rows.upper)[0], atol=1e-9
    )


def test_a_row_given_twice_does_no_harm():
    evaluator, H, b, C = program(1, rows=1)
    twice = WithRows(
        evaluator.function, LinearRows(np.vstack([C, C]), np.full(2, -0.5), np.full(2, 0.5))
    )
    point = newton_on_active(twice, np.zeros(6), np.zeros(2), 1.0, 1e-10)
    assert point is not None
    w, mu = best_active_set(H, b, C, np.array([0.5]))
    np.testing.assert_allclose(point.w, w, atol=1e-9)
    assert point.mu.sum() == pytest.approx(mu[0], abs=1e-8)


def test_it_gives_up_where_patience_ends_and_at_negative_curvature():
    evaluator, _, _, _ = program(0)
    nothing = Patience(steps=1)
    assert (
        newton_on_active(evaluator, np.ones(6), np.zeros(3), 1.0, 1e-10, patience=nothing) is None
    )
    space = space_of(constants=2)
    saddle = Function(space, lambda w: -w @ w, lambda w: -2 * w, lambda w: -2 * np.eye(2))
    rows = LinearRows(np.array([[1.0, 0.0]]), np.array([-1.0]), np.array([1.0]))
    start = np.array([0.5, 0.5])
    assert newton_on_active(WithRows(saddle, rows), start, np.zeros(1), 1.0, 1e-10) is None


def test_sides_are_those_that_multipliers_and_values_point_to():
    bounds = np.array([-1.0, -1.0, -1.0, 2.0]), np.array([1.0, 1.0, 1.0, 2.0])
    c, mu = np.array([0.9, -0.9, 0.0, 0.0]), np.array([0.4, -0.4, 0.0, 0.0])
    np.testing.assert_array_equal(active_sides(bounds, c, mu, 2.0), [1.0, -1.0, np.nan, 2.0])
    # ρ = 0: by the multipliers alone
    np.testing.assert_array_equal(active_sides(bounds, c, mu, 0.0), [1.0, -1.0, np.nan, 2.0])
    small = np.array([1.0, 1e-7, 0.0, 0.0])
    np.testing.assert_array_equal(active_sides(bounds, c, small, 0.0)[:2], [1.0, np.nan])


def test_multipliers_have_the_sign_of_their_side_but_for_equalities():
    bounds = np.array([-1.0, -1.0, 2.0]), np.array([1.0, 1.0, 2.0])
    side, mu = np.array([1.0, -1.0, 2.0]), np.array([-1e-12, 1e-12, -3.0])
    np.testing.assert_array_equal(signed(bounds, side, mu), [0.0, 0.0, -3.0])
