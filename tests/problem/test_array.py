"""The vocabulary of a formula means the same on NumPy, PyTorch (under vmap) and CasADi; nothing
else passes.

Each row of the table is one expression ``fn(xp, *arrays)``, evaluated with plain NumPy and SciPy
and on each engine behind the seam, at ranks 0, 1 and 2 with sides of length 1, 2 and 3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import casadi as ca
import numpy as np
import pytest
import torch
from scipy import special

import dnlcontrol as dnl
from dnlcontrol.backends.exact.condensed.node_function import TracedFormula
from dnlcontrol.problem.array import VOCABULARY
from dnlcontrol.problem.engines import FUNCTIONS, numpy_engine, torch_engine
from dnlcontrol.problem.formula import Formula, trace

# One operation is good to an ulp or two (2.2e-16), a sum of at most 6 terms to a few more; sums may
# cancel, so the scale is the largest entry. 1e-14 is 45 ulp.
RTOL = 1e-14

REFERENCE = SimpleNamespace(
    **{name: getattr(np, name) for name in FUNCTIONS},
    where=np.where,
    maximum=np.maximum,
    minimum=np.minimum,
    sum=np.sum,
    mean=np.mean,
    max=np.max,
    min=np.min,
    stack=np.stack,
    concat=np.concatenate,
    reshape=np.reshape,
    matmul=np.matmul,
    asarray=np.asarray,
    zeros_like=np.zeros_like,
    ones_like=np.ones_like,
    logsumexp=special.logsumexp,
    softmax=lambda x, axis=-1: special.softmax(x, axis=axis),
)

SHAPES = [(), (1,), (3,), (1, 1), (1, 3), (3, 1), (2, 1), (2, 3)]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One expression, its arguments' shapes and their range; ``smooth``: compare the slopes too."""

    name: str
    fn: Callable[..., Any]
    shapes: tuple[Shape, ...]
    within: tuple[float, float] = (-2.0, 2.0)
    smooth: bool = True

    def __str__(self) -> str:
        return f"{self.name} {' '.join(map(str, self.shapes))}"

    def arguments(self) -> list[np.ndarray]:
        """Distinct entries, so that no maximum is a tie."""
        rng = np.random.default_rng([len(self.name), *map(ord, str(self))])
        return [np.asarray(rng.uniform(*self.within, shape)) for shape in self.shapes]


def broadcastable(a: Shape, b: Shape) -> bool:
    try:
        return np.broadcast_shapes(a, b) is not None
    except ValueError:
        return False


PAIRS = [pair for pair in itertools.product(SHAPES, SHAPES) if broadcastable(*pair)]
TRIPLES = [((), (3,), (2, 3)), ((2, 1), (3,), (2, 3)), ((3,), (2, 1), ()), ((1,), (3,), (3, 1))]
TRIPLES += [((2, 3),) * 3, ((),) * 3]
PRODUCTS = [
    ((3,), (3,)),
    ((1,), (1,)),
    ((2, 3), (3,)),
    ((1, 3), (3,)),
    ((2,), (2, 3)),
    ((3,), (3, 1)),
]
PRODUCTS += [
    ((1,), (1, 3)),
    ((2, 3), (3, 2)),
    ((2, 3), (3, 3)),
    ((3, 1), (1, 3)),
    ((1, 3), (3, 1)),
    ((1, 1),) * 2,
]
JOINED = [
    ((3,), (1,), 0),
    ((2,), (3,), -1),
    ((2, 3), (1, 3), 0),
    ((2, 3), (2, 1), 1),
    ((2, 3), (2, 3), -1),
]
JOINED += [((1, 3), (3, 3), -2), ((1, 1), (1, 1), 1)]
DOMAINS = {
    "log": (0.1, 3.0),
    "sqrt": (0.1, 3.0),
    "log1p": (-0.9, 3.0),
    "arcsin": (-0.95, 0.95),
    "arccos": (-0.95, 0.95),
}
A1, A2 = np.array([0.5, -1.5, 2.0]), np.array([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]])


def axes(shape: Shape) -> list[int | None]:
    return [None, *range(-len(shape), len(shape))]


