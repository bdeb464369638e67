"""A problem whose kinks stand on sides that are given: J(w, θ), smooth in both.

Each switch of a formula becomes θ p + (1 - θ) q with a side θ of its own at every node and sample,
an entry of a further control ``sides_<formula>``, (N, entries). With θ = 1 where a > 0 and 0 where
a < 0 it is the same problem. Where a = 0 both branches agree, and {∇_w J(w, θ) : θ in [0, 1]} are
the generalised gradients; ∂J/∂θ is a multiple of a, so that a stationary point of J in w and the
sides of the active kinks is one on the kinks, θ their multipliers. A sample finds its side by its
number, which its state carries along: every array x becomes (x flattened, number).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.problem.array import engine_behind, unwrap
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.engines import Engine, FormulaArray, FormulaControls, Native, UserFormula
from dnlcontrol.problem.formula import Formula, Shape, Switch
from dnlcontrol.problem.kinks.rewritten import RewrittenDynamics, kept
from dnlcontrol.problem.kinks.switches import natural
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.namespace import namespace
from dnlcontrol.problem.problem import ControlProblem

PREFIX = "sides_"


@dataclass(frozen=True)
class SidedProblem:
    """The problem with sides, and what stands behind each of the further controls.

    ``places``: name of the control -> the formula of the original problem.
    """

    problem: ControlProblem
    original: ControlProblem
    places: dict[str, Formula]


class Sider:
    """Puts each moving switch on its side; ``sides`` (entries,) in the order of evaluation."""

    def __init__(self, sides: Native, switches: tuple[Switch, ...]) -> None:
        self._sides = sides
        self._coming = iter(switches)
        self._next = 0

    def switch(
        self, engine: Engine, kind: str, argument: Native, branches: tuple[Native, Native]
    ) -> Native:
        """θ p + (1 - θ) q."""
        switch = next(self._coming)
        assert switch.kind == kind
        if not switch.moves:
            return natural(engine, argument, branches)
        part = (slice(self._next, self._next + switch.size),)
        self._next += switch.size
        shape = tuple(int(n) for n in argument.shape)
        theta = engine.reshape(engine.getitem(self._sides, part), shape)
        p, q = branches
        return theta * p + (1.0 - theta) * q


def entries(formula: Formula) -> int:
    """How many kinks one evaluation of a formula has."""
    return sum(s.size for s in formula.switches if s.moves)


def sided(problem: ControlProblem) -> SidedProblem:
    """The problem with sides; for one without constraints beyond control bounds."""
    f = problem.formulas
    builder = _Builder(problem)
    names = {"kernel": f.kernel, "feature": f.feature, "outer": f.outer}
    names |= {"running": f.running, "terminal": f.terminal}
    places = {PREFIX + k: g for k, g in names.items() if g is not None and entries(g)}
    controls = {
        name: Control((problem.samples, entries(g)), on=builder.place(name))
        for name, g in places.items()
    }
    made = ControlProblem(
        name=problem.name,
        horizon=problem.horizon,
        x0=builder.inputs(),
        dynamics=builder.dynamics(),
        controls={**problem.controls, **controls},
        terminal=builder.cost(problem.terminal, f.terminal, "terminal"),
        running=builder.cost(problem.running, f.running, "running"),
        regularisers=problem.regularisers,
    )
    return SidedProblem(made, problem, places)


@dataclass(frozen=True)
class _Builder:
    """The wrapped functions of one problem."""

    problem: ControlProblem

    def place(self, name: str) -> str:
        """Where the sides of a formula live: one for each of its evaluations."""
        if name == PREFIX + "terminal":
            return "const"
        return "ts" if name == PREFIX + "kernel" and not self.problem.markov else "t"

    def inputs(self) -> np.ndarray:
        """x0 with the samples' numbers, (N, size + 1)."""
        N = self.problem.samples
        flat = self.problem.x0.reshape(N, -1)
        return np.concatenate([flat, np.arange(N, dtype=float)[:, None]], axis=1)

    def dynamics(self) -> RewrittenDynamics:
        """Every function on flattened arrays, the number handed on by feature and free term."""
        p, f, d = self.problem, self.problem.formulas, self.problem.dynamics
        state, z = p.state_shape, p.integral_shape
        y = p.feature_shape
        g = f.free_term.shape if f.free_term else state
        kernel_of = self._with_sides(f.kernel, d.kernel, "kernel")

        def kernel(
            t: FormulaArray, s: FormulaArray, v: FormulaArray, u: FormulaControls
        ) -> FormulaArray:
            return _packed(kernel_of(_number(v), u, t, s, _unpacked(v, y), u), 0.0 * _number(v))

        def free_term(t: FormulaArray, v: FormulaArray) -> FormulaArray:
            assert d.free_term is not None
            return _packed(d.free_term(t, _unpacked(v, state)), _number(v))

        def feature(s: FormulaArray, v: FormulaArray, u: FormulaControls) -> FormulaArray:
            assert f.feature is not None and d.feature is not None
            of = self._with_sides(f.feature, d.feature, "feature")
            return _packed(of(_number(v), u, s, _unpacked(v, state), u), _number(v))

        def outer(
            t: FormulaArray, v: FormulaArray, w: FormulaArray, u: FormulaControls
        ) -> FormulaArray:
            assert f.outer is not None and d.outer is not None
            of = self._with_sides(f.outer, d.outer, "outer")
            x = of(_number(v), u, t, _unpacked(v, g), _unpacked(w, z), u)
            return _packed(x, _number(v) + 0.0 * _number(w))

        return RewrittenDynamics(
            d,
            kernel,
            free_term if f.free_term else None,
            feature if f.feature else None,
            outer if f.outer else None,
        )

    def cost(self, cost: Cost | None, formula: Formula | None, name: str) -> Cost | None:
        """A terminal or running cost on flattened states."""
        if cost is None or formula is None:
            return None
        of = self._with_sides(formula, cost.function, name)
        state = self.problem.state_shape

        def terminal(v: FormulaArray, c: FormulaControls, *target: FormulaArray) -> FormulaArray:
            return of(_number(v), c, _unpacked(v, state), c, *target)

        def running(
            t: FormulaArray, v: FormulaArray, u: FormulaControls, *target: FormulaArray
        ) -> FormulaArray:
            return of(_number(v), u, t, _unpacked(v, state), u, *target)

        return replace(cost, function=terminal if name == "terminal" else running)

    def _with_sides(
        self, formula: Formula, function: UserFormula, name: str
    ) -> Callable[..., FormulaArray]:
        """(number, controls, *arguments) -> the function's value, its kinks on their sides."""
        if not entries(formula):
            return lambda _number, _u, *arguments: function(*arguments)
        samples = self.problem.samples

        def value(
            number: FormulaArray, u: FormulaControls, *arguments: FormulaArray
        ) -> FormulaArray:
            engine = engine_behind(number)
            xp = namespace(number)
            off = xp.asarray(np.arange(samples, dtype=float)) - number
            mine = xp.where(off > -0.5, 1.0, 0.0) * xp.where(off < 0.5, 1.0, 0.0)
            sides = unwrap(mine @ u[PREFIX + name], engine)
            return kept(function, lambda *_: Sider(sides, formula.switches))(*arguments)

        return value


def _packed(x: FormulaArray, number: FormulaArray) -> FormulaArray:
    """(x flattened, number)."""
    xp = namespace(number)
    flat = xp.reshape(xp.asarray(x), (-1,))
    return xp.concat([flat, xp.reshape(number, (1,))])


def _unpacked(v: FormulaArray, shape: Shape) -> FormulaArray:
    """x, of its shape, from (x flattened, number)."""
    return namespace(v).reshape(v[: v.shape[0] - 1], shape)


def _number(v: FormulaArray) -> FormulaArray:
    """The number of the sample, 0-d."""
    return v[v.shape[0] - 1]
