"""The vocabulary of a formula in rows: each one expression ``fn(xp, *arrays)``.

At ranks 0, 1 and 2 with sides of length 1, 2 and 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnlcontrol.problem.engines import FUNCTIONS

Shape = tuple[int, ...]
SHAPES = [(), (1,), (3,), (1, 1), (1, 3), (3, 1), (2, 1), (2, 3)]


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
