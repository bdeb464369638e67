"""A small CasADi function of scalars printed as straight-line NumPy over m layers and n samples.

Each entry of an argument is one array, and its *extent* says along which of the two axes it varies:

    ""  a number        "m"  (m, 1)        "n"  (n,)        "mn"  (m, n)

An instruction takes its operands as they are, and NumPy's broadcasting does the rest: what depends
on the layer alone is computed m times, not m n times. The extent of every result is known when the
source is printed, hence also which axes a sum over layers or samples has left to run over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isfinite

import casadi as ca
import numpy as np

Extent = str
"""Some of the letters m and n, in this order."""

Values = list[np.ndarray | None]
"""An array for each entry of a result; None where it is 0."""

Entries = Sequence[np.ndarray] | np.ndarray
"""One argument: an array for each of its entries, along the first axis."""

# what each instruction of a scalar graph is in NumPy; {0} and {1} are its operands
_ROUNDING = {ca.OP_FLOOR: "floor({0})", ca.OP_CEIL: "ceil({0})"}
_LOGIC = {
    ca.OP_LT: "({0} < {1}) * 1.0",
    ca.OP_LE: "({0} <= {1}) * 1.0",
    ca.OP_EQ: "({0} == {1}) * 1.0",
    ca.OP_NE: "({0} != {1}) * 1.0",
    ca.OP_NOT: "({0} == 0.0) * 1.0",
    ca.OP_AND: "(({0} != 0.0) & ({1} != 0.0)) * 1.0",
    ca.OP_OR: "(({0} != 0.0) | ({1} != 0.0)) * 1.0",
    ca.OP_IF_ELSE_ZERO: "where({0} != 0.0, {1}, 0.0)",
    ca.OP_FMIN: "fmin({0}, {1})",
    ca.OP_FMAX: "fmax({0}, {1})",
}
_ARITHMETIC = {
    ca.OP_ASSIGN: "{0}",
    ca.OP_ADD: "{0} + {1}",
    ca.OP_SUB: "{0} - {1}",
    ca.OP_MUL: "{0} * {1}",
    ca.OP_DIV: "divide({0}, {1})",
    ca.OP_NEG: "-{0}",
    ca.OP_SQ: "{0} * {0}",
    ca.OP_TWICE: "2.0 * {0}",
    ca.OP_INV: "divide(1.0, {0})",
    ca.OP_POW: "power({0}, {1})",
    ca.OP_CONSTPOW: "power({0}, {1})",
    ca.OP_SQRT: "sqrt({0})",
    ca.OP_FABS: "absolute({0})",
    ca.OP_SIGN: "sign({0})",
    ca.OP_COPYSIGN: "copysign({0}, {1})",
    ca.OP_FMOD: "fmod({0}, {1})",
    ca.OP_HYPOT: "hypot({0}, {1})",
}
_FUNCTIONS = {
    ca.OP_EXP: "exp({0})",
    ca.OP_LOG: "log({0})",
    ca.OP_EXPM1: "expm1({0})",
    ca.OP_LOG1P: "log1p({0})",
    ca.OP_SIN: "sin({0})",
    ca.OP_COS: "cos({0})",
    ca.OP_TAN: "tan({0})",
    ca.OP_ASIN: "arcsin({0})",
    ca.OP_ACOS: "arccos({0})",
    ca.OP_ATAN: "arctan({0})",
    ca.OP_ATAN2: "arctan2({0}, {1})",
    ca.OP_SINH: "sinh({0})",
    ca.OP_COSH: "cosh({0})",
    ca.OP_TANH: "tanh({0})",
    ca.OP_ASINH: "arcsinh({0})",
    ca.OP_ACOSH: "arccosh({0})",
    ca.OP_ATANH: "arctanh({0})",
}
INSTRUCTIONS = {**_ARITHMETIC, **_LOGIC, **_ROUNDING, **_FUNCTIONS}

# the words of the table, and those of sums
_WORDS = sorted(set(re.findall(r"[a-z]\w*(?=\()", " ".join(INSTRUCTIONS.values()))))
_NUMPY = [*_WORDS, "broadcast_to", "inf", "nan"]


# both evaluate one graph in float64: their functions differ by rounding, which the graph's own
# conditioning amplifies; 1e-11 leaves five digits for that, as problem/formula.py's compare does
ROUNDING = 1e-11


class NotPrintable(Exception):
    """The graph has an instruction that is not in the table."""


def printed(
    function: ca.Function,
    axes: Extent,
    extents: Sequence[Extent],
    results: Sequence[Extent | None],
) -> Callable[..., list[Values]]:
    """``f(m, n, *arguments) -> [entries of each result]`` of a function of dense columns.

    Parameters
    ----------
    axes : "mn", or "n" for a function that is called for samples alone.
    extents : of each argument's entries.
    results : for each result None, where its entries are wanted as they are, or the extent that
        they are summed to: over those of ``axes`` that it does not have. An entry that is 0 then is
        None.

    Raises
    ------
    NotPrintable : for an instruction that NumPy has no word for here, and where the printed
        function differs from CasADi's own evaluation at a seeded point.
    """
    source = _Source(function, axes, extents, results)
    names: dict[str, object] = {name: getattr(np, name) for name in _NUMPY}
    names["reduce"] = np.add.reduce
    exec(compile(source.text(), f"<printed {function.name()}>", "exec"), names)
    found = names["run"]
    assert callable(found)
    _compare(function, found)
    return found


def _compare(function: ca.Function, run: Callable[..., list[Values]]) -> None:
    """Raise NotPrintable unless ``run`` gives what the function gives for one layer and sample."""
    rng = np.random.default_rng(31)
    point = [rng.uniform(0.1, 0.9, function.numel_in(k)) for k in range(function.n_in())]
    with np.errstate(all="ignore"):
        got = run(1, 1, *(np.reshape(a, (-1, 1, 1)) for a in point))
    expected = function.call([ca.DM(a) for a in point])
    for entries, value in zip(got, expected, strict=True):
        flat = [0.0 if e is None else float(np.reshape(e, -1)[0]) for e in entries]
        size = 1.0 + np.max(np.abs(flat), initial=0.0)
        if not np.allclose(flat, value.full()[:, 0], ROUNDING, ROUNDING * size, equal_nan=True):
            raise NotPrintable(f"{function.name()} differs from CasADi")


class _Source:
    """The text of one function, and the extents of its registers while it is printed."""

    def __init__(
        self,
        function: ca.Function,
        axes: Extent,
        extents: Sequence[Extent],
        results: Sequence[Extent | None],
    ) -> None:
        self.function, self.axes = function, axes
        self.given, self.results = extents, results
        self.extents: dict[int, Extent] = {}
        self.constants: dict[int, str] = {}
        self.zero: set[int] = set()
        self.lines: list[str] = []
        self.outputs: list[list[str]] = [
            ["None"] * function.numel_out(k) for k in range(len(results))
        ]

    def text(self) -> str:
        """The source of ``run``."""
        for k in range(self.function.n_instructions()):
            self._instruction(k)
        arguments = ", ".join(f"a{k}" for k in range(len(self.given)))
        lines = [f"def run(m, n, {arguments}):", *(f"    {line}" for line in self.lines)]
        returned = ", ".join(f"[{', '.join(entries)}]" for entries in self.outputs)
        return "\n".join([*lines, f"    return [{returned}]"])

    def _instruction(self, k: int) -> None:
        f = self.function
        op, into, of = f.instruction_id(k), f.instruction_output(k), f.instruction_input(k)
        if op == ca.OP_OUTPUT:
            self._output(into[0], into[1], of[0])
        elif op == ca.OP_INPUT:
            self._set(into[0], f"a{of[0]}[{of[1]}]", self.given[of[0]])
        elif op == ca.OP_CONST:
            self._constant(into[0], f.instruction_constant(k))
        elif op in INSTRUCTIONS:
            operands = of[: 1 if "{1}" not in INSTRUCTIONS[op] else 2]
            text = INSTRUCTIONS[op].format(*(self._name(i) for i in operands))
            varies = "".join(self.extents[i] for i in operands)
            self._set(into[0], text, "".join(axis for axis in "mn" if axis in varies))
        else:
            raise NotPrintable(f"instruction {op}")

    def _name(self, register: int) -> str:
        return self.constants.get(register, f"v{register}")

    def _set(self, register: int, text: str, extent: Extent) -> None:
        self.constants.pop(register, None)
        self.zero.discard(register)
        self.extents[register] = extent
        self.lines.append(f"v{register} = {text}")

    def _constant(self, register: int, value: float) -> None:
        """Constants stand where they are used."""
        text = (
            repr(value)
            if isfinite(value)
            else {"inf": "inf", "-inf": "-inf"}.get(str(value), "nan")
        )
        self.constants[register] = f"({text})" if value < 0 else text
        self.extents[register] = ""
        self.zero.discard(register)
        if value == 0.0:
            self.zero.add(register)

    def _output(self, result: int, entry: int, register: int) -> None:
        wanted, name = self.results[result], self._name(register)
        if wanted is None:
            self.outputs[result][entry] = self._kept(name, register)
        elif register not in self.zero:
            self.outputs[result][entry] = self._summed(name, self.extents[register], wanted)

    def _kept(self, name: str, register: int) -> str:
        """A register's value under a name that no later instruction takes."""
        if register in self.constants:
            return name
        self.lines.append(f"r{len(self.lines)} = {name}")
        return self.lines[-1].split(" = ")[0]

    def _summed(self, name: str, extent: Extent, wanted: Extent) -> str:
        """A line for the sum over the axes that ``wanted`` does not have."""
        over = "".join(axis for axis in self.axes if axis not in wanted)
        if any(axis not in extent for axis in over):  # each layer or sample counts
            shape = "(m, n)" if self.axes == "mn" else "(n,)"
            name, extent = f"broadcast_to({name}, {shape})", self.axes
        axis = {"": "", "m": ", 0", "n": f", {extent.find('n')}", "mn": ", (0, 1)"}[over]
        self.lines.append(f"r{len(self.lines)} = " + (f"reduce({name}{axis})" if over else name))
        return self.lines[-1].split(" = ")[0]
