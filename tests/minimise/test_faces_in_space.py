"""Faces of the box in the space of controls, against dense algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.minimise.faces import Face, complementarity, held_entries, stationarity
from tests.discretisation.space.samples import HORIZON, SOLVE, dense_metric, draw, mixed


def box() -> tuple[dnl.ControlSpace, np.ndarray, np.ndarray]:
    """A bounded space with a point that has entries inside, at and pushed against their bounds."""
    problem = mixed({"W": (-0.6, 0.6), "b": (-np.inf, 0.4), "v": (-0.5, np.inf)})
    space = dnl.ControlSpace(problem, dnl.Grid(5, HORIZON))
    w = np.clip(0.8 * draw(space.size), *space.bounds)
    return space, w, 0.5 * draw(space.size, seed=1)


def test_held_entries_step_onto_or_beyond_their_bounds():
    """Entry i is held when w_i - r_i / A_ii lies on or beyond its bound."""
    space, w, r = box()
    lower, upper = space.bounds
    held, diagonal = held_entries(space, w, r), np.diag(dense_metric(space))
    for i in range(space.size):
        step = w[i] - r[i] / diagonal[i]
        assert held[i] == (step <= lower[i] or step >= upper[i])
    inside = (w > lower) & (w < upper)
    assert 0 < held.sum() < space.size
    assert np.any(held & inside)
    assert np.any(~held & ~inside)
    # on the bound
    assert held_entries(space, upper, np.zeros(space.size))[np.isfinite(upper)].all()
    gaps = [
        min(abs(w[i] - b) for b in (lower[i], upper[i]))
        if not inside[i]
        else (w[i] - lower[i] if w[i] - r[i] / diagonal[i] <= lower[i] else upper[i] - w[i])
        for i in np.flatnonzero(held)
    ]
    assert complementarity(space, w, r) == pytest.approx(max(gaps), rel=1e-15)


def test_nothing_is_held_without_bounds():
    space = dnl.ControlSpace(mixed(), dnl.Grid(3, HORIZON))
    w = draw(space.size)
    assert not held_entries(space, w, 1e6 * w).any()
    assert complementarity(space, w, w) == 0.0


def masks(space: dnl.ControlSpace) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    some = rng.random(space.size) < 0.4
    whole_component = np.zeros(space.size, dtype=bool)
    block = space.blocks["W"]
    view = whole_component[block.part].reshape(block.layout.count, block.components)
    view[:, 1] = True
    whole_component[block.part] = view.ravel()
    same_sites = np.zeros(space.size, dtype=bool)
    same_sites[block.part] = np.repeat(np.arange(block.layout.count) % 3 == 0, block.components)
    one = np.zeros(space.size, dtype=bool)
    one[7] = True
    return {
        "none": np.zeros(space.size, dtype=bool),
        "all": np.ones(space.size, dtype=bool),
        "some": some,
        "a component": whole_component,
        "sites": same_sites,
        "one": one,
    }


@pytest.mark.parametrize("which", ["none", "all", "some", "a component", "sites", "one"])
def test_riesz_map_on_a_face_is_the_inverse_of_the_principal_submatrix(which):
    space, _, r = box()
    held = masks(space)[which]
    face, F = Face(space, held), np.flatnonzero(~held)
    A = dense_metric(space)[np.ix_(F, F)]
    expected = np.zeros(space.size)
    expected[F] = np.linalg.solve(A, r[F])
    scale = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(face.riesz(r), expected, rtol=0, atol=SOLVE * scale)
    restricted = np.where(held, 0.0, r)
    assert np.array_equal(face.restrict(r), restricted)
    assert face.dual_norm(r) == pytest.approx(math.sqrt(r @ expected), rel=SOLVE)
    np.testing.assert_allclose(face.riesz(restricted), expected, rtol=0, atol=SOLVE * scale)


def test_stationarity_is_the_dual_norm_on_the_free_entries():
    space, w, r = box()
    F = np.flatnonzero(~held_entries(space, w, r))
    A = dense_metric(space)[np.ix_(F, F)]
    assert stationarity(space, w, r) == pytest.approx(
        math.sqrt(r[F] @ np.linalg.solve(A, r[F])), rel=SOLVE
    )


def test_dual_norm_is_the_largest_slope_per_unit_of_the_metric():
    """sup rᵀd over dᵀA d <= 1 is (rᵀA^{-1}r)^{1/2}, attained at A^{-1}r."""
    space = dnl.ControlSpace(mixed(), dnl.Grid(3, HORIZON))
    r = draw(space.size)
    norm = stationarity(space, np.zeros(space.size), r)
    best = space.riesz(r)
    assert r @ best / math.sqrt(best @ space.metric(best)) == pytest.approx(norm, rel=SOLVE)
    for seed in range(20):
        d = draw(space.size, seed=seed)
        assert r @ d <= norm * math.sqrt(d @ space.metric(d)) * (1 + SOLVE)
