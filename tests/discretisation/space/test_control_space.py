"""The space of all controls: one flat vector, its metric and penalties, initial guesses."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.discretisation.space.samples import (
    HORIZON,
    PRODUCT,
    SOLVE,
    dense_metric,
    draw,
    form,
    mixed,
    penalty,
    reads_w,
    sites,
)


@pytest.mark.parametrize(
    ("on", "item", "value"),
    [
        # w^{1,0} = 1, w^{2,0} = 2, w^{2,1} = 4, τ = 1/2:  mass ¼(½ + 4 + ½·16) = 3.125, differences
        # 1 + 4
        ("ts", dnl.H1("w", 2.0), 8.125),
        ("ts", dnl.L2("w", 2.0), 0.25 * (1 + 4 + 16)),
        # v = 1, 2 at τ = 1/2:  ½ (1 + 4) = 2.5, 2 (2 - 1)² = 2
        ("t", dnl.H1("w", 2.0), 4.5),
        ("t", dnl.L2("w", 2.0), 2.5),
        # n (2 - 1)² + τ_1 1², n = 2
        ("t", dnl.TvG("w", 3.0, tau=5.0), 3.0 * (2.0 + 5.0)),
        ("const", dnl.H1("w", 2.0), 9.0),
        ("const", dnl.L2("w", 2.0), 9.0),
    ],
)
def test_penalties_by_hand(on, item, value):
    packed = {"ts": [1.0, 2.0, 4.0], "t": [1.0, 2.0], "const": [3.0]}[on]
    space = dnl.ControlSpace(reads_w(on, item), dnl.Grid(2, 1.0))
    w = np.array(packed)
    assert space.penalty(w) == pytest.approx(value, rel=1e-15)
    assert w @ space.penalty_gradient(w) == pytest.approx(2 * value, rel=1e-15)


def test_weight_zero_is_no_metric_and_no_penalty():
    space = dnl.ControlSpace(reads_w("t", dnl.H1("w", 0.0)), dnl.Grid(4, 2.0))
    w = draw(4)
    assert space.penalty(w) == 0.0
    assert space.metric(w) == pytest.approx(0.5 * w)  # the L² mass τ


def test_one_flat_vector_holds_all_controls():
    L = 4
    space = dnl.ControlSpace(mixed(), dnl.Grid(L, HORIZON))
    sizes = {"W": 10 * 4, "b": 10 * 2, "k": 4 * 2, "v": 5, "c": 2}
    assert {b.name: b.size for b in space} == sizes
    assert space.size == sum(sizes.values())
    w = np.arange(space.size, dtype=float)
    parts = space.split(w)
    assert {k: v.shape for k, v in parts.items()} == {
        "W": (10, 2, 2),
        "b": (10, 2),
        "k": (4, 2),
        "v": (5,),
        "c": (1, 2),
    }
    assert np.array_equal(space.assemble(parts), w)
    assert np.array_equal(np.concatenate([v.ravel() for v in parts.values()]), w)


@pytest.mark.parametrize("L", [1, 3, 6])
def test_metric_of_the_space_and_its_inverse(L):
    """Each control has its own form, component by component; A^{-1} A = A A^{-1} = 1."""
    space = dnl.ControlSpace(mixed(), dnl.Grid(L, HORIZON))
    w, v = draw(space.size), draw(space.size, seed=1)
    expected, places = (
        0.0,
        {
            "W": ("triangle", True),
            "b": ("triangle", False),
            "k": ("path", False),
            "v": ("path at nodes", True),
            "c": ("constant", True),
        },
    )
    for block in space:
        place, smooth = places[block.name]
        expected += form(place, L, block.values(w), block.values(v), smooth)
    assert v @ space.metric(w) == pytest.approx(expected, rel=1e-12)
    assert space.riesz(space.metric(w)) == pytest.approx(w, rel=0, abs=SOLVE * np.abs(w).max())
    bound = SOLVE * np.abs(w).max()
    assert space.metric(space.riesz(w)) == pytest.approx(w, rel=0, abs=bound)
    assert space.metric_diagonal == pytest.approx(np.diag(dense_metric(space)), rel=PRODUCT)


def test_penalties_of_the_space_add_up():
    L = 3
    problem = mixed()
    space = dnl.ControlSpace(problem, dnl.Grid(L, HORIZON))
    w = draw(space.size)
    places = {"W": "triangle", "b": "triangle", "v": "path at nodes", "c": "constant"}
    expected = sum(
        penalty(p, L, space.split(w)[k], problem.regularisers_of(k)) for k, p in places.items()
    )
    assert space.penalty(w) == pytest.approx(expected, rel=1e-12)


def test_initial_guesses_are_sampled_at_the_sites_and_clipped():
    L = 4
    grid = dnl.Grid(L, HORIZON)
    space = dnl.ControlSpace(mixed({"k": (-1.0, 1.0)}), grid)
    tau = grid.step
    w = space.initial(
        {
            "W": lambda t, s: np.array([[t, s], [0.0, t * s]]),
            "b": 0.5,
            "k": lambda t: 2.0 * t,
            "v": np.arange(5.0),
            "c": lambda: np.array([3.0, 4.0]),
        }
    )
    parts = space.split(w)
    for i, (l, s) in enumerate(sites("triangle", L)):
        t, r = (l - 0.5) * tau, (s + 0.5) * tau
        assert parts["W"][i] == pytest.approx(np.array([[t, r], [0.0, t * r]]), rel=1e-14)
    assert np.all(parts["b"] == 0.5)
    assert np.array_equal(parts["c"], [[3.0, 4.0]])
    assert parts["k"] == pytest.approx(
        np.clip(2 * (np.arange(L) + 0.5) * tau, -1, 1)[:, None] * np.ones(2)
    )
    assert np.array_equal(parts["v"], np.arange(5.0))
    dense = space.blocks["W"].layout.dense(parts["W"])
    assert np.array_equal(space.split(space.initial({"W": dense}))["W"], parts["W"])
    assert np.array_equal(space.split(space.initial({"W": parts["W"]}))["W"], parts["W"])


def test_smooth_random_is_one_function_at_every_depth():
    """Its samples at depths 3 and 9 agree where the sites coincide.

    Centres (l-½)/3 are (3l-1-½)/9.
    """
    problem = dnl.ControlProblem(
        horizon=HORIZON,
        x0=np.zeros((1, 2)),
        dynamics=dnl.Dense(2, "C"),
        controls={"W": dnl.Control((2, 2), on="ts", initial=dnl.smooth_random(4, 0.3))},
    )
    coarse, fine = (dnl.ControlSpace(problem, dnl.Grid(L, HORIZON)) for L in (3, 9))
    a, b = (s.blocks["W"].layout.dense(s.split(s.initial())["W"]) for s in (coarse, fine))
    for l in range(1, 4):
        for s in range(l):
            assert a[l - 1, s] == pytest.approx(b[3 * l - 2, 3 * s + 1], rel=1e-13, abs=1e-15)
    assert np.nanstd(a) > 0.01
