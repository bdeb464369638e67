"""The problem, free of grids and backends: data, dynamics, controls, cost, penalties,
constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.formula import Formula, Shape, trace
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.regularisers import Regulariser, check_all

# A formula's reads mix its arguments with the controls behind u and c: names must not coincide.
ARGUMENTS = ("t", "s", "x", "y", "z", "g", "x0", "target")


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


class ControlProblem:
    """min J = (1/N) Σ_n [Φ(x_n(T)) + ∫_0^T ℓ(t, x_n, v) dt] + R(controls) subject to the state
    equation.

    The state equation is x(t) = G(t, g(t), ∫_0^t k(t, s, F(s, x(s), v(s)), w(t, s)) ds, v(t)).

    Parameters
    ----------
    name : a short name.
    horizon : T > 0.
    x0 : (N, *state shape), one row per sample; the state's rank is at most 2.
    dynamics : ``Volterra``, ``ODE``, ``Dense``, ``ResNet`` or another :class:`Dynamics`.
    controls : name -> ``Control``; adds to or overrides those of the dynamics and of the loss.
    terminal : Φ, ``fn(x, c)`` returning a 0-d value, or a loss such as ``losses.squared(Y)``.
    running : ℓ, ``fn(t, x, u)``; with targets: ``cost(fn, target=Y)``.
    regularisers : a list of ``H1``, ``L2``, ``TvG``.
    constraints : a list of ``state_bounds``, ``path_constraint``, ``integral_constraint``,
        ``terminal_constraint``.

    Raises
    ------
    InputError (a ValueError) that names the argument, what was seen and what is allowed.

    >>> import numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     name="growth",
    ...     horizon=1.0,
    ...     x0=np.ones((1, 1)),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u * x),
    ...     controls={"u": dnl.Control(())},
    ...     terminal=lambda x, c: (x[0] - 2.0) ** 2,
    ...     regularisers=[dnl.L2("u", 1.0)],
    ... )
    >>> problem.samples, problem.state_shape, problem.markov
    (1, (1,), True)
    """

    def __init__(
        self,
        *,
        name: str = "problem",
        horizon: float = 1.0,
        x0: Any,
        dynamics: Dynamics,
        controls: Mapping[str, Control] | None = None,
        terminal: Cost | Callable[..., Any] | None = None,
        running: Cost | Callable[..., Any] | None = None,
        regularisers: Sequence[Regulariser] = (),
        constraints: Sequence[Constraint] = (),
    ) -> None:
        if not isinstance(name, str) or not name:
            checks.reject_type("name", name, "a non-empty string")
        self.name = name
        self.horizon = checks.positive("horizon", horizon)
        self.x0 = _data(x0)
        self.dynamics = dynamics
        if not isinstance(dynamics, Dynamics) or not callable(getattr(dynamics, "kernel", None)):
            checks.reject_type(
                "dynamics",
                dynamics,
                "Volterra(...), ODE(...), Dense(...), ResNet(...) or a Dynamics",
            )
        self.terminal = self._cost("terminal", terminal)
        self.running = self._cost("running", running)
        self.controls = self._merge(controls)
        self.constraints = tuple(self._constraint(c) for c in _sequence("constraints", constraints))
        _unique("constraints", [c.name for c in self.constraints])
        self.formulas = self._trace()
        self._check_all_read()
        self.regularisers = check_all(regularisers)
        for item in self.regularisers:
            if item.name not in self.controls:
                checks.reject(
                    f"{type(item).__name__}.name", item.name, f"one of {sorted(self.controls)}"
                )
            item.check(self.controls[item.name].on)

    # -- what the problem says ---------------------------------------------------------------------
    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return int(self.x0.shape[0])

    @property
    def state_shape(self) -> Shape:
        return tuple(int(n) for n in self.x0.shape[1:])

    @property
    def feature_shape(self) -> Shape:
        """The shape of y = F(s, x, v)."""
        return self.formulas.feature.shape if self.formulas.feature else self.state_shape

    @property
    def integral_shape(self) -> Shape:
        """The shape of z = ∫ k ds."""
        return self.formulas.kernel.shape

    @property
    def markov(self) -> bool:
        """The kernel reads neither t nor a triangular control: z^{l+1} = z^l + τ k, O(L)."""
        triangular = {k for k, c in self.controls.items() if c.on == "ts"}
        return not ({"t", *triangular} & self.formulas.kernel.reads)

    @property
    def node_controls(self) -> frozenset[str]:
        """Path controls that the outer map reads: they have samples at the L+1 nodes."""
        if self.formulas.outer is None:
            return frozenset()
        return frozenset(
            k for k, c in self.controls.items() if c.on == "t" and k in self.formulas.outer.reads
        )

    def regularisers_of(self, name: str) -> list[Regulariser]:
        return [r for r in self.regularisers if r.name == name]

    def __repr__(self) -> str:
        controls = sorted(self.controls)
        return (
            f"ControlProblem({self.name!r}, N={self.samples}, state {self.state_shape}, "
            f"controls {controls})"
        )

    # -- construction ------------------------------------------------------------------------------
    def _cost(self, argument: str, value: Any) -> Cost | None:
        if value is None or isinstance(value, Cost):
            found = value
        elif callable(value):
            found = Cost(value)
        else:
            checks.reject_type(
                argument, value, "a function, a loss such as losses.squared(Y), or None"
            )
        if (
            found is not None
            and found.target is not None
            and found.target.shape[:1] != (self.samples,)
        ):
            checks.reject(
                f"{argument}.target",
                found.target,
                f"one row for each of the {self.samples} samples",
            )
        if found is not None and found.target is not None and found.target.ndim > 3:
            checks.reject(f"{argument}.target", found.target, "rows of rank <= 2")
        return found

    def _merge(self, controls: Any) -> dict[str, Control]:
        if not isinstance(controls, (Mapping, type(None))):
            checks.reject_type("controls", controls, "a mapping name -> Control")
        given = {} if controls is None else dict(controls)
        merged = dict(self.dynamics.own_controls)
        for part in (self.terminal, self.running):
            merged.update(part.controls if part else {})
        for key, control in {**merged, **given}.items():
            if not isinstance(key, str) or not key.isidentifier() or key.startswith("_"):
                checks.reject(
                    "controls",
                    f"name {key!r}",
                    "names that are Python identifiers without a leading underscore",
                )
            if key in ARGUMENTS:
                allowed = f"names other than those of formula arguments ({', '.join(ARGUMENTS)})"
                checks.reject("controls", f"name {key!r}", allowed)
            if not isinstance(control, Control):
                checks.reject_type(f"controls[{key!r}]", control, "Control(shape, on=...)")
        return {**merged, **given}

    def _constraint(self, value: Any) -> Constraint:
        if not isinstance(value, Constraint):
            checks.reject_type(
                "constraints",
                value,
                "state_bounds(...), path_constraint(...), integral_constraint(...), "
                "terminal_constraint(...)",
            )
        return value.aligned(self.samples)

    def _shapes(self, *places: str) -> dict[str, Shape]:
        return {k: c.shape for k, c in self.controls.items() if c.on in places}

    def _trace(self) -> Formulas:
        time: dict[str, Any] = {"t": ()}
        on_path, constants = self._shapes("t", "const"), self._shapes("const")
        state = self.state_shape
        d = self.dynamics

        def run(
            name: str, fn: Any, shapes: dict[str, Any], shape: Shape | None, target: Any = None
        ) -> Formula:
            if target is not None:
                shapes = {**shapes, "target": target.shape[1:]}
            return trace(
                name,
                fn,
                shapes,
                shape,
                self.horizon,
                None if target is None else {"target": target[0]},
            )

        free = run("free_term", d.free_term, {**time, "x0": state}, None) if d.free_term else None
        if free is not None and d.outer is None and free.shape != state:
            checks.reject(
                "free_term", f"a result of shape {free.shape}", f"the state's shape {state}"
            )
        feature = (
            run("feature", d.feature, {"s": (), "x": state, "u": on_path}, None)
            if d.feature
            else None
        )
        y = feature.shape if feature else state
        every = self._shapes("ts", "t", "const")
        kernel = run(
            "kernel", d.kernel, {**time, "s": (), "y": y, "u": every}, None if d.outer else state
        )
        outer = None
        if d.outer:
            g = free.shape if free else state
            outer = run("outer", d.outer, {**time, "g": g, "z": kernel.shape, "u": on_path}, state)
        running = terminal = None
        if self.running:
            running = run(
                "running",
                self.running.function,
                {**time, "x": state, "u": on_path},
                (),
                self.running.target,
            )
        if self.terminal:
            terminal = run(
                "terminal",
                self.terminal.function,
                {"x": state, "c": constants},
                (),
                self.terminal.target,
            )
        parts: list[Formula | None] = []
        for c in self.constraints:
            if c.function is None:
                c.bounds(state)
                parts.append(None)
                continue
            shapes = (
                {"x": state, "c": constants}
                if c.kind == "terminal"
                else {**time, "x": state, "u": on_path}
            )
            formula = run(c.name, c.function, shapes, None, c.target)
            if len(formula.shape) > 1:
                checks.reject(c.name, f"a result of shape {formula.shape}", "shape () or (k,)")
            c.bounds(formula.shape)
            parts.append(formula)
        return Formulas(kernel, free, feature, outer, running, terminal, tuple(parts))

    def _check_all_read(self) -> None:
        read = set().union(*(f.reads for f in self.formulas.all()))
        for name in self.controls:
            if name not in read:
                checks.reject(
                    "controls",
                    f"control {name!r} that no formula reads",
                    "controls that a formula reads",
                )


def _data(x0: Any) -> np.ndarray:
    array = checks.numbers("x0", x0, "finite numbers, shape (N, *state shape)")
    if array.ndim < 1 or array.ndim > 3 or 0 in array.shape:
        checks.reject("x0", array, "shape (N, *state shape), N >= 1, a state of rank <= 2")
    array.setflags(write=False)
    return array


def _sequence(argument: str, value: Any) -> Sequence[Any]:
    if isinstance(value, Constraint):
        return [value]
    if not isinstance(value, (list, tuple)):
        checks.reject_type(argument, value, "a list")
    return value


def _unique(argument: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            checks.reject(
                argument, f"the name {name!r} {names.count(name)} times", "one name each (name=...)"
            )
