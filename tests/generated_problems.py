"""Generated problems: a family, sizes, a start, a rule and units, drawn from a seed.

``generated(seed)`` is of the family seed modulo their number; equal seeds give equal problems.
Three in four start at the family's saddle, maximiser or kink: by the controls' own guesses, or by
``start=`` in place of other guesses; one in four starts at random. Every other round through the
families is in units drawn from 1e-6 to 1e6, the others in natural ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import dnlcontrol as dnl
from tests.generated_families import FAMILIES
from tests.plain_problem import Plain, Rng, Row

DECADES = 6.0  # units lie between 1e-6 and 1e6
STARTS = ("guessed", "guessed", "given", "random")  # the first three at the family's start
SPREAD = 0.7  # of a random start, in the control's unit


@dataclass(frozen=True)
class Units:
    """The numbers that a problem uses for 1 in natural units."""

    control: float = 1.0
    state: float = 1.0
    cost: float = 1.0
    row: float = 1.0

    def in_words(self) -> str:
        return ", ".join(f"{name} {value:.1e}" for name, value in vars(self).items())


@dataclass(frozen=True)
class Case:
    """A problem and where it starts.

    start : as in ``dnl.solve``; None: the controls' own guesses.
    scales : name -> the control's unit.
    minimum : the least value in the problem's units; None where it is not elementary.
    minimiser : name -> constant control of that value.
    """

    name: str
    seed: int
    problem: dnl.ControlProblem
    depth: int
    rule: str
    start: Mapping[str, Any] | None
    units: Units
    scales: Mapping[str, float]
    minimum: float | None = None
    minimiser: Mapping[str, Any] = field(default_factory=dict)

    @property
    def natural(self) -> bool:
        return self.units == Units()

    @property
    def routes(self) -> tuple[str, ...]:
        """Names of the routes that take this problem."""
        from tests.generated_routes import ROUTES

        rows = bool(self.problem.constraints)
        return tuple(name for name, route in ROUTES.items() if route.takes_rows or not rows)


def generated(seed: int, units: Units | None = None) -> Case:
    """The case of a seed; ``units``: the same in others than were drawn."""
    family = list(FAMILIES)[seed % len(FAMILIES)]
    rng = np.random.default_rng([seed, zlib.crc32(family.encode())])
    plain = FAMILIES[family](rng)
    depth, rule = int(rng.choice(plain.depths)), str(rng.choice(plain.rules))
    how, guess = str(rng.choice(STARTS)), int(rng.integers(2**31))
    if units is None:
        units = drawn(rng, plain) if seed // len(FAMILIES) % 2 else Units()
    scales = {name: unit_of(name, plain, units) for name in plain.start}
    guesses, start = beginning(plain, scales, how, guess)
    return Case(
        family,
        seed,
        in_units(f"{family}, seed {seed}", plain, units, guesses),
        depth,
        rule,
        start,
        units,
        scales,
        None if plain.minimum is None else plain.minimum * units.cost,
        {name: value * scales[name] for name, value in (plain.minimiser or {}).items()},
    )


def drawn(rng: Rng, plain: Plain) -> Units:
    """Log-uniform units; a built-in network has those of its cost alone."""
    cost, *others = 10.0 ** rng.uniform(-DECADES, DECADES, 4)
    return Units(cost=cost) if built_in(plain) else Units(*others[:2], cost, others[2])


def built_in(plain: Plain) -> bool:
    return isinstance(plain.right, dnl.Dynamics)


def unit_of(name: str, plain: Plain, units: Units) -> float:
    """The unit of a control."""
    return units.control if name in plain.controls else 1.0


def beginning(
    plain: Plain, scales: Mapping[str, float], how: str, seed: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The controls' guesses, and ``start=``."""
    stationary = {name: value * scales[name] for name, value in plain.start.items()}
    random = {name: dnl.smooth_random(seed, SPREAD * scales[name]) for name in plain.start}
    if how == "random":
        return random, None
    return (random, stationary) if how == "given" else (stationary, None)


# -- units ---------------------------------------------------------------------------------------
class Natural:
    """Controls and constants in natural units, as a family's formula reads them."""

    def __init__(self, given: Any, unit: float) -> None:
        self._given = given
        self._unit = unit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given, name) / self._unit


def in_units(
    name: str, plain: Plain, units: Units, guesses: Mapping[str, Any]
) -> dnl.ControlProblem:
    """The same problem in other units, its controls with these guesses."""
    controls = dict(plain.controls)
    if built_in(plain):
        controls = {**plain.right.own_controls, **controls}
    return dnl.ControlProblem(
        name=name,
        x0=plain.x0 * units.state,
        dynamics=dynamics(plain, units),
        controls={
            k: control(c, unit_of(k, plain, units), guesses.get(k, c.initial))
            for k, c in controls.items()
        },
        terminal=terminal(plain, units),
        running=None if plain.running is None else of_time(plain.running, units, units.cost),
        regularisers=[
            replace(w, weight=w.weight * units.cost / unit_of(w.name, plain, units) ** 2)
            for w in plain.weights
        ],
        constraints=[constraint(row, units) for row in plain.rows],
    )


def control(natural: dnl.Control, unit: float, guess: Any) -> dnl.Control:
    """Bounds in the unit; the guess is in it already."""
    return replace(natural, lower=natural.lower * unit, upper=natural.upper * unit, initial=guess)


def dynamics(plain: Plain, units: Units) -> dnl.Dynamics:
    if built_in(plain):
        return plain.right
    f, a, b = plain.right, units.control, units.state
    if plain.memory:
        return dnl.Volterra(lambda t, s, y, u: b * f(t, s, y / b, Natural(u, a)))
    return dnl.ODE(of_time(f, units, b))


def of_time(fn: Callable[..., Any], units: Units, scale: float) -> Callable[..., Any]:
    """scale · fn(t, x, u) of natural x and u."""
    a, b = units.control, units.state
    return lambda t, x, u: scale * fn(t, x / b, Natural(u, a))


def terminal(plain: Plain, units: Units) -> Any:
    """The terminal cost, with its targets if there are any."""
    if plain.terminal is None:
        return None
    fn, a, b, scale = plain.terminal, units.control, units.state, units.cost
    if plain.target is None:
        return lambda x, c: scale * fn(x / b, Natural(c, a))
    return dnl.cost(lambda x, c, y: scale * fn(x / b, Natural(c, a), y), target=plain.target)


def constraint(row: Row, units: Units) -> Any:
    """A row in its unit: the state's for state bounds."""
    fn, a, b, unit = row.fn, units.control, units.state, units.row
    if row.kind == "state":
        return dnl.state_bounds(row.lower * b, row.upper * b)
    lower, upper = row.lower * unit, row.upper * unit
    if row.kind == "terminal":
        return dnl.terminal_constraint(lambda x, c: unit * fn(x / b, Natural(c, a)), lower, upper)
    make = {"path": dnl.path_constraint, "integral": dnl.integral_constraint}[row.kind]
    return make(of_time(fn, units, unit), lower, upper)
