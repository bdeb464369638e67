"""Boxes of the interior-point method: always strictly inside, dual steps by Newton."""

from __future__ import annotations

import numpy as np

from dnlcontrol.minimise.barrier.box import Box

LOWER = np.array([0.0, -np.inf, -1.0, -np.inf])
UPPER = np.array([np.inf, 2.0, 1.0, np.inf])


def test_starts_inside():
    box = Box.inside(np.array([-5.0, 7.0, 1.0, 3.0]), LOWER, UPPER, 0.1)
    assert np.all(box.at > LOWER)
    assert np.all(box.at < UPPER)
    assert box.at[3] == 3.0
    assert box.complementarity(0.1) < 1e-15


def test_the_longest_step_keeps_its_share():
    """A step of 10 to a side at the distance 1 is cut to leave 1 % of that distance."""
    box = Box(np.zeros(1), np.array([-1.0]), np.array([np.inf]), np.ones(1), np.zeros(1))
    assert np.isclose(box.longest(np.array([-10.0]), 0.99), 0.099, rtol=1e-15)
    assert box.longest(np.array([10.0]), 0.99) == 1.0


def test_dual_steps_solve_the_linearised_complementarity():
    """z d + (w - l) dz = μ - z (w - l) below, and its mirror image above."""
    rng = np.random.default_rng(0)
    at, z, y, d = rng.uniform(0.1, 0.9, (4, 5))
    box = Box(at, np.zeros(5), np.ones(5), z, y)
    below, above = box.dual_steps(d, 0.3)
    assert np.allclose(z * d + at * below, 0.3 - z * at, rtol=0, atol=1e-15)
    assert np.allclose(-y * d + (1 - at) * above, 0.3 - y * (1 - at), rtol=0, atol=1e-15)


def test_no_logarithm_of_a_side():
    box = Box(np.zeros(1), np.zeros(1), np.ones(1), np.zeros(1), np.zeros(1))
    assert box.logs() == -np.inf
