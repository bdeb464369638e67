"""A problem in other units: a change of variables that both backends see as one more problem.

    u = D v,    x = S ξ,    J/J0,    c/r

The formulas are the user's own, wrapped; penalties, bounds
and the data x0 change with them. Where nothing has a scale the problem is the user's object itself,
and where nothing that the state equation reads has one it keeps its dynamics, with their batched
and affine kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.namespace import namespace
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.regularisers import Regulariser

Scales = Mapping[str, np.ndarray]

State = tuple[int, str]
"""Which argument of a formula is a state (or x0, or a free term that is x0), and its name."""


@dataclass(frozen=True)
class Scaling:
    """J0, D by control, r by constraint and S, each an array of the shape of what it scales.

    A control, a constraint or a state without an entry keeps its unit. The rows of state bounds
    have the unit of the state.
    """

    cost: float = 1.0
    controls: Scales = field(default_factory=dict)
    rows: Scales = field(default_factory=dict)
    states: np.ndarray | None = None

    @property
    def trivial(self) -> bool:
        """Whether nothing has a scale."""
        return self.cost == 1.0 and not self.controls and not self.rows and self.states is None

    def of_row(self, constraint: Constraint) -> np.ndarray | float:
        """r of one constraint, of its shape, or 1."""
        if constraint.function is None:
            return 1.0 if self.states is None else self.states
        return self.rows.get(constraint.name, 1.0)

    def flat(self, space: ControlSpace) -> Flat:
        """D for each entry, (space.size,)."""
        one = {
            b.name: np.broadcast_to(
                self.controls.get(b.name, 1.0), (b.layout.count, *b.control.shape)
            )
            for b in space
        }
        return space.assemble(one)

    def record(self) -> dict[str, object]:
        """Plain values for a file, {} where nothing has a scale; :meth:`restored` reads them."""
        if self.trivial:
            return {}
        return {
            "cost": self.cost,
            "controls": {k: v.tolist() for k, v in self.controls.items()},
            "rows": {k: v.tolist() for k, v in self.rows.items()},
            "states": None if self.states is None else self.states.tolist(),
        }

    @staticmethod
    def restored(record: Mapping[str, object]) -> Scaling:
        """From what :meth:`record` gave.

        Raises InputError for what it cannot have given.
        """
        if not record:
            return Scaling()
        states = record.get("states")
        parts = [record.get("controls"), record.get("rows")]
        if not all(isinstance(p, Mapping) for p in parts):
            checks.reject("solution.scales", record, "what a solve has written")
        controls, rows = (
            {str(k): _positive(k, v) for k, v in p.items()} for p in parts if isinstance(p, Mapping)
        )
        return Scaling(
            float(_positive("cost", record.get("cost"))),
            controls,
            rows,
            None if states is None else _positive("states", states),
        )

    def words(self) -> str:
        """The scales in words, for a message; '' for none."""
        named = [
            *([("cost", np.array(self.cost))] if self.cost != 1.0 else []),
            *self.controls.items(),
            *self.rows.items(),
            *([("states", self.states)] if self.states is not None else []),
        ]
        return ", ".join(f"{name} {_span(scale)}" for name, scale in named)

    # -- the problem -----------------------------------------------------------------------------
    def applied(self, problem: ControlProblem) -> ControlProblem:
        """The problem in these units; the same object where nothing has a scale."""
        if self.trivial:
            return problem
        units = _Units(self, problem)
        return ControlProblem(
            name=problem.name,
            horizon=problem.horizon,
            x0=problem.x0 if self.states is None else problem.x0 / self.states,
            dynamics=units.dynamics(),
            controls={k: units.control(k, c) for k, c in problem.controls.items()},
            terminal=units.cost(problem.terminal, problem.formulas.terminal, (0, "x")),
            running=units.cost(problem.running, problem.formulas.running, (1, "x")),
            regularisers=[units.penalty(r) for r in problem.regularisers],
            constraints=[
                units.constraint(c, f)
                for c, f in zip(problem.constraints, problem.formulas.constraints, strict=True)
            ],
        )


@dataclass(frozen=True)
class _Units:
    """The parts of a problem, each in the units of a scaling."""

    scaling: Scaling
    problem: ControlProblem

    def control(self, name: str, control: Control) -> Control:
        """Its bounds over D; its guess is not used, a solve begins from a vector."""
        scale = self.scaling.controls.get(name)
        if scale is None:
            return control
        lower, upper = control.lower / scale, control.upper / scale
        return Control(control.shape, control.on, lower, upper)

    def penalty(self, item: Regulariser) -> Regulariser:
        """Weight times D²/J0: a penalised control has one scale for all components."""
        scale = np.max(self.scaling.controls.get(item.name, np.ones(1)))
        return replace(item, weight=float(item.weight * scale**2 / self.scaling.cost))

    def cost(self, cost: Cost | None, formula: Formula | None, state: State) -> Cost | None:
        """Over J0."""
        if cost is None or formula is None:
            return None
        function = self.wrapped(cost.function, formula, state, self.scaling.cost)
        return Cost(function, cost.target, {}, cost.name)

    def constraint(self, item: Constraint, formula: Formula | None) -> Constraint:
        """Sides and values over r."""
        scale = self.scaling.of_row(item)
        sides = {"lower": item.lower / scale, "upper": item.upper / scale}
        if item.function is None or formula is None:
            return replace(item, **sides)
        state = (0, "x") if item.kind == "terminal" else (1, "x")
        return replace(item, **sides, function=self.wrapped(item.function, formula, state, scale))

    def dynamics(self) -> Dynamics:
        """The user's own unless the state or a control of the state equation has a scale."""
        own, formulas = self.problem.dynamics, self.problem.formulas
        equation = [formulas.kernel, formulas.feature, formulas.outer]
        read = set().union(*(f.reads for f in equation if f is not None))
        if self.scaling.states is None and not read & set(self.scaling.controls):
            return own
        states = 1.0 if self.scaling.states is None else self.scaling.states
        inside, outside = (states, 1.0) if own.outer is None else (1.0, states)
        y = None if formulas.feature is not None else (2, "y")
        g = None if formulas.free_term is not None else (1, "g")
        return _Wrapped(
            kernel=self.wrapped(own.kernel, formulas.kernel, y, inside),
            free_term=self.optional(own.free_term, formulas.free_term, (1, "x0"), inside),
            feature=self.optional(own.feature, formulas.feature, (1, "x"), 1.0),
            outer=self.optional(own.outer, formulas.outer, g, outside),
            is_ode=own.is_ode,
        )

    def optional(
        self,
        function: UserFormula | None,
        formula: Formula | None,
        state: State | None,
        over: float | np.ndarray,
    ) -> UserFormula | None:
        """:meth:`wrapped` where there is such a function."""
        if function is None or formula is None:
            return None
        return self.wrapped(function, formula, state, over)

    def wrapped(
        self,
        function: UserFormula,
        formula: Formula,
        state: State | None,
        over: float | np.ndarray,
    ) -> UserFormula:
        """The function of scaled controls and of a scaled ``state``, over a scale.

        What a formula does not read is not touched, so that it still does not read it.
        """
        states, controls = self.scaling.states, self.scaling.controls
        if state is not None and (states is None or state[1] not in formula.reads):
            state = None
        where = [i for i, k in enumerate(formula.shapes) if k in ("u", "c")]

        def inside(*arguments: FormulaArray) -> FormulaArray:
            given = list(arguments)
            for i in where:
                given[i] = _InUnits(given[i], controls)
            if state is not None and states is not None:
                given[state[0]] = times(given[state[0]], states)
            return times(function(*given), 1.0 / np.asarray(over))

        return inside


