"""A formula reads the controls that there are, and gives one value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.traced_formula import TracedFormula
from dnlcontrol.problem.formula import Formula


class SimpleKernel(dnl.Dense):
    """Form C, plus whatever is read from u."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__(2)
        object.__setattr__(self, "read", read)

    def kernel(self, t: Any, s: Any, y: Any, u: Any) -> Any:
        return super().kernel(t, s, y, u) + self.read(u)


def test_unknown_controls_are_told():
    with pytest.raises(dnl.InputError, match="kernel: got unknown control 'q'; allowed here: W, b"):
        dnl.ControlProblem(x0=np.zeros((1, 2)), dynamics=SimpleKernel(lambda u: u.q))
    with pytest.raises(dnl.InputError, match="kernel: got unknown control 'q'"):
        dnl.ControlProblem(x0=np.zeros((1, 2)), dynamics=SimpleKernel(lambda u: u["q"]))


def test_a_formula_that_differs_between_engines_is_told():
    """Nothing deterministic differs; a formula that draws random numbers does."""
    draws = iter(np.random.default_rng(0).standard_normal(1000).tolist())
    formula = Formula("noisy", lambda x: x * next(draws), {"x": (3,)}, (3,), frozenset({"x"}))
    with pytest.raises(
        dnl.InputError, match=r"noisy: got different values on casadi .* deterministic"
    ):
        TracedFormula(formula, 1.0, {})
