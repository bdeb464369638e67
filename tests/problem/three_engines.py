"""A formula and its derivatives on NumPy, PyTorch (under vmap) and CasADi."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import casadi as ca
import numpy as np
import torch
from scipy import special

import dnlcontrol as dnl
from dnlcontrol.backends.traced_formula import TracedFormula
from dnlcontrol.problem.engines import FUNCTIONS, torch_engine
from dnlcontrol.problem.formula import Formula
from tests.problem.vocabulary import Shape

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
