"""backend="auto": which backend solves a problem at a depth, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.fits import size_of
from dnlcontrol.backends.options import EVERY, Adjoint, Exact, Newton
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.resources.room import beyond
from dnlcontrol.discretisation.resources.sizes import forecast
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.solving.request import BACKENDS, DEFAULT, OWNER, is_default, resolved

AUTO = "auto"
# forecasts above which a program is left to the adjoint backend: memory that most machines have (or
# what fits this one, if that is less), and a coffee's time, which constraint rows are worth
MOST_MEMORY_MB = 4000.0
MOST_SECONDS = 600.0
# without constraint rows: a state of an ordinary differential equation, not of a data set
FEW_STATES = 16
# and with memory, where every control touches all later states
SMALL_SECONDS = 0.1


def resolved_for(
    problem: ControlProblem,
    depth: int,
    rule: str,
    backend: object,
    shorthand: Mapping[str, Any],
) -> tuple[Exact | Adjoint, str]:
    """The backend's object as in :func:`resolved`, and why "auto" took it ("" where named).

    Raises
    ------
    InputError : no backend, an option that it does not use, or options of both beside "auto".
    """
    if isinstance(backend, str):
        checks.choice("backend", backend, (*BACKENDS, AUTO))
    if not isinstance(backend, str) or backend != AUTO:
        return resolved(backend, shorthand), ""
    name, reason = chosen(discretise(problem, depth, rule), shorthand)
    return resolved(name, shorthand), reason


def chosen(discrete: DiscreteProblem, shorthand: Mapping[str, Any]) -> tuple[str, str]:
    """The name of the backend that suits a discrete problem, and the reason in words.

    An option that one backend alone has decides, then constraint rows, then the forecast of sizes.

    Raises
    ------
    InputError : options of both backends.
    """
    asked = _asked(shorthand)
    if asked:
        return asked
    problem = discrete.problem
    sizes = forecast(discrete)
    size = size_of(sizes, sizes.better)
    forecast_words = f"forecast {size.work:.1g} s and {size.memory_mb:.0f} MB at L={discrete.depth}"
    if beyond(size.memory_mb, MOST_MEMORY_MB) or size.work > MOST_SECONDS:
        return "adjoint", f"the exact program is too large ({forecast_words})"
    if discrete.rows.size:
        return "exact", f"{discrete.rows.size} constraint rows ({forecast_words})"
    states = problem.samples * int(np.prod(problem.state_shape, dtype=int))
    if problem.markov:
        if states <= FEW_STATES:
            return "exact", f"a small differential equation, {states} states ({forecast_words})"
        return "adjoint", f"{states} states of {problem.samples} samples at each node"
    if size.work <= SMALL_SECONDS:
        return "exact", f"a small program with memory ({forecast_words})"
    return "adjoint", f"a deep program with memory ({forecast_words} for the exact one)"


def robust(discrete: DiscreteProblem, options: Exact | Adjoint) -> Exact | Adjoint:
    """Options of the same backend that leave a saddle most surely: a trust region, exact products.

    Newton's method on the adjoint backend; on the exact one the condensed formulation, where no
    rows ask for an interior point and it is not much larger.
    """
    if isinstance(options, Adjoint):
        return replace(options, method=Newton(), checkpoint=None, every=EVERY)
    sizes = forecast(discrete)
    small = sizes.condensed.seconds <= MOST_SECONDS and sizes.condensed.memory_mb <= MOST_MEMORY_MB
    if discrete.rows.size or not (small or options.force):
        return options
    return replace(options, formulation="condensed")


def _asked(shorthand: Mapping[str, Any]) -> tuple[str, str] | None:
    """The backend that has the options which were given."""
    owners: dict[str, str] = {}
    for name, value in shorthand.items():
        if name in DEFAULT and not is_default(name, value):
            owners[OWNER[name].name if name in OWNER else "adjoint"] = name
    if len(owners) > 1:
        seen = f"{owners['exact']!r} and {owners['adjoint']!r} beside backend='auto'"
        checks.reject("backend", seen, "options of one backend")
    for backend, name in owners.items():
        return backend, f"the option {name!r} is that of the {backend} backend"
    return None
