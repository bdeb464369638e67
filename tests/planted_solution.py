"""A sound solution, and the list of what may be planted in it: each a function of the solution.

Every part of the solution is at work: two samples, a control inside its bounds and one at them, an
equality, active and inactive sides, kinds of constraints of every sort.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.extension import Extension
from tests.certificates.cases import consistent, flat, with_controls

EPS = 1e-8
DEPTH = 3
BASES = [(b, rule) for rule in ("left", "trapezoid") for b in ("exact", "adjoint")]

Plant = Callable[[dnl.Solution], dnl.Solution]
PLANTS: dict[str, Plant] = {}


def plant(function: Plant) -> Plant:
    """Enter a kind into the list."""
    assert function.__name__ not in PLANTS
    PLANTS[function.__name__] = function
    return function


def problem(
    ceiling: float = 0.32,
    budget: float = 0.4,
    arrive: float = 0.9,
    weight: float = 0.05,
    lowest: float = -0.3,
    early: float = 0.0,
    target: float = 0.5,
    **more: Any,
) -> dnl.ControlProblem:
    """A Volterra equation with two path controls under one constraint of every kind."""

    def kernel(t, s, y, u):
        return dnl.namespace(y).exp(s - t + early) * (u.v + 0.5 * u.q - y**2)

    given = {
        "name": "planted",
        "x0": [0.0, 0.2],
        "dynamics": dnl.Volterra(kernel),
        "controls": {
            "v": dnl.Control((), initial=0.5),
            "q": dnl.Control((), lower=lowest, upper=2.0),
        },
        "running": lambda t, x, u: (
            0.5 * (x - 1) ** 2 + 0.1 * u.v**2 + 0.2 * u.q**2 + 0.2 * u.q - 0.6 * t * u.v
        ),
        "terminal": dnl.cost(lambda x, c, y: 0.1 * (x - y) ** 2, target=[0.3, target]),
        "regularisers": [dnl.L2("v", weight)],
        "constraints": [
            dnl.path_constraint(lambda t, x, u: u.v + 0.2 * x, upper=0.55, name="push"),
            dnl.integral_constraint(lambda t, x, u: u.v, budget, budget, name="budget"),
            dnl.state_bounds(-0.1, ceiling, name="ceiling", samples=[1]),
            dnl.terminal_constraint(lambda x, c: x, 0.1, arrive, name="arrive"),
        ],
    }
    return dnl.ControlProblem(**{**given, **more})


@cache
def sound(backend: str, rule: str) -> dnl.Solution:
    """Solved further than it is certified."""
    found = dnl.solve(problem(), DEPTH, backend, rule=rule, tolerance=1e-10)
    assert found.success, found.message
    return replace(found, tolerance=EPS)


@cache
def stopped(backend: str, rule: str) -> dnl.Solution:
    """Not solved: after one iteration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        found = dnl.solve(problem(), DEPTH, backend, rule=rule, max_iterations=1)
    assert not found.success
    return found


def alike(s: dnl.Solution) -> dnl.Solution:
    """The unsolved solution of the same backend and rule."""
    return stopped(s.backend, s.rule)


def moved(s: dnl.Solution, by: np.ndarray | float) -> dnl.Solution:
    """Other controls, everything else as it would be there."""
    return with_controls(s, flat(s) + by)


def control(s: dnl.Solution, name: str, values: np.ndarray) -> dnl.Solution:
    """Other samples of one control, everything else as it would be there."""
    there = Extension(name, s.controls[name].layout, np.ascontiguousarray(values))
    return consistent(replace(s, controls={**s.controls, name: there}))


def bare(s: dnl.Solution, name: str, values: np.ndarray) -> dnl.Solution:
    """Other samples of one control, and nothing else changed."""
    there = Extension(name, s.controls[name].layout, np.ascontiguousarray(values))
    return replace(s, controls={**s.controls, name: there})


def multiplier(s: dnl.Solution, name: str, change: Callable[[np.ndarray], Any]) -> dnl.Solution:
    """Another multiplier, with the costates and measures that it would have."""
    values = np.asarray(change(np.array(s.multipliers[name])))
    return consistent(replace(s, multipliers={**s.multipliers, name: values}))


def of(s: dnl.Solution, **changed: Any) -> dnl.Solution:
    """The same solution as one of another problem, everything else as it would be there."""
    return consistent(replace(s, problem=problem(**changed)))


def option(s: dnl.Solution, **changed: Any) -> dnl.Solution:
    return replace(s, options={**s.options, **changed})


def other(backend: str) -> str:
    return "adjoint" if backend == "exact" else "exact"
