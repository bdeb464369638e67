"""Every formula of a one-step problem at all nodes and samples at once, with its derivatives.

The states x (L+1, N, d) and what each node reads of the controls, q (L+1, N, e), are independent
here: every value belongs to one node and one sample, so that the derivative of a sum over all of
them holds the derivative of each. One tape serves all nodes; a Jacobian costs one pass back for
each of its rows, the Lagrangian's Hessian one for each of its columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch.func import vmap

from dnlcontrol.backends.adjoint.sweep.columnwise import Sweep
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.losses import Cost


class NodeControls:
    """What each node reads of the flat controls: q^l = w[index[l]], (L+1, e).

    At cell centres no formula reads a control at t = T: the last cell's stands there.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        columns = [np.zeros((sweep.depth + 1, 0), dtype=int)]
        for block in sweep.space:
            if block.control.on == "ts":  # read by no formula of a one-step problem
                continue
            sites = block.offset + np.arange(block.size).reshape(block.layout.count, -1)
            last = block.layout.count - 1
            columns.append(sites[np.minimum(np.arange(sweep.depth + 1), last)])
            self.shapes[block.name] = block.control.shape
        self.index = np.concatenate(columns, axis=1)

    @property
    def width(self) -> int:
        """e, the entries that a node reads."""
        return self.index.shape[1]

    def unflatten(self, q: Tensor) -> dict[str, Tensor]:
        """name -> one node's control, from q (e,)."""
        out, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + int(np.prod(shape, dtype=int))
            out[name] = q[start:stop].reshape(shape)
            start = stop
        return out


@dataclass(frozen=True)
class NodeTerm:
    """One formula at ``nodes`` and ``samples``: (nodes, samples, size) from x and q there."""

    nodes: np.ndarray
    samples: np.ndarray
    evaluate: Callable[..., Tensor]  # (t, x, q[, target]) of one node and sample -> (size,)
    times: Tensor
    target: Tensor | None = None

    def __call__(self, x: Tensor, q: Tensor) -> Tensor:
        """x (L+1, N, d) and q (L+1, N, e) of all nodes."""
        here = np.ix_(self.nodes, self.samples)
        parts = x[here], q[here]
        count = len(self.nodes) * len(self.samples)
        flat = [part.reshape(count, -1) for part in parts]
        times = self.times[:, None].expand(len(self.nodes), len(self.samples)).reshape(-1)
        extra = []
        if self.target is not None:
            rows = self.target[self.samples]
            extra = [rows.repeat(len(self.nodes), *[1] * (rows.ndim - 1))]
        values = vmap(self.evaluate)(times, *flat, *extra)
        return values.reshape(len(self.nodes), len(self.samples), -1)


class NodeTerms:
    """The right side of the steps, running and terminal cost, and the constraint rows."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.problem = sweep, sweep.problem
        self.controls = NodeControls(sweep)
        f, p = self.problem.formulas, self.problem
        path, end = sweep.grid.path, np.array([sweep.depth])
        self.right = self._term(path, self._right, None)
        self.running = f.running and self._of(f.running, path, _target(p.running))
        self.terminal = f.terminal and self._of(f.terminal, end, _target(p.terminal))
        self.rows = [self._row(block) for block in sweep.discrete.rows.blocks]

    def _term(
        self,
        nodes: np.ndarray,
        evaluate: Callable[..., Tensor],
        target: np.ndarray | None,
        samples: np.ndarray | None = None,
    ) -> NodeTerm:
        here = np.arange(self.problem.samples) if samples is None else samples
        rows = None if target is None else self.sweep.tensor(target)
        return NodeTerm(nodes, here, evaluate, self.sweep.nodes[nodes], rows)

    def _right(self, t: Tensor, x: Tensor, q: Tensor) -> Tensor:
        """k(·, t, F(t, x, u), u) of one node; it does not read its first argument."""
        f, engine = self.problem.formulas, self.sweep.formulas.engine
        u, y = self.controls.unflatten(q), x.reshape(self.problem.state_shape)
        if f.feature:
            y = f.feature(engine, t, y, f.feature.only(u))
        return f.kernel(engine, t, t, y, f.kernel.only(u)).reshape(-1)

    def _of(
        self,
        formula: Formula,
        nodes: np.ndarray,
        target: np.ndarray | None,
        samples: np.ndarray | None = None,
    ) -> NodeTerm:
        """A cost or a constraint: without t where its formula is not given it."""
        engine, timed = self.sweep.formulas.engine, "t" in formula.shapes

        def evaluate(t: Tensor, x: Tensor, q: Tensor, *extra: Tensor) -> Tensor:
            state = x.reshape(self.problem.state_shape)
            u = formula.only(self.controls.unflatten(q))
            return formula(engine, *([t] if timed else []), state, u, *extra).reshape(-1)

        return self._term(nodes, evaluate, target, samples)

    def _row(self, block: RowBlock) -> NodeTerm:
        """The values that make up a block, at their nodes; an integral is not summed yet."""
        kind = block.constraint.kind
        nodes = self.sweep.grid.path if kind == "integral" else block.layers
        if block.formula is None:
            return self._term(nodes, _state, None, block.samples)
        return self._of(block.formula, nodes, block.constraint.target, block.samples)


def _state(_t: Tensor, x: Tensor, _q: Tensor) -> Tensor:
    """The state itself, as its bounds see it."""
    return x


def _target(cost: Cost | None) -> np.ndarray | None:
    """The targets of a cost, one row a sample, where it has any."""
    return None if cost is None else cost.target
