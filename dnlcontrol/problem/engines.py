"""The three engines behind the array seam: NumPy, PyTorch, CasADi's ArrayInterface.

An engine is a closed table of primitives on native arrays. Broadcasting, axes, ranks and ties are
settled once, above (array.py, namespace.py); an engine only carries the primitive out.
Heavy imports stay inside.
"""

from __future__ import annotations

import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dnlcontrol.checks import InputTypeError, real, refuse_hidden, reject_type

if TYPE_CHECKING:
    import torch

# All of these are Any to a type checker: no type is common to ndarray, Tensor and ArrayInterface;
# what a formula may do with an array is checked when it runs (array.py).
Native: TypeAlias = Any
"""An ndarray, a PyTorch tensor or a ``casadi.ArrayInterface``, of one engine at a time."""

FormulaArray: TypeAlias = Any
"""An argument or a result of a formula: an ``Array`` of rank <= 2 (or a number); a tensor where
``batched`` functions and activations run on whole batches."""

FormulaControls: TypeAlias = Any
"""What a formula reads its controls from, as ``u.W``: ``Values``, or a namespace of tensors."""

Activation: TypeAlias = Callable[[FormulaArray], FormulaArray]
"""σ, entry by entry: the result has its argument's shape."""

UserFormula: TypeAlias = Callable[..., FormulaArray]
"""A formula as the user writes it: (t, x, u), (t, s, y, u), (x, c) and the like -> array."""

LARGEST = 2**31 - 1  # entries of a NumPy array: float64 of them take 16 GiB

Table = Mapping[str, Callable[..., Native]]

ARITHMETIC: dict[str, Callable[..., Native]] = {
    name: getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "lt", "le", "gt", "ge")
}
FUNCTIONS = (
    "exp",
    "log",
    "log1p",
    "expm1",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "abs",
    "sign",
)


class Engine(ABC):
    """Primitives on one kind of native array, of rank <= 2; axes are counted from 0."""

    name: str
    unary: Table
    binary: Table = ARITHMETIC

    @abstractmethod
    def owns(self, x: object) -> bool:
        """Whether ``x`` is a native array of this engine."""

    @abstractmethod
    def asarray(self, x: Native) -> Native:
        """A number or ndarray as a native array; native arrays pass through."""

    @abstractmethod
    def full(self, shape: tuple[int, ...], value: float) -> Native:
        """A constant array."""

    def number(self, mask: Native) -> Native:
        """The result of a comparison as 0.0 and 1.0."""
        return mask

    @abstractmethod
    def where(self, condition: Native, a: Native, b: Native) -> Native:
        """Entry by entry, all three of one shape."""

    def maximum(self, a: Native, b: Native) -> Native:
        """where(a > b, a, b), both of one shape."""
        return self.where(self.binary["gt"](a, b), a, b)

    def minimum(self, a: Native, b: Native) -> Native:
        """where(a < b, a, b), both of one shape."""
        return self.where(self.binary["lt"](a, b), a, b)

    @abstractmethod
    def broadcast(self, x: Native, shape: tuple[int, ...]) -> Native:
        """x repeated to ``shape``, by NumPy's rule."""

    @abstractmethod
    def sum(self, x: Native, axis: int) -> Native:
        """The sum along one axis, which is dropped."""

    @abstractmethod
    def logsumexp(self, x: Native, axis: int) -> Native:
        """log Σ e^x along one axis, which is dropped, without overflow."""

    @abstractmethod
    def stack(self, arrays: Sequence[Native], axis: int) -> Native:
        """Arrays of one shape, rank <= 1, along a new axis."""

    @abstractmethod
    def concat(self, arrays: Sequence[Native], axis: int) -> Native:
        """Arrays of one rank, 1 or 2, along an axis that they have."""

    def reshape(self, x: Native, shape: tuple[int, ...]) -> Native:
        """The same entries, row-major, in another shape."""
        return x.reshape(shape)

    def transpose(self, x: Native) -> Native:
        """(m, n) -> (n, m)."""
        return x.T

    def getitem(self, x: Native, keys: tuple[int | slice, ...]) -> Native:
        """x[keys], indices and slices checked before."""
        return x[keys]


