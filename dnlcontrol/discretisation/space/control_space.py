"""All controls as one flat vector, with bounds, penalties, metric and initial guess."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import (
    LongPath,
    Metric,
    is_smooth,
    long_path,
    penalty_matrix,
)
from dnlcontrol.problem.controls import Control, Initial, SmoothRandom
from dnlcontrol.problem.problem import ControlProblem

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix


@dataclass(frozen=True)
class ControlBlock:
    """One control inside the flat vector: entries offset..offset+size, sites first."""

    name: str
    control: Control
    layout: Layout
    metric: Metric
    penalty: csc_matrix | None
    offset: int
    long: LongPath | None = None

    @property
    def components(self) -> int:
        """The number of entries of one sample."""
        return int(np.prod(self.control.shape, dtype=int))

    @property
    def size(self) -> int:
        """The number of entries of all samples."""
        return self.layout.count * self.components

    @property
    def part(self) -> slice:
        """Where the entries stand in the flat vector."""
        return slice(self.offset, self.offset + self.size)

    def penalty_product(self, v: np.ndarray) -> np.ndarray:
        """Q v, (sites, components)."""
        form: Any = self.penalty if self.long is None else self.long
        return np.asarray(form @ v)

    def view(self, w: Flat) -> np.ndarray:
        """(sites, components) view of this control in a flat vector."""
        return w[self.part].reshape(self.layout.count, self.components)

    def values(self, w: Flat) -> np.ndarray:
        """(sites, *shape) view of this control in a flat vector."""
        return w[self.part].reshape(self.layout.count, *self.control.shape)


class ControlSpace:
    """The product of all controls' sample spaces at one depth.

    A flat vector w has ``size`` entries; ``blocks`` say where each control lies. Inner product <w,
    A w> with the metric A of space/metric.py, penalties R = ½ wᵀQ w.
    """

    def __init__(self, problem: ControlProblem, grid: Grid) -> None:
        checks.instance("problem", problem, ControlProblem, "a ControlProblem")
        self.grid = checks.instance("grid", grid, Grid, "a Grid")
        self.blocks: dict[str, ControlBlock] = {}
        offset = 0
        for name, control in problem.controls.items():
            layout = Layout(grid, control.on, name in problem.node_controls)
            items = problem.regularisers_of(name)
            block = ControlBlock(
                name,
                control,
                layout,
                Metric(layout, is_smooth(items)),
                penalty_matrix(layout, items),
                offset,
                long=long_path(layout, items),
            )
            self.blocks[name] = block
            offset += block.size
        self.size = offset

    def __iter__(self) -> Iterator[ControlBlock]:
        return iter(self.blocks.values())

    # -- vectors -----------------------------------------------------------------------------------
    def assemble(self, parts: Mapping[str, np.ndarray]) -> Flat:
        """A flat vector from packed arrays (sites, *shape) by name."""
        w = np.zeros(self.size)
        for block in self:
            w[block.part] = np.asarray(parts[block.name], dtype=float).reshape(-1)
        return w

    def split(self, w: Flat) -> dict[str, np.ndarray]:
        """Packed arrays (sites, *shape) by name, views of w."""
        return {block.name: block.values(w) for block in self}

    @cached_property
    def bounds(self) -> tuple[Flat, Flat]:
        """Lower and upper bounds, each (size,)."""
        sides = []
        for side in ("lower", "upper"):
            parts = {
                b.name: np.broadcast_to(
                    getattr(b.control, side), (b.layout.count, *b.control.shape)
                )
                for b in self
            }
            sides.append(self.assemble(parts))
        return sides[0], sides[1]

    @property
    def bounded(self) -> bool:
        """Whether any entry has a finite bound."""
        return any(block.control.bounded for block in self)

    def initial(self, given: Mapping[str, Initial] | None = None) -> Flat:
        """The initial guess, (size,): the given ones by name, else the controls' own; clipped.

        Raises InputError for an unknown name, or a guess that :func:`sample` rejects.
        """
        unknown = set(given or {}) - set(self.blocks)
        if unknown:
            checks.reject(
                "start",
                f"unknown control {min(unknown, key=str)!r}",
                f"names among {sorted(self.blocks)}",
            )
        parts = {b.name: sample(b, (given or {}).get(b.name, b.control.initial)) for b in self}
        return np.asarray(np.clip(self.assemble(parts), *self.bounds))

    # -- quadratic forms ---------------------------------------------------------------------------
    def _per_block(self, w: Flat, fn: Callable[[ControlBlock, np.ndarray], np.ndarray]) -> Flat:
        out = np.zeros(self.size)
        for block in self:
            out[block.part] = fn(block, block.view(w)).reshape(-1)
        return out

    def add_penalty_gradient(self, w: Flat, out: Flat) -> float:
        """Add Q w to ``out`` in place; returns the penalty R = ½ <w, Q w>."""
        total = 0.0
        for block in self:
            if block.penalty is not None:
                v = block.view(w)
                product = block.penalty_product(v)
                out[block.part] += product.reshape(-1)
                total += 0.5 * float(np.vdot(v, product))
        return total

    def penalty_gradient(self, w: Flat) -> Flat:
        """Q w."""
        out = np.zeros(self.size)
        self.add_penalty_gradient(w, out)
        return out

    def penalty(self, w: Flat) -> float:
        """R = ½ <w, Q w>."""
        return self.add_penalty_gradient(w, np.zeros(self.size))

    def metric(self, w: Flat) -> Flat:
        """A w."""
        return self._per_block(w, lambda b, v: b.metric.apply(v))

    def riesz(self, r: Flat) -> Flat:
        """A^{-1} r."""
        return self._per_block(r, lambda b, v: b.metric.solve(v))

    @cached_property
    def metric_diagonal(self) -> Flat:
        """The diagonal of A, (size,)."""
        ones = {b.name: np.repeat(b.metric.diagonal[:, None], b.components, 1) for b in self}
        return self.assemble(ones)


def sample(block: ControlBlock, value: Initial) -> np.ndarray:
    """An initial guess sampled at the control's sites, (sites, *shape).

    Numbers and arrays of the control's shape are repeated; arrays with one row per layer are taken
    in the dense form of ``solution.controls[name].array()`` or packed.

    Raises InputError where the values are not finite or fit no such shape, or a callable fails.
    """
    layout, shape = block.layout, block.control.shape
    if isinstance(value, SmoothRandom):
        function = value.function(block.name, block.control, layout.grid.horizon)
        return np.array(np.broadcast_to(function(*layout.positions), (layout.count, *shape)))
    if callable(value):
        return _sample_function(block, value)
    array = checks.array_of(f"initial of {block.name!r}", value)
    full = (layout.count, *shape)
    if layout.on == "ts" and array.shape == (layout.side, layout.side, *shape):
        array = layout.packed(array)
    elif array.shape != full:
        try:
            array = np.array(np.broadcast_to(array, shape))
        except ValueError:
            checks.reject(
                f"initial of {block.name!r}",
                array,
                f"a number, shape {shape}, or grid shape {full}",
            )
        array = np.array(np.broadcast_to(array, full))
    return checks.numbers(f"initial of {block.name!r}", array)


def _sample_function(block: ControlBlock, fn: Callable[..., ArrayLike]) -> np.ndarray:
    layout, shape = block.layout, block.control.shape
    argument = f"initial of {block.name!r}"
    points = np.stack(layout.positions, axis=1) if layout.positions else np.zeros((1, 0))
    rows = np.empty((len(points), *shape))
    for k, point in enumerate(points):
        try:
            rows[k] = np.broadcast_to(np.asarray(fn(*point.tolist()), dtype=float), shape)
        except Exception as error:
            names = {"ts": "(t, s)", "t": "(t)", "const": "()"}[layout.on]
            checks.reject(
                argument,
                f"a callable that failed ({error})",
                f"a function of {names} that returns shape {shape}",
            )
    return checks.numbers(argument, rows)
