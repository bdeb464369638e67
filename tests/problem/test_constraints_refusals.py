"""Bad constraints are refused with one line."""

from __future__ import annotations

import math
from typing import Any

import pytest

import dnlcontrol as dnl
from tests.bad_input import assert_told, constrained, noting, path, xp


def reading(x: Any, c: Any) -> Any:
    return x


ROWS = [
    noting(
        lambda: dnl.state_bounds(1, 0),
        "state bounds.lower, state bounds.upper",
        "bounds that cross",
        "lower <= upper",
        "state bounds that cross",
    ),
    noting(
        lambda: dnl.state_bounds(math.nan),
        "state bounds.lower",
        "NaN",
        "numbers",
        "NaN as state bound",
    ),
    noting(
        lambda: dnl.state_bounds(upper=-math.inf),
        "state bounds.lower, state bounds.upper",
        "an upper bound of -inf",
        "upper > -inf",
        "bounds that no state meets",
    ),
    noting(
        lambda: constrained(dnl.state_bounds([0, 0, 0])),
        "state bounds.lower",
        "(3,)",
        "broadcast to (1,)",
        "state bounds of another shape",
    ),
    noting(
        lambda: dnl.state_bounds(0, name=""),
        "state constraint.name",
        "''",
        "a non-empty string",
        "no name",
    ),
    noting(
        lambda: constrained(dnl.state_bounds(0, samples=[2])),
        "state bounds.samples",
        "[2]",
        "from 0 to 1",
        "sample out of range",
    ),
    noting(
        lambda: constrained(dnl.state_bounds(0, samples=[0, 0])),
        "state bounds.samples",
        "[0, 0]",
        "distinct",
        "sample twice",
    ),
    noting(
        lambda: dnl.state_bounds(0, samples=[-1]),
        "constraint.samples",
        "-1",
        "an integer >= 0",
        "negative sample",
    ),
    noting(
        lambda: dnl.state_bounds(0, samples=1),
        "constraint.samples",
        "1",
        "a list of sample indices",
        "one sample",
    ),
    noting(
        lambda: constrained(dnl.state_bounds(0), dnl.state_bounds(1)),
        "constraints",
        "'state bounds' 2 times",
        "one name each",
        "name twice",
    ),
    noting(
        lambda: dnl.path_constraint("x", 0, 1),
        "path constraint.fn",
        "'x'",
        "a function",
        "text as constraint",
    ),
    noting(
        lambda: dnl.terminal_constraint(reading, [0, 0], [1, 1, 1]),
        "terminal constraint.lower",
        "(2,) and (3,)",
        "shapes that broadcast",
        "sides of two shapes",
    ),
    noting(
        lambda: constrained(dnl.terminal_constraint(reading, [0, 0], 1)),
        "terminal constraint.lower",
        "(2,)",
        "broadcast to (1,)",
        "bounds of another shape",
    ),
    noting(
        lambda: constrained(dnl.terminal_constraint(lambda x, c: xp(x).stack([x, x]), 0, 1)),
        "terminal constraint",
        "(2, 1)",
        "shape () or (k,)",
        "matrix as constraint",
    ),
    noting(
        lambda: constrained(dnl.terminal_constraint(lambda x, c, y: x - y, 0, 1, target=[[1.0]])),
        "terminal constraint.target",
        "(1, 1)",
        "one row for each of the 2 samples",
        "missing target row",
    ),
    noting(
        lambda: constrained(dnl.integral_constraint(lambda t, x, u: x[0], [0, 0], 1)),
        "integral constraint.lower",
        "(2,)",
        "broadcast to ()",
        "two bounds for one integral",
    ),
    noting(
        lambda: constrained("x > 0"),
        "constraints",
        "x > 0",
        "state_bounds(...)",
        "constraint of text",
    ),
    noting(lambda: path(constraints=3), "constraints", "3", "a list", "number as constraints"),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
