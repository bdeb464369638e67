"""Bad controls are refused with one line."""

from __future__ import annotations

import math

import pytest

import dnlcontrol as dnl
from tests.bad_input import FINITE, assert_told, noting, path

ROWS = [
    noting(
        lambda: dnl.Control((1, 2, 3)),
        "Control.shape",
        "(1, 2, 3)",
        "at most two integers",
        "rank 3",
    ),
    noting(lambda: dnl.Control((0,)), "Control.shape", "(0,)", "integers >= 1", "size 0"),
    noting(lambda: dnl.Control(2.0), "Control.shape", "2.0", "a tuple", "float shape"),
    noting(
        lambda: dnl.Control((), on="st"),
        "Control.on",
        "'st'",
        "'ts' or 't' or 'const'",
        "unknown on",
    ),
    noting(
        lambda: dnl.Control((), on=["t"]),
        "Control.on",
        "['t']",
        "'ts' or 't' or 'const'",
        "list as on",
    ),
    noting(
        lambda: dnl.Control(2, lower=[0, 0, 0]),
        "Control.lower",
        "(3,)",
        "shape (2,)",
        "bound of another shape",
    ),
    noting(
        lambda: dnl.Control(2, lower=[0, 3], upper=[1, 2]),
        "Control.lower, Control.upper",
        "3 > 2",
        "lower <= upper",
        "bounds that cross",
    ),
    noting(
        lambda: dnl.Control(2, upper=math.nan),
        "Control.upper",
        "NaN",
        "numbers or infinities",
        "NaN as bound",
    ),
    noting(lambda: dnl.Control(2, lower="0"), "Control.lower", "'0'", "numbers", "bound of text"),
    noting(
        lambda: dnl.Control(2, lower=math.inf),
        "Control.lower, Control.upper",
        "a lower bound of inf",
        "lower < inf",
        "bounds that nothing meets",
    ),
    noting(
        lambda: dnl.Control(2, initial=math.nan), "Control.initial", "nan", FINITE, "NaN as guess"
    ),
    noting(
        lambda: dnl.Control(2, initial="zero"), "Control.initial", "'zero'", FINITE, "guess of text"
    ),
    noting(
        lambda: dnl.smooth_random(-1),
        "smooth_random.seed",
        "-1",
        "an integer >= 0",
        "negative seed",
    ),
    noting(
        lambda: dnl.smooth_random(1, math.nan),
        "smooth_random.scale",
        "nan",
        "a finite number",
        "NaN as scale",
    ),
    noting(
        lambda: path(controls=["u"]),
        "controls",
        "['u']",
        "a mapping name -> Control",
        "list of controls",
    ),
    noting(
        lambda: path(controls={"u": (1,)}),
        "controls['u']",
        "(1,)",
        "Control(shape, on=...)",
        "shape as control",
    ),
    noting(
        lambda: path(controls={"2u": dnl.Control(1)}),
        "controls",
        "'2u'",
        "Python identifiers",
        "name with a digit",
    ),
    noting(
        lambda: path(controls={"_u": dnl.Control(1)}),
        "controls",
        "'_u'",
        "without a leading underscore",
        "name with an underscore",
    ),
    noting(
        lambda: path(controls={"x": dnl.Control(1)}, dynamics=dnl.ODE(lambda t, x, u: u.x)),
        "controls",
        "'x'",
        "names other than those of formula arguments",
        "name of an argument",
    ),
    noting(
        lambda: path(controls={"u": dnl.Control(1), "v": dnl.Control(1)}),
        "controls",
        "control 'v' that no formula reads",
        "controls that a formula reads",
        "control that nothing reads",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