@dataclass(frozen=True)
class _Wrapped(Dynamics):
    """The four functions of a state equation in other units."""

    kernel: UserFormula
    free_term: UserFormula | None
    feature: UserFormula | None
    outer: UserFormula | None
    is_ode: bool


class _InUnits:
    """The controls and constants of a formula times their scales, as ``u.W`` or ``u["W"]``."""

    __slots__ = ("_scales", "_values")

    def __init__(self, values: FormulaControls, scales: Scales) -> None:
        self._values = values
        self._scales = scales

    def __getattr__(self, name: str) -> FormulaArray:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> FormulaArray:
        value = self._values[name]
        scale = self._scales.get(name)
        return value if scale is None else times(value, scale)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)


def times(value: FormulaArray, scale: np.ndarray) -> FormulaArray:
    """A formula's array times a scale of its shape."""
    scale = np.asarray(scale)
    if np.all(scale == scale.flat[0]):
        one = float(scale.flat[0])
        return value if one == 1.0 else one * value
    return namespace(value).asarray(scale) * value


def _positive(name: object, value: object) -> np.ndarray:
    scale = checks.numbers(f"solution.scales[{name!r}]", value)
    if not np.all(scale > 0):
        checks.reject(f"solution.scales[{name!r}]", value, "positive numbers")
    return scale


def _span(scale: np.ndarray | None) -> str:
    low, high = np.min(scale), np.max(scale)  # type: ignore[arg-type]
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
