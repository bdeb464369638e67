"""The array seam: a formula is written once and evaluated by NumPy, PyTorch and CasADi.

Inside a formula every argument is an :class:`Array`, a thin shell around a NumPy array, a PyTorch
tensor or a ``casadi.ArrayInterface``. It lets through the operations that mean the same on all
three and raises on every other, so that no backend can differ silently. Functions come from the
closed module :func:`dnlcontrol.namespace`. Everything has rank <= 2.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from typing import NoReturn

import numpy as np

from dnlcontrol.checks import InputError, InputTypeError, describe
from dnlcontrol.problem.engines import Engine, FormulaArray, Native, engine_of

COMPARISONS = ("lt", "le", "gt", "ge")
ATTRIBUTES = "shape, ndim, T, indexing by integers and slices, + - * / ** @, comparisons"


class Array:
    """One argument of a formula, of rank <= 2: a native array with few operations.

    Allowed are ``+ - * / ** @``, comparisons, indexing by integers and slices, iteration over the
    first axis, ``shape``, ``ndim`` and ``T``, with NumPy's rules of shapes. Any other operation
    raises an InputTypeError that names the alternative in :func:`dnlcontrol.namespace`.
    """

    __slots__ = ("_engine", "_seen", "_value")
    __array_ufunc__ = None  # NumPy's operators give way to ours, NumPy's functions raise
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        value: Native,
        engine: Engine,
        seen: Callable[[], None] | None = None,
    ) -> None:
        self._value = value
        self._engine = engine
        self._seen = seen

    def moved(self, engine: Engine) -> Array:
        """The same array for another engine of the same native arrays; reading is still noticed."""
        return Array(self._value, engine, self._seen)

    # -- shape -------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Integers, () for a number."""
        return tuple(int(n) for n in self._value.shape)

    @property
    def ndim(self) -> int:
        """The rank, 0 to 2."""
        return len(self.shape)

    @property
    def T(self) -> Array:
        """(m, n) -> (n, m); arrays of rank < 2 as they are."""
        return self if self.ndim < 2 else Array(self._engine.transpose(_raw(self)), self._engine)

    def __len__(self) -> int:
        if not self.shape:
            raise InputTypeError(
                "got a 0-d array; allowed: rank 1 or 2, where entries are counted or unpacked"
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return iter([self[i] for i in range(len(self))])

    def __getitem__(self, key: object) -> Array:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim:
            raise InputError(
                f"index {key!r}: got {len(keys)} indices for shape {self.shape}; allowed: at "
                f"most {self.ndim}"
            )
        keys = tuple(checked_index(k, n) for k, n in zip(keys, self.shape, strict=False))
        return Array(self._engine.getitem(_raw(self), keys), self._engine) if keys else self

    # -- arithmetic --------------------------------------------------------------------------------
    def _binary(self, other: FormulaArray, op: str, swap: bool = False) -> Array:
        right = operand(other, self._engine)
        if right is NotImplemented:
            return NotImplemented  # type: ignore[no-any-return]  # Python then asks the other side
        left = _raw(self)
        shapes = (self.shape, native_shape(right))
        if op == "matmul":
            check_matmul(*(reversed(shapes) if swap else shapes))
        else:
            broadcast_shape(*shapes)
        args = (right, left) if swap else (left, right)
        value = self._engine.binary[op](*args)
        if op in COMPARISONS:
            return Comparison(self._engine.number(value), self._engine)
        return Array(value, self._engine)

    def __add__(self, o: FormulaArray) -> Array:
        return self._binary(o, "add")

    def __radd__(self, o: FormulaArray) -> Array:
        return self._binary(o, "add", True)

    def __sub__(self, o: FormulaArray) -> Array:
        return self._binary(o, "sub")

    def __rsub__(self, o: FormulaArray) -> Array:
        return self._binary(o, "sub", True)

    def __mul__(self, o: FormulaArray) -> Array:
        return self._binary(o, "mul")

    def __rmul__(self, o: FormulaArray) -> Array:
        return self._binary(o, "mul", True)

    def __truediv__(self, o: FormulaArray) -> Array:
        return self._binary(o, "truediv")

    def __rtruediv__(self, o: FormulaArray) -> Array:
        return self._binary(o, "truediv", True)

    def __pow__(self, o: FormulaArray) -> Array:
        return self._binary(o, "pow")

    def __rpow__(self, o: FormulaArray) -> Array:
        return self._binary(o, "pow", True)

    def __matmul__(self, o: FormulaArray) -> Array:
        return self._binary(o, "matmul")

    def __rmatmul__(self, o: FormulaArray) -> Array:
        return self._binary(o, "matmul", True)

    def __lt__(self, o: FormulaArray) -> Array:
        return self._binary(o, "lt")

    def __le__(self, o: FormulaArray) -> Array:
        return self._binary(o, "le")

    def __gt__(self, o: FormulaArray) -> Array:
        return self._binary(o, "gt")

    def __ge__(self, o: FormulaArray) -> Array:
        return self._binary(o, "ge")

    def __neg__(self) -> Array:
        return Array(-_raw(self), self._engine)

    def __pos__(self) -> Array:
        return self

    def __abs__(self) -> Array:
        return Array(self._engine.unary["abs"](_raw(self)), self._engine)

    def __eq__(self, o: object) -> NoReturn:
        raise InputTypeError(
            "== between arrays is not in a formula's vocabulary; compare with < or >, select "
            "with where"
        )

    def __ne__(self, o: object) -> NoReturn:
        raise InputTypeError(
            "!= between arrays is not in a formula's vocabulary; compare with < or >, select "
            "with where"
        )

    # -- what a formula may not do -----------------------------------------------------------------
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

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise InputTypeError("a formula may not turn an array into an ndarray; use namespace(x)")

    def __setitem__(self, key: object, value: object) -> None:
        raise InputTypeError(
            "a formula may not assign into an array; build it with namespace(x).stack or concat"
        )

    def __array_function__(self, func: Callable[..., object], *args: object) -> NoReturn:
        raise InputTypeError(
            f"numpy.{func.__name__} is not in a formula's vocabulary; use namespace(x)"
        )

    @classmethod
    def __torch_function__(cls, func: Callable[..., object], *args: object) -> NoReturn:
        raise InputTypeError(
            f"torch.{getattr(func, '__name__', func)} is not in a formula's vocabulary; use "
            "namespace(x)"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # protocols that Python or NumPy asks for
            raise AttributeError(name)
        raise InputTypeError(
            f"array attribute {name!r} is not in a formula's vocabulary; allowed: {ATTRIBUTES}, "
            f"and the functions of namespace(x)"
        )

    def __repr__(self) -> str:
        return f"Array(shape={self.shape}, {self._engine.name})"


def unwrap(value: FormulaArray, engine: Engine) -> Native:
    """The native array behind a formula's result, of its shape; numbers become 0-d arrays.

    Raises InputTypeError where the result is neither an Array nor a number.
    """
    raw = operand(value, engine)
    if raw is NotImplemented:
        raise InputTypeError(
            f"a formula returned {type(value).__name__}; allowed: an array made from its "
            "arguments or a number (collect entries with namespace(x).stack)"
        )
    return engine.asarray(raw)


class Comparison(Array):
    """What a comparison gives: 0 and 1."""

    __slots__ = ()


def is_comparison(value: object) -> bool:
    """Whether a formula's result is True or False, or 0 and 1 as a comparison gives them."""
    return isinstance(value, (bool, np.bool_, Comparison))


def engine_behind(x: Array) -> Engine:
    """The engine that evaluates the formula which ``x`` is an argument of."""
    return x._engine


def _raw(x: Array) -> Native:
    if x._seen is not None:
        x._seen()
    return x._value


def operand(other: FormulaArray, engine: Engine) -> Native:
    """The native array behind an operand, a number as a float; NotImplemented for anything else.

    Raises InputTypeError for a bare native array, which would differ between engines.
    """
    if isinstance(other, Array):
        return _raw(other)
    if isinstance(other, numbers.Real) or (isinstance(other, np.ndarray) and other.ndim == 0):
        return float(other)
    if isinstance(other, (list, tuple)):
        return NotImplemented
    if isinstance(other, np.ndarray) or engine_name(other) != "":
        raise InputTypeError(
            f"a bare {type(other).__name__} of shape {tuple(other.shape)} in a formula; allowed: "
            "arrays made from its arguments; constants enter through namespace(x).asarray(A)"
        )
    return NotImplemented


def engine_name(x: object) -> str:
    """'numpy', 'torch' or 'casadi' for a native array, '' for anything else."""
    try:
        return engine_of(x).name
    except InputTypeError:
        return ""


# -- shapes and axes, settled once for all engines, by NumPy's rules -------------------------------
def native_shape(raw: Native) -> tuple[int, ...]:
    """The shape of a native array, integers; () for a number."""
    return tuple(int(n) for n in getattr(raw, "shape", ()))


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; InputError where the shapes do not broadcast together."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        seen = " and ".join(map(str, shapes))
        raise InputError(f"got shapes {seen}; allowed: shapes that broadcast together") from None


def check_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Raise InputError unless a @ b exists for arrays of these shapes."""
    if not a or not b or a[-1] != b[0]:
        raise InputError(
            f"matmul: got shapes {a} and {b}; allowed: ranks 1 or 2 with a common inner dimension"
        )


def checked_axis(axis: object, rank: int, name: str) -> int:
    """An axis counted from 0; InputError for one that an array of this rank lacks."""
    if (
        isinstance(axis, bool)
        or not isinstance(axis, (int, np.integer))
        or not -rank <= axis < rank
    ):
        raise InputError(
            f"namespace.{name}: got axis {describe(axis)}; allowed: an integer from {-rank} to "
            f"{rank - 1}"
        )
    return int(axis) % rank


def checked_index(key: object, size: int) -> int | slice:
    """An index or slice counted from 0, for an axis of this size.

    Raises IndexError beyond the axis (which ends iteration), InputError for a backward slice,
    InputTypeError for any other key.
    """
    if isinstance(key, slice):
        if key.step is not None and key.step < 1:
            raise InputError(f"index {key}: got step {key.step}; allowed: steps >= 1")
        return slice(*key.indices(size))
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -size <= key < size:
            raise IndexError(f"index {key} is out of range for an axis of size {size}")
        return int(key) % size
    raise InputTypeError(f"index {key!r}: allowed in a formula: integers and slices")