def vocabulary_rows() -> list[Row]:
    rows = []
    for n in FUNCTIONS:
        rows += [
            Row(n, lambda xp, x, n=n: getattr(xp, n)(x), (s,), DOMAINS.get(n, (-2, 2)))
            for s in SHAPES
        ]
    for n in ("maximum", "minimum"):
        rows += [Row(n, lambda xp, a, b, n=n: getattr(xp, n)(a, b), pair) for pair in PAIRS]
        rows += [
            Row(f"{n} with a number", lambda xp, a, n=n: getattr(xp, n)(a, 0.1), (s,))
            for s in SHAPES
        ]
        rows += [
            Row(f"{n} of a number", lambda xp, a, n=n: getattr(xp, n)(0.1, a), (s,)) for s in SHAPES
        ]
    for n in ("sum", "mean", "max", "min", "logsumexp"):
        rows += [
            Row(f"{n} axis={k}", lambda xp, x, n=n, k=k: getattr(xp, n)(x, axis=k), (s,))
            for s in SHAPES
            for k in axes(s)
        ]
        rows += [Row(f"{n} default", lambda xp, x, n=n: getattr(xp, n)(x), (s,)) for s in SHAPES]
    for s in SHAPES[1:]:
        for k in axes(s)[1:]:
            rows.append(Row(f"softmax axis={k}", lambda xp, x, k=k: xp.softmax(x, axis=k), (s,)))
        rows.append(Row("softmax default", lambda xp, x: xp.softmax(x), (s,)))
    for triple in TRIPLES:
        rows.append(Row("where", lambda xp, c, a, b: xp.where(c > 0, a, b), triple))
        rows.append(Row("where <=", lambda xp, c, a, b: xp.where(c <= a, a * b, a - b), triple))
    for s in SHAPES:
        rows.append(Row("where numbers", lambda xp, x: xp.where(x >= 0.3, 1.0, 2.5) * x, (s,)))
        rows.append(
            Row("where NaN", lambda xp, x: xp.where(x > 0, xp.log(x), 7.0), (s,), smooth=False)
        )
        rows.append(
            Row("where inf", lambda xp, x: xp.where(x < 9.0, x, 1.0 / (x - x)), (s,), smooth=False)
        )
        rows.append(Row("zeros_like", lambda xp, x: xp.zeros_like(x) + 2.0 * x, (s,)))
        rows.append(Row("ones_like", lambda xp, x: xp.ones_like(x) - x, (s,)))
    for s, k in [
        ((), 0),
        ((), -1),
        ((3,), 0),
        ((3,), 1),
        ((3,), -1),
        ((3,), -2),
        ((1,), 0),
        ((1,), 1),
    ]:
        rows.append(
            Row(f"stack axis={k}", lambda xp, a, b, k=k: xp.stack([a, 2.0 * b, a], axis=k), (s, s))
        )
        rows.append(Row(f"stack one axis={k}", lambda xp, a, k=k: xp.stack([a], axis=k), (s,)))
    rows.append(Row("stack default", lambda xp, a, b: xp.stack([a, b]), ((3,), (3,))))
    rows.append(Row("stack numbers", lambda xp, a: xp.stack([a, 1.0, 2]), ((),)))
    for a, b, k in JOINED:
        rows.append(
            Row(f"concat axis={k}", lambda xp, a, b, k=k: xp.concat([a, b, a], axis=k), (a, b))
        )
    rows.append(Row("concat default", lambda xp, a, b: xp.concat([a, b]), ((2, 3), (1, 3))))
    for s in SHAPES:
        size = int(np.prod(s, dtype=int))
        targets: list[Any] = [size, (size,), (-1,), (1, -1), (-1, 1), (size, 1)]
        targets += [()] if size == 1 else []
        targets += [(3, 2), (2, -1), (-1, 2)] if size == 6 else []
        rows += [Row(f"reshape {t}", lambda xp, x, t=t: xp.reshape(x, t), (s,)) for t in targets]
    for a, b in PRODUCTS:
        rows.append(Row("matmul", lambda xp, a, b: xp.matmul(a, b), (a, b)))
        rows.append(Row("matmul operator", lambda xp, a, b: a @ b, (a, b)))
        if len(a) == len(b) == 2:
            rows.append(Row("matmul of transposes", lambda xp, a, b: b.T @ a.T, (a, b)))
    rows += [
        Row("asarray number", lambda xp, x: xp.asarray(2.5) * x, ((2, 3),)),
        Row("asarray list", lambda xp, x: xp.asarray([1, 2, 3]) * x, ((2, 3),)),
        Row("asarray nested list", lambda xp, x: xp.asarray([[1.0, 2.0, 3.0]]) + x, ((2, 1),)),
        Row("asarray rank 1", lambda xp, x: xp.asarray(A1) + x, ((3,),)),
        Row("asarray rank 2", lambda xp, x: xp.asarray(A2) @ x, ((3,),)),
        Row("asarray transpose", lambda xp, x: x @ xp.asarray(A2).T, ((2, 3),)),
        Row("asarray integers", lambda xp, x: xp.asarray(np.arange(3)) / 2 + x, ((3,),)),
        Row("asarray of an array", lambda xp, x: xp.asarray(x) + x, ((3,),)),
        Row("asarray entry", lambda xp, x: xp.asarray(A2)[1, 2] * x, ((),)),
        Row("number first", lambda xp, x: xp.exp(0.5) + xp.sum(3.0) + xp.sqrt(4) * x, ((3,),)),
    ]
    return rows


