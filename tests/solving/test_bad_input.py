"""Bad input is refused with one line that names the argument, what was seen and what is allowed."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.problem.from_file import load_problem, parse_parameters
from dnlcontrol.results.extrapolation import extrapolate

FINITE = "finite numbers"
NAMESPACE = "namespace(x)"


# -- small problems, with one thing changed
# -----------------------------------------------------------------
def path(**changed: Any) -> dnl.ControlProblem:
    """x' = u on [0, 1], two samples of shape (1,)."""
    given: dict[str, Any] = {
        "x0": np.ones((2, 1)),
        "dynamics": dnl.ODE(lambda t, x, u: u.u),
        "controls": {"u": dnl.Control((1,))},
        "terminal": lambda x, c: x[0] ** 2,
        "regularisers": [dnl.L2("u", 1.0)],
    }
    return dnl.ControlProblem(**{**given, **changed})


def triangle(**changed: Any) -> dnl.ControlProblem:
    """x(t) = 1 + ∫_0^t w(t, s) ds, one sample of shape ()."""
    given: dict[str, Any] = {
        "x0": [1.0],
        "dynamics": dnl.Volterra(lambda t, s, y, u: u.w),
        "controls": {"w": dnl.Control((), on="ts")},
        "terminal": lambda x, c: x**2,
        "regularisers": [dnl.H1("w", 1.0)],
    }
    return dnl.ControlProblem(**{**given, **changed})


def with_constant() -> dnl.ControlProblem:
    controls = {"u": dnl.Control((1,)), "k": dnl.Control((), on="const")}
    return path(controls=controls, terminal=lambda x, c: (c.k * x[0] - 1) ** 2)


def formula(f: Callable[..., Any]) -> dnl.ControlProblem:
    """A state and a control of shape (2,), x' = f."""
    controls = {"u": dnl.Control((2,))}
    return path(x0=np.ones((2, 2)), controls=controls, dynamics=dnl.ODE(f))


def formula_loss(loss: Any) -> dnl.ControlProblem:
    """A loss of a state of shape (2,)."""
    return path(x0=np.ones((2, 2)), controls={"u": dnl.Control(2)}, terminal=loss)


def uncontrolled() -> dnl.ControlProblem:
    return path(controls=None, regularisers=[], dynamics=dnl.ODE(lambda t, x, u: x))


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


def started(initial: Any) -> dnl.Solution:
    return solve(path(controls={"u": dnl.Control((1,), initial=initial)}))


def reading(x: Any, c: Any) -> Any:
    return x


def constrained(*constraints: Any) -> dnl.ControlProblem:
    return path(constraints=list(constraints))


def solve(problem: Any = None, depth: Any = 2, **options: Any) -> dnl.Solution:
    return dnl.solve(
        path() if problem is None else problem, depth, **{"backend": "adjoint", **options}
    )


@cache
def solved(make: Callable[..., dnl.ControlProblem] = path, **changed: Any) -> dnl.Solution:
    return solve(make(**changed))


@cache
def studied() -> dnl.Study:
    return dnl.study(path(), [1, 2])


def xp(x: Any) -> Any:
    return dnl.namespace(x)


# -- formulas that break a rule
# -----------------------------------------------------------------------------
def branches(t, x, u):
    if x[0] > 0:
        return u.u
    return -u.u


def assigns(t, x, u):
    x[0] = 1.0
    return u.u


def deletes(t, x, u):
    del x[0]
    return u.u


def leaves(t, x, u):
    raise RuntimeError("two\nlines")


def unpacks(t, x, u):
    _, _, third = x
    return third * u.u


