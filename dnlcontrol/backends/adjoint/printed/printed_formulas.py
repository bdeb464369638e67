"""The formulas of one problem, printed; made once for a problem, whatever its depths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.adjoint.printed.node_map import NodeMap, control
from dnlcontrol.backends.adjoint.printed.source import NotPrintable
from dnlcontrol.backends.by_identity import ByIdentity
from dnlcontrol.discretisation.resources.counts import MOST_PRINTED, entries
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.problem import ControlProblem


@dataclass(frozen=True)
class PrintedFormulas:
    """Every formula of a problem as a map over layers and samples; None where there is none.

    ``rows`` has one for each constraint, None for bounds on the state.
    """

    kernel: NodeMap
    feature: NodeMap | None
    outer: NodeMap | None
    running: NodeMap | None
    terminal: NodeMap | None
    rows: tuple[NodeMap | None, ...]

    @classmethod
    def of(cls, problem: ControlProblem) -> PrintedFormulas | None:
        """Those of a problem; None where one has no printed form, or a long one."""
        if problem not in _known:
            _known[problem] = _printed(problem)
        return _known[problem]

    def all(self) -> list[NodeMap]:
        """Those that there are."""
        maps = [self.kernel, self.feature, self.outer, self.running, self.terminal, *self.rows]
        return [m for m in maps if m is not None]


_known: ByIdentity[PrintedFormulas | None] = ByIdentity()


def _printed(problem: ControlProblem) -> PrintedFormulas | None:
    f, p = problem.formulas, problem
    if any(entries(formula) > MOST_PRINTED for formula in f.all()):
        return None
    try:
        found = PrintedFormulas(
            kernel=_kernel(p),
            feature=_at_layer(p, f.feature),
            outer=_at_layer(p, f.outer),
            running=_along(p, f.running, p.running),
            terminal=_at_end(p, f.terminal, p.terminal),
            rows=tuple(
                _at_end(p, formula, c) if c.kind == "terminal" else _along(p, formula, c)
                for formula, c in zip(f.constraints, p.constraints, strict=True)
            ),
        )
        short = sum(m.instructions for m in found.all()) <= MOST_PRINTED
    except NotPrintable:
        return None
    return found if short else None


def _kernel(p: ControlProblem) -> NodeMap:
    """k(t, s, y, u) over layers and samples; triangular controls vary with the layer."""
    formula = p.formulas.kernel
    extents = {"t": "m", "s": "", "y": "n"}
    for k in formula.reads & set(p.controls):
        extents[control(k)] = "m" if p.controls[k].on == "ts" else ""
    return NodeMap(formula, p.horizon, {}, "mn", extents)


def _at_layer(p: ControlProblem, formula: Formula | None) -> NodeMap | None:
    """F(s, x, u) or G(t, g, z, u) over samples."""
    if formula is None:
        return None
    extents = {"t": "", "s": "", "x": "n", "g": "n", "z": "n"}
    extents |= {control(k): "" for k in formula.reads}
    return NodeMap(formula, p.horizon, {}, "n", extents)


def _along(
    p: ControlProblem, formula: Formula | None, owner: Cost | Constraint | None
) -> NodeMap | None:
    """ℓ(t, x, u[, target]) over layers and samples."""
    if formula is None:
        return None
    extents = {"t": "m", "x": "mn", "target": "n"}
    for k in formula.reads & set(p.controls):
        extents[control(k)] = "m" if p.controls[k].on == "t" else ""
    return NodeMap(formula, p.horizon, _target(owner), "mn", extents)


def _at_end(
    p: ControlProblem, formula: Formula | None, owner: Cost | Constraint | None
) -> NodeMap | None:
    """Φ(x, c[, target]) over samples."""
    if formula is None:
        return None
    extents = {"x": "n", "target": "n"} | {control(k): "" for k in formula.reads}
    return NodeMap(formula, p.horizon, _target(owner), "n", extents)


def _target(owner: Cost | Constraint | None) -> dict[str, np.ndarray]:
    return {} if owner is None or owner.target is None else {"target": owner.target[0]}