def operator_rows() -> list[Row]:
    two: dict[str, Callable[..., Any]] = {
        "+": lambda xp, a, b: a + b,
        "-": lambda xp, a, b: a - b,
        "*": lambda xp, a, b: a * b,
    }
    rows = [Row(n, fn, pair) for n, fn in two.items() for pair in PAIRS]
    rows += [Row("/", lambda xp, a, b: a / b, pair, (0.3, 2.0)) for pair in PAIRS]
    rows += [Row("**", lambda xp, a, b: a**b, pair, (0.3, 2.0)) for pair in PAIRS]
    for n, fn in {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }.items():
        for pair in PAIRS:
            rows.append(
                Row(f"where a {n} b", lambda xp, a, b, fn=fn: xp.where(fn(a, b), a, b - a), pair)
            )
        for s in SHAPES:
            rows.append(
                Row(f"where {n} number", lambda xp, a, fn=fn: xp.where(fn(a, 0.2), a, 2 * a), (s,))
            )
            rows.append(
                Row(f"where number {n}", lambda xp, a, fn=fn: xp.where(fn(0.2, a), a, 2 * a), (s,))
            )
    one: dict[str, Callable[..., Any]] = {
        "numbers": lambda xp, x: 1 - (2 * x + 3.5) / 4,
        "number / x": lambda xp, x: 2.0 / (x + 5.0),
        "-x": lambda xp, x: -x,
        "+x": lambda xp, x: +x,
        "x**1": lambda xp, x: x**1,
        "x**2": lambda xp, x: x**2,
        "x**3": lambda xp, x: x**3,
        "x**-1": lambda xp, x: (x + 5.0) ** -1,
        "2**x": lambda xp, x: 2.0**x,
        "abs(x)": lambda xp, x: abs(x),
        "x.T": lambda xp, x: x.T,
        "x.T.T": lambda xp, x: x.T.T + x,
        "NumPy scalar": lambda xp, x: np.float64(1.5) * x + np.float64(2.0),
        "0-d ndarray": lambda xp, x: np.array(1.5) * x,
        "in place": lambda xp, x: in_place(x),
        "ndim": lambda xp, x: x * x.ndim,
        "shape": lambda xp, x: x * sum(x.shape),
    }
    return rows + [Row(n, fn, (s,)) for n, fn in one.items() for s in SHAPES]


def in_place(x: Any) -> Any:
    y = x
    y += 1.0
    y *= 2.0
    return y


I = np.s_
INDEX: dict[Shape, list[Any]] = {
    (3,): [
        I[0],
        I[2],
        I[-1],
        I[-3],
        np.int64(1),
        I[:],
        I[1:],
        I[:2],
        I[0:3:2],
        I[-2:],
        I[1:2],
        I[0:99],
        (),
    ],
    (1,): [I[0], I[-1], I[:], I[0:1]],
    (2, 3): [
        *(
            I[0],
            I[-1],
            I[1, 2],
            I[-1, -3],
            (0,),
            I[:, 0],
            I[:, -1],
            I[1, :],
            I[1, 1:],
            I[0:1, :],
            I[:, 0:1],
        ),
        *(I[0:1, 0], I[0, 0:1], I[1:], I[0:1], I[:, ::2], I[:, 1:3], I[-1:, -2:], I[:, :], ()),
    ],
    (1, 3): [I[0], I[0, 1], I[:, 1], I[0, :], I[:, 2:], I[:]],
    (3, 1): [I[0], I[1, 0], I[:, 0], I[1:, :], I[::2, 0], I[-1]],
    (1, 1): [I[0], I[0, 0], I[:, 0], I[:]],
    (): [()],
}


def outer_of_entries(xp: Any, x: Any) -> Any:
    first, *others = x
    return first * sum(others) if others else first


def sum_of_rows(xp: Any, x: Any) -> Any:
    return sum((k + 1.0) * row for k, row in enumerate(x)) * len(x)


def index_rows() -> list[Row]:
    rows = [
        Row(f"x[{k}]", lambda xp, x, k=k: x[k], (s,)) for s, keys in INDEX.items() for k in keys
    ]
    rows += [Row("unpack", outer_of_entries, (s,)) for s in SHAPES[1:]]
    rows += [Row("iterate", sum_of_rows, (s,)) for s in SHAPES[1:]]
    rows += [
        Row("x[1][2]", lambda xp, x: x[1][2], ((2, 3),)),
        Row("x.T[0]", lambda xp, x: x.T[0], ((2, 3),)),
        Row("x[:, 1:] @ x[0, 1:]", lambda xp, x: x[:, 1:] @ x[0, 1:], ((2, 3),)),
        Row("row + column", lambda xp, x: x[0] + xp.reshape(x[:, 0], (2, 1)), ((2, 3),)),
        Row("column of one + row", lambda xp, x: x[:, :1] * x[1], ((2, 3),)),
        Row("slice of a slice", lambda xp, x: x[:, 1:][:, 1], ((2, 3),)),
    ]
    return rows


NAMED = {str(row): row for row in vocabulary_rows()}
ROWS = NAMED | {str(row): row for row in [*operator_rows(), *index_rows()]}


# -- the three engines
# --------------------------------------------------------------------------------------
def as_formula(fn: Callable[..., Any], shapes: tuple[Shape, ...], shape: Shape) -> Formula:
    names = [f"x{i}" for i in range(len(shapes))]
    declared = dict(zip(names, shapes, strict=True))
    return Formula("f", lambda *a: fn(dnl.namespace(a[0]), *a), declared, shape, frozenset(names))


