"""The array seam: a formula is written once and evaluated by NumPy, PyTorch and CasADi.

Inside a formula every argument is an :class:`Array`, a thin shell around a NumPy array, a PyTorch
tensor or a ``casadi.ArrayInterface``. It lets through the operations that mean the same on all
three and raises on every other, so that no backend can differ silently. Functions come from the
closed module :func:`namespace`. Everything has rank <= 2.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, reduce
from typing import Any, NoReturn

import numpy as np

from dnlcontrol.checks import InputError, InputTypeError, array_of
from dnlcontrol.problem.engines import FUNCTIONS, Engine, engine_of

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
COMPARISONS = ("lt", "le", "gt", "ge")
ATTRIBUTES = "shape, ndim, T, indexing by integers and slices, + - * / ** @, comparisons"


class Array:
    """One argument of a formula: ``+ - * / ** @``, comparisons, indexing, iteration, ``shape``,
    ``ndim``, ``T``.

    Any other operation raises an error that names the alternative in :func:`namespace`.
    """

    __slots__ = ("_engine", "_seen", "_value")
    __array_ufunc__ = None  # NumPy's operators give way to ours, NumPy's functions raise
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any, engine: Engine, seen: Callable[[], None] | None = None) -> None:
        self._value = value
        self._engine = engine
        self._seen = seen

    # -- shape
    # ----------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self._value.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def T(self) -> Array:
        return self if self.ndim < 2 else Array(self._engine.transpose(_raw(self)), self._engine)

    def __len__(self) -> int:
        if not self.shape:
            raise InputTypeError(
                "got a 0-d array; allowed: rank 1 or 2, where entries are counted or unpacked"
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return iter([self[i] for i in range(len(self))])

    def __getitem__(self, key: Any) -> Array:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim:
            raise InputError(
                f"index {key!r}: got {len(keys)} indices for shape {self.shape}; allowed: at "
                f"most {self.ndim}"
            )
        keys = tuple(_check_index(k, n) for k, n in zip(keys, self.shape, strict=False))
        return Array(self._engine.getitem(_raw(self), keys), self._engine) if keys else self

    # -- arithmetic
    # -----------------------------------------------------------------------------------
    def _binary(self, other: Any, op: str, swap: bool = False) -> Array:
        right = _operand(other, self._engine)
        if right is NotImplemented:
            return NotImplemented
        left, right = _raw(self), right
        shapes = (self.shape, _shape(right))
        if op == "matmul":
            _check_matmul(*(reversed(shapes) if swap else shapes))
        else:
            _broadcast(*shapes)
        args = (right, left) if swap else (left, right)
        value = self._engine.binary[op](*args)
        return Array(self._engine.number(value) if op in COMPARISONS else value, self._engine)

    def __add__(self, o: Any) -> Array:
        return self._binary(o, "add")

    def __radd__(self, o: Any) -> Array:
        return self._binary(o, "add", True)

    def __sub__(self, o: Any) -> Array:
        return self._binary(o, "sub")

    def __rsub__(self, o: Any) -> Array:
        return self._binary(o, "sub", True)

    def __mul__(self, o: Any) -> Array:
        return self._binary(o, "mul")

    def __rmul__(self, o: Any) -> Array:
        return self._binary(o, "mul", True)

    def __truediv__(self, o: Any) -> Array:
        return self._binary(o, "truediv")

    def __rtruediv__(self, o: Any) -> Array:
        return self._binary(o, "truediv", True)

    def __pow__(self, o: Any) -> Array:
        return self._binary(o, "pow")

    def __rpow__(self, o: Any) -> Array:
        return self._binary(o, "pow", True)

    def __matmul__(self, o: Any) -> Array:
        return self._binary(o, "matmul")

    def __rmatmul__(self, o: Any) -> Array:
        return self._binary(o, "matmul", True)

    def __lt__(self, o: Any) -> Array:
        return self._binary(o, "lt")

    def __le__(self, o: Any) -> Array:
        return self._binary(o, "le")

    def __gt__(self, o: Any) -> Array:
        return self._binary(o, "gt")

    def __ge__(self, o: Any) -> Array:
        return self._binary(o, "ge")

    def __neg__(self) -> Array:
        return Array(-_raw(self), self._engine)

    def __pos__(self) -> Array:
        return self

    def __abs__(self) -> Array:
        return Array(self._engine.unary["abs"](_raw(self)), self._engine)

    def __eq__(self, o: object) -> Any:
        raise InputTypeError(
            "== between arrays is not in a formula's vocabulary; compare with < or >, select "
            "with where"
        )

    def __ne__(self, o: object) -> Any:
        raise InputTypeError(
            "!= between arrays is not in a formula's vocabulary; compare with < or >, select "
            "with where"
        )

    # -- what a formula may not do
    # ----------------------------------------------------------------------
    def __bool__(self) -> bool:
        raise InputTypeError(
            "a formula may not branch on an array's value (if, and, or, not); use "
            "namespace(x).where"
        )

    def _number(self) -> NoReturn:
        raise InputTypeError(
            "a formula may not turn an array into a number (float, int, math.*); use namespace(x)"
        )

    __float__ = __int__ = __index__ = __complex__ = _number

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InputTypeError("a formula may not turn an array into an ndarray; use namespace(x)")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise InputTypeError(
            "a formula may not assign into an array; build it with namespace(x).stack or concat"
        )

    def __array_function__(self, func: Any, *args: Any) -> NoReturn:
        raise InputTypeError(
            f"numpy.{func.__name__} is not in a formula's vocabulary; use namespace(x)"
        )

    @classmethod
    def __torch_function__(cls, func: Any, *args: Any) -> NoReturn:
        raise InputTypeError(
            f"torch.{getattr(func, '__name__', func)} is not in a formula's vocabulary; use "
            "namespace(x)"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that Python or NumPy asks for
            raise AttributeError(name)
        raise InputTypeError(
            f"array attribute {name!r} is not in a formula's vocabulary; allowed: {ATTRIBUTES}, "
            f"and the functions of namespace(x)"
        )

    def __repr__(self) -> str:
        return f"Array(shape={self.shape}, {self._engine.name})"


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
    """

    def __init__(self, engine: Engine, shelled: bool) -> None:
        self._engine = engine
        self._shelled = shelled

    def __getattr__(self, name: str) -> Any:
        if name in FUNCTIONS:
            fn = self._engine.unary[name]
            return lambda x: self._wrap(fn(self._take(x, name)))
        raise UnknownName(f"namespace: got {name!r}; allowed: {', '.join(VOCABULARY)}")

    def __dir__(self) -> list[str]:
        return sorted(VOCABULARY)

    def _wrap(self, value: Any) -> Any:
        return Array(value, self._engine) if self._shelled else value

    def _take(self, x: Any, name: str) -> Any:
        raw = _operand(x, self._engine) if self._shelled else self._engine.asarray(x)
        if raw is NotImplemented:
            raise InputTypeError(
                f"namespace.{name}: got {type(x).__name__}; allowed: a formula's array or a "
                "number; "
                f"array constants enter through namespace(x).asarray"
            )
        return self._engine.asarray(raw)

    def asarray(self, constant: Any) -> Any:
        """A constant (nested list, ndarray, number) as an array of this backend; arrays pass
        through.
        """
        if isinstance(constant, Array):
            return constant
        if self._engine.owns(constant) and not (self._shelled and isinstance(constant, np.ndarray)):
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

    def zeros_like(self, x: Any) -> Any:
        return self._wrap(self._engine.full(_shape(self._take(x, "zeros_like")), 0.0))

    def ones_like(self, x: Any) -> Any:
        return self._wrap(self._engine.full(_shape(self._take(x, "ones_like")), 1.0))

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        raw = [self._take(v, "where") for v in (condition, a, b)]
        shape = _broadcast(*(_shape(v) for v in raw))
        return self._wrap(self._engine.where(*(self._engine.broadcast(v, shape) for v in raw)))

    def maximum(self, a: Any, b: Any) -> Any:
        a, b = self._pair(a, b, "maximum")
        return self.where(self._wrap(self._engine.binary["gt"](a, b)), self._wrap(a), self._wrap(b))

    def minimum(self, a: Any, b: Any) -> Any:
        a, b = self._pair(a, b, "minimum")
        return self.where(self._wrap(self._engine.binary["lt"](a, b)), self._wrap(a), self._wrap(b))

    def _pair(self, a: Any, b: Any, name: str) -> tuple[Any, Any]:
        a, b = self._take(a, name), self._take(b, name)
        shape = _broadcast(_shape(a), _shape(b))
        return self._engine.broadcast(a, shape), self._engine.broadcast(b, shape)

    def matmul(self, a: Any, b: Any) -> Any:
        a, b = self._take(a, "matmul"), self._take(b, "matmul")
        if self._shelled:
            _check_matmul(_shape(a), _shape(b))
        return self._wrap(self._engine.binary["matmul"](a, b))

    def reshape(self, x: Any, shape: int | Sequence[int]) -> Any:
        raw = self._take(x, "reshape")
        wanted = (shape,) if isinstance(shape, int) else tuple(shape)
        size = int(np.prod(_shape(raw), dtype=int))
        try:
            full = np.empty(size).reshape(wanted).shape
        except (ValueError, TypeError):
            raise InputError(
                f"namespace.reshape: got shape {wanted} for {size} entries; allowed: shapes of "
                "the same size"
            ) from None
        if len(full) > 2 and self._shelled:
            raise InputError(f"namespace.reshape: got rank {len(full)}; allowed: rank <= 2")
        return self._wrap(self._engine.reshape(raw, full))

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        raw = self._list(arrays, "stack")
        if len({_shape(v) for v in raw}) != 1 or len(_shape(raw[0])) > 1:
            raise InputError(
                f"namespace.stack: got shapes {[_shape(v) for v in raw]}; allowed: equal shapes "
                "of rank <= 1"
            )
        return self._wrap(self._engine.stack(raw, _axis(axis, len(_shape(raw[0])) + 1, "stack")))

    def concat(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        raw = self._list(arrays, "concat")
        shapes = [_shape(v) for v in raw]
        rank = len(shapes[0])
        if rank not in (1, 2) or any(len(s) != rank for s in shapes):
            raise InputError(f"namespace.concat: got shapes {shapes}; allowed: equal ranks 1 or 2")
        axis = _axis(axis, rank, "concat")
        if len({s[:axis] + s[axis + 1 :] for s in shapes}) != 1:
            raise InputError(
                f"namespace.concat: got shapes {shapes}; allowed: shapes that differ only along "
                f"axis {axis}"
            )
        return self._wrap(self._engine.concat(raw, axis))

    def _list(self, arrays: Any, name: str) -> list[Any]:
        if isinstance(arrays, Array) or not isinstance(arrays, (list, tuple)) or not arrays:
            raise InputTypeError(
                f"namespace.{name}: got {type(arrays).__name__}; allowed: a non-empty list of "
                "arrays"
            )
        return [self._take(v, name) for v in arrays]

    # -- reductions: axis=None reduces all, an integer drops that axis
    # ----------------------------------
    def sum(self, x: Any, axis: int | None = None) -> Any:
        return self._reduce(x, axis, "sum", self._engine.sum)

    def mean(self, x: Any, axis: int | None = None) -> Any:
        raw = self._take(x, "mean")
        shape = _shape(raw)
        count = (
            int(np.prod(shape, dtype=int))
            if axis is None
            else shape[_axis(axis, len(shape), "mean")]
        )
        return self._reduce(x, axis, "mean", lambda v, a: self._engine.sum(v, a) / count)

    def max(self, x: Any, axis: int | None = None) -> Any:
        return self._reduce(x, axis, "max", lambda v, a: self._fold(v, a, "gt"))

    def min(self, x: Any, axis: int | None = None) -> Any:
        return self._reduce(x, axis, "min", lambda v, a: self._fold(v, a, "lt"))

    def logsumexp(self, x: Any, axis: int | None = None) -> Any:
        return self._reduce(x, axis, "logsumexp", self._engine.logsumexp)

    def softmax(self, x: Any, axis: int = -1) -> Any:
        raw = self._take(x, "softmax")
        axis = _axis(axis, len(_shape(raw)), "softmax")
        shape = _shape(raw)
        kept = (*shape[:axis], 1, *shape[axis + 1 :])
        norm = self._engine.reshape(self._engine.logsumexp(raw, axis), kept)
        return self._wrap(self._engine.unary["exp"](raw - self._engine.broadcast(norm, shape)))

    def _reduce(self, x: Any, axis: int | None, name: str, fn: Callable[[Any, int], Any]) -> Any:
        raw = self._take(x, name)
        shape = _shape(raw)
        if not shape:
            if axis is not None:
                raise InputError(
                    f"namespace.{name}: got axis {axis} for a 0-d array; allowed: None"
                )
            shape = (1,)
            raw = self._engine.reshape(raw, shape)
        if axis is None:
            raw, axis = self._engine.reshape(raw, (int(np.prod(shape, dtype=int)),)), 0
        return self._wrap(fn(raw, _axis(axis, len(_shape(raw)), name)))

    def _fold(self, raw: Any, axis: int, op: str) -> Any:
        before = (slice(None),) * axis
        slices = [self._engine.getitem(raw, (*before, i)) for i in range(_shape(raw)[axis])]
        return reduce(lambda a, b: self._engine.where(self._engine.binary[op](a, b), a, b), slices)


def namespace(x: Any) -> Namespace:
    """The functions that a formula may use, for the backend that ``x`` belongs to.

    >>> import numpy as np, dnlcontrol as dnl
    >>> xp = dnl.namespace(np.zeros(2))
    >>> float(xp.sum(xp.exp(np.zeros(2))))
    2.0
    """
    if isinstance(x, Array):
        return _namespace(x._engine, True)
    return _namespace(engine_of(x), False)


@lru_cache(maxsize=64)
def _namespace(engine: Engine, shelled: bool) -> Namespace:
    return Namespace(engine, shelled)


def unwrap(value: Any, engine: Engine) -> Any:
    """The backend's own array behind a formula's result; numbers become 0-d arrays."""
    raw = _operand(value, engine)
    if raw is NotImplemented:
        raise InputTypeError(
            f"a formula returned {type(value).__name__}; allowed: an array made from its "
            "arguments or a number "
            "(collect entries with namespace(x).stack)"
        )
    return engine.asarray(raw)


def _raw(x: Array) -> Any:
    if x._seen is not None:
        x._seen()
    return x._value


def _operand(other: Any, engine: Engine) -> Any:
    if isinstance(other, Array):
        return _raw(other)
    if isinstance(other, numbers.Real) or (isinstance(other, np.ndarray) and other.ndim == 0):
        return float(other)
    if isinstance(other, (list, tuple)):
        return NotImplemented
    if isinstance(other, np.ndarray) or engine_name(other) != "":
        raise InputTypeError(
            f"a bare {type(other).__name__} of shape {tuple(other.shape)} in a formula; allowed: "
            "arrays made from its "
            "arguments; constants enter through namespace(x).asarray(A)"
        )
    return NotImplemented


def engine_name(x: Any) -> str:
    """'numpy', 'torch' or 'casadi' for a native array, '' for anything else."""
    try:
        return engine_of(x).name
    except InputTypeError:
        return ""


def _shape(raw: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in getattr(raw, "shape", ()))


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        seen = " and ".join(map(str, shapes))
        raise InputError(f"got shapes {seen}; allowed: shapes that broadcast together") from None


def _check_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if not a or not b or a[-1] != b[0]:
        raise InputError(
            f"matmul: got shapes {a} and {b}; allowed: ranks 1 or 2 with a common inner dimension"
        )


def _axis(axis: Any, rank: int, name: str) -> int:
    if (
        isinstance(axis, bool)
        or not isinstance(axis, (int, np.integer))
        or not -rank <= axis < rank
    ):
        raise InputError(
            f"namespace.{name}: got axis {axis!r}; allowed: an integer from {-rank} to {rank - 1}"
        )
    return int(axis) % rank


def _check_index(key: Any, size: int) -> Any:
    if isinstance(key, slice):
        if key.step is not None and key.step < 1:
            raise InputError(f"index {key}: got step {key.step}; allowed: steps >= 1")
        return slice(*key.indices(size))
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -size <= key < size:
            raise IndexError(f"index {key} is out of range for an axis of size {size}")
        return int(key) % size
    raise InputTypeError(f"index {key!r}: allowed in a formula: integers and slices")
