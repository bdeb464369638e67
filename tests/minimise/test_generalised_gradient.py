"""The nearest point of an affine set of gradients over a box, in the dual norm."""

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.minimise.generalised_gradient import nearest


def space():
    problem = dnl.ControlProblem(
        x0=np.zeros((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((1,))},
        regularisers=[dnl.H1("u", 1.0)],
    )
    return dnl.discretise(problem, 6).space


@pytest.mark.parametrize("seed", range(5))
def test_it_satisfies_the_conditions_of_the_quadratic_program(seed):
    """q = r + Bθ has <A⁻¹q, b_k> = 0 inside the box, >= 0 at 0 and <= 0 at 1."""
    rng, s = np.random.default_rng(seed), space()
    r, B = rng.standard_normal(6), rng.standard_normal((6, 3))
    theta = nearest(s, np.arange(6), r, B, (np.zeros(3), np.ones(3)))
    slope = B.T @ s.riesz(r + B @ theta)
    inside = (theta > 1e-9) & (theta < 1 - 1e-9)
    assert np.all((theta >= 0) & (theta <= 1))
    assert np.allclose(slope[inside], 0, atol=1e-9)
    assert np.all(slope[theta <= 1e-9] >= -1e-9)
    assert np.all(slope[theta >= 1 - 1e-9] <= 1e-9)


def test_a_gradient_that_the_box_reaches_is_left_no_distance():
    """r = -B θ with θ inside the box is met to rounding, on the free entries alone."""
    rng, s = np.random.default_rng(3), space()
    B, sides = rng.standard_normal((6, 2)), np.array([0.25, 0.5])
    r = -B @ sides
    r[0] += 7.0  # an entry that is held
    found = nearest(s, np.arange(1, 6), r, B, (np.zeros(2), np.ones(2)))
    assert np.allclose(found, sides, atol=1e-12)


def test_without_kinks_or_free_entries_there_is_nothing_to_choose():
    s = space()
    assert (
        nearest(s, np.arange(6), np.ones(6), np.zeros((6, 0)), (np.zeros(0), np.ones(0))).size == 0
    )
    held = nearest(s, np.arange(0), np.ones(6), np.ones((6, 1)), (np.zeros(1), np.ones(1)))
    assert held.tolist() == [0.0]