def torch_call(formula: Formula) -> Callable[..., torch.Tensor]:
    engine = torch_engine(torch.float64, torch.device("cpu"))
    return lambda *a: formula(engine, *a)


def on_torch(formula: Formula, arguments: list[np.ndarray]) -> np.ndarray:
    """Sample 1 of 3 different samples, under vmap."""
    stacked = [torch.as_tensor(np.stack([0.9 * a, a, 0.5 * a])) for a in arguments]
    return np.asarray(torch.func.vmap(torch_call(formula))(*stacked)[1])


def torch_slopes(formula: Formula, arguments: list[np.ndarray]) -> list[np.ndarray]:
    """d f / d x_i as matrices (entries of f, entries of x_i), row-major."""
    tensors = [torch.as_tensor(a) for a in arguments]
    slopes = torch.func.jacrev(torch_call(formula), argnums=tuple(range(len(tensors))))(*tensors)
    return [np.asarray(j).reshape(-1, a.size) for j, a in zip(slopes, arguments, strict=True)]


class OnCasadi:
    """The traced formula and its derivatives, entries row-major."""

    def __init__(self, formula: Formula) -> None:
        self.formula, self.function = formula, TracedFormula(formula, 1.0, {}).function
        sizes = {name: int(np.prod(s, dtype=int)) for name, s in formula.shapes.items()}
        self.symbols = [ca.SX.sym(name, size) for name, size in sizes.items()]
        self.flat = self.function(*self.symbols)

    def call(self, expressions: list[ca.SX], arguments: list[np.ndarray]) -> list[np.ndarray]:
        function = ca.Function("f", self.symbols, expressions)
        return [np.array(v) for v in function.call([ca.DM(np.reshape(a, -1)) for a in arguments])]

    def value(self, arguments: list[np.ndarray]) -> np.ndarray:
        return self.call([self.flat], arguments)[0].reshape(self.formula.shape)

    def slopes(self, arguments: list[np.ndarray]) -> list[np.ndarray]:
        """Columns in and out are row-major: no entry is moved."""
        return self.call([ca.jacobian(self.flat, x) for x in self.symbols], arguments)


def assert_same(got: Any, expected: Any, rtol: float = RTOL) -> None:
    expected = np.asarray(expected, dtype=float)
    assert np.shape(got) == expected.shape
    np.testing.assert_allclose(
        got, expected, rtol=rtol, atol=rtol * np.abs(expected).max(initial=0.0)
    )


@pytest.mark.parametrize("key", ROWS)
def test_row(key):
    row = ROWS[key]
    arguments = row.arguments()
    with np.errstate(all="ignore"):
        expected = np.asarray(row.fn(REFERENCE, *(np.array(a) for a in arguments)))
        formula = as_formula(row.fn, row.shapes, expected.shape)
        assert_same(formula(numpy_engine(), *arguments), expected)
    casadi = OnCasadi(formula)
    assert_same(on_torch(formula, arguments), expected)
    assert_same(casadi.value(arguments), expected)
    if row.smooth:
        # products and quotients of a handful of such numbers: ten times the rounding of the values
        for a, b in zip(torch_slopes(formula, arguments), casadi.slopes(arguments), strict=True):
            assert_same(a, b, 10 * RTOL)


@pytest.mark.parametrize("key", NAMED)
def test_row_on_native_arrays(key):
    """``namespace`` of an ndarray or a tensor itself, as in activations inside a batched kernel."""
    row = NAMED[key]
    arguments = row.arguments()
    with np.errstate(all="ignore"):
        expected = row.fn(REFERENCE, *(np.array(a) for a in arguments))
        assert_same(row.fn(dnl.namespace(arguments[0]), *arguments), expected)
    tensors = [torch.as_tensor(a) for a in arguments]
    assert_same(np.asarray(row.fn(dnl.namespace(tensors[0]), *tensors)), expected)


def test_every_name_has_rows():
    assert set(VOCABULARY) == {row.name.split()[0] for row in NAMED.values()} - {"number"}
    assert set(VOCABULARY) == set(dir(dnl.namespace(np.zeros(1))))
    for name in VOCABULARY:
        ranks = {
            len(s) for row in NAMED.values() if row.name.split()[0] == name for s in row.shapes
        }
        assert ranks >= (
            {1, 2}
            if name in ("softmax", "matmul", "concat")
            else {0, 1}
            if name == "stack"
            else {0, 1, 2}
        )


def test_namespace_of_foreign_things():
    for foreign in ("text", None, ca.SX.sym("x"), object()):
        with pytest.raises(
            dnl.InputTypeError, match="a formula's array, an ndarray, a torch tensor"
        ):
            dnl.namespace(foreign)


