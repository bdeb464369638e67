"""Each formula traced once, through ``casadi.ArrayInterface``, into a CasADi Function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import casadi as ca
import numpy as np

from dnlcontrol.problem.engines import casadi_engine
from dnlcontrol.problem.formula import Formula, Shape, compare


class Traced:
    """A formula as a CasADi Function of its flattened arguments.

    Rank 0 is 1×1, rank 1 a column, rank 2 a matrix. Of the controls only those that the formula
    reads are arguments. Called on SX matrices with one column (rank 2: one block) per evaluation,
    it is mapped.
    """

    def __init__(self, formula: Formula, horizon: float, target: Mapping[str, np.ndarray]) -> None:
        self.formula = formula
        engine = casadi_engine()
        self.inputs: list[tuple[str, Shape]] = []
        symbols: list[Any] = []
        arguments: list[Any] = []
        for name, spec in formula.shapes.items():
            if isinstance(spec, Mapping):
                entries = {
                    k: self._symbol(k, s, symbols) for k, s in spec.items() if k in formula.reads
                }
                arguments.append(entries)
            else:
                arguments.append(self._symbol(name, spec, symbols))
        result = formula(engine, *arguments)
        self.function = ca.Function("formula", symbols, [ca.SX(result.to_casadi())])
        compare(formula, engine, self._at_point, horizon, target)

    def _symbol(self, name: str, shape: Shape, symbols: list[Any]) -> Any:
        rows, columns = (*shape, 1, 1)[:2]
        symbol = ca.SX.sym(name, rows, columns)
        symbols.append(symbol)
        self.inputs.append((name, shape))
        return casadi_engine().make(symbol, shape)  # type: ignore[attr-defined]

    def _at_point(self, *point: Any) -> np.ndarray:
        flat: list[Any] = []
        for value in point:
            if isinstance(value, Mapping):
                flat += [value[k] for k in value if k in self.formula.reads]
            else:
                flat.append(value)
        value = self.function(*(ca.DM(np.atleast_1d(v)) for v in flat))
        return np.array(value).reshape(self.formula.shape, order="C")

    def __call__(self, count: int, values: Mapping[str, Any]) -> Any:
        """``count`` evaluations at once: each value is stacked horizontally; returns flat results,
        one a column.
        """
        arguments = [values[name] for name, _ in self.inputs]
        mapped = self.function if count == 1 else self.function.map(count)
        out = mapped(*arguments)
        if len(self.formula.shape) < 2:
            return out
        rows, columns = self.formula.shape
        blocks = ca.horzsplit(out, columns)
        return ca.horzcat(*(flatten(b) for b in blocks)) if rows * columns > 1 else out


def flatten(matrix: Any) -> Any:
    """A matrix as a column in row-major order."""
    return ca.vec(matrix.T)


def blocks(flat: Any, shape: Shape) -> Any:
    """Columns of flat entries (row-major) as horizontally stacked values of a shape."""
    if len(shape) < 2:
        return flat
    rows, columns = shape
    return ca.horzcat(*(ca.reshape(c, columns, rows).T for c in ca.horzsplit(flat)))
