"""Bad options and bad starts of a solve are refused with one line."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import FINITE, assert_told, noting, path, solve, solved, triangle

ROWS = [
    noting(
        lambda: solve(backend="ipopt"),
        "backend",
        "'ipopt'",
        "'exact' or 'adjoint'",
        "unknown backend",
    ),
    noting(
        lambda: solve(backend=np.array(["exact", "adjoint"])),
        "backend",
        "array of shape (2,)",
        "'exact' or 'adjoint'",
        "array of backends",
    ),
    noting(
        lambda: solve(method="nadam"),
        "method",
        "'nadam'",
        "'newton' or 'gauss-newton' or 'lbfgs' or 'adam' or 'sgd' or 'msa' or 'emsa'",
        "unknown method",
    ),
    noting(
        lambda: solve(backend="exact", method="adam"),
        "method",
        "'adam'",
        "backend='adjoint'",
        "Adam, exact",
    ),
    noting(
        lambda: solve(method="sgd", batches=16),
        "batches",
        "16",
        "MiniBatches(size=",
        "batches as a number",
    ),
    noting(
        lambda: solve(batches=dnl.MiniBatches()),
        "batches",
        "'newton'",
        "method='adam' or 'sgd'",
        "batches for Newton",
    ),
    noting(
        lambda: solve(backend="exact", device="cuda"),
        "device",
        "'cuda'",
        "'cpu' for the exact backend",
        "exact on cuda",
    ),
    noting(lambda: solve(tolerance=0), "tolerance", "0", "a finite number > 0", "no tolerance"),
    noting(
        lambda: solve(tolerance="1e-8"),
        "tolerance",
        "'1e-8'",
        "a finite number",
        "tolerance of text",
    ),
    noting(
        lambda: solve(max_iterations=0), "max_iterations", "0", "an integer >= 1", "no iterations"
    ),
    noting(lambda: solve(progress="yes"), "progress", "'yes'", "a function", "progress of text"),
    noting(
        lambda: solve(start=np.zeros(3)),
        "start",
        "(3,)",
        "a flat vector of 2 entries",
        "start of another length",
    ),
    noting(
        lambda: solve(start=np.array([0.0, math.nan])),
        "start",
        "nan at index (1,)",
        FINITE,
        "start of NaN",
    ),
    noting(lambda: solve(start="runs/toy"), "start", "'runs/toy'", "a Solution", "start of text"),
    noting(
        lambda: solve(start=solved(triangle)),
        "start",
        "without a control 'u'",
        "the same problem",
        "start of another problem",
    ),
    noting(
        lambda: solve(path(horizon=2.0), start=solved()),
        "start",
        "on [0, 1]",
        "on [0, 2]",
        "start of another horizon",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


@pytest.mark.parametrize(
    "call",
    [
        lambda: solve(path(horizon=np.float32(1.0)), np.int64(2), tolerance=np.float64(1e-8)),
        lambda: solve(start={"u": [3]}),
    ],
)
def test_what_is_allowed(call):
    assert call() is not None
