"""Steps of the quadratic model against dense solves, and against every face of the box."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq

from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.quadratic_model import QuadraticModel, binding, snapped, to_radius

from .functions import definite, dense, space_of


def model(space, H, w, g):
    return QuadraticModel(space, H.__matmul__, w, g, Face(space, binding(space, w, g)))


def best_on_faces(H, g, low, high):
    """The minimiser of gᵀd + ½dᵀHd in a box, H definite: the best of all 3^n faces' minimisers."""
    best, least = None, np.inf
    for sides in product((-1, 0, 1), repeat=len(g)):
        sides = np.array(sides)
        d = np.where(sides < 0, low, np.where(sides > 0, high, 0.0))
        F = sides == 0
        if F.any():
            d[F] = np.linalg.solve(H[np.ix_(F, F)], -(g + H @ d)[F])
        if np.all((d >= low - 1e-12) & (d <= high + 1e-12)):
            value = g @ d + 0.5 * d @ H @ d
            if value < least:
                best, least = d, value
    return best, least


@pytest.mark.parametrize("seed", range(3))
def test_without_bounds_it_is_the_newton_step(seed):
    """Stopped at ‖r‖_{A⁻¹} <= δ with H >= I and A <= 5 the step is off by at most √5 δ."""
    rng = np.random.default_rng(seed)
    space = space_of(constants=3, path=6)
    H, g = definite(rng, space.size), rng.standard_normal(space.size)
    step = model(space, H, np.zeros(space.size), g).minimise(1e6, 1e-11, 100)
    A = dense(space.metric, space.size)
    newton = np.linalg.solve(H, -g)
    assert np.linalg.norm(step.d - newton) <= np.sqrt(np.linalg.eigvalsh(A)[-1]) * 1e-11 + 1e-13
    assert step.predicted == pytest.approx(-0.5 * g @ np.linalg.solve(H, g), rel=1e-12)
    assert not step.at_radius


@pytest.mark.parametrize("seed", range(4))
def test_in_a_box_it_is_the_best_over_all_faces(seed):
    """H >= I: a projected gradient of 1e-10 is a distance of 1e-10."""
    rng = np.random.default_rng([10, seed])
    space = space_of(constants=6, lower=-1.0, upper=1.0)
    H, g, w = definite(rng, 6), 20 * rng.standard_normal(6), rng.uniform(-1, 1, 6)
    step = model(space, H, w, g).minimise(1e6, 1e-10, 500)
    best, least = best_on_faces(H, g, -1 - w, 1 - w)
    np.testing.assert_allclose(step.d, best, atol=1e-9)
    assert step.predicted == pytest.approx(least, abs=1e-9)
    assert np.any(np.abs(w + step.d) == 1.0)


def test_a_step_at_the_radius_gains_half_of_the_best_there():
    """Steihaug's step of a convex model has at least half of the exact one's decrease (Yuan 2000).

    The exact one solves (H + λA) d = -g with ‖d‖_A = Δ.
    """
    rng = np.random.default_rng(20)
    space = space_of(constants=3, path=6)
    H, g, A = definite(rng, 9), rng.standard_normal(9), dense(space.metric, 9)

    def at(shift):
        return np.linalg.solve(H + shift * A, -g)

    radius = 0.3 * np.sqrt(at(0.0) @ A @ at(0.0))
    d = at(brentq(lambda s: at(s) @ A @ at(s) - radius**2, 0.0, 1e6, xtol=1e-12))
    step = model(space, H, np.zeros(9), g).minimise(radius, 1e-12, 100)
    assert step.at_radius
    assert step.d @ A @ step.d == pytest.approx(radius**2, rel=1e-12)
    exact = g @ d + 0.5 * d @ H @ d
    assert exact * (1 + 1e-9) <= step.predicted <= 0.5 * exact


def test_negative_curvature_is_followed_to_the_radius():
    space = space_of(constants=2)
    H, g = np.diag([-1.0, 2.0]), np.array([1.0, 0.0])
    step = model(space, H, np.zeros(2), g).minimise(3.0, 1e-10, 10)
    np.testing.assert_allclose(step.d, [-3.0, 0.0], atol=1e-14)
    assert step.at_radius
    assert step.predicted == pytest.approx(-3.0 - 4.5, rel=1e-14)


