"""The Lagrangian of a one-step problem near known states, for Newton steps on what is active.

One model (condensed_step.py) at states without defects gives gradient, rows, their Jacobian and the
Hessian. The states come from those of the last control by Newton's method on all steps at once.
"""

from __future__ import annotations

import numpy as np

from dnlcontrol.backends.adjoint.lifted.condensed_step import CondensedStep
from dnlcontrol.backends.adjoint.lifted.one_step_program import OneStepProgram
from dnlcontrol.discretisation.constraint_rows import Rows
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.multipliers import Multipliers


class NearbyProducts:
    """The same numbers as the evaluator's, to rounding; ``x`` are states to begin with."""

    def __init__(self, program: OneStepProgram, x: np.ndarray) -> None:
        self.program, self.evaluator = program, program.evaluator
        self._x = x
        self._states: tuple[bytes, np.ndarray] | None = None
        self._model: tuple[bytes, CondensedStep] | None = None

    @property
    def space(self) -> ControlSpace:
        return self.program.space

    @property
    def rows(self) -> Rows:
        return self.program.rows

    def states(self, w: Flat) -> np.ndarray:
        """(L+1, N, d)."""
        key = w.tobytes()
        if self._states is None or self._states[0] != key:
            self._x = self.program.states_near(w, self._x)
            self._states = key, self._x
        return self._states[1]

    def model(self, w: Flat, mu: RowVector) -> CondensedStep:
        """The Lagrangian's at w, without defects."""
        key = w.tobytes() + mu.tobytes()
        if self._model is None or self._model[0] != key:
            self._model = key, self.program.model(w, self.states(w), mu)
        return self._model[1]

    def at_states(self, w: Flat, _states: np.ndarray, mu: RowVector) -> CondensedStep:
        """The model, as Newton steps on the active rows ask for it."""
        return self.model(w, mu)

    def constraint_values(self, w: Flat) -> RowVector:
        """c(w), (rows.size,)."""
        return self.program.values(w, self.states(w)).rows

    def trajectory(self, w: Flat, multipliers: Multipliers | None = None) -> Trajectory:
        """Value, gradient, states and c; the costates are of the steps, λ^{l+1} at l."""
        mu = np.zeros(self.rows.size) if multipliers is None else multipliers.mu
        model = self.model(w, mu)
        x = self.states(w)
        found = self.program.values_at(model)
        return Trajectory(
            value=found.cost + float(mu @ found.rows),
            gradient=model.gradient(np.zeros_like(x)) + model.jacobian.T @ mu,
            states=x,
            integrals=x - self.program.free,
            costates=model.costates,
            integral_costates=model.costates,
            constraints=found.rows,
        )

    # -- the evaluator's own ---------------------------------------------------------------------
    def value(self, w: Flat, multipliers: Multipliers | None = None) -> float:
        """The Lagrangian at w."""
        return self.evaluator.value(w, multipliers)

    def value_and_gradient(
        self, w: Flat, multipliers: Multipliers | None = None
    ) -> tuple[float, Flat]:
        """The Lagrangian and its gradient, (space.size,)."""
        return self.evaluator.value_and_gradient(w, multipliers)

    def hessian_product(self, w: Flat, d: Flat, multipliers: Multipliers | None = None) -> Flat:
        """H(w) d, (space.size,)."""
        return self.evaluator.hessian_product(w, d, multipliers)

    def constraint_gradient(self, w: Flat, weights: RowVector) -> Flat:
        """(dc/dw)ᵀ weights, (space.size,)."""
        return self.evaluator.constraint_gradient(w, weights)
