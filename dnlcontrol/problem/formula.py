"""A formula: one function of one sample at one node, evaluated on any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np

from dnlcontrol.checks import InputError, InputTypeError
from dnlcontrol.problem.array import Array, is_comparison, unwrap
from dnlcontrol.problem.engines import Engine, Native, UserFormula, numpy_engine
from dnlcontrol.problem.kinks.switches import Recorder, SwitchEngine

COSTS = ("running", "terminal")  # formulas whose value is minimised

Shape = tuple[int, ...]
Shapes = Mapping[str, "Shape | Mapping[str, Shape]"]


class Values:
    """The controls and constants that a formula sees at its node: ``u.W`` or ``u["W"]``."""

    __slots__ = ("_entries", "_formula", "_seen")

    def __init__(
        self, entries: Mapping[str, Array], formula: str, seen: Callable[[str], None] | None = None
    ) -> None:
        self._entries = entries
        self._formula = formula
        self._seen = seen

    def __getattr__(self, name: str) -> Array:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Array:
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            raise InputError(
                f"{self._formula}: got unknown control {name!r}; allowed here: {known}"
            )
        if self._seen is not None:
            self._seen(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)


class Switch(NamedTuple):
    """One kink operation of a formula; see problem/kinks/switches.py."""

    kind: str
    size: int
    moves: bool


@dataclass(frozen=True)
class Formula:
    """``function(*arguments) -> array of shape`` with the arguments' names and shapes declared.

    ``shapes`` maps each argument, in order, to its shape, or for ``u`` and ``c`` to the shapes of
    the controls that the formula may read. ``reads`` are the names (arguments and controls) that it
    does read. ``switches`` are its kinks in the order of evaluation: the kind, the number of
    entries, and whether the argument moves with anything but the times.
    """

    name: str
    function: UserFormula
    shapes: Shapes
    shape: Shape
    reads: frozenset[str]
    switches: tuple[Switch, ...] = ()

    @property
    def kinks(self) -> frozenset[str]:
        """The kinds of switches at which the derivative may jump: abs, maximum, minimum, where."""
        return frozenset(s.kind for s in self.switches if s.moves)

    def __call__(self, engine: Engine, *values: Native) -> Native:
        """The value, of ``shape``, on native arrays of one engine; mappings go with u and c.

        Raises InputError, with the formula's name, where the function fails or changes its shape.
        """
        try:
            result = unwrap(self.function(*(self._shell(engine, v) for v in values)), engine)
        except Exception as error:
            _tell(self.name, error, engine)
        shape = tuple(int(n) for n in result.shape)
        if shape != self.shape:
            raise InputError(
                f"{self.name}: got a result of shape {shape} on {engine.name}; allowed: shape "
                f"{self.shape}"
            )
        return result

    def _shell(self, engine: Engine, value: Native) -> Array | Values:
        if isinstance(value, Mapping):
            return Values({k: Array(v, engine) for k, v in value.items()}, self.name)
        return Array(engine.asarray(value), engine)

    def visible(self, **values: Native) -> tuple[Native, ...]:
        """The values of this formula's arguments, in order; of controls those that it reads."""
        return tuple(
            self.only(values[k]) if isinstance(s, Mapping) else values[k]
            for k, s in self.shapes.items()
        )

    def only(self, entries: Mapping[str, Native]) -> dict[str, Native]:
        """The entries whose control this formula reads."""
        return {k: v for k, v in entries.items() if k in self.reads}

    def random_point(self, rng: np.random.Generator, horizon: float) -> tuple[Native, ...]:
        """Seeded arguments: times 0 <= s < t <= horizon, everything else normal."""
        s, t = np.sort(rng.uniform(0.05 * horizon, 0.95 * horizon, 2))
        times = {"t": t, "s": s}

        def draw(name: str, shape: Shape | Mapping[str, Shape]) -> Native:
            if isinstance(shape, Mapping):
                return {k: np.asarray(0.5 * rng.standard_normal(v)) for k, v in shape.items()}
            return np.asarray(times.get(name, 0.5 * rng.standard_normal(shape)))

        return tuple(draw(k, v) for k, v in self.shapes.items())


