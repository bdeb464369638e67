"""An iterate of the interior-point method, its measures, and the step from it.

With slacks s for the rows that are inequalities, and p, n >= 0 for every row where the method is
elastic, the constraints are c - s - p + n = 0; equalities have their side in place of s. Slacks and
elastic parts are eliminated: with D the sum of the inverses of their diagonals, rows with D > 0 add
CᵀD⁻¹C to the Hessian, the others stay (dense_system.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.barrier.box import Box
from dnlcontrol.minimise.barrier.dense_system import DenseSystem
from dnlcontrol.minimise.barrier.lifted_program import CondensedModel, LiftedProgram, LiftedValues

MULTIPLIER_SIZE = 100.0  # above this mean size of the multipliers errors are relative to it


@dataclass(frozen=True)
class Elastic:
    """What the elastic method minimises: weight·Σ(p + n) + ½ near·‖w - w0‖²_A, A's diagonal."""

    weight: float
    near: float
    anchor: Flat


@dataclass(frozen=True)
class BarrierPoint:
    """Controls w, states x, slacks s of all rows, elastic parts (or None), multipliers μ."""

    w: Box
    x: np.ndarray
    s: Box
    elastic: tuple[Box, Box] | None
    mu: RowVector
    values: LiftedValues

    def residuals(self, values: LiftedValues) -> RowVector:
        """c - s - p + n."""
        r = values.rows - self.s.at
        if self.elastic is not None:
            r = r - self.elastic[0].at + self.elastic[1].at
        return np.asarray(r)

    @property
    def boxes(self) -> tuple[Box, ...]:
        return (self.w, self.s, *(self.elastic or ()))

    @property
    def violation(self) -> float:
        """θ, the sum of all residuals."""
        return float(np.abs(self.values.defects).sum() + np.abs(self.residuals(self.values)).sum())


@dataclass(frozen=True)
class KKTStep:
    """A step in all unknowns, and the rows' new multipliers less the old."""

    w: Flat
    x: np.ndarray
    boxes: tuple[np.ndarray, ...]  # of w, s and the elastic parts
    mu: RowVector


class Frame:
    """A program with what stays the same in one run: the sides of its rows, the cost's scale."""

    def __init__(
        self, program: LiftedProgram, scale: float = 1.0, elastic: Elastic | None = None
    ) -> None:
        self.program = program
        self.scale, self.elastic = scale, elastic
        self.lower, self.upper = program.rows.bounds
        self.equal = self.lower == self.upper
        # slacks of equalities stand on their side: a box without sides that is never moved
        self.slack_lower = np.where(self.equal, -np.inf, self.lower)
        self.slack_upper = np.where(self.equal, np.inf, self.upper)
        self.metric = program.space.metric_diagonal

    def at(self, w: Flat, x: np.ndarray | None, mu: RowVector, barrier: float) -> BarrierPoint:
        """The first iterate at controls w."""
        box = Box.inside(w, *self.program.space.bounds, barrier)
        # states without defects where the start had to be moved
        x = self.program.states(box.at) if x is None or not np.array_equal(box.at, w) else x
        values = self.program.values(box.at, x)
        start = np.where(self.equal, self.lower, values.rows)
        s = Box.inside(start, self.slack_lower, self.slack_upper, barrier)
        elastic = None if self.elastic is None else self._parts(values.rows - s.at, barrier)
        return BarrierPoint(box, x, s, elastic, mu, values)

    def _parts(self, r: RowVector, barrier: float) -> tuple[Box, Box]:
        """p, n > 0 with p - n = r that minimise the barrier function of the elastic part."""
        assert self.elastic is not None
        half = (barrier - self.elastic.weight * np.abs(r)) / (2 * self.elastic.weight)
        small = half + np.sqrt(half**2 + barrier * np.abs(r) / (2 * self.elastic.weight))
        # at least what float64 can carry beside |r|
        small = np.maximum(small, 1e-12)
        large = small + np.abs(r)
        zero, top = np.zeros_like(r), np.full_like(r, np.inf)

        def box(at: np.ndarray) -> Box:
            return Box(at, zero, top, barrier / at, np.zeros_like(at))

        return box(np.where(r > 0, large, small)), box(np.where(r > 0, small, large))

    def merit(self, at: BarrierPoint, barrier: float) -> float:
        """The barrier function φ."""
        total = self.scale * at.values.cost - barrier * sum(b.logs() for b in at.boxes)
        if self.elastic is None or at.elastic is None:
            return total
        off = at.w.at - self.elastic.anchor
        near = 0.5 * self.elastic.near * float(off @ (self.metric * off))
        return (
            total
            - self.scale * at.values.cost
            + near
            + self.elastic.weight * float(sum(part.at.sum() for part in at.elastic))
        )

    def model(self, at: BarrierPoint) -> BarrierSystem:
        """The linearisation at an iterate."""
        cost = self.scale if self.elastic is None else 0.0
        model = self.program.model(at.w.at, at.x, at.mu, cost)
        return BarrierSystem(self, at, model)


