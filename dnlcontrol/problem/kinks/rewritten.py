"""A problem whose formulas hand their kinks to a keeper: the common part of soft and sided copies.

Every function of the problem is wrapped: its arguments pass to a SwitchEngine, its result back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dnlcontrol.problem.array import Array, engine_behind, unwrap
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import Engine, FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.kinks.switches import Keeper, SwitchEngine


class MovedControls:
    """Controls on another engine, each moved when it is read."""

    __slots__ = ("_controls", "_engine")

    def __init__(self, controls: FormulaControls, engine: Engine) -> None:
        self._controls = controls
        self._engine = engine

    def __getattr__(self, name: str) -> Array:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Array:
        found: Array = self._controls[name].moved(self._engine)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._controls

    def __iter__(self) -> Iterator[str]:
        return iter(self._controls)


def kept(function: UserFormula, keeper: Callable[..., Keeper]) -> UserFormula:
    """``function`` with its kinks handed to ``keeper(*arguments)``, a new one for each call."""

    def wrapped(*arguments: FormulaArray) -> FormulaArray:
        inner = engine_behind(next(a for a in arguments if isinstance(a, Array)))
        engine = SwitchEngine(inner, keeper(*arguments))
        shells = (
            a.moved(engine) if isinstance(a, Array) else MovedControls(a, engine) for a in arguments
        )
        return Array(unwrap(function(*shells), engine), inner)

    return wrapped


@dataclass(frozen=True)
class RewrittenDynamics(Dynamics):
    """A dynamics with other functions in the place of its own."""

    original: Dynamics
    kernel: UserFormula
    free_term: UserFormula | None = None
    feature: UserFormula | None = None
    outer: UserFormula | None = None

    @property
    def is_ode(self) -> bool:  # type: ignore[override]
        """As it was."""
        return self.original.is_ode

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """As they were."""
        return self.original.own_controls
