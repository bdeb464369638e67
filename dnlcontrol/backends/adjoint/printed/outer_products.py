"""Sums Σ_j a_j b_j with a_j varying over layers and b_j over samples, as one matrix product.

W y + b with W on the triangle is such a sum in every entry: (m, j) times (j, n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import casadi as ca

from dnlcontrol.backends.adjoint.printed.graph import Graph

# one product of two numbers is cheaper than gathering them
FEWEST = 2


@dataclass(frozen=True)
class OuterProducts:
    """± Σ a_j b_j ± the rest: the pairs of each sign, and the other terms with their signs."""

    pairs: dict[str, list[tuple[int, int]]]
    rest: list[tuple[str, int]]

    @property
    def needs(self) -> list[int]:
        """The values that must be there."""
        return [
            *(k for p in self.pairs.values() for ab in p for k in ab),
            *(k for _, k in self.rest),
        ]


def outer_products(graph: Graph, k: int) -> OuterProducts | None:
    """The value k as such a sum; None where it is none. Terms used elsewhere stay whole."""
    if graph[k].extent != "mn" or graph[k].op not in (ca.OP_ADD, ca.OP_SUB):
        return None
    pairs: dict[str, list[tuple[int, int]]] = {"+": [], "-": []}
    rest: list[tuple[str, int]] = []
    open_ = [("+", k, graph.uses[k])]
    while open_:
        sign, i, allowed = open_.pop()
        instruction, of = graph[i], graph[i].operands
        single = graph.uses[i] <= allowed
        if single and instruction.op in (ca.OP_ADD, ca.OP_SUB) and instruction.extent == "mn":
            other = sign if instruction.op == ca.OP_ADD else "+-"[sign == "+"]
            open_ += [(other, of[1], 1), (sign, of[0], 1)]
        elif single and instruction.op == ca.OP_MUL and {graph[j].extent for j in of} == {"m", "n"}:
            a, b = of if graph[of[0]].extent == "m" else of[::-1]
            pairs[sign].append((a, b))
        else:
            rest.append((sign, i))
    if all(len(p) < FEWEST for p in pairs.values()):
        return None
    return OuterProducts(pairs, rest)


def text_of(graph: Graph, found: OuterProducts, names: dict[int, str]) -> str:
    """The value as one expression."""
    terms = []
    for sign, pairs in found.pairs.items():
        if len(pairs) == 1:
            terms.append((sign, f"{names[pairs[0][0]]} * {names[pairs[0][1]]}"))
        elif pairs:
            layers, samples = ([pair[i] for pair in pairs] for i in (0, 1))
            block = _block(graph, layers)
            a = f"{block}[:, :, 0].T" if block else f"concatenate(({_listed(layers, names)}), 1)"
            b = _block(graph, samples) or f"array(({_listed(samples, names)}))"
            terms.append((sign, f"dot({a}, {b})"))
    terms += [(sign, names[k]) for sign, k in found.rest]
    return " ".join(f"{sign} {text}" for sign, text in terms).removeprefix("+ ")


def _listed(values: Sequence[int], names: dict[int, str]) -> str:
    return ", ".join(names[k] for k in values)


def _block(graph: Graph, values: Sequence[int]) -> str | None:
    """A slice of one argument, where the values are evenly spaced entries of it."""
    if any(graph[k].op != ca.OP_INPUT for k in values):
        return None
    arguments = {graph[k].place[0] for k in values}
    entries = [graph[k].place[1] for k in values]
    step = entries[1] - entries[0]
    if len(arguments) > 1 or step < 1 or entries != list(range(entries[0], entries[-1] + 1, step)):
        return None
    return f"a{arguments.pop()}[{entries[0]}:{entries[-1] + 1}:{step}]"
