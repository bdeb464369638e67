"""How many numbers a discrete problem has of each kind, before anything of it is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.problem import activations
from dnlcontrol.problem.dynamics.base import Affine
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.problem import ControlProblem

# MB of what any use of a discrete problem begins with, in units of float64: a few flat vectors; the
# matrices of penalties and metric with what forms them, five entries a site; nodes and weights
VECTORS = 3
MATRIX_SITE = 50
LAYER = 16
# entries of the second derivatives at all pairs that the adjoint backend keeps, 32 MB in float64
LARGEST_STORE = 4_000_000
# entries of the arguments of a formula, each an instruction or more of what is printed; beyond, its
# own matrix products cost less than a NumPy call for each entry [16 states: printed 58 ms a
# gradient, mapped 75]
MOST_PRINTED = 2000


@dataclass(frozen=True)
class Structure:
    """The sizes of a problem on a grid, all in O(1) of the depth.

    With L layers, N samples, d entries of a state, e of an integral, q of the controls that a
    kernel value reads, and P pairs (l, s).
    """

    problem: ControlProblem
    grid: Grid

    @property
    def depth(self) -> int:
        return self.grid.depth

    @property
    def samples(self) -> int:
        return self.problem.samples

    @cached_property
    def state(self) -> int:
        """d."""
        return math.prod(self.problem.state_shape)

    @cached_property
    def integral(self) -> int:
        """e."""
        return math.prod(self.problem.integral_shape)

    @cached_property
    def pairs(self) -> int:
        """P."""
        return self.grid.pair_count(self.problem.markov)

    @cached_property
    def reads(self) -> int:
        """q."""
        f = self.problem.formulas
        return self._read_by(f.kernel, f.feature)

    @cached_property
    def outer_reads(self) -> int:
        """Entries of the controls that the outer map reads at a layer."""
        return self._read_by(self.problem.formulas.outer)

    def _read_by(self, *formulas: Formula | None) -> int:
        names = frozenset().union(*(f.reads for f in formulas if f is not None))
        return sum(math.prod(c.shape) for k, c in self.problem.controls.items() if k in names)

    # -- unknowns --------------------------------------------------------------------------------
    @cached_property
    def sites(self) -> dict[str, int]:
        """The samples of each control."""
        problem = self.problem
        return {
            name: Layout(self.grid, control.on, name in problem.node_controls).count
            for name, control in problem.controls.items()
        }

    def controls_on(self, *places: str) -> int:
        """The entries of the controls on these places ("ts", "t", "const")."""
        controls = self.problem.controls
        return sum(
            n * math.prod(controls[name].shape)
            for name, n in self.sites.items()
            if controls[name].on in places
        )

    @cached_property
    def controls(self) -> int:
        """All entries of all controls."""
        return self.controls_on("ts", "t", "const")

    @cached_property
    def penalised_sites(self) -> int:
        """The samples of controls with a regulariser: its matrix has a few entries for each."""
        return sum(n for name, n in self.sites.items() if self.problem.regularisers_of(name))

    @cached_property
    def rows(self) -> int:
        """Constraint rows, as ``constraint_rows.Rows`` has them."""
        layers = {"state": self.depth, "path": self.grid.side, "integral": 1, "terminal": 1}
        p = self.problem
        total = 0
        for constraint, formula in zip(p.constraints, p.formulas.constraints, strict=True):
            once = formula is not None and not ({"x", "target"} & formula.reads)
            samples = 1 if once else len(constraint.rows(p.samples))
            shape = p.state_shape if formula is None else formula.shape
            total += layers[constraint.kind] * samples * math.prod(shape)
        return total

    @property
    def state_rows(self) -> bool:
        """Whether constraints are imposed on states along the path."""
        return any(c.kind in ("state", "path") for c in self.problem.constraints)

    # -- arrays ----------------------------------------------------------------------------------
    @property
    def states(self) -> int:
        """x and z at all layers."""
        return (self.depth + 1) * self.samples * (self.state + self.integral)

    @property
    def first(self) -> int:
        """First derivatives of the kernel at all pairs, and of the outer map at all layers."""
        kernel = self.pairs * self.integral * (self.state + self.reads)
        return self.samples * (
            kernel + self._outer * self.state * (self.integral + self.outer_reads)
        )

    @property
    def second(self) -> int:
        """Second derivatives of one number there, in states and controls, of each sample."""
        kernel = self.pairs * (self.state + self.reads) ** 2
        return self.samples * (kernel + self._outer * (self.integral + self.outer_reads) ** 2)

    @property
    def curvature(self) -> int:
        """The same, those in two controls summed over the samples."""
        q, v = self.reads, self.outer_reads
        kernel = self.pairs * (self.samples * self.state * (self.state + q) + q * q)
        outer = self.samples * self.integral * (self.integral + v) + v * v
        return kernel + self._outer * outer

    @property
    def _outer(self) -> int:
        return 0 if self.problem.formulas.outer is None else self.depth + 1

    @property
    def points(self) -> int:
        """What a kernel is called with at all pairs: times and states; places of the controls."""
        return self.pairs * (self.samples * (2 + self.state) + self.reads + 5)

    @property
    def sensitivities(self) -> int:
        """dx/dw, and dz/dw where an outer map parts them, of all layers."""
        wide = self.state + (self.integral if self.problem.formulas.outer else 0)
        return self.samples * (self.depth + 1) * wide * self.controls

    @property
    def least_mb(self) -> float:
        """MB that building the discrete problem takes."""
        entries = VECTORS * self.controls + MATRIX_SITE * self.penalised_sites + LAYER * self.depth
        return 8 * (entries + self.samples * self.state) / 2**20

    @property
    def explicit(self) -> bool:
        """Whether the rule is: at any depth as at a small one, whose weights are formed."""
        return not Grid(2, self.grid.horizon, self.grid.rule).implicit

    # -- ways of the adjoint backend -------------------------------------------------------------
    @cached_property
    def affine(self) -> bool:
        """Whether the columns of the kernel σ(W y + b) are written out (affine_columns.py)."""
        p, affine = self.problem, self.problem.dynamics.affine
        shapes = p.state_shape, p.feature_shape, p.integral_shape
        if not isinstance(affine, Affine) or any(len(shape) != 1 for shape in shapes):
            return False
        names = [k for k in (affine.matrix, affine.bias) if k is not None]
        plain = affine.activation in (None, activations.identity)
        known = plain or activations.derivatives(affine.activation) is not None
        if not known or any(k not in p.controls for k in names):
            return False
        places = {p.controls[k].on for k in names}
        return len(places) == 1 and p.markov == (places != {"ts"})

    @cached_property
    def printed(self) -> bool:
        """Whether formulas are few enough to be printed as NumPy (backends/adjoint/printed/)."""
        own = self.affine or self.problem.dynamics.batched is not None
        return not own and all(entries(f) <= MOST_PRINTED for f in self.problem.formulas.all())

    @property
    def way(self) -> str:
        """The way of backends/adjoint/way.py: stored, printed, chain, tape, columns or dual."""
        f = self.problem.formulas
        entries = self.pairs * self.samples * (self.state + self.reads) ** 2
        if not self.affine and entries <= LARGEST_STORE:
            return "stored"
        if self.printed:
            return "printed"
        moved = f.free_term is not None and "t" in f.free_term.reads
        if self.problem.markov and self.explicit:
            if not self.affine or f.outer or f.feature:
                return "tape"
            return "columns" if moved or self._uneven else "chain"
        return "columns" if self.affine else "dual"

    @property
    def _uneven(self) -> bool:
        """Whether the weights of the layers differ: those of the left rule do not."""
        return self.grid.at_nodes


def entries(formula: Formula) -> int:
    """The numbers that a formula takes."""
    total = 0
    for spec in formula.shapes.values():
        shapes = formula.only(spec).values() if isinstance(spec, Mapping) else [spec]
        total += sum(math.prod(shape) for shape in shapes)
    return total