# -- ties
# --------------------------------------------------------------------------------------------------
Z = np.zeros(())
ONES, FLAT = np.ones(3), np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 1.0]])
TIES: dict[str, tuple[Callable[..., Any], list[np.ndarray], list[Any]]] = {
    # name: (expression, point, the derivative in each argument); maximum(a, b) = where(a > b, a, b)
    "maximum(a, b)": (lambda xp, a, b: xp.maximum(a, b), [Z, Z], [0, 1]),
    "minimum(a, b)": (lambda xp, a, b: xp.minimum(a, b), [Z, Z], [0, 1]),
    "maximum(a, 0)": (lambda xp, a: xp.maximum(a, 0.0), [Z], [0]),
    "maximum(0, a)": (lambda xp, a: xp.maximum(0.0, a), [Z], [1]),
    "minimum(a, 0)": (lambda xp, a: xp.minimum(a, 0.0), [Z], [0]),
    "maximum(a, a)": (lambda xp, a: xp.maximum(a, a), [Z], [1]),
    "maximum broadcast": (
        lambda xp, a, b: xp.sum(xp.maximum(a, b)),
        [ONES, np.ones(())],
        [[0, 0, 0], 3],
    ),
    "max of equals": (lambda xp, a: xp.max(a), [ONES], [[0, 0, 1]]),
    "min of equals": (lambda xp, a: xp.min(a), [ONES], [[0, 0, 1]]),
    "max of two equals": (lambda xp, a: xp.max(a), [np.array([2.0, 2.0, 1.0])], [[0, 1, 0]]),
    "max over rows": (lambda xp, a: xp.sum(xp.max(a, axis=0)), [FLAT], [[0, 0, 0, 1, 1, 1]]),
    "max over columns": (lambda xp, a: xp.sum(xp.max(a, axis=1)), [FLAT], [[0, 1, 0, 0, 0, 1]]),
    "min over columns": (lambda xp, a: xp.sum(xp.min(a, axis=1)), [FLAT], [[0, 0, 1, 0, 0, 1]]),
    "max of all": (lambda xp, a: xp.max(a), [FLAT], [[0, 0, 0, 0, 0, 1]]),
    "abs": (lambda xp, a: xp.abs(a), [Z], [0]),
    "abs()": (lambda xp, a: abs(a), [Z], [0]),
    "sign": (lambda xp, a: xp.sign(a), [Z], [0]),
    "where >": (lambda xp, a: xp.where(a > 0, 2 * a, 3 * a), [Z], [3]),
    "where >=": (lambda xp, a: xp.where(a >= 0, 2 * a, 3 * a), [Z], [2]),
    "relu": (lambda xp, a: dnl.relu(a), [Z], [0]),
    "leaky relu": (lambda xp, a: dnl.leaky_relu(a, 0.25), [Z], [0.25]),
    # smooth there, but easily lost in a formula made of pieces
    "softplus": (lambda xp, a: dnl.softplus(a), [Z], [0.5]),
    "sigmoid": (lambda xp, a: dnl.sigmoid(a), [Z], [0.25]),
    "tanh": (lambda xp, a: dnl.tanh(a), [Z], [1]),
    "x**1": (lambda xp, a: a**1, [Z], [1]),
    "x**2": (lambda xp, a: a**2, [Z], [0]),
    "x**3": (lambda xp, a: a**3, [Z], [0]),
    "logsumexp of equals": (lambda xp, a: xp.logsumexp(a), [ONES], [[1 / 3, 1 / 3, 1 / 3]]),
    "logsumexp of large equals": (
        lambda xp, a: xp.logsumexp(a),
        [800 * ONES],
        [[1 / 3, 1 / 3, 1 / 3]],
    ),
    "softmax of equals": (lambda xp, a: xp.softmax(a)[0], [ONES], [[2 / 9, -1 / 9, -1 / 9]]),
}


@pytest.mark.parametrize("name", TIES)
def test_derivatives_at_ties(name):
    fn, point, expected = TIES[name]
    formula = as_formula(fn, tuple(a.shape for a in point), ())
    on_casadi = OnCasadi(formula).slopes(point)
    # softmax is formed as exp(x - logsumexp(x)), and x - logsumexp(x) is good to eps |x|
    rtol = max(RTOL, np.finfo(float).eps * np.max(np.abs(point[0])))
    for a, b, c in zip(torch_slopes(formula, point), on_casadi, expected, strict=True):
        assert_same(a.ravel(), np.ravel(c), rtol)
        assert_same(b.ravel(), np.ravel(c), rtol)


@pytest.mark.parametrize("at", [-40.0, -1.3, 0.0, 0.7, 40.0])
@pytest.mark.parametrize(
    ("activation", "slope", "curvature"),
    [
        (
            dnl.tanh,
            lambda x: 1 - np.tanh(x) ** 2,
            lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2),
        ),
        (
            dnl.sigmoid,
            lambda x: special.expit(x) * special.expit(-x),
            lambda x: sigmoid_curvature(x),
        ),
        (dnl.softplus, special.expit, lambda x: special.expit(x) * special.expit(-x)),
        (dnl.identity, lambda x: 1.0, lambda x: 0.0),
    ],
    ids=["tanh", "sigmoid", "softplus", "identity"],
)
def test_smooth_activations_have_their_derivatives_everywhere(activation, slope, curvature, at):
    """First and second derivative on both backends; 1 - tanh² cancels to eps, so absolutely."""
    formula = as_formula(lambda xp, x: activation(x), ((),), ())
    first = torch.func.grad(torch_call(formula))
    x = torch.tensor(at, dtype=torch.float64)
    casadi = OnCasadi(formula)
    (symbol,), slopes = casadi.symbols, [casadi.flat]
    for _ in range(2):
        slopes.append(ca.jacobian(slopes[-1], symbol))
    found = [float(v[0, 0]) for v in casadi.call(slopes[1:], [np.array(at)])]
    for expected, a, b in (
        (slope(at), first(x), found[0]),
        (curvature(at), torch.func.grad(first)(x), found[1]),
    ):
        assert float(a) == pytest.approx(float(expected), rel=0, abs=1e-14)
        assert b == pytest.approx(float(expected), rel=0, abs=1e-14)


