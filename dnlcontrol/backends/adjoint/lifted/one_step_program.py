"""A one-step problem as a program whose states are unknowns, for the interior-point method."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
import torch

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.lifted.condensed_step import CondensedStep, StepSlopes
from dnlcontrol.backends.adjoint.lifted.derivatives import NodeDerivatives, step_weights
from dnlcontrol.backends.adjoint.lifted.node_terms import NodeTerms
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.barrier.lifted_program import LiftedValues

MOST_CONTROLS = 1500  # their dense matrices are factorised in half a second
LARGEST_SENSITIVITY = 8_000_000  # entries of S, 64 MB
MOST_ROWS = 6000
# Newton's method on all steps gains digits by squares from states that are near; in units of
# rounding the last change is a few
NEARBY_STEPS = 8
STATE_ROUNDING = 1e-14


def applies(evaluator: Evaluator) -> bool:
    """Whether the problem is a one-step recursion, small enough, on the CPU in float64."""
    sweep, p = evaluator.sweep, evaluator.discrete.problem
    if not (p.markov and p.formulas.outer is None and sweep.columns is None):
        return False
    n, d = evaluator.space.size, int(np.prod(p.state_shape, dtype=int))
    small = n <= MOST_CONTROLS and evaluator.rows.size <= MOST_ROWS
    few = (sweep.depth + 1) * p.samples * d * n <= LARGEST_SENSITIVITY
    here = sweep.device.type == "cpu" and sweep.dtype == torch.float64
    return bool(n and small and few and here)


class OneStepProgram:
    """The lifted problem of an evaluator; a model counts as a gradient and a Hessian product."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.space, self.rows = evaluator.space, evaluator.rows
        self.terms = NodeTerms(evaluator.sweep)
        free = evaluator.sweep.everyone.free.numpy()
        self.free = free.reshape(len(free), free.shape[1], -1)

    def states(self, w: Flat) -> np.ndarray:
        """Those of the forward sweep, (L+1, N, d)."""
        x = self.evaluator.states(w)
        return x.reshape(*x.shape[:2], -1)

    def values(self, w: Flat, x: np.ndarray) -> LiftedValues:
        """J, c and the defects, (L, N, d)."""
        self.evaluator.counts.values += 1
        return self._values(NodeDerivatives(self.terms, w, x, second=False))

    def _values(self, at: NodeDerivatives) -> LiftedValues:
        cost = at.values.cost + self.space.penalty(at.w)
        return LiftedValues(cost, at.values.rows, self._defects(at))

    def _defects(self, at: NodeDerivatives) -> np.ndarray:
        alpha, beta = step_weights(self.evaluator.sweep)
        x, f = at.states, at.values.right
        side = self.evaluator.sweep.depth
        defects = np.diff(x, axis=0) - alpha[:side, None, None] * f[:side]
        if len(self.free) > 1:
            defects = defects - np.diff(self.free, axis=0)
        if beta.any():
            defects = defects - beta[1:, None, None] * f[1:]
        return np.asarray(defects)

    def model(self, w: Flat, x: np.ndarray, mu: RowVector, cost: float = 1.0) -> CondensedStep:
        """The linearisation, dense in the controls."""
        began = time.perf_counter()
        at = NodeDerivatives(self.terms, w, x)
        found = CondensedStep(at, cost, mu, self.penalty)
        counts = self.evaluator.counts
        counts.gradients += 1
        counts.hessians += 1
        counts.hessian_seconds += time.perf_counter() - began
        return found

    def values_at(self, model: CondensedStep) -> LiftedValues:
        """J, c and the defects where a model was formed."""
        return self._values(model.at)

    def states_near(self, w: Flat, x: np.ndarray) -> np.ndarray:
        """Those without defects, by Newton's method on all steps at once from the states x.

        Where it does not converge quickly, those of the forward sweep.
        """
        for _ in range(NEARBY_STEPS):
            at = NodeDerivatives(self.terms, w, x)
            defects = self._defects(at)
            if not np.all(np.isfinite(defects)):
                break
            change = StepSlopes(at).offset(defects)
            x = x + change
            if np.max(np.abs(change)) <= STATE_ROUNDING * (1.0 + np.max(np.abs(x))):
                return x
        return self.states(w)

    @cached_property
    def penalty(self) -> np.ndarray:
        """Q of the regularisers, dense."""
        n = self.space.size
        Q = np.zeros((n, n))
        for block in self.space:
            if block.penalty is not None:
                one = np.eye(block.components)
                Q[block.part, block.part] = np.kron(block.penalty.toarray(), one)
        return Q
