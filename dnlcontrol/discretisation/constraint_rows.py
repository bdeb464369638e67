"""All constraints as one flat vector c(w) with bounds, and each entry in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.flat import RowVector
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.formula import Formula, Shape
from dnlcontrol.problem.problem import ControlProblem


@dataclass(frozen=True)
class RowBlock:
    """The values of one constraint: an array (layers, samples, *shape) inside the flat vector."""

    constraint: Constraint
    formula: Formula | None
    layers: np.ndarray
    samples: np.ndarray
    once: bool
    shape: Shape
    offset: int

    @property
    def full_shape(self) -> tuple[int, ...]:
        """(layers, samples, *shape)."""
        return (len(self.layers), len(self.samples), *self.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.full_shape, dtype=int))

    @property
    def part(self) -> slice:
        """Where the entries stand in the flat vector."""
        return slice(self.offset, self.offset + self.size)

    def words(self, i: int) -> str:
        """'state 2 of sample 3 at layer 12' for the entry i of this block (counted from 0)."""
        l, n, *rest = (int(k) for k in np.unravel_index(i, self.full_shape))
        what = "state" if self.constraint.kind == "state" else "entry"
        text = f"{what} {', '.join(map(str, rest))}" if rest else what
        if not self.once:
            text += f" of sample {self.samples[n]}"
        if self.constraint.kind in ("state", "path"):
            text += f" at layer {self.layers[l]}"
        return text


class Rows:
    """Every constraint but the control bounds: lower <= c(w) <= upper.

    A formula that reads neither x nor a target is imposed once, on the first of its samples.
    """

    def __init__(self, problem: ControlProblem, grid: Grid) -> None:
        self.blocks: list[RowBlock] = []
        self.step = grid.step
        L, offset = grid.depth, 0
        layers = {
            "state": np.arange(1, L + 1),
            "path": grid.path,
            "integral": np.array([L]),
            "terminal": np.array([L]),
        }
        for constraint, formula in zip(
            problem.constraints, problem.formulas.constraints, strict=True
        ):
            samples = constraint.rows(problem.samples)
            once = formula is not None and not ({"x", "target"} & formula.reads)
            shape = problem.state_shape if formula is None else formula.shape
            block = RowBlock(
                constraint,
                formula,
                layers[constraint.kind],
                samples[:1] if once else samples,
                once=once,
                shape=shape,
                offset=offset,
            )
            self.blocks.append(block)
            offset += block.size
        self.size = offset

    @cached_property
    def bounds(self) -> tuple[RowVector, RowVector]:
        """Lower and upper sides, each (size,)."""
        sides = np.empty((2, self.size))
        for block in self.blocks:
            for k, side in enumerate(block.constraint.bounds(block.shape)):
                sides[k, block.part] = np.broadcast_to(side, block.full_shape).ravel()
        return sides[0], sides[1]

    @cached_property
    def weights(self) -> RowVector:
        """Each entry's share of the integral in t and of the mean over samples, (size,).

        1 in place of the share of the integral for a row that is imposed at one time. A penalty
        with these weights is the same at every depth, and so is a multiplier divided by its weight.
        """
        weights = np.empty(self.size)
        for block in self.blocks:
            over_time = self.step if block.constraint.kind in ("state", "path") else 1.0
            weights[block.part] = over_time / len(block.samples)
        return weights

    def violation(self, values: RowVector) -> RowVector:
        """How far each entry of c is outside its bounds, >= 0, (size,)."""
        lower, upper = self.bounds
        return np.asarray(np.maximum(np.maximum(lower - values, values - upper), 0.0))

    def slack(self, values: RowVector, mu: RowVector) -> RowVector:
        """|μ_i| times the distance of c_i to the side that the sign of μ_i points to, (size,).

        An equality has distance 0; where there is no such side it is |μ_i| itself.
        """
        lower, upper = self.bounds
        distance = np.where(mu > 0, upper - values, np.where(mu < 0, values - lower, 0.0))
        distance = np.where(lower == upper, 0.0, distance)
        finite = np.where(np.isfinite(distance), np.abs(distance), 1.0)
        return np.asarray(np.abs(mu) * finite)

    def worst(self, values: RowVector) -> str:
        """The largest violation of values c (size,) in words, '' when there is none."""
        violation = self.violation(values)
        if not self.size or not np.max(violation) > 0:
            return ""
        i = int(np.argmax(violation))
        block = next(b for b in self.blocks if b.offset <= i < b.offset + b.size)
        bound = "bound" if block.constraint.kind == "state" else "constraint"
        return (
            f"{block.constraint.name}: {block.words(i - block.offset)}: {bound} violated by "
            f"{violation[i]:.1e}"
        )

    def by_name(self, values: RowVector) -> dict[str, np.ndarray]:
        """Arrays (layers, samples, *shape) by constraint name."""
        return {b.constraint.name: values[b.part].reshape(b.full_shape) for b in self.blocks}
