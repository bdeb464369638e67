"""Bad grids are refused with one line."""

from __future__ import annotations

import pytest

import dnlcontrol as dnl
from tests.bad_input import assert_told, noting, solve

ROWS = [
    noting(lambda: dnl.solve("toy", 2), "problem", "'toy'", "a ControlProblem", "name as problem"),
    *(
        noting(lambda d=d: solve(depth=d), "depth", repr(d), "an integer >= 1", f"depth {d!r}")
        for d in (0, -1, 2.0, True, None)
    ),
    noting(
        lambda: solve(rule="simpson"), "rule", "'simpson'", "'left' or 'trapezoid'", "unknown rule"
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
