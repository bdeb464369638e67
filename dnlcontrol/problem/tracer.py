"""All formulas of one problem, run at seeded points: their shapes, and what each of them reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import UserFormula
from dnlcontrol.problem.formula import Formula, Shape, Shapes, trace
from dnlcontrol.problem.losses import Cost


@dataclass(frozen=True)
class Formulas:
    """The traced formulas of one problem; None where the default (or nothing) applies."""

    kernel: Formula
    free_term: Formula | None
    feature: Formula | None
    outer: Formula | None
    running: Formula | None
    terminal: Formula | None
    constraints: tuple[Formula | None, ...]

    def all(self) -> list[Formula]:
        """Those that there are."""
        named = [
            self.kernel,
            self.free_term,
            self.feature,
            self.outer,
            self.running,
            self.terminal,
            *self.constraints,
        ]
        return [f for f in named if f is not None]

    @property
    def kinks(self) -> frozenset[str]:
        """The kinds of kinks in any of them; see :class:`Formula`."""
        return frozenset().union(*(f.kinks for f in self.all()))


@dataclass(frozen=True)
class Tracer:
    """Runs the functions of one problem; each method gives the function its arguments' shapes.

    ``state`` is the shape of x, ``controls`` those of the problem.
    """

    state: Shape
    horizon: float
    controls: Mapping[str, Control]

    def formulas(
        self,
        dynamics: Dynamics,
        running: Cost | None,
        terminal: Cost | None,
        constraints: Sequence[Constraint],
    ) -> Formulas:
        """Every formula.

        Raises InputError where one fails, or returns another shape than its place allows.
        """
        free = self.free_term(dynamics)
        feature = self.feature(dynamics)
        kernel = self.kernel(dynamics, feature.shape if feature else self.state)
        return Formulas(
            kernel=kernel,
            free_term=free,
            feature=feature,
            outer=self.outer(dynamics, free.shape if free else self.state, kernel.shape),
            running=self.running(running),
            terminal=self.terminal(terminal),
            constraints=tuple(self.constraint(c) for c in constraints),
        )

    def free_term(self, d: Dynamics) -> Formula | None:
        """g(t, x0), of the state's shape unless an outer map takes it."""
        if not d.free_term:
            return None
        free = self._run("free_term", d.free_term, {"t": (), "x0": self.state}, None)
        if d.outer is None and free.shape != self.state:
            seen = f"a result of shape {free.shape}"
            checks.reject("free_term", seen, f"the state's shape {self.state}")
        return free

    def feature(self, d: Dynamics) -> Formula | None:
        """y = F(s, x, v), of any shape."""
        if not d.feature:
            return None
        return self._run("feature", d.feature, {"s": (), "x": self.state, "u": self._path}, None)

    def kernel(self, d: Dynamics, y: Shape) -> Formula:
        """k(t, s, y, w), of the state's shape unless an outer map takes its integral."""
        shapes: Shapes = {"t": (), "s": (), "y": y, "u": self._on("ts", "t", "const")}
        return self._run("kernel", d.kernel, shapes, None if d.outer else self.state)

    def outer(self, d: Dynamics, g: Shape, z: Shape) -> Formula | None:
        """x = G(t, g, z, v)."""
        if not d.outer:
            return None
        shapes: Shapes = {"t": (), "g": g, "z": z, "u": self._path}
        return self._run("outer", d.outer, shapes, self.state)

    def running(self, cost: Cost | None) -> Formula | None:
        """ℓ(t, x, v[, target]), 0-d."""
        if cost is None:
            return None
        return self._run("running", cost.function, self._along_path, (), cost.target)

    def terminal(self, cost: Cost | None) -> Formula | None:
        """Φ(x, c[, target]), 0-d."""
        if cost is None:
            return None
        return self._run("terminal", cost.function, self._at_end, (), cost.target)

    def constraint(self, c: Constraint) -> Formula | None:
        """c(t, x, v) or c(x, constants[, target]), () or (k,); None for bounds on the state."""
        if c.function is None:
            c.bounds(self.state)
            return None
        shapes = self._at_end if c.kind == "terminal" else self._along_path
        formula = self._run(c.name, c.function, shapes, None, c.target)
        if len(formula.shape) > 1:
            checks.reject(c.name, f"a result of shape {formula.shape}", "shape () or (k,)")
        c.bounds(formula.shape)
        return formula

    @property
    def _path(self) -> dict[str, Shape]:
        return self._on("t", "const")

    @property
    def _along_path(self) -> Shapes:
        return {"t": (), "x": self.state, "u": self._path}

    @property
    def _at_end(self) -> Shapes:
        return {"x": self.state, "c": self._on("const")}

    def _on(self, *places: str) -> dict[str, Shape]:
        return {k: c.shape for k, c in self.controls.items() if c.on in places}

    def _run(
        self,
        name: str,
        function: UserFormula,
        shapes: Shapes,
        shape: Shape | None,
        target: np.ndarray | None = None,
    ) -> Formula:
        """``target``: (N, *row), whose first row takes the place of a random one."""
        if target is None:
            return trace(name, function, shapes, shape, self.horizon)
        with_target = {**shapes, "target": target.shape[1:]}
        return trace(name, function, with_target, shape, self.horizon, {"target": target[0]})
