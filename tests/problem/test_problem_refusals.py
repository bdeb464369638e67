"""Bad data and bad penalties of a problem are refused with one line."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import FINITE, assert_told, formula, noting, path, torch, triangle

ROWS = [
    noting(lambda: path(x0="abc"), "x0", "'abc'", FINITE, "x0 of text"),
    noting(lambda: path(x0=None), "x0", "None", FINITE, "no x0"),
    noting(lambda: path(x0=[[1.0], [1.0, 2.0]]), "x0", "[[1.0], [1.0, 2.0]]", FINITE, "ragged x0"),
    noting(lambda: path(x0=[[1j]]), "x0", "1j", FINITE, "complex x0"),
    noting(lambda: path(x0=[[1.0], [np.nan]]), "x0", "nan at index (1, 0)", FINITE, "NaN in x0"),
    noting(lambda: path(x0=[[np.inf]]), "x0", "inf at index (0, 0)", FINITE, "infinite x0"),
    noting(
        lambda: path(x0=np.zeros((2, 1, 1, 1))), "x0", "(2, 1, 1, 1)", "rank <= 2", "x0 of rank 4"
    ),
    noting(lambda: path(x0=np.zeros((0, 1))), "x0", "(0, 1)", "N >= 1", "empty x0"),
    noting(lambda: path(x0=1.0), "x0", "shape ()", "(N, *state shape)", "x0 without samples"),
    noting(
        lambda: path(x0=torch().ones(2, 1, requires_grad=True)),
        "x0",
        "tensor",
        FINITE,
        "x0 with a gradient",
    ),
    noting(
        lambda: path(x0=np.ones((2, 3)), dynamics=dnl.ResNet(2), controls=None),
        "kernel",
        "shapes (2, 2) and (3,)",
        "a common inner dimension",
        "x0 of another width",
    ),
    noting(lambda: path(name=""), "name", "''", "a non-empty string", "empty name"),
    noting(lambda: path(horizon=0), "horizon", "0", "a finite number > 0", "no horizon"),
    noting(lambda: path(horizon=math.inf), "horizon", "inf", "a finite number", "infinite horizon"),
    noting(lambda: path(horizon="1"), "horizon", "'1'", "a finite number", "horizon of text"),
    noting(
        lambda: path(horizon=np.True_),
        "horizon",
        "True",
        "a finite number",
        "horizon of NumPy's bool",
    ),
    noting(
        lambda: path(horizon=[1.0, 2.0]), "horizon", "[1.0, 2.0]", "a finite number", "two horizons"
    ),
    noting(
        lambda: dnl.H1("u", -1.0), "H1.weight", "-1.0", "a finite number >= 0", "negative weight"
    ),
    noting(lambda: dnl.L2("u", math.nan), "L2.weight", "nan", "a finite number", "NaN as weight"),
    noting(
        lambda: dnl.H1(1e-3, "u"), "H1.name", "0.001", "the name of a control", "arguments swapped"
    ),
    noting(
        lambda: dnl.TvG("u", 1.0, tau=-1), "TvG.tau", "-1", "a finite number >= 0", "negative tau"
    ),
    noting(
        lambda: path(regularisers=[dnl.H1("W", 1.0)]), "H1.name", "'W'", "['u']", "unknown control"
    ),
    noting(
        lambda: triangle(regularisers=[dnl.TvG("w", 1.0)]),
        "TvG.name",
        "control 'w' on 'ts'",
        "on='t'",
        "TvG of (t, s)",
    ),
    noting(
        lambda: path(regularisers=3),
        "regularisers",
        "3",
        "a list of H1(...)",
        "number as penalties",
    ),
    noting(
        lambda: path(regularisers=["H1"]),
        "regularisers",
        "'H1'",
        "a list of H1(...)",
        "name of a penalty",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


@pytest.mark.parametrize(
    "call",
    [
        lambda: path(controls={"u": dnl.Control(1, lower=-math.inf, upper=0)}),
        lambda: path(regularisers=dnl.L2("u", 0)),
        lambda: path(regularisers=()),
        lambda: path(constraints=dnl.state_bounds(0, samples=np.array([1]))),
        lambda: path(x0=[[1], [2]]),
        lambda: path(terminal=None),
        lambda: dnl.losses.cross_entropy([0.0, 2.0], classes=4),
        lambda: formula(lambda t, x, u: u.u * np.float64(2.0) + np.ones(2)[0] * x),
    ],
)
def test_what_is_allowed(call):
    assert call() is not None
