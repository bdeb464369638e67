"""A small CasADi function of scalars printed as straight-line NumPy over m layers and n samples.

Each entry of an argument is one array of its own extent (graph.py). An instruction takes its
operands as they are, and NumPy's broadcasting does the rest: what depends on the layer alone is
computed m times, not m n times. Sums over layers or samples end in matrix products (sums.py), and
sums of outer products become one (outer_products.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isfinite

import casadi as ca
import numpy as np

from dnlcontrol.backends.adjoint.printed.graph import Extent, graph_of
from dnlcontrol.backends.adjoint.printed.outer_products import OuterProducts, outer_products
from dnlcontrol.backends.adjoint.printed.outer_products import text_of as outer_text
from dnlcontrol.backends.adjoint.printed.sums import Sum, sum_of, text_of

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
_NUMPY = [*_WORDS, "array", "broadcast_to", "concatenate", "dot", "einsum", "inf", "nan"]


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

    ``axes`` is "mn", or "n" for a function that is called for samples alone, ``extents`` that of
    each argument's entries. ``results`` says of each result None, where its entries are wanted as
    they are, or the extent that they are summed to: over those of ``axes`` that it does not have.
    An entry that is 0 then is None.

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
    _compare(function, extents, found)
    return found


_ONES: dict[Extent, tuple[int, ...]] = {"": (), "m": (1, 1), "n": (1,), "mn": (1, 1)}


def _compare(
    function: ca.Function, extents: Sequence[Extent], run: Callable[..., list[Values]]
) -> None:
    """Raise NotPrintable unless ``run`` gives what the function gives for one layer and sample."""
    rng = np.random.default_rng(31)
    point = [rng.uniform(0.1, 0.9, function.numel_in(k)) for k in range(function.n_in())]
    with np.errstate(all="ignore"):
        got = run(1, 1, *(a.reshape(-1, *_ONES[e]) for a, e in zip(point, extents, strict=True)))
    expected = function.call([ca.DM(a) for a in point])
    for entries, value in zip(got, expected, strict=True):
        flat = [0.0 if e is None else float(np.reshape(e, -1)[0]) for e in entries]
        size = 1.0 + np.max(np.abs(flat), initial=0.0)
        if not np.allclose(flat, value.full()[:, 0], ROUNDING, ROUNDING * size, equal_nan=True):
            raise NotPrintable(f"{function.name()} differs from CasADi")


class _Source:
    """The text of one function."""

    def __init__(
        self,
        function: ca.Function,
        axes: Extent,
        extents: Sequence[Extent],
        results: Sequence[Extent | None],
    ) -> None:
        self.axes, self.results = axes, results
        self.arguments = len(extents)
        self.graph = graph_of(function, extents, [wanted is None for wanted in results])
        self.names: dict[int, str] = {}
        self.products: dict[int, OuterProducts] = {}
        self.lines: list[str] = []

    def text(self) -> str:
        """The source of ``run``."""
        sums = self._sums()
        self._values(sums)
        returned = []
        for result, (entries, wanted) in enumerate(
            zip(self.graph.results, self.results, strict=True)
        ):
            texts = [self._entry(sums, result, i, k, wanted) for i, k in enumerate(entries)]
            returned.append(f"[{', '.join(texts)}]")
        arguments = ", ".join(f"a{k}" for k in range(self.arguments))
        lines = "".join(f"    {line}\n" for line in self.lines)
        return f"def run(m, n, {arguments}):\n{lines}    return [{', '.join(returned)}]"

    def _sums(self) -> dict[tuple[int, int], Sum]:
        """The sums that are taken apart, by result and entry."""
        found = {}
        for result, (entries, wanted) in enumerate(
            zip(self.graph.results, self.results, strict=True)
        ):
            if wanted is None:
                continue
            over = "".join(axis for axis in self.axes if axis not in wanted)
            for entry, k in enumerate(entries):
                if over and set(over) <= set(self.graph[k].extent):
                    found[result, entry] = sum_of(self.graph, k, over)
        return found

    def _values(self, sums: dict[tuple[int, int], Sum]) -> None:
        """A line for every value that a result or a sum needs, in the order of the graph."""
        open_ = [k for total in sums.values() for k in total.needs]
        for result, entries in enumerate(self.graph.results):
            open_ += [k for entry, k in enumerate(entries) if (result, entry) not in sums]
        needed: set[int] = set()
        while open_:
            k = open_.pop()
            if k in needed:
                continue
            needed.add(k)
            found = outer_products(self.graph, k)
            if found is None:
                open_ += self.graph[k].operands
            else:
                self.products[k] = found
                open_ += found.needs
        for k in sorted(needed):
            self._value(k)

    def _value(self, k: int) -> None:
        instruction = self.graph[k]
        if instruction.op == ca.OP_CONST:
            value = instruction.value
            text = repr(value) if isfinite(value) else str(value)
            self.names[k] = f"({text})" if value < 0 else text
            return
        if k in self.products:
            text = outer_text(self.graph, self.products[k], self.names)
        elif instruction.op == ca.OP_INPUT:
            text = "a{}[{}]".format(*instruction.place)
        elif instruction.op in INSTRUCTIONS:
            operands = (self.names[i] for i in instruction.operands)
            text = INSTRUCTIONS[instruction.op].format(*operands)
        else:
            raise NotPrintable(f"instruction {instruction.op}")
        self.names[k] = f"v{k}"
        self.lines.append(f"v{k} = {text}")

    def _entry(
        self,
        sums: dict[tuple[int, int], Sum],
        result: int,
        entry: int,
        k: int,
        wanted: Extent | None,
    ) -> str:
        """What stands in the returned list for one entry of a result."""
        if wanted is not None and self.graph.is_zero(k):
            return "None"
        if (result, entry) in sums:
            return text_of(self.graph, sums[result, entry], self.names)
        over = "" if wanted is None else "".join(a for a in self.axes if a not in wanted)
        if not over:
            return self.names[k]
        # each layer or sample counts, although the value does not vary along all of them
        shape = "(m, n)" if self.axes == "mn" else "(n,)"
        axis = {"m": "0", "n": str(self.axes.find("n")), "mn": "(0, 1)"}[over]
        return f"reduce(broadcast_to({self.names[k]}, {shape}), {axis})"
