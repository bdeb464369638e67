"""The problem without grid or backend: data, dynamics, controls, cost, penalties, constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import UserFormula
from dnlcontrol.problem.formula import Shape
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.regularisers import Regulariser, check_all
from dnlcontrol.problem.tracer import Formulas, Tracer

# A formula's reads mix its arguments with the controls behind u and c: names must not coincide.
ARGUMENTS = ("t", "s", "x", "y", "z", "g", "x0", "target")


class ControlProblem:
    """An optimal control problem of N samples with one state equation.

        min J = (1/N) Σ_n [Φ(x_n(T)) + ∫_0^T ℓ(t, x_n, v) dt] + R(controls)
        x(t) = G(t, g(t), ∫_0^t k(t, s, F(s, x(s), v(s)), w(t, s)) ds, v(t))

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
        x0: ArrayLike,
        dynamics: Dynamics,
        controls: Mapping[str, Control] | None = None,
        terminal: Cost | UserFormula | None = None,
        running: Cost | UserFormula | None = None,
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
        self.formulas = self._traced()
        self._check_all_read()
        self.regularisers = check_all(regularisers)
        for item in self.regularisers:
            if item.name not in self.controls:
                checks.reject(
                    f"{type(item).__name__}.name", item.name, f"one of {sorted(self.controls)}"
                )
            item.check(self.controls[item.name].on)

    def __getstate__(self) -> dict[str, object]:
        """What the user wrote: a pickle holds it, where it holds the user's functions."""
        return {k: v for k, v in self.__dict__.items() if k != "formulas"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.x0.setflags(write=False)
        self.formulas = self._traced()

    def _traced(self) -> Formulas:
        tracer = Tracer(self.state_shape, self.horizon, self.controls)
        return tracer.formulas(self.dynamics, self.running, self.terminal, self.constraints)

    # -- what the problem says ---------------------------------------------------------------------
    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return int(self.x0.shape[0])

    @property
    def state_shape(self) -> Shape:
        """The shape of x."""
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

    @property
    def kinks(self) -> frozenset[str]:
        """Kinds of kinks in its formulas: abs, maximum, minimum, where (relu is a where)."""
        return self.formulas.kinks

    def regularisers_of(self, name: str) -> list[Regulariser]:
        """The penalties on one control."""
        return [r for r in self.regularisers if r.name == name]

    def __repr__(self) -> str:
        controls = sorted(self.controls)
        return (
            f"ControlProblem({self.name!r}, N={self.samples}, state {self.state_shape}, "
            f"controls {controls})"
        )

    # -- construction ------------------------------------------------------------------------------
    def _cost(self, argument: str, value: object) -> Cost | None:
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

    def _merge(self, controls: object) -> dict[str, Control]:
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

    def _constraint(self, value: object) -> Constraint:
        if not isinstance(value, Constraint):
            checks.reject_type(
                "constraints",
                value,
                "state_bounds(...), path_constraint(...), integral_constraint(...), "
                "terminal_constraint(...)",
            )
        return value.aligned(self.samples)

    def _check_all_read(self) -> None:
        read = set().union(*(f.reads for f in self.formulas.all()))
        for name in self.controls:
            if name not in read:
                checks.reject(
                    "controls",
                    f"control {name!r} that no formula reads",
                    "controls that a formula reads",
                )


def _data(x0: ArrayLike) -> np.ndarray:
    array = checks.numbers("x0", x0, "finite numbers, shape (N, *state shape)")
    if array.ndim < 1 or array.ndim > 3 or 0 in array.shape:
        checks.reject("x0", array, "shape (N, *state shape), N >= 1, a state of rank <= 2")
    array.setflags(write=False)
    return array


def _sequence(argument: str, value: object) -> Sequence[object]:
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