class NumpyEngine(Engine):
    """float64 arrays; formulas are checked and traced on it."""

    name = "numpy"

    def __init__(self) -> None:
        self.unary = {n: getattr(np, n) for n in FUNCTIONS}

    def owns(self, x: object) -> bool:
        return isinstance(x, (np.ndarray, np.generic))

    def asarray(self, x: Native) -> Native:
        return x if self.owns(x) else np.asarray(x, dtype=np.float64)

    def full(self, shape: tuple[int, ...], value: float) -> Native:
        return np.full(shape, value)

    def number(self, mask: Native) -> Native:
        return np.asarray(mask, dtype=np.float64)

    def where(self, condition: Native, a: Native, b: Native) -> Native:
        return np.where(condition != 0, a, b)

    def broadcast(self, x: Native, shape: tuple[int, ...]) -> Native:
        return np.broadcast_to(x, shape)

    def sum(self, x: Native, axis: int) -> Native:
        return np.sum(x, axis=axis)

    def logsumexp(self, x: Native, axis: int) -> Native:
        top = np.max(x, axis=axis)
        return top + np.log(np.sum(np.exp(x - np.expand_dims(top, axis)), axis=axis))

    def stack(self, arrays: Sequence[Native], axis: int) -> Native:
        return np.stack(arrays, axis=axis)

    def concat(self, arrays: Sequence[Native], axis: int) -> Native:
        return np.concatenate(arrays, axis=axis)


class TorchEngine(Engine):
    """Tensors of one dtype on one device."""

    name = "torch"

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        import torch

        self.torch = torch
        self.dtype = dtype
        self.device = device
        self.unary = {n: getattr(torch, n) for n in FUNCTIONS}

    def owns(self, x: object) -> bool:
        return isinstance(x, self.torch.Tensor)

    def asarray(self, x: Native) -> Native:
        return x if self.owns(x) else self.torch.as_tensor(x, dtype=self.dtype, device=self.device)

    def full(self, shape: tuple[int, ...], value: float) -> Native:
        return self.torch.full(shape, value, dtype=self.dtype, device=self.device)

    def number(self, mask: Native) -> Native:
        return mask.to(self.dtype)

    def where(self, condition: Native, a: Native, b: Native) -> Native:
        return self.torch.where(condition != 0, a, b)

    def broadcast(self, x: Native, shape: tuple[int, ...]) -> Native:
        return x.expand(shape)

    def sum(self, x: Native, axis: int) -> Native:
        return x.sum(axis)

    def logsumexp(self, x: Native, axis: int) -> Native:
        return self.torch.logsumexp(x, axis)

    def stack(self, arrays: Sequence[Native], axis: int) -> Native:
        return self.torch.stack(list(arrays), axis)

    def concat(self, arrays: Sequence[Native], axis: int) -> Native:
        return self.torch.cat(list(arrays), axis)