def trace(
    name: str,
    function: UserFormula,
    shapes: Shapes,
    shape: Shape | None,
    horizon: float = 1.0,
    fixed: Mapping[str, np.ndarray] | None = None,
) -> Formula:
    """A user's function, run at two seeded points with NumPy: its shape, and what it reads.

    ``shape=None`` accepts any shape of rank <= 2. ``fixed`` replaces the random value of an
    argument (targets). Raises InputError where the function fails or returns another shape.
    """
    reads: set[str] = set()
    draft = Formula(name, function, shapes, shape or (), frozenset())
    rng = np.random.default_rng(20)
    records: list[Recorder] = []
    point: dict[str, Native] = {}
    for k in range(3):  # the third point has the times of the second
        times: dict[str, Native] = {
            key: point[key] for key in ("t", "s") if key in point and k == 2
        }
        point = {**dict(zip(shapes, draft.random_point(rng, horizon), strict=True)), **times}
        records.append(Recorder())
        engine = SwitchEngine(numpy_engine(), records[-1])
        values = _arguments(name, engine, {**point, **_known(fixed, point)}, reads)
        try:
            with np.errstate(all="ignore"):
                made = function(*values)
                result = unwrap(made, engine)
        except Exception as error:
            _tell(name, error, engine)
        if name in COSTS and is_comparison(made):
            raise InputError(
                f"{name}: got a comparison, which is 0 or 1 and has no slope; allowed: a number, "
                "such as a penalty that grows with the violation"
            )
        shape = _same_shape(name, tuple(int(n) for n in result.shape), shape)
    assert shape is not None
    return Formula(name, function, shapes, shape, frozenset(reads), _switches(*records[1:]))


def _known(
    fixed: Mapping[str, np.ndarray] | None, point: Mapping[str, Native]
) -> dict[str, np.ndarray]:
    """The arguments of a point that are not drawn at random."""
    return {key: np.asarray(value) for key, value in (fixed or {}).items() if key in point}


def _arguments(
    name: str, engine: Engine, point: Mapping[str, Native], reads: set[str]
) -> list[Array | Values]:
    """What a function is called with; what it reads is added to ``reads``."""
    values: list[Array | Values] = []
    for key, value in point.items():
        if isinstance(value, Mapping):
            entries = {k: Array(v, engine) for k, v in value.items()}
            values.append(Values(entries, name, reads.add))
        else:
            values.append(Array(np.asarray(value), engine, partial(reads.add, key)))
    return values


def _same_shape(name: str, seen: Shape, shape: Shape | None) -> Shape:
    """The shape seen, where it is the one asked for (None: any of rank <= 2)."""
    if shape is None and len(seen) > 2:
        raise InputError(f"{name}: got a result of shape {seen}; allowed: rank <= 2")
    if shape is not None and seen != shape:
        raise InputError(f"{name}: got a result of shape {seen}; allowed: shape {shape}")
    return seen


def _switches(one: Recorder, other: Recorder) -> tuple[Switch, ...]:
    """The kinks of a formula from two points of the same times."""
    return tuple(
        Switch(kind, int(np.size(a)), not np.array_equal(a, b, equal_nan=True))
        for kind, a, b in zip(one.kinds, one.arguments, other.arguments, strict=True)
    )


def compare(
    formula: Formula,
    engine: Engine,
    evaluate: Callable[..., np.ndarray],
    horizon: float,
    fixed: Mapping[str, np.ndarray] | None = None,
    rtol: float = 1e-11,
) -> None:
    """Compare another evaluator of a formula with NumPy at two seeded points; NaN equals NaN.

    ``rtol``: both evaluate the same expression tree in float64, so they differ by rounding
    amplified by the expression's own conditioning; 1e-11 leaves five digits for that. Raises
    InputError where they differ by more.
    """
    rng = np.random.default_rng(21)
    for _ in range(2):
        point = formula.random_point(rng, horizon)
        point = tuple(
            np.asarray((fixed or {}).get(k, v)) if not isinstance(v, Mapping) else v
            for k, v in zip(formula.shapes, point, strict=True)
        )
        with np.errstate(all="ignore"):
            expected = np.asarray(formula(numpy_engine(), *point))
        got = np.asarray(evaluate(*point)).reshape(expected.shape)
        if not np.allclose(
            got, expected, rtol=rtol, atol=rtol * (1 + _scale(expected)), equal_nan=True
        ):
            seen = (
                f"different values on {engine.name} ({got.ravel()[:3]}) and NumPy "
                f"({expected.ravel()[:3]})"
            )
            raise InputError(
                f"{formula.name}: got {seen} at the same point; allowed: a deterministic "
                "function of its arguments"
            )


def _scale(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))


def _tell(name: str, error: Exception, engine: Engine) -> NoReturn:
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        if text.startswith(f"{name}:"):
            raise error
        raise type(error)(f"{name}: {text}") from error
    kind = InputTypeError if isinstance(error, TypeError) else InputError
    hint = (
        "its arguments, numbers and namespace(x)"
        if kind is InputTypeError
        else "what runs at every point"
    )
    if "__array_ufunc__" in text:
        text = "a NumPy function of a formula's array"
    seen = f"{type(error).__name__} on {engine.name} ({text[:160]})"
    raise kind(f"{name}: got {seen}; allowed in a formula: {hint}") from error
