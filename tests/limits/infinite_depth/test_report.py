"""The report in words and as JSON, what it refuses, and what it loads."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D


def test_report_is_json_and_readable():
    report = D.certify(D.Stack([np.eye(2)]), np.ones(2), norm=np.inf)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["condition"] == "undecidable"
    assert told["norm"] == "inf"
    assert told["bound"] == "inf"
    assert "undecidable" in str(report)
    assert "1." in str(report)
    bare = D.certify(D.Stack([np.eye(2)], tail=D.Zero()))
    assert bare.network == "converges"
    assert bare.bound == np.inf
    assert bare.depth_for(1.0) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: D.Stack([]), "weights"),
        (lambda: D.Stack([np.eye(2), np.eye(3)]), "layer 2"),
        (lambda: D.Stack([np.eye(2)], [np.ones(3)]), "bias of layer 1"),
        (lambda: D.Stack([np.eye(2)], slope=1.5), "slope"),
        (lambda: D.Stack([np.eye(2)], activation=np.tanh), "lipschitz"),
        (lambda: D.Stack([[np.ones((3, 2))]], residual=True), "keeps the width"),
        (lambda: D.Stack([[[np.nan]]]), "layer 1"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(3)), "x: got"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), norm=3), "norm"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), depth=2), "depth"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), radius=-1), "radius"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), tail=1.0), "tail"),
        (lambda: D.certify(D.Stack([np.eye(2)]), np.ones(2), hypotheses=["x"]), "hypotheses"),
        (lambda: D.certify(D.from_rule(lambda k: (1.0, None)), 1.0), "depth"),
        (lambda: D.certify(np.eye(2)), "stack"),
        (lambda: D.NonnegativeTail(increments=1.0), "increments"),
        (
            lambda: D.certify(
                D.Stack([[1.0, 1.0]], residual=True), 1.0, hypotheses=D.Contraction(0.5)
            ),
            "one inner layer",
        ),
        (lambda: D.PowerLaw(-1, 2), "c: got"),
        (lambda: D.Decay(D.PowerLaw(1, 2)), "non-summable"),
        (lambda: D.Contraction(0.5, 0.0, D.PowerLaw(1, 0)), "tends to 0"),
        (lambda: D.Declared(lambda k: 1.0, lambda n: 1.0, diverges=True), "diverges"),
        (lambda: D.Convolution(np.ones((1, 1, 2)), (4,)), "odd"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(dnl.InputError, match=message):
        call()


def test_nothing_heavy_is_loaded():
    code = "import sys, dnlcontrol as dnl\ndnl.certificates.depth.certify, dnl.init.summable(0.5)\n"
    code += "print(*({'torch', 'scipy', 'casadi', 'pandas', 'matplotlib'} & sys.modules.keys()))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == []
