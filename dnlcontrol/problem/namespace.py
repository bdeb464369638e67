"""The closed module of functions that a formula may use, with array-API names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce

import numpy as np

from dnlcontrol.checks import InputError, InputTypeError, array_of, listed, whole
from dnlcontrol.problem.array import (
    Array,
    broadcast_shape,
    check_matmul,
    checked_axis,
    engine_behind,
    native_shape,
    operand,
)
from dnlcontrol.problem.engines import (
    FUNCTIONS,
    Activation,
    Engine,
    FormulaArray,
    Native,
    engine_of,
)

VOCABULARY = (
    *FUNCTIONS,
    "where",
    "maximum",
    "minimum",
    "sum",
    "mean",
    "max",
    "min",
    "stack",
    "concat",
    "reshape",
    "matmul",
    "asarray",
    "zeros_like",
    "ones_like",
    "logsumexp",
    "softmax",
)


class UnknownName(InputError, AttributeError):
    """A name outside the vocabulary; an AttributeError, so that ``hasattr`` answers False."""


class Namespace:
    """The closed module of functions that a formula may use, with array-API names.

    ``exp log log1p expm1 sqrt sin cos tan arcsin arccos arctan sinh cosh tanh abs sign`` act per
    entry; ``where(c, a, b)``, ``maximum(a, b)`` (= where(a > b, a, b)), ``minimum``;
    ``sum mean max min logsumexp softmax`` take ``axis=None`` or an integer (``softmax``: default
    -1) and drop it; ``stack(list, axis=0)``, ``concat(list, axis=0)``, ``reshape(x, shape)``
    (row-major), ``matmul``, ``asarray(A)`` for constants, ``zeros_like``, ``ones_like``. At ties
    ``maximum``, ``minimum``, ``max`` and ``min`` take the derivative of the later argument, on
    every backend.

    Raises
    ------
    UnknownName for a name that is none of these; InputTypeError for an argument that is no array of
    the formula and no number; InputError for shapes or axes that do not fit.
    """

    def __init__(self, engine: Engine, shelled: bool) -> None:
        self._engine = engine
        self._shelled = shelled

    def __getattr__(self, name: str) -> Activation:
        if name in FUNCTIONS:
            fn = self._engine.unary[name]
            return lambda x: self._wrap(fn(self._take(x, name)))
        raise UnknownName(f"namespace: got {name!r}; allowed: {', '.join(VOCABULARY)}")

    def __dir__(self) -> list[str]:
        return sorted(VOCABULARY)

    def _wrap(self, value: Native) -> FormulaArray:
        return Array(value, self._engine) if self._shelled else value

    def _take(self, x: FormulaArray, name: str) -> Native:
        if not self._shelled:
            return self._bare(x, name)
        raw = operand(x, self._engine)
        if raw is NotImplemented:
            raise InputTypeError(
                f"namespace.{name}: got {type(x).__name__}; allowed: a formula's array "
                "or a number; array constants enter through namespace(x).asarray"
            )
        return self._engine.asarray(raw)

    def _bare(self, x: FormulaArray, name: str) -> Native:
        """A native array as it is; else a number, or numbers, as one."""
        if isinstance(x, float):
            return self._engine.asarray(x)
        if self._engine.owns(x):
            engine_of(x)  # refuses an array of anything but numbers
            truth = isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "b"
            return x.astype(float) if truth else x
        return self._engine.asarray(array_of(f"namespace.{name}", x))

    def asarray(self, constant: FormulaArray) -> FormulaArray:
        """A constant (list, ndarray, number) of rank <= 2 as an array; arrays pass through."""
        if isinstance(constant, Array):
            return constant
        if self._engine.owns(constant) and not (self._shelled and isinstance(constant, np.ndarray)):
            engine_of(constant)
            return self._wrap(constant)
        try:
            array = array_of("namespace.asarray", constant)
        except InputError:
            raise InputTypeError(
                f"namespace.asarray: got {type(constant).__name__}; allowed: numbers, a list or an "
                "ndarray of numbers (combine formula arrays with stack)"
            ) from None
        if array.ndim > 2 and self._shelled:
            raise InputError(f"namespace.asarray: got rank {array.ndim}; allowed: rank <= 2")
        return self._wrap(self._engine.asarray(array))

    def zeros_like(self, x: FormulaArray) -> FormulaArray:
        """Zeros in the shape of x."""
        return self._wrap(self._engine.full(native_shape(self._take(x, "zeros_like")), 0.0))

    def ones_like(self, x: FormulaArray) -> FormulaArray:
        """Ones in the shape of x."""
        return self._wrap(self._engine.full(native_shape(self._take(x, "ones_like")), 1.0))

    def where(self, condition: FormulaArray, a: FormulaArray, b: FormulaArray) -> FormulaArray:
        """a where the condition is not 0, else b; all three broadcast together."""
        raw = [self._take(v, "where") for v in (condition, a, b)]
        shape = broadcast_shape(*(native_shape(v) for v in raw))
        return self._wrap(self._engine.where(*(self._engine.broadcast(v, shape) for v in raw)))

    def maximum(self, a: FormulaArray, b: FormulaArray) -> FormulaArray:
        """where(a > b, a, b); a and b broadcast together."""
        return self._wrap(self._engine.maximum(*self._pair(a, b, "maximum")))

    def minimum(self, a: FormulaArray, b: FormulaArray) -> FormulaArray:
        """where(a < b, a, b); a and b broadcast together."""
        return self._wrap(self._engine.minimum(*self._pair(a, b, "minimum")))

    def _pair(self, a: FormulaArray, b: FormulaArray, name: str) -> tuple[Native, Native]:
        a, b = self._take(a, name), self._take(b, name)
        shape = broadcast_shape(native_shape(a), native_shape(b))
        return self._engine.broadcast(a, shape), self._engine.broadcast(b, shape)

    def matmul(self, a: FormulaArray, b: FormulaArray) -> FormulaArray:
        """a @ b: ranks 1 or 2 with a common inner dimension."""
        a, b = self._take(a, "matmul"), self._take(b, "matmul")
        if self._shelled:
            check_matmul(native_shape(a), native_shape(b))
        try:
            return self._wrap(self._engine.binary["matmul"](a, b))
        except (ValueError, RuntimeError):  # batches, whose shapes only the engine judges
            shapes = f"{native_shape(a)} and {native_shape(b)}"
            raise InputError(
                f"namespace.matmul: got shapes {shapes}; allowed: a common inner dimension"
            ) from None

    def reshape(self, x: FormulaArray, shape: int | Sequence[int]) -> FormulaArray:
        """The entries of x, row-major, in another shape; one -1 stands for what is left."""
        raw = self._take(x, "reshape")
        what = "an integer, or a list of them"
        given = (shape,) if isinstance(shape, int) else listed("namespace.reshape", shape, what)
        wanted = tuple(whole("namespace.reshape", n, -1) for n in given)
        size = int(np.prod(native_shape(raw), dtype=int))
        try:
            full = np.broadcast_to(0.0, size).reshape(wanted).shape
        except (ValueError, TypeError, OverflowError):
            raise InputError(
                f"namespace.reshape: got shape {wanted} for {size} entries; allowed: shapes of "
                "the same size"
            ) from None
        if len(full) > 2 and self._shelled:
            raise InputError(f"namespace.reshape: got rank {len(full)}; allowed: rank <= 2")
        return self._wrap(self._engine.reshape(raw, full))

    def stack(self, arrays: Sequence[FormulaArray], axis: int = 0) -> FormulaArray:
        """Arrays of one shape, rank <= 1, along a new axis."""
        raw = self._list(arrays, "stack")
        if len({native_shape(v) for v in raw}) != 1 or len(native_shape(raw[0])) > 1:
            raise InputError(
                f"namespace.stack: got shapes {[native_shape(v) for v in raw]}; allowed: equal "
                "shapes of rank <= 1"
            )
        return self._wrap(
            self._engine.stack(raw, checked_axis(axis, len(native_shape(raw[0])) + 1, "stack"))
        )

    def concat(self, arrays: Sequence[FormulaArray], axis: int = 0) -> FormulaArray:
        """Arrays of one rank, 1 or 2, along an axis that they have."""
        raw = self._list(arrays, "concat")
        shapes = [native_shape(v) for v in raw]
        rank = len(shapes[0])
        if rank not in (1, 2) or any(len(s) != rank for s in shapes):
            raise InputError(f"namespace.concat: got shapes {shapes}; allowed: equal ranks 1 or 2")
        axis = checked_axis(axis, rank, "concat")
        if len({s[:axis] + s[axis + 1 :] for s in shapes}) != 1:
            raise InputError(
                f"namespace.concat: got shapes {shapes}; allowed: shapes that differ only along "
                f"axis {axis}"
            )
        return self._wrap(self._engine.concat(raw, axis))

    def _list(self, arrays: object, name: str) -> list[Native]:
        if isinstance(arrays, Array) or not isinstance(arrays, (list, tuple)) or not arrays:
            raise InputTypeError(
                f"namespace.{name}: got {type(arrays).__name__}; allowed: a non-empty list of "
                "arrays"
            )
        return [self._take(v, name) for v in arrays]

    # -- reductions: axis=None reduces all, an integer drops that axis -----------------------------
    def sum(self, x: FormulaArray, axis: int | None = None) -> FormulaArray:
        """Σ x over ``axis``, or over all entries."""
        return self._reduce(x, axis, "sum", self._engine.sum)

    def mean(self, x: FormulaArray, axis: int | None = None) -> FormulaArray:
        """The mean over ``axis``, or over all entries."""
        raw = self._take(x, "mean")
        shape = native_shape(raw)
        count = (
            int(np.prod(shape, dtype=int))
            if axis is None
            else shape[checked_axis(axis, len(shape), "mean")]
        )
        return self._reduce(x, axis, "mean", lambda v, a: self._engine.sum(v, a) / count)

    def max(self, x: FormulaArray, axis: int | None = None) -> FormulaArray:
        """The largest entry along ``axis``, or of all."""
        return self._reduce(x, axis, "max", lambda v, a: self._fold(v, a, self._engine.maximum))

    def min(self, x: FormulaArray, axis: int | None = None) -> FormulaArray:
        """The smallest entry along ``axis``, or of all."""
        return self._reduce(x, axis, "min", lambda v, a: self._fold(v, a, self._engine.minimum))

    def logsumexp(self, x: FormulaArray, axis: int | None = None) -> FormulaArray:
        """log Σ e^x over ``axis``, or over all entries, without overflow."""
        return self._reduce(x, axis, "logsumexp", self._engine.logsumexp)

    def softmax(self, x: FormulaArray, axis: int = -1) -> FormulaArray:
        """e^x / Σ e^x along ``axis``, in the shape of x."""
        raw = self._take(x, "softmax")
        axis = checked_axis(axis, len(native_shape(raw)), "softmax")
        shape = _not_empty(native_shape(raw), "softmax")
        kept = (*shape[:axis], 1, *shape[axis + 1 :])
        norm = self._engine.reshape(self._engine.logsumexp(raw, axis), kept)
        return self._wrap(self._engine.unary["exp"](raw - self._engine.broadcast(norm, shape)))

    def _reduce(
        self, x: FormulaArray, axis: int | None, name: str, fn: Callable[[Native, int], Native]
    ) -> FormulaArray:
        raw = self._take(x, name)
        shape = native_shape(raw)
        if not shape:
            if axis is not None:
                raise InputError(
                    f"namespace.{name}: got axis {axis} for a 0-d array; allowed: None"
                )
            shape = (1,)
            raw = self._engine.reshape(raw, shape)
        if axis is None:
            raw, axis = self._engine.reshape(raw, (int(np.prod(shape, dtype=int)),)), 0
        axis = checked_axis(axis, len(native_shape(raw)), name)
        _not_empty(native_shape(raw), name)
        return self._wrap(fn(raw, axis))

    def _fold(self, raw: Native, axis: int, larger: Callable[..., Native]) -> Native:
        before = (slice(None),) * axis
        slices = [self._engine.getitem(raw, (*before, i)) for i in range(native_shape(raw)[axis])]
        return reduce(larger, slices)


def _not_empty(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    if 0 in shape:
        raise InputError(f"namespace.{name}: got an empty array; allowed: at least one entry")
    return shape


def namespace(x: FormulaArray) -> Namespace:
    """The functions that a formula may use, for the backend that ``x`` (any shape) belongs to.

    >>> import numpy as np, dnlcontrol as dnl
    >>> xp = dnl.namespace(np.zeros(2))
    >>> float(xp.sum(xp.exp(np.zeros(2))))
    2.0
    """
    if isinstance(x, Array):
        return _namespace(engine_behind(x), True)
    return _namespace(engine_of(x), False)


@lru_cache(maxsize=64)
def _namespace(engine: Engine, shelled: bool) -> Namespace:
    return Namespace(engine, shelled)
