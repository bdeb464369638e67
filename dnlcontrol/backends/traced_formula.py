"""A formula traced once into CasADi, for the exact backend and for printed source.

Everything is flat and row-major: a value of shape (m, n) is a column of m n entries, and many
values are the columns of one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import casadi as ca
import numpy as np

from dnlcontrol.problem.engines import casadi_engine
from dnlcontrol.problem.formula import Formula, Shape, compare

Columns = ca.SX | ca.DM | Mapping[str, ca.SX]
"""The values of one argument, one evaluation a column; by name for the controls ``u`` or ``c``."""


def count(shape: Shape) -> int:
    """The number of entries of a shape."""
    return int(np.prod(shape, dtype=int))


class TracedFormula:
    """A formula traced through ``casadi.ArrayInterface`` into a CasADi Function of flat columns.

    ``function`` takes a column for each argument, of the controls only for those that the formula
    reads, and returns a dense column. It is compared with NumPy when it is made.

    Parameters
    ----------
    horizon : the times of the comparison lie in [0, horizon].
    fixed : values of arguments that the comparison must not draw at random (targets).

    Raises
    ------
    InputError : a formula that is not deterministic, or leaves the vocabulary of formulas.
    """

    def __init__(
        self, formula: Formula, horizon: float, fixed: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.formula = formula
        symbols: list[ca.SX] = []

        def symbol(name: str, shape: Shape) -> ca.ArrayInterface:
            symbols.append(ca.SX.sym(name, count(shape)))
            return _shaped(symbols[-1], shape)

        arguments = [
            {k: symbol(k, s) for k, s in spec.items() if k in formula.reads}
            if isinstance(spec, Mapping)
            else symbol(name, spec)
            for name, spec in formula.shapes.items()
        ]
        value = _flat(formula(casadi_engine(), *arguments))
        self.function = ca.Function("formula", symbols, [ca.densify(value)])
        compare(formula, casadi_engine(), self._at_point, horizon, fixed)

    def __call__(self, values: Mapping[str, Columns], evaluations: int = 1) -> ca.SX:
        """(entries of a result, evaluations), from (entries, evaluations) for each argument.

        ``values`` by the arguments' names, those of ``u`` and ``c`` by the controls' names in a
        mapping; what the formula does not take is left aside.
        """
        function = self.function if evaluations == 1 else self.function.map(evaluations)
        return function(*self._read([values[name] for name in self.formula.shapes]))

    def _read(self, arguments: list[Any]) -> list[Any]:
        """The arguments of ``function`` from those of the formula."""
        read: list[Any] = []
        for spec, value in zip(self.formula.shapes.values(), arguments, strict=True):
            if isinstance(spec, Mapping):
                read += [value[k] for k in spec if k in self.formula.reads]
            else:
                read.append(value)
        return read

    def _at_point(self, *point: Any) -> np.ndarray:
        columns = [ca.DM(np.reshape(v, -1).tolist()) for v in self._read(list(point))]
        return np.asarray(self.function.call(columns)[0].full()).reshape(self.formula.shape)


def _shaped(column: ca.SX, shape: Shape) -> ca.ArrayInterface:
    """A formula's array from a flat symbol."""
    if len(shape) == 2:
        column = ca.reshape(column, shape[1], shape[0]).T
    return casadi_engine().make(column, shape)  # type: ignore[attr-defined]


def _flat(array: ca.ArrayInterface) -> ca.SX:
    """A formula's result as a column."""
    value = ca.SX(array.to_casadi())
    return ca.vec(value.T) if len(array.shape) == 2 else ca.vec(value)
