"""Sums over layers or samples of a value of a graph, taken apart into matrix products.

    Σ (a ± b) = Σ a ± Σ b,    Σ a b = b Σ a  where b does not vary along the sum,
                              Σ a b = a · b  otherwise

A value that is used elsewhere, too, is summed as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca

from dnlcontrol.backends.adjoint.printed.graph import Extent, Graph

# b of Σ a b by the extents of a and b, b varying along the sum
_DOTS = {
    ("n", "mn", "n"): "dot({a}, {b})",
    ("n", "mn", "mn"): 'einsum("mn,mn->m", {a}, {b})',
    ("n", "n", "n"): "dot({a}, {b})",
    ("m", "mn", "m"): "dot({b}[:, 0], {a})",
    ("m", "mn", "mn"): 'einsum("mn,mn->n", {a}, {b})',
    ("mn", "mn", "mn"): 'einsum("mn,mn->", {a}, {b})',
    ("mn", "mn", "n"): "dot(reduce({a}, 0), {b})",
    ("mn", "mn", "m"): "dot({b}[:, 0], reduce({a}, 1))",
}


@dataclass(frozen=True)
class Term:
    """± factors · Σ a, or ± factors · Σ a b."""

    sign: str
    factors: tuple[int, ...]
    a: int
    b: int | None = None


@dataclass(frozen=True)
class Sum:
    """What a sum over ``over`` of one value comes down to."""

    over: Extent
    terms: list[Term]

    @property
    def needs(self) -> list[int]:
        """The values that must be there."""
        return [
            k
            for term in self.terms
            for k in (*term.factors, term.a, *(() if term.b is None else (term.b,)))
        ]


def sum_of(graph: Graph, k: int, over: Extent) -> Sum:
    """The sum over the axes ``over`` of the value k, which varies along all of them."""
    found: list[Term] = []
    open_: list[tuple[str, tuple[int, ...], int, int]] = [("+", (), k, 0)]
    while open_:
        sign, factors, k, shared = open_.pop()
        instruction = graph[k]
        apart = graph.uses[k] <= shared or graph.uses[k] == 0
        kind, of = instruction.op, instruction.operands
        if not apart or not _varies(instruction.extent, over):
            found.append(Term(sign, factors, k))
        elif kind in (ca.OP_ADD, ca.OP_SUB) and all(_varies(graph[i].extent, over) for i in of):
            other = sign if kind == ca.OP_ADD else _turned(sign)
            open_ += [(sign, factors, of[0], 1), (other, factors, of[1], 1)]
        elif kind == ca.OP_NEG:
            open_.append((_turned(sign), factors, of[0], 1))
        elif kind == ca.OP_MUL and of[0] != of[1]:
            open_ += _product(graph, sign, factors, of, over, found)
        else:
            found.append(Term(sign, factors, k))
    return Sum(over, found)


def _product(
    graph: Graph,
    sign: str,
    factors: tuple[int, ...],
    of: tuple[int, ...],
    over: Extent,
    found: list[Term],
) -> list[tuple[str, tuple[int, ...], int, int]]:
    """A product's term is added to ``found``, unless one factor stands before the sum."""
    for b, a in (of, of[::-1]):
        if not set(graph[b].extent) & set(over) and _varies(graph[a].extent, over):
            return [(sign, (*factors, b), a, 1)]
    for a, b in (of, of[::-1]):
        if (over, graph[a].extent, graph[b].extent) in _DOTS:
            found.append(Term(sign, factors, a, b))
            return []
    raise AssertionError(f"no product for {over}: {[graph[i].extent for i in of]}")


def _varies(extent: Extent, over: Extent) -> bool:
    return set(over) <= set(extent)


def _turned(sign: str) -> str:
    return "-" if sign == "+" else "+"


def text_of(graph: Graph, total: Sum, names: dict[int, str]) -> str:
    """The sum as one expression, with the extent of what is left: (m,), (n,) or a number."""
    text = " ".join(_term(graph, term, total.over, names) for term in total.terms)
    return text.removeprefix("+ ")


def _term(graph: Graph, term: Term, over: Extent, names: dict[int, str]) -> str:
    extent = graph[term.a].extent
    if term.b is None:
        axis = {"m": "0", "n": str(extent.find("n")), "mn": "(0, 1)"}[over]
        text = f"reduce({names[term.a]}, {axis})"
    else:
        key = (over, extent, graph[term.b].extent)
        text = _DOTS[key].format(a=names[term.a], b=names[term.b])
    for k in term.factors:
        along_layers = graph[k].extent == "m"
        text = f"{names[k]}[:, 0] * {text}" if along_layers else f"{names[k]} * {text}"
    return f"{term.sign} {text}"
