"""Bad dynamics are refused with one line."""

from __future__ import annotations

import pytest

import dnlcontrol as dnl
from tests.bad_input import assert_told, noting, path

ROWS = [
    noting(
        lambda: path(dynamics="dense"), "dynamics", "'dense'", "Dense(...)", "name of a network"
    ),
    noting(
        lambda: path(dynamics=lambda t, x, u: x),
        "dynamics",
        "<function",
        "ODE(...)",
        "bare function",
    ),
    noting(lambda: path(dynamics=dnl.ODE), "dynamics", "<class", "ODE(...)", "class"),
    noting(
        lambda: path(dynamics=dnl.Dynamics()),
        "dynamics",
        "Dynamics object",
        "ODE(...)",
        "no kernel",
    ),
    noting(lambda: dnl.ODE(None), "ODE.f", "None", "a function", "ODE of nothing"),
    noting(lambda: dnl.Volterra("k"), "Volterra.kernel", "'k'", "a function", "kernel of text"),
    noting(
        lambda: dnl.Volterra(abs, free_term=3),
        "Volterra.free_term",
        "3",
        "a function",
        "number as free term",
    ),
    noting(
        lambda: dnl.Volterra(abs, batched="b"),
        "Volterra.batched",
        "'b'",
        "a function",
        "batched of text",
    ),
    noting(lambda: dnl.Dense(0), "Dense.width", "0", "an integer >= 1", "width 0"),
    noting(
        lambda: dnl.Dense(2, form="D"), "Dense.form", "'D'", "'A' or 'B' or 'C'", "unknown form"
    ),
    noting(
        lambda: dnl.Dense(2, activation="tanh"),
        "Dense.activation",
        "'tanh'",
        "a function",
        "activation's name",
    ),
    noting(
        lambda: dnl.Dense(2, feature="x"), "Dense.feature", "'x'", "a function", "feature of text"
    ),
    noting(
        lambda: dnl.Dense(2, feature_controls=[1]),
        "Dense.feature_controls",
        "[1]",
        "name -> Control",
        "list of them",
    ),
    noting(
        lambda: path(
            dynamics=dnl.Dense(1, feature=lambda s, x, u: u.a * x, feature_controls={"a": 3})
        ),
        "controls['a']",
        "3",
        "Control(shape, on=...)",
        "feature control of another type",
    ),
    noting(lambda: dnl.Dense(2, bias="no"), "Dense.bias", "'no'", "True or False", "bias of text"),
    noting(lambda: dnl.ResNet(True), "ResNet.width", "True", "an integer >= 1", "bool as width"),
    noting(
        lambda: dnl.ResNet(2, activation=None),
        "ResNet.activation",
        "None",
        "a function",
        "no activation",
    ),
    noting(
        lambda: path(dynamics=dnl.Volterra(lambda t, s, y, u: u.u, free_term=lambda t, x0: x0[0])),
        "free_term",
        "shape ()",
        "the state's shape (1,)",
        "free term of another shape",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)