def sigmoid_curvature(x: float) -> float:
    p = special.expit(x)
    return float(p * (1 - p) * (1 - 2 * p))


# -- outside the vocabulary
# ---------------------------------------------------------------------------------
A3 = np.array([1.0, 2.0, 3.0])
A23 = np.ones((2, 3))
LIST = [1.0, 2.0, 3.0]
OUTSIDE: dict[str, tuple[Callable[[Any], Any], str]] = {
    # what a formula of x, shape (3,), may not do: (expression, what the message must say)
    "unknown name": (lambda x: dnl.namespace(x).cumsum(x), "exp, log, log1p"),
    "known to NumPy only": (lambda x: dnl.namespace(x).clip(x, 0, 1), "exp, log, log1p"),
    "constant": (lambda x: x * dnl.namespace(x).pi, "exp, log, log1p"),
    "np.tanh": (lambda x: np.tanh(x), r"namespace\(x\)"),
    "np.add": (lambda x: np.add(x, 1.0), r"namespace\(x\)"),
    "np.sum": (lambda x: np.sum(x), r"numpy.sum .* use namespace\(x\)"),
    "np.stack": (lambda x: np.stack([x, x]), r"numpy.stack .* use namespace\(x\)"),
    "np.where": (lambda x: np.where(x > 0, x, 0.0), r"numpy.where .* use namespace\(x\)"),
    "np.asarray": (lambda x: np.asarray(x), r"ndarray; use namespace\(x\)"),
    "np.array of entries": (lambda x: np.array([x[0], x[1]]), r"namespace\(x\)"),
    "torch.tanh": (lambda x: torch.tanh(x), r"torch.tanh .* use namespace\(x\)"),
    "torch.stack": (lambda x: torch.stack([x[0], x[1]]), r"torch.stack .* use namespace\(x\)"),
    "torch.as_tensor": (lambda x: torch.as_tensor(x), ""),
    "casadi.tanh": (lambda x: ca.tanh(x), "allowed in a formula"),
    "x + ndarray": (lambda x: x + A3, r"namespace\(x\).asarray"),
    "ndarray + x": (lambda x: A3 + x, r"namespace\(x\).asarray"),
    "ndarray * x": (lambda x: A3 * x, r"namespace\(x\).asarray"),
    "ndarray @ x": (lambda x: A23 @ x, r"namespace\(x\).asarray"),
    "x @ ndarray": (lambda x: x @ A3, r"namespace\(x\).asarray"),
    "ndarray ** x": (lambda x: A3**x, r"namespace\(x\).asarray"),
    "x < ndarray": (lambda x: x < A3, r"namespace\(x\).asarray"),
    "ndarray < x": (lambda x: x > A3, r"namespace\(x\).asarray"),
    "maximum(x, ndarray)": (lambda x: dnl.namespace(x).maximum(x, A3), r"namespace\(x\).asarray"),
    "where(c, x, ndarray)": (
        lambda x: dnl.namespace(x).where(x > 0, x, A3),
        r"namespace\(x\).asarray",
    ),
    "stack of ndarrays": (lambda x: dnl.namespace(x).stack([x, A3]), r"namespace\(x\).asarray"),
    "exp(ndarray)": (lambda x: dnl.namespace(x).exp(A3), r"namespace\(x\).asarray"),
    "exp(list)": (lambda x: dnl.namespace(x).exp([1.0, 2.0]), r"namespace\(x\).asarray"),
    "x + tensor": (lambda x: x + torch.ones(3), r"namespace\(x\)"),
    "tensor + x": (lambda x: torch.ones(3) + x, r"namespace\(x\)"),
    "x + SX": (lambda x: x + ca.SX.sym("a", 3), r"namespace\(x\)"),
    "SX + x": (lambda x: ca.SX.sym("a", 3) + x, r"namespace\(x\)"),
    "x + list": (lambda x: x + LIST, r"namespace\(x\)"),
    "x + complex": (lambda x: x + 1j, r"namespace\(x\)"),
    "x.sum()": (lambda x: x.sum(), r"'sum' .* functions of namespace\(x\)"),
    "x.dot(x)": (lambda x: x.dot(x), r"'dot' .* functions of namespace\(x\)"),
    "x.reshape(1, 3)": (lambda x: x.reshape(1, 3), r"'reshape' .* functions of namespace\(x\)"),
    "float(x)": (lambda x: float(x[0]), r"use namespace\(x\)"),
    "int(x)": (lambda x: int(x[0]), r"use namespace\(x\)"),
    "complex(x)": (lambda x: complex(x[0]), r"use namespace\(x\)"),
    "math.sin(x)": (lambda x: math.sin(x[0]), r"use namespace\(x\)"),
    "range(x)": (lambda x: range(x[0]), r"use namespace\(x\)"),
    "if x > 0": (lambda x: x if x[0] > 0 else 2 * x, r"use namespace\(x\).where"),
    "if x": (lambda x: x if x else 2 * x, r"use namespace\(x\).where"),
    "-1 < x < 1": (lambda x: -1.0 < x[0] < 1.0, r"use namespace\(x\).where"),
    "not x": (lambda x: not x[0], r"use namespace\(x\).where"),
    "x and y": (lambda x: x[0] and x[1], r"use namespace\(x\).where"),
    "max(x)": (lambda x: max(x), r"use namespace\(x\).where"),
    "x[None]": (lambda x: x[None], "integers and slices"),
    "x[...]": (lambda x: x[...], "integers and slices"),
    "x[x > 0]": (lambda x: x[x > 0], "integers and slices"),
    "x[x[0]]": (lambda x: x[x[0]], "integers and slices"),
    "x[mask]": (lambda x: x[np.array([True, False, True])], "integers and slices"),
    "x[list]": (lambda x: x[[0, 1]], "integers and slices"),
    "x[1.0]": (lambda x: x[1.0], "integers and slices"),
    "x[True]": (lambda x: x[True], "integers and slices"),
    "x[::-1]": (lambda x: x[::-1], "steps >= 1"),
    "x[0, 0]": (lambda x: x[0, 0], "at most 1"),
    "x[3]": (lambda x: x[3], "out of range for an axis of size 3"),
    "x[-4]": (lambda x: x[-4], "out of range for an axis of size 3"),
    "x == y": (lambda x: dnl.namespace(x).where(x == x, x, 0.0), "select with where"),
    "x != 0": (lambda x: dnl.namespace(x).where(x != 0, x, 0.0), "select with where"),
    "x in list": (lambda x: x if x[0] in [1.0, 2.0] else 2 * x, "select with where"),
    "y in x": (lambda x: x if 1.0 in x else 2 * x, "select with where"),
    "x[0] = 1": (lambda x: setitem(x), "build it with namespace"),
    "x[0] += 1": (lambda x: add_to_item(x), "build it with namespace"),
    "x // 2": (lambda x: x // 2, r"namespace\(x\)"),
    "x % 2": (lambda x: x % 2, r"namespace\(x\)"),
    "mask & mask": (lambda x: (x > 0) & (x < 1), r"namespace\(x\)"),
    "~mask": (lambda x: ~(x > 0), r"namespace\(x\)"),
    "round(x)": (lambda x: round(x[0]), r"namespace\(x\)"),
    "a dictionary key": (lambda x: {x[0]: 1.0}, r"namespace\(x\)"),
    "shapes that differ": (lambda x: x + x[:2], r"\(3,\) and \(2,\).* broadcast"),
    "matmul of a number": (lambda x: x @ 2.0, "ranks 1 or 2 with a common inner dimension"),
    "matmul of shapes": (lambda x: x @ x[:2], "common inner dimension"),
    "stack of shapes": (lambda x: dnl.namespace(x).stack([x, x[:2]]), "equal shapes of rank <= 1"),
    "stack of matrices": (
        lambda x: dnl.namespace(x).stack([dnl.namespace(x).reshape(x, (1, 3))] * 2),
        "rank <= 1",
    ),
    "stack of nothing": (lambda x: dnl.namespace(x).stack([]), "non-empty list"),
    "stack of an array": (lambda x: dnl.namespace(x).stack(x), "non-empty list"),
    "concat of ranks": (lambda x: dnl.namespace(x).concat([x, x[0]]), "equal ranks 1 or 2"),
    "concat of numbers": (lambda x: dnl.namespace(x).concat([x[0], x[1]]), "equal ranks 1 or 2"),
    "reshape to another size": (
        lambda x: dnl.namespace(x).reshape(x, (2, 2)),
        "shapes of the same size",
    ),
    "reshape to rank 3": (lambda x: dnl.namespace(x).reshape(x, (1, 3, 1)), "rank <= 2"),
    "asarray of rank 3": (lambda x: dnl.namespace(x).asarray(np.zeros((1, 1, 3))), "rank <= 2"),
    "asarray of arrays": (lambda x: dnl.namespace(x).asarray([x[0], x[1]]), "stack|namespace"),
    "asarray of text": (lambda x: dnl.namespace(x).asarray("abc"), "numbers, a list or an ndarray"),
    "axis 1 of rank 1": (lambda x: dnl.namespace(x).sum(x, axis=1), "an integer from -1 to 0"),
    "axis of a number": (lambda x: dnl.namespace(x).sum(x[0], axis=0), "allowed: None"),
    "axis True": (lambda x: dnl.namespace(x).max(x, axis=True), "an integer from -1 to 0"),
    "two axes": (lambda x: dnl.namespace(x).sum(x, axis=(0,)), "an integer from -1 to 0"),
    "keepdims": (lambda x: dnl.namespace(x).sum(x, keepdims=True), r"namespace\(x\)"),
    "a list as the result": (lambda x: [x[0], x[1], x[2]], "collect entries with namespace"),
    "nothing as the result": (lambda x: None, "a formula returned NoneType"),
    "an ndarray as the result": (lambda x: A3, r"namespace\(x\).asarray"),
}


def setitem(x: Any) -> Any:
    x[0] = 1.0
    return x


def add_to_item(x: Any) -> Any:
    x[0] += 1.0
    return x


def rejected(fn: Callable[[Any], Any]) -> Formula:
    return Formula("my formula", fn, {"x": (3,)}, (3,), frozenset({"x"}))


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_vocabulary_is_told(name):
    """On every engine, with the formula's name and with what to use instead."""
    fn, message = OUTSIDE[name]
    point = np.array([0.3, -0.2, 0.7])
    formula, told = rejected(fn), f"my formula: .*{message}"
    with pytest.raises(dnl.InputError, match=told):
        trace("my formula", fn, {"x": (3,)}, None)
    with pytest.raises(dnl.InputError, match=told):
        formula(numpy_engine(), point)
    with pytest.raises(dnl.InputError, match=told):
        torch.func.vmap(torch_call(formula))(torch.as_tensor(point[None]))
    with pytest.raises(dnl.InputError, match=told):
        TracedFormula(formula, 1.0, {})


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("float(x)", dnl.InputTypeError),
        ("x.sum()", dnl.InputTypeError),
        ("np.tanh", dnl.InputTypeError),
        ("x[None]", dnl.InputTypeError),
        ("x + ndarray", dnl.InputTypeError),
        ("x == y", dnl.InputTypeError),
        ("x[0] = 1", dnl.InputTypeError),
        ("shapes that differ", ValueError),
    ],
)
def test_kind_of_error(expression, kind):
    """Wrong operations are TypeErrors, wrong shapes ValueErrors; both are InputErrors and
    one line.
    """
    with pytest.raises(kind) as caught:
        trace("f", OUTSIDE[expression][0], {"x": (3,)}, None)
    assert isinstance(caught.value, dnl.InputError) and "\n" not in str(caught.value)