class CasadiEngine(Engine):
    """``casadi.ArrayInterface``, of which what the tests check is used, at rank <= 2."""

    name = "casadi"

    def __init__(self) -> None:
        import casadi

        self.casadi, self.array = casadi, casadi.ArrayInterface
        # the way from a casadi value to an array of a given rank; the stubs leave it out
        self.wrap = casadi.ArrayInterface._wrap  # type: ignore[attr-defined]
        names = {"abs": "fabs", "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
        self.unary = {n: self._per_entry(getattr(casadi, names.get(n, n))) for n in FUNCTIONS}

    def _per_entry(self, fn: Callable[[Native], Native]) -> Callable[[Native], Native]:
        return lambda x: self.make(fn(x.to_casadi()), x.shape)

    def make(self, value: Native, shape: tuple[int, ...]) -> Native:
        """An ArrayInterface of that logical shape from a casadi value (rank 1: a column)."""
        if len(shape) == 1:
            value = self.casadi.reshape(value, 1, shape[0])
        return self.wrap(value, len(shape))

    def owns(self, x: object) -> bool:
        return isinstance(x, self.array)

    def asarray(self, x: Native) -> Native:
        return x if self.owns(x) else self.array(x)

    def full(self, shape: tuple[int, ...], value: float) -> Native:
        return self.array(np.full(shape, value))

    def where(self, condition: Native, a: Native, b: Native) -> Native:
        if not a.shape:
            return self.make(
                self.casadi.if_else(condition.to_casadi(), a.to_casadi(), b.to_casadi()), ()
            )
        flat = [self.casadi.vec(v.to_casadi()) for v in (condition, a, b)]
        rows = [self.casadi.if_else(*(v[i] for v in flat)) for i in range(flat[0].numel())]
        size = a.to_casadi().shape
        return self.make(self.casadi.reshape(self.casadi.vertcat(*rows), *size), a.shape)

    def broadcast(self, x: Native, shape: tuple[int, ...]) -> Native:
        return x if x.shape == shape else x + self.full(shape, 0.0)

    def sum(self, x: Native, axis: int) -> Native:
        return x.sum(axis)

    def logsumexp(self, x: Native, axis: int) -> Native:
        ca, v = self.casadi, x.to_casadi()
        if x.ndim == 1 or axis == 0:
            columns = ca.horzsplit(v)
        else:
            columns = ca.horzsplit(v.T)
        values = []
        for column in columns:
            top = ca.mmax(column)
            values.append(top + ca.log(ca.sum1(ca.exp(column - top))))
        shape = () if x.ndim == 1 else (len(values),)
        return self.make(ca.vertcat(*values), shape)

    def stack(self, arrays: Sequence[Native], axis: int) -> Native:
        if arrays[0].ndim == 0:
            return self.make(self.casadi.vertcat(*(a.to_casadi() for a in arrays)), (len(arrays),))
        rows = self.casadi.vertcat(*(a.to_casadi().T for a in arrays))
        stacked = self.make(rows, (len(arrays), arrays[0].shape[0]))
        return stacked if axis == 0 else stacked.T

    def concat(self, arrays: Sequence[Native], axis: int) -> Native:
        values = [a.to_casadi() for a in arrays]
        if arrays[0].ndim == 1:
            return self.make(self.casadi.vertcat(*values), (sum(a.shape[0] for a in arrays),))
        joined = self.casadi.vertcat(*values) if axis == 0 else self.casadi.horzcat(*values)
        return self.make(joined, tuple(joined.shape))

    def reshape(self, x: Native, shape: tuple[int, ...]) -> Native:
        ca, v = self.casadi, x.to_casadi()
        flat = ca.vec(v.T) if x.ndim == 2 else ca.vec(v)  # row-major
        if len(shape) == 2:
            return self.make(ca.reshape(flat, shape[1], shape[0]).T, shape)
        return self.make(flat, shape)


def engine_of(x: object) -> Engine:
    """The engine that a native array belongs to; numbers belong to NumPy.

    Raises InputTypeError for anything that is neither.
    """
    if isinstance(x, (np.ndarray, np.generic, float, int)):
        _refuse_no_numbers(x)
        return numpy_engine()
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch_engine(x.dtype, x.device)
    casadi = sys.modules.get("casadi")
    if casadi is not None and isinstance(x, casadi.ArrayInterface):
        return casadi_engine()
    raise InputTypeError(
        f"namespace: got {type(x).__name__}; allowed: a formula's array, "
        "an ndarray, a torch tensor or a casadi.ArrayInterface"
    )


def _refuse_no_numbers(x: np.ndarray | np.generic | float | int) -> None:
    """Raise InputTypeError for an array of anything but real numbers, or with a mask."""
    if isinstance(x, float):
        return
    allowed = f"an array of at most {LARGEST} real numbers, or a number"
    refuse_hidden("namespace", x, allowed)
    if isinstance(x, (np.ndarray, np.generic)):
        if x.dtype.kind not in "fiub" or x.size > LARGEST:
            reject_type("namespace", x, allowed)
    elif not isinstance(x, bool):
        real("namespace", x)


@lru_cache(maxsize=1)
def numpy_engine() -> Engine:
    """The one engine of NumPy."""
    return NumpyEngine()


@lru_cache(maxsize=16)
def torch_engine(dtype: torch.dtype, device: torch.device) -> Engine:
    """The engine of tensors of one dtype on one device."""
    return TorchEngine(dtype, device)


@lru_cache(maxsize=1)
def casadi_engine() -> Engine:
    """The one engine of CasADi."""
    return CasadiEngine()
