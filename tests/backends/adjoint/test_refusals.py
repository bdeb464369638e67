"""What the adjoint backend cannot run is refused with one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.bad_input import assert_told, noting, path, solve, torch, triangle, xp


def batched(own: Callable[..., Any]) -> dnl.ControlProblem:
    """x(t) = x0 + ∫_0^t tanh(W(t, s) x(s)) ds with the user's own batched kernel."""
    dynamics = dnl.Volterra(lambda t, s, y, u: xp(y).tanh(u.W @ y), batched=own)
    controls = {"W": dnl.Control((2, 2), on="ts", initial=0.1)}
    return triangle(
        x0=np.ones((3, 2)),
        dynamics=dynamics,
        controls=controls,
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[],
    )


ROWS = [
    noting(
        lambda: solve(batched(lambda t, s, y, u: (y @ u.W.mT).tanh()[0])),
        "Volterra.batched",
        "shape (3, 2)",
        "(2, 3, 2)",
        "batched of another shape",
    ),
    noting(
        lambda: solve(batched(lambda t, s, y, u: 2 * (y @ u.W.mT).tanh())),
        "Volterra.batched",
        "differ from the formula",
        "the formula's values",
        "batched with other values",
    ),
    noting(
        lambda: solve(batched(lambda t, s, y, u: ((y + y.flip(0)) / 2 @ u.W.mT).tanh())),
        "Volterra.batched",
        "samples that interact",
        "one sample at a time",
        "batched that mixes samples",
    ),
    noting(
        lambda: solve(batched(lambda t, s, y, u: y @ u.V)),
        "Volterra.batched",
        "'V'",
        "a PyTorch function",
        "batched that reads an unknown control",
    ),
    noting(
        lambda: solve(path(constraints=[dnl.state_bounds(lower=0.0)]), method="adam"),
        "method",
        "'adam'",
        "'newton' or 'lbfgs' for a problem with the constraints ['state bounds']",
        "Adam with state bounds",
    ),
    noting(
        lambda: dnl.MiniBatches(size=0), "MiniBatches.size", "0", "an integer >= 1", "empty batches"
    ),
    noting(
        lambda: dnl.MiniBatches(epochs=1.5),
        "MiniBatches.epochs",
        "1.5",
        "an integer >= 1",
        "half an epoch",
    ),
    noting(
        lambda: dnl.MiniBatches(rate=0), "MiniBatches.rate", "0", "a finite number > 0", "no rate"
    ),
    noting(
        lambda: dnl.MiniBatches(decay=-1),
        "MiniBatches.decay",
        "-1",
        "a finite number >= 0",
        "growing rate",
    ),
    noting(
        lambda: dnl.MiniBatches(momentum=1), "MiniBatches.momentum", "1", "below 1", "all momentum"
    ),
    noting(
        lambda: dnl.MiniBatches(seed=-1),
        "MiniBatches.seed",
        "-1",
        "an integer >= 0",
        "negative batch seed",
    ),
    noting(
        lambda: dnl.MiniBatches(polish=1),
        "MiniBatches.polish",
        "1",
        "True or False",
        "polish as a number",
    ),
    noting(lambda: solve(device="tpu"), "device", "'tpu'", "'cpu', 'cuda'", "unknown device"),
    noting(
        lambda: solve(dtype="float16"),
        "dtype",
        "'float16'",
        "'float64' or 'float32'",
        "half precision",
    ),
    noting(lambda: solve(chunk=0), "chunk", "0", "an integer >= 1", "empty chunk"),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), ROWS)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


def test_cuda_is_refused_where_there_is_none():
    if torch().cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert_told(
        lambda: solve(device="cuda"),
        "device",
        "'cuda'",
        "'cpu' (this machine shows 0 CUDA devices)",
    )