def test_it_stops_after_so_many_products_with_a_descent():
    rng = np.random.default_rng(30)
    space = space_of(constants=20)
    H, g = definite(rng, 20, 1e6), rng.standard_normal(20)
    step = model(space, H, np.zeros(20), g).minimise(1e9, 1e-14, 3)
    assert step.inner == 3
    assert step.predicted < 0


def test_what_is_seen_are_products_of_unit_curvature():
    rng = np.random.default_rng(31)
    space = space_of(constants=3, path=5)
    H, g = definite(rng, 8), rng.standard_normal(8)
    step = model(space, H, np.zeros(8), g).minimise(1e6, 1e-10, 100)
    assert len(step.seen) == step.inner
    A = dense(space.metric, 8)
    for pair in step.seen:
        np.testing.assert_allclose(pair.y, H @ pair.s, atol=1e-12)
        assert pair.s @ pair.y == pytest.approx(1.0, rel=1e-12)
        if pair.z is not None:
            # a difference of residuals, of which the last is 1e-10 of the first
            np.testing.assert_allclose(A @ pair.z, pair.y, atol=1e-6 * np.abs(pair.y).max())


def test_the_inverse_as_preconditioner_solves_in_one_product():
    class Inverse:
        def on(self, face):
            F = face.free
            block = np.linalg.inv(H[np.ix_(F, F)])

            def solve(r, z):
                out = np.zeros_like(r)
                out[F] = block @ r[F]
                return out

            return solve

    rng = np.random.default_rng(32)
    space = space_of(constants=3, path=5)
    H, g = definite(rng, 8, 1e4), rng.standard_normal(8)
    step = model(space, H, np.zeros(8), g).minimise(1e6, 1e-9, 100, Inverse())
    assert step.inner == 1
    np.testing.assert_allclose(step.d, np.linalg.solve(H, -g), atol=1e-11)


@pytest.mark.parametrize("seed", range(6))
def test_in_a_box_the_model_falls_however_early_it_stops(seed):
    """A projected step is taken only where the model falls."""
    rng = np.random.default_rng([50, seed])
    space = space_of(constants=8, lower=-1.0, upper=1.0)
    H, g, w = definite(rng, 8, 1e4), 1e3 * rng.standard_normal(8), rng.uniform(-1, 1, 8)
    values = [model(space, H, w, g).minimise(1e6, 1e-9, k).predicted for k in range(1, 40)]
    assert np.all(np.array(values) < 0)


@pytest.mark.parametrize("seed", range(4))
def test_the_way_to_the_radius_ends_there(seed):
    """‖d + θp‖_A = Δ with θ >= 0, whether p leads away from 0 or towards it."""
    rng = np.random.default_rng([60, seed])
    space = space_of(constants=2, path=4)
    d, p = rng.standard_normal((2, 6))
    radius = 1.5 * np.sqrt(d @ space.metric(d))
    for way in (p, -p):
        theta = to_radius(d, way, space.metric, radius)
        end = d + theta * way
        assert theta > 0
        assert end @ space.metric(end) == pytest.approx(radius**2, rel=1e-13)
    assert to_radius(d, p, space.metric, 0.5 * radius) == 0.0


def test_only_held_entries_close_to_their_bounds_are_snapped():
    """Close to 10^{-3} (1 + |w|) is 2e-3 here; the third is further off, the last one not held."""
    space = space_of(constants=4, lower=-1.0, upper=1.0)
    w, g = np.array([1 - 1e-4, 1e-4 - 1, 0.99, 1 - 1e-4]), np.array([-5.0, 5.0, -5.0, 5e-5])
    np.testing.assert_allclose(snapped(space, w, g), [1e-4, -1e-4, 0.0, 0.0], atol=1e-15)


def test_held_entries_close_to_a_bound_are_put_there_first():
    """An entry 1e-4 inside whose gradient pushes outwards goes onto its bound exactly."""
    space = space_of(constants=2, lower=-1.0, upper=1.0)
    w, g = np.array([1.0 - 1e-4, 0.0]), np.array([-5.0, 0.3])
    step = model(space, np.eye(2), w, g).minimise(10.0, 1e-12, 10)
    assert (w + step.d)[0] == 1.0
    assert (w + step.d)[1] == pytest.approx(-0.3, rel=1e-12)
