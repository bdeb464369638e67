"""What is done with a thing that a call made: a value that works at first may fail in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.certificates import depth as infinite
from dnlcontrol.studies.rates import refuse_broken
from dnlcontrol.studies.symmetries import verify
from tests.bad_input import path, solve
from tests.call_examples import bounded, stack


def moves(dynamics: Any) -> Any:
    """A forward solve by the dynamics, of two samples of shape (2,) or (4, 1)."""
    grids = ("Convolution", "DenseNet", "Patches")
    shape = (4, 1) if type(dynamics).__name__ in grids else (2,)
    return dnl.simulate(dnl.ControlProblem(x0=np.ones((2, *shape)), dynamics=dynamics), 2)


def guessed(initial: Any) -> Any:
    return dnl.simulate(path(controls={"u": dnl.Control((1,), initial=initial)}), 2)


def ends(cost: Any) -> Any:
    return dnl.discretise(path(terminal=cost, regularisers=[]), 2)


def penalised(penalty: Any) -> Any:
    return dnl.discretise(path(regularisers=[penalty]), 2)


def constrained(row: Any) -> Any:
    return dnl.discretise(path(constraints=[row]), 2)


def certified(tail: Any) -> Any:
    return infinite.certify(stack(), np.ones(2), tail=tail)


def measured(reference: Any) -> Any:
    refuse_broken(reference, dnl.discretise(path(), 1).space)


def optimised(method: Any) -> Any:
    return solve(method=method, max_iterations=2)


def symmetric(symmetry: Any) -> Any:
    verify(dnl.discretise(path(), 2), [symmetry])


def reported(solution: Any) -> Any:
    return repr(solution), solution.state(0.5), dnl.distance(solution, bounded())


DYNAMICS = ["Volterra", "ODE", "Dense", "ResNet", "Separable", "exponential_memory", "WidthPDE"]
COSTS = ["cost", *(f"losses.{name}" for name in ["squared", "logistic", "cross_entropy"])]
ROWS = [f"{name}_constraint" for name in ["path", "integral", "terminal"]]
BOUNDS = [f"certificates.depth.{name}" for name in ["PowerLaw", "Geometric", "Declared", "Tail"]]
USED: dict[str, Callable[[Any], Any]] = {
    "Control": lambda control: dnl.simulate(path(controls={"u": control}), 2),
    "smooth_random": guessed,
    **dict.fromkeys([*DYNAMICS, "DenseTransformer", "Convolution", "DenseNet"], moves),
    **dict.fromkeys(COSTS, ends),
    **dict.fromkeys(["H1", "L2", "TvG"], penalised),
    **dict.fromkeys(["state_bounds", *ROWS], constrained),
    **dict.fromkeys(BOUNDS, certified),
    "certificates.depth.Stack": lambda made: made(np.ones(2)),
    "certificates.depth.from_rule": lambda made: made(np.ones(2), 2),
    "Reference": measured,
    "Solution": reported,
    "TorchOptimiser": optimised,
    "FiniteSymmetry": symmetric,
    "SignFlip": symmetric,
    "HiddenPermutation": symmetric,
}
