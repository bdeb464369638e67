"""Bad samples, times and sites of controls are refused with one line."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import FINITE, assert_told, noting, path, solve, solved, started, triangle


def with_constant() -> dnl.ControlProblem:
    controls = {"u": dnl.Control((1,)), "k": dnl.Control((), on="const")}
    return path(controls=controls, terminal=lambda x, c: (c.k * x[0] - 1) ** 2)


ROWS = [
    noting(
        lambda: started(np.zeros(7)),
        "initial of 'u'",
        "(7,)",
        "grid shape (2, 1)",
        "guess of another shape",
    ),
    noting(
        lambda: started(lambda t: np.zeros(3)),
        "initial of 'u'",
        "(3,)",
        "shape (1,)",
        "callable of another shape",
    ),
    noting(
        lambda: started(lambda t, s: 0.0),
        "initial of 'u'",
        "'s'",
        "a function of (t)",
        "callable of (t, s)",
    ),
    noting(
        lambda: started(lambda t: math.nan),
        "initial of 'u'",
        "nan",
        FINITE,
        "callable that gives NaN",
    ),
    noting(
        lambda: solve(start={"v": 0.0}),
        "start",
        "unknown control 'v'",
        "['u']",
        "start of an unknown control",
    ),
    noting(
        lambda: solve(start={"u": np.zeros(5)}),
        "initial of 'u'",
        "(5,)",
        "grid shape (2, 1)",
        "start of another shape",
    ),
    noting(
        lambda: dnl.simulate(path(), 2, controls={"v": 1}),
        "start",
        "'v'",
        "['u']",
        "simulate an unknown control",
    ),
    noting(
        lambda: solved(triangle).control("w")(0.2, 0.5),
        "control 'w'",
        "s > t",
        "0 <= s <= t <= T",
        "above the diagonal",
    ),
    noting(
        lambda: solved(triangle).control("w")(1.5, 0.5),
        "control 'w'",
        "time 1.5",
        "times from 0 to 1",
        "after T",
    ),
    noting(
        lambda: solved(triangle).control("w")(0.5),
        "control 'w'",
        "1 times",
        "(t, s)",
        "one time of two",
    ),
    noting(lambda: solved().control("u")(), "control 'u'", "0 times", "(t)", "no time"),
    noting(
        lambda: solved(with_constant).control("k")(0.5),
        "control 'k'",
        "1 times",
        "no argument",
        "time of a constant",
    ),
    noting(
        lambda: solved().control("u")(math.nan),
        "control 'u'",
        "nan",
        "times from 0 to 1",
        "NaN as time",
    ),
    noting(
        lambda: solved(triangle).control("w").at(1, 1),
        "at(l, s)",
        "(1, 1)",
        "0 <= s < l <= 2",
        "sample on the diagonal",
    ),
    noting(
        lambda: solved(triangle).control("w").at(1),
        "at(l, s)",
        "(1, None)",
        "0 <= s < l <= 2",
        "sample without s",
    ),
    noting(lambda: solved().control("u").at(2), "at(l)", "2", "0 <= l < 2", "sample out of range"),
    noting(
        lambda: solved().control("u").at(1, 0),
        "at(l)",
        "(1, 0)",
        "0 <= l < 2",
        "path sample with s",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), "H1", "states"),
        "distance.norm",
        "'H1'",
        "'L2' or 'sup'",
        "H1 of states",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