class BarrierSystem:
    """The primal-dual Newton system of the barrier problem at an iterate."""

    def __init__(self, frame: Frame, at: BarrierPoint, model: CondensedModel) -> None:
        self.frame = frame
        self.at, self.model = at, model
        self.offset = model.offset(at.values.defects)
        self.shift = 0.0

    @cached_property
    def gradient(self) -> Flat:
        """Of the Lagrangian in w, states eliminated, without the bounds' multipliers."""
        nowhere = np.zeros_like(self.offset)
        found = self.model.gradient(nowhere) + self.model.jacobian.T @ self.at.mu
        return np.asarray(found + self._near())

    def _near(self) -> Flat:
        """The gradient of the elastic method's second term."""
        if self.frame.elastic is None:
            return np.zeros_like(self.at.w.at)
        off = self.at.w.at - self.frame.elastic.anchor
        return np.asarray(self.frame.elastic.near * self.frame.metric * off)

    def error(self, barrier: float) -> float:
        """How far the iterate is from the barrier problem's conditions."""
        at, frame = self.at, self.frame
        dual = float(np.max(np.abs(self.gradient + at.w.pressure), initial=0.0))
        slack = np.where(frame.equal, 0.0, at.s.pressure - at.mu)
        dual = max(dual, float(np.max(np.abs(slack), initial=0.0)))
        sizes = [np.abs(at.mu)]
        for box in at.boxes:
            sizes += [box.below, box.above]
        if at.elastic is not None and frame.elastic is not None:
            for sign, part in zip((-1.0, 1.0), at.elastic, strict=True):
                rest = frame.elastic.weight + part.pressure + sign * at.mu
                dual = max(dual, float(np.max(np.abs(rest), initial=0.0)))
        mean = float(np.mean(np.concatenate(sizes))) if at.mu.size + at.w.at.size else 0.0
        relative = max(MULTIPLIER_SIZE, mean) / MULTIPLIER_SIZE
        gap = max(box.complementarity(barrier) for box in at.boxes)
        return max((dual / relative), gap / relative, self.infeasibility)

    @property
    def infeasibility(self) -> float:
        """The largest residual."""
        defects = np.max(np.abs(self.at.values.defects), initial=0.0)
        rows = np.max(np.abs(self.at.residuals(self.at.values)), initial=0.0)
        return float(max(defects, rows))

    # -- the system ------------------------------------------------------------------------------
    def prepare(self, barrier: float, shift: float) -> bool:
        """Factorise, shifted until positive definite on the hard rows; False where none is."""
        at, frame = self.at, self.frame
        self.barrier = barrier
        self.slack_sigma = np.where(frame.equal, np.inf, np.maximum(at.s.sigma, 1e-20))
        compliance = 1.0 / self.slack_sigma
        excess = at.s.gradient(barrier) / self.slack_sigma
        if at.elastic is not None and frame.elastic is not None:
            for sign, part in zip((1.0, -1.0), at.elastic, strict=True):
                compliance = compliance + 1.0 / part.sigma
                push = frame.elastic.weight + part.gradient(barrier)
                excess = excess + sign * push / part.sigma
        self.compliance, self.excess = compliance, excess
        self.hard = compliance == 0.0
        C = self.model.jacobian
        soft = C[~self.hard]
        K = self.model.hessian + np.diag(at.w.sigma)
        if frame.elastic is not None:
            K = K + np.diag(frame.elastic.near * frame.metric)
        if len(soft):
            K = K + soft.T @ (soft / compliance[~self.hard][:, None])
        system = DenseSystem.of(K, C[self.hard], frame.metric, shift)
        if system is None:
            return False
        self.system, self.shift = system, system.shift
        return True

    def move(self, defects: np.ndarray, residuals: RowVector) -> KKTStep:
        """The step that answers to these defects and residuals of the rows."""
        at, model = self.at, self.model
        s = self.offset if defects is at.values.defects else model.offset(defects)
        r = residuals + model.row_offset(s)
        hard, soft = self.hard, ~self.hard
        C = model.jacobian
        g = model.gradient(s) + self._near() + at.w.gradient(self.barrier)
        push = (r + self.excess)[soft] / self.compliance[soft]
        dw, y = self.system.solve(g + C[soft].T @ push, r[hard])
        mu = np.zeros_like(at.mu)
        mu[hard] = y
        mu[soft] = (C[soft] @ dw + (r + self.excess)[soft]) / self.compliance[soft]
        slack = (mu - at.s.gradient(self.barrier)) / self.slack_sigma
        boxes = [dw, np.where(self.frame.equal, 0.0, slack)]
        if at.elastic is not None and self.frame.elastic is not None:
            for sign, part in zip((1.0, -1.0), at.elastic, strict=True):
                force = self.frame.elastic.weight + part.gradient(self.barrier)
                boxes.append((sign * mu - force) / part.sigma)
        return KKTStep(dw, model.states(dw, s), tuple(boxes), mu - at.mu)

    def slope(self, move: KKTStep) -> float:
        """The derivative of the barrier function along a move."""
        total = self.model.slope(move.w, move.x) + float(self._near() @ move.w)
        for box, d in zip(self.at.boxes, move.boxes, strict=True):
            total += float(box.gradient(self.barrier) @ d)
        if self.frame.elastic is not None:
            total += self.frame.elastic.weight * float(sum(d.sum() for d in move.boxes[2:]))
        return total

    # -- where a move leads ----------------------------------------------------------------------
    def longest(self, move: KKTStep, share: float) -> float:
        """The largest step that stays inside."""
        pairs = zip(self.at.boxes, move.boxes, strict=True)
        return min(box.longest(d, share) for box, d in pairs)

    def trial(self, move: KKTStep, length: float) -> BarrierPoint:
        """The point there, with this point's multipliers."""
        at = self.at
        boxes = [b.moved(d, length) for b, d in zip(at.boxes, move.boxes, strict=True)]
        x = at.x + length * move.x
        values = self.frame.program.values(boxes[0].at, x)
        elastic = None if at.elastic is None else (boxes[2], boxes[3])
        return replace(at, w=boxes[0], s=boxes[1], elastic=elastic, x=x, values=values)

    def accepted(
        self, trial: BarrierPoint, move: KKTStep, length: float, share: float
    ) -> BarrierPoint:
        """The trial point with moved multipliers."""
        pairs = list(zip(self.at.boxes, move.boxes, strict=True))
        dual = min(box.longest_dual(d, self.barrier, share) for box, d in pairs)
        boxes = [
            new.with_duals(old, d, dual, self.barrier)
            for new, (old, d) in zip(trial.boxes, pairs, strict=True)
        ]
        elastic = None if trial.elastic is None else (boxes[2], boxes[3])
        mu = self.at.mu + length * move.mu
        return replace(trial, w=boxes[0], s=boxes[1], elastic=elastic, mu=mu)
