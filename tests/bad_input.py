"""Small problems with one thing changed, and what a refusal has to say."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl

FINITE = "finite numbers"


def path(**changed: Any) -> dnl.ControlProblem:
    """x' = u on [0, 1], two samples of shape (1,)."""
    given: dict[str, Any] = {
        "x0": np.ones((2, 1)),
        "dynamics": dnl.ODE(lambda t, x, u: u.u),
        "controls": {"u": dnl.Control((1,))},
        "terminal": lambda x, c: x[0] ** 2,
        "regularisers": [dnl.L2("u", 1.0)],
    }
    return dnl.ControlProblem(**{**given, **changed})


def triangle(**changed: Any) -> dnl.ControlProblem:
    """x(t) = 1 + ∫_0^t w(t, s) ds, one sample of shape ()."""
    given: dict[str, Any] = {
        "x0": [1.0],
        "dynamics": dnl.Volterra(lambda t, s, y, u: u.w),
        "controls": {"w": dnl.Control((), on="ts")},
        "terminal": lambda x, c: x**2,
        "regularisers": [dnl.H1("w", 1.0)],
    }
    return dnl.ControlProblem(**{**given, **changed})


def formula(f: Callable[..., Any]) -> dnl.ControlProblem:
    """A state and a control of shape (2,), x' = f."""
    controls = {"u": dnl.Control((2,))}
    return path(x0=np.ones((2, 2)), controls=controls, dynamics=dnl.ODE(f))


def uncontrolled() -> dnl.ControlProblem:
    return path(controls=None, regularisers=[], dynamics=dnl.ODE(lambda t, x, u: x))


def constrained(*constraints: Any) -> dnl.ControlProblem:
    return path(constraints=list(constraints))


def started(initial: Any) -> dnl.Solution:
    return solve(path(controls={"u": dnl.Control((1,), initial=initial)}))


def solve(problem: Any = None, depth: Any = 2, **options: Any) -> dnl.Solution:
    return dnl.solve(
        path() if problem is None else problem, depth, **{"backend": "adjoint", **options}
    )


@cache
def solved(make: Callable[..., dnl.ControlProblem] = path, **changed: Any) -> dnl.Solution:
    return solve(make(**changed))


def xp(x: Any) -> Any:
    return dnl.namespace(x)


def torch() -> Any:
    return pytest.importorskip("torch")


def noting(call: Callable[..., Any], argument: str, seen: str, allowed: str, name: str) -> Any:
    return pytest.param(call, argument, seen, allowed, id=name)


def assert_told(call: Callable[[], Any], argument: str, seen: str, allowed: str) -> None:
    with pytest.raises(dnl.InputError) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, ValueError) and "\n" not in message, message
    assert message.startswith(argument), message
    after = message[len(argument) :]
    assert seen in after, message
    assert allowed in after[after.index(seen) + len(seen) :], message
