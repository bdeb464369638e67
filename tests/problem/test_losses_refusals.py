"""Bad costs, targets and labels are refused with one line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import FINITE, assert_told, noting, path, triangle

EYE = np.eye(2)


def formula_loss(loss: Any) -> dnl.ControlProblem:
    """A loss of a state of shape (2,)."""
    return path(x0=np.ones((2, 2)), controls={"u": dnl.Control(2)}, terminal=loss)


ROWS = [
    noting(
        lambda: path(terminal="squared"),
        "terminal",
        "'squared'",
        "losses.squared(Y)",
        "name of a loss",
    ),
    noting(
        lambda: path(terminal=lambda x, c: x),
        "terminal",
        "shape (1,)",
        "shape ()",
        "terminal cost with entries",
    ),
    noting(
        lambda: path(terminal=lambda x: x[0]),
        "terminal",
        "2 were given",
        "its arguments",
        "terminal cost of x alone",
    ),
    noting(
        lambda: path(terminal=lambda x, c: c.u[0]),
        "terminal",
        "unknown control 'u'",
        "allowed here: none",
        "terminal cost of a path control",
    ),
    noting(lambda: path(running=[1]), "running", "[1]", "a function", "list as running cost"),
    noting(
        lambda: path(running=lambda t, x, u: x),
        "running",
        "shape (1,)",
        "shape ()",
        "running cost with entries",
    ),
    noting(
        lambda: triangle(running=lambda t, x, u: u.w**2),
        "running",
        "unknown control 'w'",
        "allowed here: none",
        "running cost of a triangular control",
    ),
    noting(
        lambda: path(running=dnl.losses.squared(np.zeros((2, 1)))),
        "running",
        "4 were given",
        "its arguments",
        "terminal loss as running cost",
    ),
    noting(lambda: dnl.cost("f"), "cost.fn", "'f'", "a function", "cost of text"),
    noting(lambda: dnl.cost(abs, target=["a"]), "cost.target", "['a']", FINITE, "targets of text"),
    noting(
        lambda: dnl.cost(abs, target=[1, math.nan]),
        "cost.target",
        "nan at index (1,)",
        FINITE,
        "NaN as target",
    ),
    noting(
        lambda: path(terminal=dnl.cost(lambda x, c, y: x[0] - y, target=[1.0, 2.0, 3.0])),
        "terminal.target",
        "(3,)",
        "one row for each of the 2 samples",
        "a row too many",
    ),
    noting(
        lambda: path(running=dnl.cost(lambda t, x, u, y: x[0] - y, target=1.0)),
        "running.target",
        "shape ()",
        "one row for each of the 2 samples",
        "target without rows",
    ),
    noting(
        lambda: path(terminal=dnl.cost(lambda x, c, y: x[0], target=np.zeros((2, 1, 1, 1)))),
        "terminal.target",
        "(2, 1, 1, 1)",
        "rows of rank <= 2",
        "targets of rank 4",
    ),
    noting(
        lambda: path(terminal=dnl.losses.squared(np.zeros((1, 1)))),
        "terminal.target",
        "(1, 1)",
        "one row for each of the 2 samples",
        "missing row",
    ),
    noting(
        lambda: path(terminal=dnl.losses.squared(np.zeros((2, 3)))),
        "terminal: squared.target",
        "(3,)",
        "the prediction's shape (1,)",
        "target of another shape",
    ),
    noting(lambda: dnl.losses.squared(None), "squared.target", "None", FINITE, "no targets"),
    noting(
        lambda: dnl.losses.squared([1.0], head=2),
        "squared.head",
        "2",
        "head(outputs, inputs)",
        "number as head",
    ),
    noting(lambda: dnl.head(0, 1), "head.outputs", "0", "an integer >= 1", "head without outputs"),
    noting(
        lambda: path(terminal=dnl.losses.squared(np.zeros((2, 3)), head=dnl.head(3, 4))),
        "terminal: head.inputs",
        "4",
        "the state's 1 entries",
        "head for another width",
    ),
    noting(
        lambda: dnl.losses.logistic([0, 1, 2]),
        "logistic.target",
        "[0.0, 1.0, 2.0]",
        "-1/+1 or 0/1",
        "three labels",
    ),
    noting(
        lambda: dnl.losses.logistic([]), "logistic.target", "shape (0,)", "one label", "no labels"
    ),
    noting(
        lambda: formula_loss(dnl.losses.logistic([0, 1])),
        "terminal: logistic.head",
        "shape (2,)",
        "one entry",
        "logistic loss of two entries",
    ),
    noting(
        lambda: dnl.losses.cross_entropy([0.5, 1]),
        "cross_entropy.labels",
        "minimum 0",
        "one integer",
        "half a label",
    ),
    noting(
        lambda: dnl.losses.cross_entropy([-1, 1]),
        "cross_entropy.labels",
        "minimum -1",
        "0, 1, ...",
        "negative label",
    ),
    noting(
        lambda: dnl.losses.cross_entropy(EYE),
        "cross_entropy.labels",
        "shape (2, 2)",
        "one integer",
        "one-hot labels",
    ),
    noting(
        lambda: dnl.losses.cross_entropy([0, 2], classes=2),
        "cross_entropy.labels",
        "label 2",
        "below classes = 2",
        "label beyond the classes",
    ),
    noting(
        lambda: formula_loss(dnl.losses.cross_entropy([0, 2])),
        "terminal: cross_entropy.labels",
        "3 classes",
        "shape (3,)",
        "more classes than entries",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