class Counting:
    """A formula that gives another value at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, t, x, u):
        self.calls += 1
        return self.calls * u.u


def noisy() -> Callable[..., Any]:
    rng = np.random.default_rng(0)
    return lambda t, x, u: u.u * rng.standard_normal()


def torch() -> Any:
    return pytest.importorskip("torch")


EYE = np.eye(2)

FORMULAS = {
    # what it returns
    "wrong shape": (lambda t, x, u: x[0], "a result of shape ()", "shape (2,)"),
    "list": (lambda t, x, u: [x[0], x[1]], "returned list", "namespace(x).stack"),
    "tuple": (lambda t, x, u: (x[0], x[1]), "returned tuple", "namespace(x).stack"),
    "string": (lambda t, x, u: "x", "returned str", "an array made from its arguments"),
    "None": (lambda t, x, u: None, "returned NoneType", "an array made from its arguments"),
    "ndarray": (
        lambda t, x, u: np.zeros(2),
        "a bare ndarray of shape (2,)",
        "namespace(x).asarray",
    ),
    "tensor": (
        lambda t, x, u: torch().zeros(2),
        "a bare Tensor of shape (2,)",
        "namespace(x).asarray",
    ),
    # what it calls
    "NumPy ufunc": (lambda t, x, u: np.tanh(u.u), "a NumPy function", NAMESPACE),
    "NumPy function": (lambda t, x, u: u.u * np.sum(x), "numpy.sum", NAMESPACE),
    "NumPy conversion": (lambda t, x, u: np.array([x[0], x[1]]), "into an ndarray", NAMESPACE),
    "torch function": (lambda t, x, u: torch().tanh(u.u), "torch.tanh", NAMESPACE),
    "math": (
        lambda t, x, u: u.u * math.sin(x[0]),
        "turn an array into a number (float, int, math.*)",
        NAMESPACE,
    ),
    "method": (lambda t, x, u: x.sum() * u.u, "array attribute 'sum'", "functions of namespace(x)"),
    "unknown name": (lambda t, x, u: xp(x).einsum("i,i", x, x) * u.u, "got 'einsum'", "exp, log,"),
    "unknown option": (lambda t, x, u: xp(x).sum(x, keepdims=True) * u.u, "'keepdims'", NAMESPACE),
    "axis": (lambda t, x, u: xp(x).sum(x, axis=1) * u.u, "axis 1", "an integer from -1 to 0"),
    "axis of 0-d": (lambda t, x, u: xp(x).sum(t, axis=0) * u.u, "axis 0 for a 0-d array", "None"),
    "namespace of u": (lambda t, x, u: xp(u).tanh(x), "namespace: got Values", "a formula's array"),
    "list of entries": (
        lambda t, x, u: xp(x).tanh([x[0], x[1]]),
        "namespace.tanh: got list",
        "a formula's array",
    ),
    "stack of unequal": (
        lambda t, x, u: xp(x).stack([x, x[0]]),
        "shapes [(2,), ()]",
        "equal shapes of rank <= 1",
    ),
    "stack of nothing": (lambda t, x, u: xp(x).stack([]), "got list", "a non-empty list"),
    "concat of 0-d": (
        lambda t, x, u: xp(x).concat([x[0], x[1]]),
        "shapes [(), ()]",
        "equal ranks 1 or 2",
    ),
    "reshape": (
        lambda t, x, u: xp(x).reshape(x, (3,)),
        "shape (3,) for 2 entries",
        "shapes of the same size",
    ),
    "reshape to rank 3": (lambda t, x, u: xp(x).reshape(x, (2, 1, 1)), "rank 3", "rank <= 2"),
    "constant of rank 3": (
        lambda t, x, u: xp(x).asarray(np.zeros((1, 1, 2))),
        "rank 3",
        "rank <= 2",
    ),
    "constant of strings": (
        lambda t, x, u: xp(x).asarray("a"),
        "namespace.asarray: got str",
        "numbers, a list or",
    ),
    "complex constant": (
        lambda t, x, u: xp(x).asarray(1j * EYE) @ x,
        "namespace.asarray: got ndarray",
        "numbers",
    ),
    # what it combines
    "ndarray on the left": (
        lambda t, x, u: EYE @ x,
        "a bare ndarray of shape (2, 2)",
        "namespace(x).asarray(A)",
    ),
    "ndarray on the right": (
        lambda t, x, u: u.u + EYE[0],
        "a bare ndarray of shape (2,)",
        "namespace(x).asarray(A)",
    ),
    "tensor operand": (
        lambda t, x, u: torch().ones(2) + x,
        "a bare Tensor of shape (2,)",
        "namespace(x).asarray(A)",
    ),
    "list operand": (lambda t, x, u: u.u + list(EYE[0]), "'Array' and 'list'", NAMESPACE),
    "complex number": (lambda t, x, u: u.u * 1j, "'Array' and 'complex'", NAMESPACE),
    "shapes that do not broadcast": (
        lambda t, x, u: u.u + xp(x).asarray([1, 2, 3]),
        "shapes (2,) and (3,)",
        "shapes that broadcast",
    ),
    "matmul": (
        lambda t, x, u: xp(x).asarray(np.ones((2, 3))) @ x,
        "shapes (2, 3) and (2,)",
        "a common inner dimension",
    ),
    "equality": (lambda t, x, u: xp(x).where(x == 0, x, u.u), "== between arrays", "< or >"),
    # what it does
    "if": (branches, "branch on an array's value", "namespace(x).where"),
    "max of Python": (
        lambda t, x, u: u.u * max(x[0], x[1]),
        "branch on an array's value",
        "namespace(x).where",
    ),
    "assignment": (assigns, "assign into an array", "namespace(x).stack or concat"),
    "deletion": (deletes, "__delitem__", "allowed"),
    "index out of range": (lambda t, x, u: u.u * x[2], "index 2", "allowed"),
    "too many indices": (lambda t, x, u: u.u * x[0, 0], "2 indices for shape (2,)", "at most 1"),
    "index by a list": (lambda t, x, u: x[[0, 1]], "index [0, 1]", "integers and slices"),
    "index by a mask": (lambda t, x, u: x[x > 0], "index Array", "integers and slices"),
    "reversed slice": (lambda t, x, u: x[::-1], "step -1", "steps >= 1"),
    "unpacking": (unpacks, "not enough values to unpack", "allowed"),
    "unpacking of 0-d": (lambda t, x, u: u.u * sum(t), "a 0-d array", "rank 1 or 2"),
    "raises": (leaves, "RuntimeError on numpy (two lines)", "allowed"),
    "unknown control": (lambda t, x, u: u.w, "unknown control 'w'", "allowed here: u"),
    "unknown control by item": (lambda t, x, u: u["w"], "unknown control 'w'", "allowed here: u"),
    "number of arguments": (
        lambda t, x: x,
        "takes 2 positional arguments but 3 were given",
        "its arguments",
    ),
}


def noting(call: Callable[..., Any], argument: str, seen: str, allowed: str, name: str) -> Any:
    return pytest.param(call, argument, seen, allowed, id=name)


DATA = [
    noting(lambda: path(x0="abc"), "x0", "'abc'", FINITE, "x0 of text"),
    noting(lambda: path(x0=None), "x0", "None", FINITE, "no x0"),
    noting(lambda: path(x0=[[1.0], [1.0, 2.0]]), "x0", "[[1.0], [1.0, 2.0]]", FINITE, "ragged x0"),
    noting(lambda: path(x0=[[1j]]), "x0", "1j", FINITE, "complex x0"),
    noting(lambda: path(x0=[[1.0], [np.nan]]), "x0", "nan at index (1, 0)", FINITE, "NaN in x0"),
    noting(lambda: path(x0=[[np.inf]]), "x0", "inf at index (0, 0)", FINITE, "infinite x0"),
    noting(
        lambda: path(x0=np.zeros((2, 1, 1, 1))), "x0", "(2, 1, 1, 1)", "rank <= 2", "x0 of rank 4"
    ),
    noting(lambda: path(x0=np.zeros((0, 1))), "x0", "(0, 1)", "N >= 1", "empty x0"),
    noting(lambda: path(x0=1.0), "x0", "shape ()", "(N, *state shape)", "x0 without samples"),
    noting(
        lambda: path(x0=torch().ones(2, 1, requires_grad=True)),
        "x0",
        "tensor",
        FINITE,
        "x0 with a gradient",
    ),
    noting(
        lambda: path(x0=np.ones((2, 3)), dynamics=dnl.ResNet(2), controls=None),
        "kernel",
        "shapes (2, 2) and (3,)",
        "a common inner dimension",
        "x0 of another width",
    ),
    noting(lambda: path(name=""), "name", "''", "a non-empty string", "empty name"),
    noting(lambda: path(horizon=0), "horizon", "0", "a finite number > 0", "no horizon"),
    noting(lambda: path(horizon=math.inf), "horizon", "inf", "a finite number", "infinite horizon"),
    noting(lambda: path(horizon="1"), "horizon", "'1'", "a finite number", "horizon of text"),
    noting(
        lambda: path(horizon=np.True_),
        "horizon",
        "True",
        "a finite number",
        "horizon of NumPy's bool",
    ),
    noting(
        lambda: path(horizon=[1.0, 2.0]), "horizon", "[1.0, 2.0]", "a finite number", "two horizons"
    ),
]

CONTROLS = [
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
        lambda: started(np.zeros(7)),
        "initial of 'u'",
        "(7,)",
        "grid shape (2, 1)",
        "guess of another shape",
    ),
    noting(
        lambda: started(lambda t: np.zeros(3)),
        "initial of 'u'",
        "(3,)",
        "shape (1,)",
        "callable of another shape",
    ),
    noting(
        lambda: started(lambda t, s: 0.0),
        "initial of 'u'",
        "'s'",
        "a function of (t)",
        "callable of (t, s)",
    ),
    noting(
        lambda: started(lambda t: math.nan),
        "initial of 'u'",
        "nan",
        FINITE,
        "callable that gives NaN",
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

DYNAMICS = [
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
    noting(
        lambda: solve(formula(Counting())),
        "kernel",
        "different values on torch",
        "a deterministic function",
        "formula that counts its calls",
    ),
    noting(
        lambda: solve(formula(noisy()), backend="exact"),
        "kernel",
        "different values on",
        "a deterministic function",
        "formula that draws",
    ),
    noting(
        lambda: solve(formula(lambda t, x, u: u.u if "numpy" in repr(x) else 1 / 0)),
        "kernel",
        "ZeroDivisionError on torch",
        "allowed",
        "formula that runs on NumPy alone",
    ),
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
]

COSTS = [
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


PENALTIES = [
    noting(
        lambda: dnl.H1("u", -1.0), "H1.weight", "-1.0", "a finite number >= 0", "negative weight"
    ),
    noting(lambda: dnl.L2("u", math.nan), "L2.weight", "nan", "a finite number", "NaN as weight"),
    noting(
        lambda: dnl.H1(1e-3, "u"), "H1.name", "0.001", "the name of a control", "arguments swapped"
    ),
    noting(
        lambda: dnl.TvG("u", 1.0, tau=-1), "TvG.tau", "-1", "a finite number >= 0", "negative tau"
    ),
    noting(
        lambda: path(regularisers=[dnl.H1("W", 1.0)]), "H1.name", "'W'", "['u']", "unknown control"
    ),
    noting(
        lambda: triangle(regularisers=[dnl.TvG("w", 1.0)]),
        "TvG.name",
        "control 'w' on 'ts'",
        "on='t'",
        "TvG of (t, s)",
    ),
    noting(
        lambda: path(regularisers=3),
        "regularisers",
        "3",
        "a list of H1(...)",
        "number as penalties",
    ),
    noting(
        lambda: path(regularisers=["H1"]),
        "regularisers",
        "'H1'",
        "a list of H1(...)",
        "name of a penalty",
    ),
]

CONSTRAINTS = [
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

SOLVING = [
    noting(lambda: dnl.solve("toy", 2), "problem", "'toy'", "a ControlProblem", "name as problem"),
    *(
        noting(lambda d=d: solve(depth=d), "depth", repr(d), "an integer >= 1", f"depth {d!r}")
        for d in (0, -1, 2.0, True, None)
    ),
    noting(
        lambda: solve(rule="simpson"), "rule", "'simpson'", "'left' or 'trapezoid'", "unknown rule"
    ),
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
        lambda: solve(backend="exact", device="cuda"),
        "device",
        "'cuda'",
        "'cpu' for the exact backend",
        "exact on cuda",
    ),
    noting(
        lambda: solve(dtype="float16"),
        "dtype",
        "'float16'",
        "'float64' or 'float32'",
        "half precision",
    ),
    noting(lambda: solve(chunk=0), "chunk", "0", "an integer >= 1", "empty chunk"),
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
        lambda: solve(start={"v": 0.0}),
        "start",
        "unknown control 'v'",
        "['u']",
        "start of an unknown control",
    ),
    noting(
        lambda: solve(start={"u": np.zeros(5)}),
        "initial of 'u'",
        "(5,)",
        "grid shape (2, 1)",
        "start of another shape",
    ),
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
    noting(
        lambda: dnl.simulate(path(), 2, controls={"v": 1}),
        "start",
        "'v'",
        "['u']",
        "simulate an unknown control",
    ),
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

RESULTS = [
    noting(lambda: solved().control("W"), "control", "'W'", "['u']", "unknown control"),
    noting(lambda: solved().control(["u"]), "control", "['u']", "['u']", "list of controls"),
    noting(
        lambda: solved(triangle).control("w")(0.2, 0.5),
        "control 'w'",
        "s > t",
        "0 <= s <= t <= T",
        "above the diagonal",
    ),
    noting(
        lambda: solved(triangle).control("w")(1.5, 0.5),
        "control 'w'",
        "time 1.5",
        "times from 0 to 1",
        "after T",
    ),
    noting(
        lambda: solved(triangle).control("w")(0.5),
        "control 'w'",
        "1 times",
        "(t, s)",
        "one time of two",
    ),
    noting(lambda: solved().control("u")(), "control 'u'", "0 times", "(t)", "no time"),
    noting(
        lambda: solved(with_constant).control("k")(0.5),
        "control 'k'",
        "1 times",
        "no argument",
        "time of a constant",
    ),
    noting(
        lambda: solved().control("u")(math.nan),
        "control 'u'",
        "nan",
        "times from 0 to 1",
        "NaN as time",
    ),
    noting(
        lambda: solved(triangle).control("w").at(1, 1),
        "at(l, s)",
        "(1, 1)",
        "0 <= s < l <= 2",
        "sample on the diagonal",
    ),
    noting(
        lambda: solved(triangle).control("w").at(1),
        "at(l, s)",
        "(1, None)",
        "0 <= s < l <= 2",
        "sample without s",
    ),
    noting(lambda: solved().control("u").at(2), "at(l)", "2", "0 <= l < 2", "sample out of range"),
    noting(
        lambda: solved().control("u").at(1, 0),
        "at(l)",
        "(1, 0)",
        "0 <= l < 2",
        "path sample with s",
    ),
    noting(lambda: solved().state([0.5, 1.1]), "t", "1.1", "times from 0 to 1", "state after T"),
    noting(lambda: solved().costate(-0.1), "t", "-0.1", "times from 0 to 1", "costate before 0"),
    noting(lambda: solved().state("end"), "t", "'end'", FINITE, "time of text"),
    noting(
        lambda: dnl.distance(solved(), "runs"),
        "distance.b",
        "'runs'",
        "a Solution",
        "distance to text",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), "L1"),
        "distance.norm",
        "'L1'",
        "'L2' or 'H1' or 'sup'",
        "unknown norm",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), "H1", "states"),
        "distance.norm",
        "'H1'",
        "'L2' or 'sup'",
        "H1 of states",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), of="v"),
        "distance",
        "'v'",
        "a common control",
        "distance of an unknown",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(), of=["u"]),
        "distance.of",
        "['u']",
        "the name of a control",
        "list as of",
    ),
    noting(
        lambda: dnl.distance(solved(), solved(triangle)),
        "distance",
        "['u'] and ['w']",
        "a common control",
        "distance of two problems",
    ),
    noting(
        lambda: dnl.distance(solved(), solve(path(horizon=2.0))),
        "distance",
        "horizons 1 and 2",
        "one problem",
        "distance of two horizons",
    ),
    noting(
        lambda: dnl.distance(solved(), solve(path(x0=np.ones((3, 1)))), "sup", "states"),
        "distance",
        "(2, 1) and (3, 1)",
        "one problem",
        "distance of two samplings",
    ),
    noting(
        lambda: dnl.distance(solved(), solve(formula(lambda t, x, u: u.u))),
        "distance",
        "different controls 'u'",
        "one problem",
        "distance of two shapes",
    ),
]

STUDIES = [
    noting(
        lambda: dnl.study("toy", [1]), "problem", "'toy'", "a ControlProblem", "name as problem"
    ),
    noting(
        lambda: dnl.study(uncontrolled(), [1]),
        "problem",
        "without controls",
        "use simulate",
        "study of nothing",
    ),
    noting(lambda: dnl.study(path(), []), "depths", "[]", "non-empty", "no depths"),
    noting(
        lambda: dnl.study(path(), [4, 2]),
        "depths",
        "[4, 2]",
        "strictly increasing",
        "decreasing depths",
    ),
    noting(
        lambda: dnl.study(path(), [1.0, 2.0]), "depths", "1.0", "an integer >= 1", "float depths"
    ),
    noting(
        lambda: dnl.study(path(), 4), "depths", "4", "a list of increasing integers", "one depth"
    ),
    noting(
        lambda: dnl.study(path(), [1], exact_to=-1),
        "exact_to",
        "-1",
        "an integer >= 0",
        "negative exact_to",
    ),
    noting(
        lambda: dnl.study(path(), [1], reference=0.5),
        "reference",
        "0.5",
        "a Reference",
        "number as reference",
    ),
    noting(
        lambda: dnl.study(path(), [1], max_iter=3),
        "study option",
        "'max_iter'",
        "'max_iterations'",
        "unknown option",
    ),
    noting(
        lambda: dnl.study(path(), [1], progress=1),
        "progress",
        "1",
        "a function",
        "number as progress",
    ),
    noting(
        lambda: dnl.study(path(), [1], start="x"), "start", "'x'", "a Solution", "start of text"
    ),
    noting(
        lambda: extrapolate([1, 2], [1.0]),
        "extrapolate.depths",
        "2 depths for 1 values",
        "one value for each",
        "lengths",
    ),
    noting(lambda: solved().save(3), "directory", "3", "a path", "number as directory"),
    noting(lambda: dnl.load(None), "run", "None", "the path of a run directory", "load of nothing"),
    noting(
        lambda: load_problem("no_such"), "PROBLEM", "no_such", "t7_h1_triangle", "unknown problem"
    ),
    noting(
        lambda: load_problem("no_such.py"),
        "PROBLEM",
        "no_such.py (no such file)",
        "a .py file",
        "missing file",
    ),
    noting(
        lambda: parse_parameters(["alpha"]),
        "-p",
        "'alpha'",
        "name=value",
        "parameter without a value",
    ),
    noting(
        lambda: parse_parameters(["2a=1"]),
        "-p",
        "'2a=1'",
        "name=value",
        "parameter with a wrong name",
    ),
]


def assert_told(call: Callable[[], Any], argument: str, seen: str, allowed: str) -> None:
    with pytest.raises(dnl.InputError) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, ValueError) and "\n" not in message, message
    assert message.startswith(argument), message
    after = message[len(argument) :]
    assert seen in after, message
    assert allowed in after[after.index(seen) + len(seen) :], message


@pytest.mark.parametrize(
    ("call", "argument", "seen", "allowed"),
    [*DATA, *CONTROLS, *DYNAMICS, *COSTS, *PENALTIES, *CONSTRAINTS, *SOLVING, *RESULTS, *STUDIES],
)
def test_the_message_names_argument_seen_and_allowed(call, argument: str, seen: str, allowed: str):
    assert_told(call, argument, seen, allowed)


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name: str):
    function, seen, allowed = FORMULAS[name]
    assert_told(lambda: formula(function), "kernel:", seen, allowed)


def nothing(*arguments: Any) -> None:
    """A formula that forgot its return."""


@pytest.mark.parametrize(
    ("place", "make"),
    {
        "kernel": lambda: triangle(dynamics=dnl.Volterra(nothing)),
        "free_term": lambda: triangle(
            dynamics=dnl.Volterra(lambda t, s, y, u: u.w, free_term=nothing)
        ),
        "feature": lambda: triangle(dynamics=dnl.Volterra(lambda t, s, y, u: u.w, feature=nothing)),
        "outer": lambda: triangle(dynamics=dnl.Volterra(lambda t, s, y, u: u.w, outer=nothing)),
        "running": lambda: path(running=nothing),
        "terminal": lambda: path(terminal=nothing),
        "speed": lambda: constrained(dnl.path_constraint(nothing, 0, 1, name="speed")),
        "budget": lambda: constrained(dnl.integral_constraint(nothing, 0, 1, name="budget")),
        "goal": lambda: constrained(dnl.terminal_constraint(nothing, 0, 1, name="goal")),
    }.items(),
)
def test_the_formula_is_named(place: str, make):
    assert_told(make, f"{place}:", "returned NoneType", "an array made from its arguments")


def test_a_wrong_type_is_a_type_error_too():
    for call in (lambda: solve(depth="2"), lambda: path(dynamics=None), lambda: formula(branches)):
        with pytest.raises(TypeError) as caught:
            call()
        assert isinstance(caught.value, dnl.InputError)


def test_cuda_where_there_is_none():
    if torch().cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert_told(
        lambda: solve(device="cuda"),
        "device",
        "'cuda'",
        "'cpu' (this machine shows 0 CUDA devices)",
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: solve(path(horizon=np.float32(1.0)), np.int64(2), tolerance=np.float64(1e-8)),
        lambda: path(controls={"u": dnl.Control(1, lower=-math.inf, upper=0)}),
        lambda: path(regularisers=dnl.L2("u", 0)),
        lambda: path(regularisers=()),
        lambda: path(constraints=dnl.state_bounds(0, samples=np.array([1]))),
        lambda: path(x0=[[1], [2]]),
        lambda: path(terminal=None),
        lambda: solve(start={"u": [3]}),
        lambda: solved().state([0.0, 0.5, 1.0 + 1e-15]),
        lambda: dnl.losses.cross_entropy([0.0, 2.0], classes=4),
        lambda: formula(lambda t, x, u: u.u * np.float64(2.0) + np.ones(2)[0] * x),
    ],
)
def test_what_is_allowed(call):
    assert call() is not None


# -- files
# --------------------------------------------------------------------------------------------------
def written(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def cut(file: Path, length: int = 60) -> None:
    file.write_bytes(file.read_bytes()[:length])


def run(folder: Path, of: Callable[..., dnl.ControlProblem] = path) -> Path:
    solved(of).save(folder)
    return folder


def loaded(folder: Path, **changed: Any) -> Any:
    """A saved run with entries of its JSON replaced (None: left out)."""
    file = run(folder) / "solution.json"
    record = {**json.loads(file.read_text()), **changed}
    file.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))
    return dnl.load(folder)


def after(folder: Path, spoil: Callable[[Path], Any], make: Callable[[Path], Any] = run) -> Any:
    """Load what ``make`` wrote after something happened to it."""
    make(folder)
    spoil(folder)
    return dnl.load(folder)


def ladder(folder: Path, **changed: Any) -> Path:
    dnl.study(path(**changed), [1, 2], directory=folder)
    return folder


def saved_study(folder: Path) -> Path:
    studied().save(folder)
    return folder


def file(folder: Path, text: str, **parameters: Any) -> Any:
    """A problem file's ProblemFile."""
    return load_problem(str(written(folder, "mine.py", text.encode()) / "mine.py"), parameters)


