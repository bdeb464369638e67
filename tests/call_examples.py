"""Objects that the examples of calls are made of, small and solved once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.certificates import depth as infinite
from tests.bad_input import path, solve

KEPT = tempfile.TemporaryDirectory()

# Bases that are derived from, records that the library makes, and the machinery of the solvers,
# whose methods take flat arrays that the library made.
METHODS_OF: dict[str, Callable[[], Any]] = {
    "ControlProblem": path,
    "Solution": lambda: bounded(),
    "Extension": lambda: bounded().control("u"),
    "Study": lambda: ladder(),
    "ValueFunction": lambda: value_function(),
    "Images": lambda: dnl.images(),
    "Summable": lambda: dnl.init.summable(0.5),
    "Certificate": lambda: dnl.certify(bounded(), seed=0),
    "MultiStart": lambda: dnl.multistart(path(), 2, 2),
    "Stack": lambda: stack(),
    "Report": lambda: infinite.certify(stack(), np.ones(2), tail=infinite.PowerLaw(1, 2)),
    "PowerLaw": lambda: infinite.PowerLaw(1.0, 2.0),
    "Geometric": lambda: infinite.Geometric(1.0, 0.5),
    "Declared": lambda: infinite.Declared(lambda k: 2.0**-k, tail_sum=lambda n: 2.0**-n),
    "Network": lambda: relu_network().to_module(),
    "CasadiProgram": lambda: dnl.to_casadi(path(), 2),
    "namespace": lambda: dnl.namespace(np.ones(2)),
}


@cache
def bounded() -> dnl.Solution:
    """Of x' = u with a terminal constraint, which has a multiplier."""
    end = dnl.terminal_constraint(lambda x, c: x, 0.5, name="end")
    return solve(path(constraints=[end]))


@cache
def relu_network() -> dnl.Solution:
    return solve(network_problem(dnl.relu))


def network_problem(activation: Any = dnl.tanh) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.array([[1.0], [2.0]]),
        dynamics=dnl.ResNet(1, activation),
        terminal=dnl.losses.squared(np.array([[2.0], [3.0]])),
        regularisers=[dnl.TvG(k, 1e-1) for k in ("K", "b")],
    )


@cache
def resnets() -> tuple[dnl.Solution, ...]:
    problem = network_problem()
    return tuple(dnl.solve(problem, depth, "adjoint") for depth in (3, 6))


@cache
def ladder() -> dnl.Study:
    return dnl.study(path(), [1, 2])


@cache
def value_function() -> dnl.ValueFunction:
    bounds = {"u": (-1.0, 1.0)}
    return dnl.hamilton_jacobi(path(x0=[[1.0]]), 2, -2.0, 2.0, 5, 3, bounds)


@cache
def saved() -> Path:
    """A run directory; it goes with the process."""
    folder = Path(KEPT.name) / "run"
    bounded().save(folder)
    return folder


def stack() -> Any:
    return infinite.Stack([np.eye(2), 1.5 * np.eye(2)], tail=infinite.PowerLaw(1.0, 2.0))


def linears() -> Any:
    import torch

    return torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))


def tensor(*shape: int) -> Any:
    import torch

    return torch.ones(*shape, dtype=torch.float64)


def optimiser(parameters: list[Any]) -> Any:
    import torch

    return torch.optim.SGD(parameters, lr=0.1)


def along_u(t: Any, x: Any, u: Any) -> Any:
    return u.u


def function(x: Any, c: Any) -> Any:
    return x[0]


def along(t: Any, x: Any, u: Any) -> Any:
    return x[0] + u.u[0]


def activation(x: Any) -> Any:
    return dnl.namespace(x).tanh(x)
