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
class SumTerm:
    """± factors · Σ a, or ± factors · Σ a b."""

    sign: str
    factors: tuple[int, ...]
    a: int
    b: int | None = None


@dataclass(frozen=True)
class Sum:
    """What a sum over ``over`` of one value comes down to."""

    over: Extent
    terms: list[SumTerm]

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
    apart = _Apart(graph, over)
    apart.take(k)
    return Sum(over, apart.found)


@dataclass(frozen=True)
class _Open:
    """± factors · Σ k, not yet taken apart; k has so many uses within the sum itself."""

    sign: str
    factors: tuple[int, ...]
    k: int
    uses: int


class _Apart:
    """The work of :func:`sum_of`."""

    def __init__(self, graph: Graph, over: Extent) -> None:
        self.graph, self.over = graph, over
        self.found: list[SumTerm] = []

    def take(self, k: int) -> None:
        """Take the sum of k apart."""
        open_ = [_Open("+", (), k, 0)]
        while open_:
            open_ += self._step(open_.pop())

    def _step(self, at: _Open) -> list[_Open]:
        """What is to be taken apart further; else the term is found."""
        instruction = self.graph[at.k]
        kind, of = instruction.op, instruction.operands
        if self.graph.uses[at.k] <= at.uses and self._varies(at.k):
            if kind in (ca.OP_ADD, ca.OP_SUB) and all(self._varies(i) for i in of):
                other = at.sign if kind == ca.OP_ADD else _turned(at.sign)
                return [_Open(at.sign, at.factors, of[0], 1), _Open(other, at.factors, of[1], 1)]
            if kind == ca.OP_NEG:
                return [_Open(_turned(at.sign), at.factors, of[0], 1)]
            if kind == ca.OP_MUL and of[0] != of[1]:
                return self._product(at, of)
        self.found.append(SumTerm(at.sign, at.factors, at.k))
        return []

    def _product(self, at: _Open, of: tuple[int, ...]) -> list[_Open]:
        """One factor stands before the sum, or the term is a product of two."""
        for b, a in (of, of[::-1]):
            if not set(self.graph[b].extent) & set(self.over) and self._varies(a):
                return [_Open(at.sign, (*at.factors, b), a, 1)]
        for a, b in (of, of[::-1]):
            if (self.over, self.graph[a].extent, self.graph[b].extent) in _DOTS:
                self.found.append(SumTerm(at.sign, at.factors, a, b))
                return []
        self.found.append(SumTerm(at.sign, at.factors, at.k))
        return []

    def _varies(self, k: int) -> bool:
        """Whether a value varies along every axis of the sum."""
        return set(self.over) <= set(self.graph[k].extent)


def _turned(sign: str) -> str:
    return "-" if sign == "+" else "+"


def text_of(graph: Graph, total: Sum, names: dict[int, str]) -> str:
    """The sum as one expression, with the extent of what is left: (m,), (n,) or a number."""
    text = " ".join(_term(graph, term, total.over, names) for term in total.terms)
    return text.removeprefix("+ ")


def _term(graph: Graph, term: SumTerm, over: Extent, names: dict[int, str]) -> str:
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
