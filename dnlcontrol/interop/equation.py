"""What a network needs of its problem: the state equation and the controls, for a pickle.

Data and costs stay behind: they are not part of the network, may be large or private, and a user's
cost is often a lambda.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import FormulaArray, FormulaControls
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.namespace import namespace
from dnlcontrol.problem.problem import ControlProblem

HEAD = ("head_W", "head_c")


@dataclass(frozen=True)
class Nothing:
    """A cost 0 that reads controls: those that the state equation does not."""

    names: tuple[str, ...]

    def __call__(self, *arguments: FormulaArray | FormulaControls) -> FormulaArray:
        """0, of the state and of what is called (t, x, u) or (x, c)."""
        *_, x, u = arguments
        total = 0.0 * namespace(x).sum(x)
        for name in self.names:
            total = total + 0.0 * namespace(x).sum(u[name])
        return total


@dataclass(frozen=True)
class Equation:
    """A state equation with its controls, whose guesses are left out.

    Attributes
    ----------
    rest : names of the controls that the equation does not read, those of a head apart.
    head : whether the loss had one.
    """

    name: str
    horizon: float
    state_shape: tuple[int, ...]
    dynamics: Dynamics
    controls: Mapping[str, Control]
    rest: tuple[str, ...]
    head: bool

    def problem(self) -> ControlProblem:
        """The equation as a problem of one sample, 0, without a cost."""
        constants = {name: self.controls[name] for name in HEAD if self.head}
        return ControlProblem(
            name=self.name,
            horizon=self.horizon,
            x0=np.zeros((1, *self.state_shape)),
            dynamics=self.dynamics,
            controls=self.controls,
            terminal=Cost(Nothing(HEAD), controls=constants) if self.head else None,
            running=Cost(Nothing(self.rest)) if self.rest else None,
        )


Kept: TypeAlias = Equation | Callable[[], Equation]


def has_head(problem: ControlProblem) -> bool:
    """Whether the terminal loss was made with ``head=``."""
    return problem.terminal is not None and set(HEAD) <= set(problem.terminal.controls)


def equation_of(problem: ControlProblem) -> Equation:
    """The state equation of a problem."""
    f = problem.formulas
    own = (f.kernel, f.feature, f.outer, f.free_term)
    read = frozenset().union(*(formula.reads for formula in own if formula))
    head = has_head(problem)
    return Equation(
        name=problem.name,
        horizon=problem.horizon,
        state_shape=problem.state_shape,
        dynamics=problem.dynamics,
        controls={k: replace(c, initial=0.0) for k, c in problem.controls.items()},
        rest=tuple(sorted(set(problem.controls) - read - set(HEAD if head else ()))),
        head=head,
    )


def constants_of_the_cost(problem: ControlProblem) -> list[str]:
    """Constants between the final state and a cost of the user's own, as in a head."""
    terminal, rest = problem.formulas.terminal, equation_of(problem).rest
    constants = (k for k in rest if problem.controls[k].on == "const")
    return [k for k in constants if terminal is not None and k in terminal.reads]


def kept(equation: Equation) -> Kept:
    """The equation where pickle takes it; else a function whose name says why it does not.

    pickle keeps functions by their names, and its error for one without gives that name. Libraries
    that keep functions by value (cloudpickle) take this one too.
    """
    try:
        pickle.dumps(equation)
    except (pickle.PicklingError, AttributeError, TypeError) as error:

        def carrier() -> Equation:
            return equation

        reason = " ".join(str(error).split())
        carrier.__qualname__ = (
            f"<locals>.network of {type(equation.dynamics).__name__}: got a formula without a name "
            f"to import it by ({reason}); allowed: functions at the top level of a module that can "
            "be imported, or save network.state_dict() or network.export()"
        )
        return carrier
    return equation


def taken(found: Kept) -> Equation:
    """What :func:`kept` was given."""
    return found if isinstance(found, Equation) else found()
