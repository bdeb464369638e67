"""What would lose something in silence is refused: masks, gradients, flags, absurd sizes, paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol import checks
from dnlcontrol.certificates import depth as infinite
from tests.bad_input import assert_told, noting, path, solve, solved, torch

MASKED = np.ma.array([[1.0], [2.0]], mask=[[False], [True]])
FLAGS = [
    ("force", lambda v: dnl.Exact(force=v)),
    ("verbose", lambda v: dnl.Exact(verbose=v)),
    ("distributed", lambda v: dnl.Adjoint(distributed=v)),
    ("distributed", lambda v: solve(distributed=v)),
    ("MSA.extended", lambda v: dnl.MSA(extended=v)),
    ("MiniBatches.polish", lambda v: dnl.MiniBatches(polish=v)),
    ("Dense.bias", lambda v: dnl.Dense(2, bias=v)),
    ("Attention.causal", lambda v: dnl.Attention(2, 2, causal=v)),
    ("DenseTransformer.normalise", lambda v: dnl.DenseTransformer(2, 2, normalise=v)),
    ("Reference.attained", lambda v: dnl.Reference("exact", attained=v)),
    ("residual", lambda v: infinite.Stack([np.eye(2)], residual=v)),
    ("diverges", lambda v: infinite.Declared(lambda k: 1.0, diverges=v)),
    ("head", lambda v: solved().to_module(head=v)),
    ("recompute", lambda v: solved().to_module(recompute=v)),
    ("export_onnx.head", lambda v: dnl.export_onnx(solved(), "network.onnx", head=v)),
]


@pytest.mark.parametrize("value", [1, 0, "yes", np.True_, None, [True]], ids=repr)
@pytest.mark.parametrize(("name", "call"), FLAGS, ids=[name for name, _ in FLAGS])
def test_a_flag_is_true_or_false(name: str, call: Any, value: object):
    assert_told(lambda: call(value), name, checks.describe(value), "True or False")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x0", lambda v: path(x0=v)),
        ("horizon", lambda v: path(horizon=v)),
        ("squared.target", lambda v: dnl.losses.squared(v)),
        ("Control.lower", lambda v: dnl.Control((2, 1), lower=v)),
        ("Control.initial", lambda v: dnl.Control((2, 1), initial=v)),
        ("state bounds.lower", lambda v: dnl.state_bounds(v)),
        ("t", lambda v: solved().state(v)),
        ("start", lambda v: solve(start=v.ravel())),
        ("points", lambda v: infinite.RegularDomain(v)),
        ("A", lambda v: dnl.init.project_matrix(v, 1.0)),
        ("depths", lambda v: dnl.study(path(), v.ravel())),
    ],
)
def test_masks_and_gradients_are_refused_with_what_to_do(name: str, call: Any):
    told = "masked array of shape"
    assert_told(lambda: call(MASKED), name, told, ".filled(...) or .compressed()")
    tensor = torch().ones(2, 1, dtype=torch().float64, requires_grad=True)
    assert_told(lambda: call(tensor), name, "that requires grad", "tensor.detach()")


def field(**changed: Any) -> dnl.Solution:
    return replace(solved(), **changed)


def raising(t: Any) -> Any:
    return 1 / 0


ABSURD = [
    noting(lambda: dnl.simulate(path(), 10**30), "depth", "1000000", "2147483648", "depth"),
    noting(lambda: dnl.Control(10**9), "Control.shape", "(1000000000,)", "entries", "control"),
    noting(lambda: dnl.Control((10**5, 10**5)), "Control.shape", "(100000", "entries", "matrix"),
    noting(lambda: dnl.Dense(10**9), "Dense.width", "1000000000", "100000000", "width"),
    noting(lambda: dnl.Patches((10**5, 10**5), 1), "Patches.size", "(100000", "entries", "patches"),
    noting(lambda: dnl.Patches(4, 10**30), "Patches.channels", "1000", "100000000", "channels"),
    noting(lambda: dnl.study(path(), [1, 10**30]), "depths", "1000", "2147483648", "ladder"),
    noting(lambda: path(horizon=10**400), "horizon", "1000", "a finite number", "horizon"),
    noting(
        lambda: infinite.certify(infinite.Stack([np.eye(2)]), depth=10**30),
        "depth",
        "1000",
        "100000000",
        "certificate",
    ),
]
NAMED = [
    noting(
        lambda: infinite.Stack([2.0], residual=True),
        "weights of layer 1",
        "2.0",
        "a list of the M inner weights",
        "a number as weight of a block",
    ),
    noting(
        lambda: dnl.state_bounds(0, samples=iter(int, 1)),
        "constraint.samples",
        "more than 1000000 items",
        "a list of sample indices",
        "endless samples",
    ),
    noting(
        lambda: dnl.export_onnx(solved(), None), "path", "None", "an .onnx file", "a path of None"
    ),
    noting(
        lambda: dnl.export_onnx(solved(), "no/such/network.onnx"),
        "path",
        "no/such/network.onnx (no such directory)",
        "an existing directory",
        "a file in no directory",
    ),
    noting(
        lambda: dnl.export_onnx("text", "network.onnx"),
        "export_onnx.solution",
        "'text'",
        "a Solution",
        "a network of text",
    ),
    noting(
        lambda: path(terminal=lambda x, c: x[0] > 0),
        "terminal",
        "a comparison",
        "a number",
        "a boolean cost",
    ),
    noting(
        lambda: path(running=lambda t, x, u: True),
        "running",
        "a comparison",
        "a number",
        "True as cost",
    ),
    noting(lambda: dnl.study(path(), [1], source=5), "source", "5", "a mapping", "source"),
    noting(
        lambda: dnl.study(path(), [1], progress=lambda: 0),
        "progress",
        "<function",
        "a function of 1 argument",
        "progress without an argument",
    ),
    noting(lambda: field(states=None), "Solution.states", "None", "array of floats", "no states"),
    noting(
        lambda: field(states=np.zeros((9, 2, 1))),
        "Solution.states",
        "(9, 2, 1)",
        "shape (3, N, *state shape)",
        "states of another depth",
    ),
    noting(
        lambda: field(costates=np.zeros((3, 1, 1))),
        "Solution.costates",
        "(3, 1, 1)",
        "shape (3, 2, 1)",
        "costates of other samples",
    ),
    noting(lambda: field(value="1"), "Solution.value", "'1'", "a number", "value of text"),
    noting(lambda: field(status=77), "Solution.status", "77", "from 0 to 4", "status"),
    noting(lambda: field(controls=[1]), "Solution.controls", "[1]", "a mapping", "controls"),
    noting(
        lambda: field(controls={"u": 1.0}),
        "Solution.controls['u']",
        "1.0",
        "an Extension",
        "a number as control",
    ),
    noting(lambda: field(problem=3), "Solution.problem", "3", "a ControlProblem", "problem"),
    noting(lambda: dnl.Reference(None), "Reference.source", "None", "a string", "no source"),
    noting(
        lambda: dnl.Reference("x", value="1"), "Reference.value", "'1'", "a finite number", "value"
    ),
    noting(
        lambda: dnl.Reference("x", orders=(2.0, 1.0)),
        "Reference.orders",
        "[2.0, 1.0]",
        "strictly increasing",
        "orders",
    ),
    noting(
        lambda: dnl.Reference("x", controls={"u": 1.0}),
        "Reference.controls['u']",
        "1.0",
        "a function",
        "controls of a reference",
    ),
    noting(
        lambda: dnl.study(path(), [1], reference=dnl.Reference("x", controls={"u": raising})),
        "reference.controls['u']",
        "raises ZeroDivisionError",
        "arrays (*times, *(1,))",
        "a reference that raises",
    ),
    noting(lambda: dnl.load("a\0b"), "run", "embedded null", "the path of", "a path with NUL"),
    noting(lambda: dnl.load("n" * 5000), "run", "too long", "the path of", "a long path"),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), [*ABSURD, *NAMED])
def test_the_message_names_argument_seen_and_allowed(
    call: Any, argument: str, seen: str, allowed: str, monkeypatch: Any, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    assert_told(call, argument, seen, allowed)


def test_what_describes_a_value_does_not_fail():
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert checks.describe(Odd()) == "an object of type Odd"
    assert checks.describe(10**5000) == "an object of type int"


def test_bits_of_a_seed_beyond_int64_are_allowed():
    assert checks.seed("seed", 2**127) == 2**127
    assert solve(path(controls={"u": dnl.Control((1,), initial=dnl.smooth_random(2**100))})).success
