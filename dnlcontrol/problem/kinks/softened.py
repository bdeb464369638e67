"""A smooth problem near one with kinks: |a| becomes √(a² + ε²), and so for every other switch.

    abs(x)           √(x² + ε²)
    maximum(p, q)    ½ (p + q + √((p - q)² + ε²)), minimum with a minus sign
    where(a > 0, p, q)    θ p + (1 - θ) q,  θ = ½ (1 + a/√(a² + ε²))
    relu(x)          ½ (x + √(x² + ε²)) as the activation of a built-in dynamics

Each differs from its kink by O(ε) and tends to it as ε -> 0.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from dnlcontrol.problem.activations import known, leaky_relu, relu
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import Activation, Engine, FormulaArray, Native, UserFormula
from dnlcontrol.problem.formula import Formula, Switch
from dnlcontrol.problem.kinks.rewritten import RewrittenDynamics, kept
from dnlcontrol.problem.kinks.switches import natural
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.namespace import namespace
from dnlcontrol.problem.problem import ControlProblem

LEAK = 0.01  # of leaky_relu


class Softener:
    """Replaces every switch that moves by a smooth one of width ε; one for each call."""

    def __init__(self, width: float, switches: tuple[Switch, ...]) -> None:
        self.width = width
        self._coming = iter(switches)

    def switch(
        self, engine: Engine, kind: str, argument: Native, branches: tuple[Native, Native]
    ) -> Native:
        """See the head of this file."""
        p, q = branches
        if not next(self._coming).moves:
            return natural(engine, argument, branches)
        root = engine.unary["sqrt"](engine.asarray(argument * argument + self.width**2))
        if kind == "abs":
            return root
        if kind in ("maximum", "minimum"):
            return 0.5 * (p + q + (root if kind == "maximum" else -root))
        theta = 0.5 * (1.0 + argument / root)
        return theta * p + (1.0 - theta) * q


def soft(formula: Formula, function: UserFormula, width: float) -> UserFormula:
    """The function of a formula with soft kinks; itself where it has none."""
    if not formula.kinks:
        return function
    return kept(function, lambda *_: Softener(width, formula.switches))


def softened(problem: ControlProblem, width: float) -> ControlProblem:
    """The problem with every kink that moves smoothed over the width ε."""
    formulas = problem.formulas

    def soft_cost(cost: Cost | None, formula: Formula | None) -> Cost | None:
        if cost is None or formula is None:
            return cost
        return replace(cost, function=soft(formula, cost.function, width))

    return ControlProblem(
        name=problem.name,
        horizon=problem.horizon,
        x0=problem.x0,
        dynamics=_soft_dynamics(problem, width),
        controls=problem.controls,
        terminal=soft_cost(problem.terminal, formulas.terminal),
        running=soft_cost(problem.running, formulas.running),
        regularisers=problem.regularisers,
        constraints=[
            c
            if c.function is None or f is None
            else replace(c, function=soft(f, c.function, width))
            for c, f in zip(problem.constraints, formulas.constraints, strict=True)
        ],
    )


def _soft_dynamics(problem: ControlProblem, width: float) -> Dynamics:
    dynamics, f = problem.dynamics, problem.formulas
    if not any(g.kinks for g in (f.kernel, f.free_term, f.feature, f.outer) if g is not None):
        return dynamics
    activation = _soft_activation(getattr(dynamics, "activation", None), width)
    if activation is not None:
        changed = copy.copy(dynamics)
        object.__setattr__(changed, "activation", activation)
        return changed

    def part(name: str) -> UserFormula | None:
        function, formula = getattr(dynamics, name), getattr(f, name)
        return function if formula is None else soft(formula, function, width)

    return RewrittenDynamics(
        dynamics,
        soft(f.kernel, dynamics.kernel, width),
        part("free_term"),
        part("feature"),
        part("outer"),
    )


def _soft_activation(activation: object, width: float) -> Activation | None:
    """The soft form of a built-in dynamics' activation, with its derivatives; None: unknown."""
    if activation is relu:
        return _soft_relu(width)
    if activation is leaky_relu:
        return _soft_leaky(width)
    return None


def _soft_relu(width: float) -> Activation:
    """y = ½ (x + r), r = √(x² + ε²) = y + ε²/(4y); σ' = y/r, σ''/σ' = ε²/(2 r² y)."""
    q = 0.25 * width**2

    @known(
        slope=lambda y: y * y / (y * y + q),
        curvature_ratio=lambda y: 2.0 * q * y / (y * y + q) ** 2,
    )
    def soft(x: FormulaArray) -> FormulaArray:
        return 0.5 * (x + namespace(x).sqrt(x * x + width**2))

    return soft


def _soft_leaky(width: float) -> Activation:
    """y = a x + b r, a = ½ (1 + leak), b = ½ (1 - leak), a² - b² = leak.

    x = (a y - b √(y² + leak ε²))/leak from y; σ' = a + b x/r, σ'' = b ε²/r³.
    """
    a, b = 0.5 * (1.0 + LEAK), 0.5 * (1.0 - LEAK)

    def point(y: FormulaArray) -> tuple[FormulaArray, FormulaArray]:
        xp = namespace(y)
        x = (a * y - b * xp.sqrt(y * y + LEAK * width**2)) / LEAK
        return x, xp.sqrt(x * x + width**2)

    def slope(y: FormulaArray) -> FormulaArray:
        x, r = point(y)
        return a + b * x / r

    def ratio(y: FormulaArray) -> FormulaArray:
        _, r = point(y)
        return b * width**2 / (r * r * r * slope(y))

    @known(slope=slope, curvature_ratio=ratio)
    def soft(x: FormulaArray) -> FormulaArray:
        return a * x + b * namespace(x).sqrt(x * x + width**2)

    return soft
