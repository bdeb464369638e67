"""The instructions of a CasADi function of scalars as a graph, each with where it varies.

An *extent* says along which of two axes, m layers and n samples, the arrays of an entry vary:

    ""  a number        "m"  (m, 1)        "n"  (n,)        "mn"  (m, n)

An instruction varies where any of its operands does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import casadi as ca

Extent = str
"""Some of the letters m and n, in this order."""


@dataclass(frozen=True)
class Instruction:
    """One value of the graph: an instruction, a constant or an entry of an argument.

    ``place`` is (argument, entry) of an input, ``value`` that of a constant.
    """

    op: int
    operands: tuple[int, ...]
    extent: Extent
    place: tuple[int, int] = (-1, -1)
    value: float = 0.0


@dataclass(frozen=True)
class Graph:
    """Instructions in the order of evaluation, and those that are the entries of each result.

    ``uses`` counts how often each is an operand, or an entry of a result that is kept.
    """

    instructions: list[Instruction]
    results: list[list[int]]
    uses: list[int]

    def __getitem__(self, k: int) -> Instruction:
        return self.instructions[k]

    def is_zero(self, k: int) -> bool:
        """Whether a value is the constant 0."""
        return self[k].op == ca.OP_CONST and self[k].value == 0.0


def graph_of(function: ca.Function, extents: Sequence[Extent], kept: Sequence[bool]) -> Graph:
    """The graph of a function with dense results; ``extents`` of each argument's entries.

    ``kept`` says of which results the entries themselves are wanted.
    """
    instructions: list[Instruction] = []
    register: dict[int, int] = {}
    results = [[-1] * function.numel_out(k) for k in range(function.n_out())]
    for k in range(function.n_instructions()):
        op, of = function.instruction_id(k), function.instruction_input(k)
        into = function.instruction_output(k)
        if op == ca.OP_OUTPUT:
            results[into[0]][into[1]] = register[of[0]]
            continue
        if op == ca.OP_INPUT:
            found = Instruction(op, (), extents[of[0]], place=(of[0], of[1]))
        elif op == ca.OP_CONST:
            found = Instruction(op, (), "", value=function.instruction_constant(k))
        else:
            operands = tuple(register[i] for i in of)
            varies = "".join(instructions[i].extent for i in operands)
            found = Instruction(op, operands, "".join(a for a in "mn" if a in varies))
        register[into[0]] = len(instructions)
        instructions.append(found)
    uses = [0] * len(instructions)
    for instruction in instructions:
        for i in instruction.operands:
            uses[i] += 1
    for entries, wanted in zip(results, kept, strict=True):
        for i in entries if wanted else ():
            uses[i] += 1
    return Graph(instructions, results, uses)
