"""What is counted before anything is built is what is built."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.resources.counts import Structure

NAMES = (
    *("o1_hager", "o4_bryson_denham", "o5b_van_der_pol", "spirals", "resnet_tvg"),
    *("two_class_toy", "v1_rational_memory", "v8_double_integral", "t3b_h1_path"),
)
WAYS = {
    "Stored": "stored",
    "Taped": "tape",
    "TapedColumns": "tape",
    "Chain": "chain",
    "AffineColumns": "columns",
    "Dual": "dual",
    "Printed": "printed",
}


def named(name: str) -> dnl.ControlProblem:
    made = importlib.import_module(f"problems.{name}").problem()
    assert isinstance(made, dnl.ControlProblem)
    return made


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", ["left", "trapezoid"])
def test_unknowns_and_the_way(name: str, rule: str):
    problem = named(name)
    discrete = dnl.discretise(problem, 5, rule)
    counted = Structure(problem, discrete.grid)
    assert counted.controls == discrete.space.size
    assert counted.rows == discrete.rows.size
    assert counted.pairs == len(discrete.grid.pairs(problem.markov)[0])
    evaluator = Evaluator(discrete)
    chosen = type(evaluator.way).__name__
    if chosen == "OnHost":  # whose passes are those of a chain, or of columns
        assert counted.way == ("columns" if evaluator.sweep.chain is None else "chain")
    else:
        assert counted.way == WAYS[chosen]


@pytest.mark.parametrize("name", ["v1_rational_memory", "two_class_toy", "v8_double_integral"])
def test_arrays_of_the_exact_backend(name: str):
    discrete = dnl.discretise(named(name), 6)
    counted = Structure(discrete.problem, discrete.grid)
    w = discrete.space.initial()
    at = ReducedEvaluator(discrete).point(w)
    outer = at.outer_derivatives or ()
    assert counted.first == sum(a.size for a in (*at.kernel_derivatives, *outer))
    curvature = at.curvature()
    assert counted.curvature == sum(a.size for a in (*curvature.kernel, *(curvature.outer or ())))
    assert counted.states == at.x.size + at.z.size
    wide = at.sensitivities[0].size + (0 if not outer else at.sensitivities[1].size)
    assert counted.sensitivities == wide


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("one_step", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 7])
def test_pairs_are_counted_without_forming_them(rule: str, one_step: bool, depth: int):
    grid = Grid(depth, 1.0, rule)
    layers, sources = grid.pairs(one_step)
    assert grid.pair_count(one_step) == len(layers) == len(sources)
    assert layers.base is None, "a view would keep a larger array"
    assert sources.base is None


def test_a_depth_whose_pairs_have_no_number_is_refused():
    with pytest.raises(dnl.InputError, match=r"^depth: got .*; allowed: an integer from 1 to"):
        Grid(10**30, 1.0)


def test_counting_takes_no_arrays():
    problem = named("two_class_toy")
    counted = Structure(problem, Grid(2**31, problem.horizon, "trapezoid"))
    assert counted.way == "columns"
    assert counted.first > 1e20
    assert np.isfinite(counted.least_mb)


def user_network(width: int, on: str) -> dnl.ControlProblem:
    """tanh(W x + b) as a user writes it, of so many samples that derivatives are not stored."""

    def layer(x, u):
        return dnl.namespace(x).tanh(u.W @ x + u.b)

    dynamics = dnl.Volterra(lambda t, s, y, u: layer(y, u) * (1 + t - s))
    if on == "t":
        dynamics = dnl.ODE(lambda t, x, u: layer(x, u))
    return dnl.ControlProblem(
        x0=np.random.default_rng(0).standard_normal((20_000, width)),
        dynamics=dynamics,
        controls={"W": dnl.Control((width, width), on=on), "b": dnl.Control((width,), on=on)},
        terminal=lambda x, c: dnl.namespace(x).sum(x * x),
    )


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("on", ["t", "ts"])
@pytest.mark.parametrize("width", [2, 50])  # 50² entries are more than are printed
def test_the_way_of_a_users_formula(width: int, on: str, rule: str):
    discrete = dnl.discretise(user_network(width, on), 6, rule)
    counted = Structure(discrete.problem, discrete.grid)
    assert counted.way == WAYS[type(Evaluator(discrete).way).__name__]
    assert counted.printed == (width == 2)
