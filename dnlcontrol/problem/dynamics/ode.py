"""Ordinary differential equations, the special case without memory."""

from __future__ import annotations

from dataclasses import dataclass

from dnlcontrol import checks
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import FormulaArray, FormulaControls, UserFormula


@dataclass(frozen=True)
class ODE(Dynamics):
    """x' = f(t, x, u), x(0) = x0: a kernel k = f(s, x(s), u(s)) that does not depend on t.

    The left rule gives Euler's method x^{l+1} = x^l + τ f(t_l, x^l, u^l), O(L) steps.

    Raises InputTypeError for what is no function.
    """

    f: UserFormula
    is_ode = True

    def __post_init__(self) -> None:
        checks.function("ODE.f", self.f)

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """f(s, y, u), of the state's shape."""
        return self.f(s, y, u)
