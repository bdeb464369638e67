"""One formula over m layers and n samples, with its derivatives, as printed NumPy.

With a the arguments, A those that are differentiated, and cotangents c of the values:

    value      f(a)
    pull       Σ (∂f/∂A)ᵀ c,                       summed to where each argument varies
    tangent    (∂f/∂A) δA
    second     Σ d/dε (∂f/∂A)ᵀ(A + ε δA) (c + ε δc)
    jacobian   ∂f/∂y of one argument y, entry by entry
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import casadi as ca
import numpy as np

from dnlcontrol.backends.adjoint.printed.source import Entries, Extent, Values, printed
from dnlcontrol.backends.traced_formula import TracedFormula
from dnlcontrol.problem.formula import Formula

# the arguments that no control moves
DATA = ("t", "s", "g", "target")

Size = tuple[int, int]
"""m and n, the numbers of layers and samples."""

Named = Mapping[str, Entries]
"""The arguments of a formula, of ``u`` and ``c`` each control, by name."""

Parts = dict[str, Values]
"""Cotangents by name, one array for each entry; None where it is 0."""


@dataclass(frozen=True)
class Argument:
    """One argument, or one control that a formula reads."""

    name: str
    symbol: ca.SX
    extent: Extent
    differentiated: bool


@dataclass(frozen=True)
class PrintedFunction:
    """A printed function, and the number of its instructions."""

    instructions: int
    call: Callable[..., list[Values]]


class NodeMap:
    """A formula, printed.

    Parameters
    ----------
    horizon, fixed : of the comparison with NumPy, see :class:`TracedFormula`.
    axes : "mn", or "n" where it is called at one layer at a time.
    extents : of the entries of each argument and control that the formula takes.

    Raises
    ------
    InputError : as :class:`TracedFormula`.
    """

    def __init__(
        self,
        formula: Formula,
        horizon: float,
        fixed: Mapping[str, np.ndarray],
        axes: Extent,
        extents: Mapping[str, Extent],
    ) -> None:
        self.formula, self.axes = formula, axes
        traced = TracedFormula(formula, horizon, fixed).function
        symbols = traced.sx_in()
        names = taken(formula)
        self.arguments = [
            Argument(name, symbol, extents[name], name not in DATA)
            for name, symbol in zip(names, symbols, strict=True)
        ]
        self.moving = [a for a in self.arguments if a.differentiated]
        self.expression = traced(*symbols)
        self.outputs = int(self.expression.numel())
        self._jacobians: dict[str, PrintedFunction] = {}

    # -- graphs ----------------------------------------------------------------------------------
    @cached_property
    def _cotangent(self) -> ca.SX:
        return ca.SX.sym("c", self.outputs)

    @cached_property
    def _pulled(self) -> list[ca.SX]:
        symbols = [a.symbol for a in self.moving]
        scalar = ca.dot(self._cotangent, self.expression)
        return [ca.gradient(scalar, symbol) for symbol in symbols]

    def _steps(self) -> list[ca.SX]:
        return [ca.SX.sym(f"d{a.name}", a.symbol.numel()) for a in self.moving]

    def _printed(
        self,
        name: str,
        arguments: Sequence[tuple[ca.SX, Extent]],
        values: Sequence[ca.SX],
        summed: Sequence[Extent | None],
    ) -> PrintedFunction:
        symbols = [*(a.symbol for a in self.arguments), *(s for s, _ in arguments)]
        extents = [*(a.extent for a in self.arguments), *(e for _, e in arguments)]
        dense = [ca.densify(value) for value in ca.cse(list(values))]
        function = ca.Function(name, symbols, dense)
        return PrintedFunction(
            function.n_instructions(), printed(function, self.axes, extents, summed)
        )

    # -- printed when first asked for ------------------------------------------------------------
    @cached_property
    def _value(self) -> PrintedFunction:
        return self._printed("value", [], [self.expression], [None])

    @cached_property
    def _pull(self) -> PrintedFunction:
        summed = [a.extent for a in self.moving]
        return self._printed("pull", [(self._cotangent, self.axes)], self._pulled, summed)

    @cached_property
    def _tangent(self) -> PrintedFunction:
        steps = self._steps()
        value = _along(self.expression, [a.symbol for a in self.moving], steps)
        return self._printed("tangent", self._with_extents(steps), [value], [None])

    @cached_property
    def _second(self) -> PrintedFunction:
        steps, change = self._steps(), ca.SX.sym("dc", self.outputs)
        at = [*(a.symbol for a in self.moving), self._cotangent]
        flat = ca.vertcat(*self._pulled) if self.moving else ca.SX(0, 1)
        bent = ca.vertsplit(_along(flat, at, [*steps, change]), _offsets(self._pulled))
        given = [
            (self._cotangent, self.axes),
            *self._with_extents(steps),
            (change, self.axes),
        ]
        return self._printed("second", given, bent, [a.extent for a in self.moving])

    def _with_extents(self, steps: Sequence[ca.SX]) -> list[tuple[ca.SX, Extent]]:
        return [(step, a.extent) for step, a in zip(steps, self.moving, strict=True)]

    def _jacobian(self, name: str) -> PrintedFunction:
        if name not in self._jacobians:
            symbol = next(a.symbol for a in self.moving if a.name == name)
            rows = ca.vec(ca.densify(ca.jacobian(self.expression, symbol)).T)
            self._jacobians[name] = self._printed("jacobian", [], [rows], [None])
        return self._jacobians[name]

    @property
    def instructions(self) -> int:
        """Of the pull-back, the longest text of a gradient."""
        return self._pull.instructions

    # -- calls -----------------------------------------------------------------------------------
    def value(self, size: Size, at: Named) -> Values:
        """f: an array for each entry, of its own extent."""
        return self._value.call(*size, *self._given(at))[0]

    def pull(self, size: Size, at: Named, cotangent: Entries) -> Parts:
        """Cotangents of the arguments from those of the values, (m, n) or (n,) for each entry."""
        return self._named(self._pull.call(*size, *self._given(at), cotangent))

    def tangent(self, size: Size, at: Named, along: Named) -> Values:
        """δf from the changes of the arguments."""
        steps = (along[a.name] for a in self.moving)
        return self._tangent.call(*size, *self._given(at), *steps)[0]

    def second(
        self, size: Size, at: Named, cotangent: Entries, along: Named, change: Entries
    ) -> Parts:
        """The derivative of :meth:`pull` along a change of arguments and of cotangents."""
        steps = (along[a.name] for a in self.moving)
        return self._named(self._second.call(*size, *self._given(at), cotangent, *steps, change))

    def jacobian(self, n: int, at: Named, name: str) -> np.ndarray:
        """∂f/∂y at one layer, (n, entries of f, entries of y)."""
        entries = self._jacobian(name).call(1, n, *self._given(at))[0]
        found = np.empty((len(entries), n))
        for row, entry in zip(found, entries, strict=True):
            row[...] = 0.0 if entry is None else np.reshape(entry, -1)
        return np.ascontiguousarray(found.T).reshape(n, self.outputs, -1)

    def _given(self, at: Named) -> list[Entries]:
        return [at[a.name] for a in self.arguments]

    def _named(self, results: Sequence[Values]) -> Parts:
        return {a.name: parts for a, parts in zip(self.moving, results, strict=True)}


def taken(formula: Formula) -> list[str]:
    """The arguments that a formula takes, in order; a control W of ``u`` or ``c`` as "u.W"."""
    names: list[str] = []
    for name, spec in formula.shapes.items():
        if isinstance(spec, Mapping):
            names += [control(k) for k in spec if k in formula.reads]
        else:
            names.append(name)
    return names


def control(name: str) -> str:
    """The name of a control among the arguments."""
    return f"u.{name}"


def _along(value: ca.SX, at: Sequence[ca.SX], steps: Sequence[ca.SX]) -> ca.SX:
    """The derivative of a column along a step."""
    if not at:
        return ca.SX.zeros(value.numel(), 1)
    return ca.jtimes(value, ca.vertcat(*at), ca.vertcat(*steps))


def _offsets(columns: Sequence[ca.SX]) -> list[int]:
    """Where each column ends in their stack, from 0."""
    return [0, *np.cumsum([c.numel() for c in columns]).tolist()]
