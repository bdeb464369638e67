"""Bad Taylor tests are refused with one line."""

from __future__ import annotations

import pytest

import dnlcontrol as dnl
from tests.bad_input import assert_told, noting, path, uncontrolled

ROWS = [
    noting(
        lambda: dnl.taylor_test(path(), 2, seed=-1),
        "seed",
        "-1",
        "an integer >= 0",
        "negative seed",
    ),
    noting(
        lambda: dnl.taylor_test(uncontrolled(), 2),
        "problem",
        "without controls",
        "at least one control",
        "Taylor test of nothing",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