def test_unknown_controls_are_told():
    with pytest.raises(dnl.InputError, match="kernel: got unknown control 'q'; allowed here: W, b"):
        dnl.ControlProblem(x0=np.zeros((1, 2)), dynamics=SimpleKernel(lambda u: u.q))
    with pytest.raises(dnl.InputError, match="kernel: got unknown control 'q'"):
        dnl.ControlProblem(x0=np.zeros((1, 2)), dynamics=SimpleKernel(lambda u: u["q"]))


class SimpleKernel(dnl.Dense):
    """Form C, plus whatever is read from u."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__(2)
        object.__setattr__(self, "read", read)

    def kernel(self, t: Any, s: Any, y: Any, u: Any) -> Any:
        return super().kernel(t, s, y, u) + self.read(u)


def test_a_formula_that_differs_between_engines_is_told():
    """Nothing deterministic differs; a formula that draws random numbers does."""
    draws = iter(np.random.default_rng(0).standard_normal(1000).tolist())
    formula = Formula("noisy", lambda x: x * next(draws), {"x": (3,)}, (3,), frozenset({"x"}))
    with pytest.raises(
        dnl.InputError, match=r"noisy: got different values on casadi .* deterministic"
    ):
        TracedFormula(formula, 1.0, {})


# -- comparisons as numbers
# ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fn",
    [
        lambda xp, x: (x > 0) * x,
        lambda xp, x: (x > 0) * 0.1 * x,
        lambda xp, x: 1 - (x > 0),
        lambda xp, x: xp.sum(x > 0) * 0.1,
        lambda xp, x: (x > -1) + (x < 1) + 0 * x,
        lambda xp, x: xp.where((x > -0.5) * (x < 0.5), x, 0.0),
        lambda xp, x: xp.mean(x > 0),
    ],
    ids=[
        "mask * x",
        "mask * 0.1 * x",
        "1 - mask",
        "sum of a mask",
        "mask + mask",
        "where(mask * mask)",
        "mean of a mask",
    ],
)
def test_comparisons_count_as_one_and_zero_or_are_told(fn):
    """Either every engine gives the same numbers, with True as 1.0, or every engine rejects it."""
    point = np.array([0.3, -0.2, 0.7])

    outcomes = []
    shape = np.shape(fn(REFERENCE, point))
    formula = as_formula(fn, ((3,),), shape)
    for engine in (
        lambda: formula(numpy_engine(), point),
        lambda: on_torch(formula, [point]),
        lambda: OnCasadi(formula).value([point]),
    ):
        try:
            outcomes.append(np.asarray(engine(), dtype=float))
        except dnl.InputError:
            outcomes.append(None)
    told = [o is None for o in outcomes]
    assert all(told) or not any(told), outcomes
    if not any(told):
        for other in outcomes[1:]:
            assert_same(other, outcomes[0])