def reference(folder: Path, text: str) -> Any:
    return file(folder, f"def problem(): ...\n{text}").reference()


WRITTEN = "written by save or --out"
FILES = [
    noting(
        lambda d: dnl.load(d / "none"), "run", "no such directory", WRITTEN, "missing directory"
    ),
    noting(
        lambda d: dnl.load(d),
        "run",
        "without solution.json or study.json",
        WRITTEN,
        "empty directory",
    ),
    noting(
        lambda d: dnl.load(written(d, "solution.json", b'{"a": 1}')),
        "run",
        "of another program",
        "this library",
        "foreign",
    ),
    noting(
        lambda d: dnl.load(written(d, "study.json", b"[1]")),
        "run",
        "of another program",
        "a study",
        "foreign study",
    ),
    noting(
        lambda d: dnl.load(written(d, "solution.json", b"\xff\xfe")),
        "run",
        "not JSON",
        WRITTEN,
        "binary as JSON",
    ),
    noting(
        lambda d: dnl.load(written(d, "solution.json", b"[" * 10**5)),
        "run",
        "not JSON",
        WRITTEN,
        "JSON without an end",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "solution.json")),
        "run",
        "truncated or not JSON",
        WRITTEN,
        "truncated JSON",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "arrays.npz")),
        "run",
        "truncated",
        "a complete run directory",
        "truncated npz",
    ),
    noting(
        lambda d: after(d, lambda d: (d / "arrays.npz").unlink()),
        "run",
        "missing",
        "a complete run directory",
        "no npz",
    ),
    noting(
        lambda d: after(d, lambda d: shutil.copy(run(d / "b", triangle) / "arrays.npz", d)),
        "run",
        "not the one saved",
        "a complete run directory",
        "npz of another run",
    ),
    noting(
        lambda d: loaded(d, format=2),
        "run",
        "format 2",
        "format 1; use the version that wrote it",
        "newer format",
    ),
    noting(
        lambda d: loaded(d, grid=None), "run", "'grid'", "this library", "JSON without its grid"
    ),
    noting(
        lambda d: loaded(d, grid={"depth": 5, "horizon": 1.0, "rule": "left"}),
        "run",
        "depth 5",
        "this library",
        "JSON of another depth",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "study.json"), saved_study),
        "run",
        "truncated or not JSON",
        WRITTEN,
        "truncated study",
    ),
    noting(
        lambda d: after(d, lambda d: shutil.rmtree(d / "L00002"), saved_study),
        "run",
        "no solution.json",
        WRITTEN,
        "study without a level",
    ),
    noting(
        lambda d: after(d, lambda d: cut(d / "L00002" / "adjoint" / "arrays.npz"), saved_study),
        "run",
        "truncated",
        "a complete run directory",
        "study with a truncated level",
    ),
    noting(
        lambda d: dnl.load(
            written(d, "study.json", b'{"kind": "study", "format": 1, "depths": []}')
        ),
        "depths",
        "[]",
        "non-empty",
        "study without depths",
    ),
    noting(
        lambda d: dnl.study(path(x0=np.zeros((2, 1))), [1], directory=ladder(d)),
        "directory",
        "another problem",
        "a new directory",
        "study directory of other data",
    ),
    noting(
        lambda d: dnl.study(path(terminal=lambda x, c: x[0]), [1], directory=ladder(d)),
        "directory",
        "another problem",
        "a new directory",
        "study directory of another cost",
    ),
    noting(
        lambda d: dnl.study(path(), [1], directory=written(d, "problem.json", b"{}")),
        "run",
        "of another program",
        "this library",
        "study directory of another program",
    ),
    noting(
        lambda d: dnl.study(path(), [1], directory=run(d)),
        "directory",
        "holds a solution",
        "a new directory",
        "study into a solution",
    ),
    noting(
        lambda d: run(ladder(d)),
        "directory",
        "holds a study",
        "a new directory",
        "solution into a study",
    ),
    noting(
        lambda d: run(written(d, "f", b"") / "f"),
        "directory",
        "f (File exists)",
        "can be made",
        "file as directory",
    ),
    noting(
        lambda d: file(d, "def problem(:"),
        "PROBLEM",
        "SyntaxError",
        "can be imported",
        "syntax error",
    ),
    noting(
        lambda d: file(d, "1 / 0"),
        "PROBLEM",
        "ZeroDivisionError",
        "can be imported",
        "file that raises",
    ),
    noting(
        lambda d: file(d, "import sys; sys.exit(0)"),
        "PROBLEM",
        "SystemExit",
        "can be imported",
        "file that exits",
    ),
    noting(
        lambda d: file(d, "x = 1"),
        "PROBLEM",
        "no function problem()",
        "problem(**parameters)",
        "no problem in it",
    ),
    noting(
        lambda d: file(d, "def problem(): return 3").problem(),
        "mine.py: problem()",
        "3",
        "a ControlProblem",
        "returns 3",
    ),
    noting(
        lambda d: file(d, "def problem(): 1 / 0").problem(),
        "mine.py: problem()",
        "ZeroDivisionError",
        "that runs",
        "problem() that raises",
    ),
    noting(
        lambda d: file(d, "def problem(a=1): ...", b=2).problem(),
        "-p b",
        "'b'",
        "parameters of mine.py: a",
        "unknown parameter",
    ),
    noting(
        lambda d: reference(d, "def reference(): 1 / 0"),
        "mine.py: reference()",
        "ZeroDivisionError",
        "that runs",
        "reference() that raises",
    ),
    noting(
        lambda d: reference(d, "def reference(): return 0.5"),
        "mine.py: reference()",
        "0.5",
        "a Reference",
        "reference() that returns a number",
    ),
    noting(
        lambda d: reference(d, "reference = 0.5"),
        "mine.py: reference",
        "0.5",
        "a function",
        "reference = number",
    ),
]


@pytest.mark.parametrize(("call", "argument", "seen", "allowed"), FILES)
def test_files(call, argument: str, seen: str, allowed: str, tmp_path: Path):
    assert_told(lambda: call(tmp_path), argument, seen, allowed)


def test_a_rejected_parameter_means_no_reference(tmp_path: Path):
    text = "from dnlcontrol import checks\ndef reference(): checks.reject('alpha', 1, 'alpha = 0')"
    assert reference(tmp_path, text) is None
