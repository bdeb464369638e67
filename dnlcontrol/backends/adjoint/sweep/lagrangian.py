"""Cost plus constraint terms as a function of states and controls, for all layers and samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.problem.formula import Formula


class Lagrangian:
    """(1/N) Σ [Φ + τ Σ ℓ] + constraint terms for one chunk of samples; no penalties on controls."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.problem = sweep, sweep.problem
        self.rows = sweep.discrete.rows
        v, f = sweep.formulas, self.problem.formulas
        self.terminal = v.over_samples(f.terminal) if f.terminal else None
        self.running = v.over_nodes(f.running) if f.running else None
        self.weights = sweep.tensor(sweep.grid.running_weights[sweep.grid.path])
        self.parts = [self._mapped(b) for b in self.rows.blocks]
        self.targets = {
            name: None if c is None or c.target is None else sweep.tensor(c.target)
            for name, c in (("terminal", self.problem.terminal), ("running", self.problem.running))
        }
        self.row_targets = [
            None if b.constraint.target is None else sweep.tensor(b.constraint.target)
            for b in self.rows.blocks
        ]
        self.bounds = [sweep.tensor(side) for side in self.rows.bounds]

    def reads_end_only(self, multipliers: Multipliers | None) -> bool:
        """Whether :meth:`value` reads no state but x^L; it may then be given x[-1:]."""
        return self.running is None and (multipliers is None or not self.rows.size)

    def _mapped(self, block: RowBlock) -> Callable[..., Tensor] | None:
        if block.formula is None:
            return None
        over = self.sweep.formulas
        return (over.over_samples if block.constraint.kind == "terminal" else over.over_nodes)(
            block.formula
        )

    def visible(self, u: Tensors) -> dict[str, Tensor]:
        """The controls that costs and constraints may read: those on the path and the constants."""
        return {k: v for k, v in u.items() if self.problem.controls[k].on != "ts"}

    def _path(self, u: Tensors, formula: Formula, upto: int) -> dict[str, Tensor]:
        return {
            k: v[:upto]
            for k, v in u.items()
            if k in formula.reads and self.problem.controls[k].on == "t"
        }

    def constants(self, u: Tensors, formula: Formula) -> dict[str, Tensor]:
        """name -> (*shape), the constants that a formula reads."""
        return {
            k: v[0]
            for k, v in u.items()
            if k in formula.reads and self.problem.controls[k].on == "const"
        }

    def cost(self, x: Tensor, u: Tensors, data: Data) -> Tensor:
        """The share of this chunk in the mean over all samples; x (L+1, n, *state)."""
        f, total = self.problem.formulas, x.new_zeros(())
        if self.terminal is not None and f.terminal is not None:
            target = self.targets["terminal"]
            extra = [] if target is None else [target[data.index]]
            total = total + self.terminal(x[-1], self.constants(u, f.terminal), *extra).sum()
        if self.running is not None and f.running is not None:
            target = self.targets["running"]
            extra = [] if target is None else [target[data.index]]
            values = self.over_path(self.running, f.running, x, u, extra)
            total = total + (self.weights @ values).sum()
        return total / self.problem.samples

    def over_path(
        self,
        mapped: Callable[..., Tensor],
        formula: Formula,
        x: Tensor,
        u: Tensors,
        extra: list[Tensor],
    ) -> Tensor:
        """A running cost or path constraint at its layers, (m, n, *shape)."""
        m = self.sweep.grid.side  # running cost and path constraints stand at the layers 0..m-1
        return mapped(
            self.sweep.nodes[:m],
            x[:m],
            self._path(u, formula, m),
            self.constants(u, formula),
            *extra,
        )

    def chunk_rows(self, block: RowBlock, data: Data) -> tuple[np.ndarray, np.ndarray]:
        """Positions within the block and rows within the chunk of the samples that both hold."""
        here = (block.samples >= data.index.start) & (block.samples < data.index.stop)
        return np.flatnonzero(here), block.samples[here] - data.index.start

    def constraints(self, x: Tensor, u: Tensors, data: Data) -> list[tuple[Tensor, np.ndarray]]:
        """Each block's values of this chunk, (layers, samples here, *shape), and flat positions."""
        found = []
        for k, block in enumerate(self.rows.blocks):
            positions, rows = self.chunk_rows(block, data)
            if not len(rows):
                continue
            index = np.arange(block.size).reshape(block.full_shape)[:, positions] + block.offset
            found.append((self._block(k, block, x[:, rows], u, data, rows), index))
        return found

    def _block(
        self, k: int, block: RowBlock, x: Tensor, u: Tensors, data: Data, rows: np.ndarray
    ) -> Tensor:
        part = self.parts[k]
        if block.formula is None or part is None:
            return x[1:]
        if block.constraint.kind == "terminal":
            target = self.row_targets[k]
            extra = [] if target is None else [target[data.index][rows]]
            return part(x[-1], self.constants(u, block.formula), *extra)[None]
        values = self.over_path(part, block.formula, x, u, [])
        return (
            torch.tensordot(self.weights, values, 1)[None]
            if block.constraint.kind == "integral"
            else values
        )

    def value(self, x: Tensor, u: Tensors, data: Data, multipliers: Multipliers | None) -> Tensor:
        """Cost plus constraint terms of one chunk; x (L+1, n, *state)."""
        total = self.cost(x, u, data)
        if multipliers is None or not self.rows.size:
            return total
        total = multipliers.cost * total
        for c, index in self.constraints(x, u, data):
            mu = self.sweep.tensor(multipliers.mu[index])
            if not np.any(multipliers.rho):
                total = total + (mu * c).sum()
                continue
            rho = self.sweep.tensor(np.broadcast_to(multipliers.rho, multipliers.mu.shape)[index])
            lower, upper = self.bounds[0][index], self.bounds[1][index]
            shifted = c + mu / rho
            outside = torch.relu(shifted - upper) - torch.relu(lower - shifted)
            total = total + 0.5 * (rho * outside**2).sum() - (mu**2 / (2 * rho)).sum()
        return total
