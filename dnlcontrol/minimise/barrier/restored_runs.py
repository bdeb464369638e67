"""A lifted program to a minimiser: the interior-point method, and restorations where it fails.

A run that is stuck away from feasibility is followed by restorations: the elastic method lowers the
violation alone, from where the run ended and from seeded points in the box. From a feasible point
the run begins anew, and no longer returns to violations as large as before. Where every restoration
ends at a stationary point of the violation, the problem is locally infeasible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.active_set import KKTPoint
from dnlcontrol.minimise.barrier.lifted_program import LiftedProgram
from dnlcontrol.minimise.barrier.method import FIRST_BARRIER, InteriorPointMethod, Stopped, Told
from dnlcontrol.minimise.barrier.system import BarrierPoint, Elastic, Frame
from dnlcontrol.minimise.faces import Face

# The cost is scaled only where the dual norm of its gradient at the start lies outside this range.
GRADIENT_RANGE = (1e-2, 1e2)
# Of the tolerance, for the interior-point method: the sides that are active show in the first as a
# rule, singular arcs of an implicit rule need the second.
ACCURACIES = (1e-3, 1e-5)
NEAR_ERROR = 1e-5  # a run that is stuck at a larger error is not near a solution
# a restoration ends at violations that a run from there takes to zero
RESTORED = 1e-3
RESTORATION_ACCURACY = 1e-6
RESTORATION_NEAR = 1e-4
RESTORATION_ITERATIONS = 100
MOST_RESTORATIONS = 4
SEEDED_STARTS = 3
# so many stationary points of the violation, from as many starts, before a problem is called
# infeasible
CERTIFYING = 3
PIECES = 4  # of a seeded start in time


@dataclass(frozen=True)
class LiftedGoal:
    """The tolerance of the measures, and the iterations allowed, restorations included."""

    tolerance: float
    max_iterations: int


@dataclass(frozen=True)
class LiftedOutcome:
    """Controls and multipliers where a program's solve ended.

    ``why``: "converged", "iterations", "stuck" or "infeasible"; then ``violation`` is the least
    seen, at ``certificates`` stationary points of it. ``exact``: what the finish made of it.
    """

    w: Flat
    x: np.ndarray
    mu: RowVector
    why: str
    iterations: int
    violation: float = 0.0
    certificates: int = 0
    exact: KKTPoint | None = None


Finish = Callable[[LiftedOutcome, bool], KKTPoint | None]
"""The minimiser beside an interior point, or None; the flag asks for patience."""


@dataclass
class Restored:
    """What restorations found: a feasible start, else the least violation and its point."""

    start: Flat | None
    iterations: int
    least: float = np.inf
    at: BarrierPoint | None = None
    certificates: int = 0


def solve_lifted(
    program: LiftedProgram,
    start: Flat,
    goal: LiftedGoal,
    finish: Finish,
    told: Told | None = None,
) -> LiftedOutcome:
    """Minimise from ``start``, (space.size,): to what ``finish`` makes of an interior point.

    It is tried at the accuracies ACCURACIES of the tolerance, the last time patiently.
    """
    frame = Frame(program)
    zero = np.zeros(program.rows.size)
    w, spent = start, 0
    cap = np.inf
    for attempt in range(MOST_RESTORATIONS + 1):
        at = frame.at(w, None, zero, FIRST_BARRIER)
        if not attempt:
            frame.scale = cost_scale(program, at)
        left = goal.max_iterations - spent
        run = Run(frame, LiftedGoal(goal.tolerance, left), finish, told, cap)
        found = run.minimised(at)
        spent += found.iterations
        found = replace(found, iterations=spent)
        if found.why != "stuck" or found.violation <= goal.tolerance or not program.rows.size:
            return found
        if attempt == MOST_RESTORATIONS or spent >= goal.max_iterations:
            break
        restored = restore(program, [found.w, start], goal.max_iterations - spent, attempt)
        spent += restored.iterations
        if restored.start is None:
            return _infeasible(restored, found, spent)
        w, cap = restored.start, 0.5 * max(found.violation, RESTORED)
    return found


@dataclass(frozen=True)
class Run:
    """One run from one start, and its finish; ``cap``: see :class:`InteriorPointMethod`."""

    frame: Frame
    goal: LiftedGoal
    finish: Finish
    told: Told | None
    cap: float

    def minimised(self, at: BarrierPoint) -> LiftedOutcome:
        """The interior-point method to each accuracy, and the finish from there."""
        spent, barrier = 0, FIRST_BARRIER
        for k, accuracy in enumerate(ACCURACIES):
            last = k == len(ACCURACIES) - 1
            method = InteriorPointMethod(
                self.frame,
                accuracy * self.goal.tolerance,
                self.goal.max_iterations - spent,
                self.told,
            )
            method.cap = self.cap
            ended = method.run(at, barrier)
            spent += ended.iterations
            at, barrier = ended.at, ended.barrier
            found = _outcome(self.frame, ended, spent)
            if ended.why == "iterations" or (ended.why == "stuck" and not _near(ended)):
                return found
            exact = self.finish(found, last or ended.why == "stuck")
            if exact is not None:
                return replace(found, why="converged", exact=exact)
            if ended.why == "stuck":
                return found
        return found


def _near(ended: Stopped) -> bool:
    """Whether a stuck run ended where a finish may succeed."""
    return ended.error <= NEAR_ERROR


def cost_scale(program: LiftedProgram, at: BarrierPoint) -> float:
    """What brings the dual norm of the cost's gradient into GRADIENT_RANGE."""
    model = program.model(at.w.at, at.x, np.zeros_like(at.mu), 1.0)
    whole = Face(program.space, np.zeros(program.space.size, dtype=bool))
    norm = whole.dual_norm(model.gradient(np.zeros_like(at.x)))
    if not np.isfinite(norm) or norm == 0:
        return 1.0
    return float(np.clip(norm, *GRADIENT_RANGE) / norm)


def _outcome(frame: Frame, ended: Stopped, spent: int) -> LiftedOutcome:
    return LiftedOutcome(
        ended.at.w.at,
        ended.at.x,
        ended.at.mu / frame.scale,
        ended.why,
        spent,
        _violated(frame.program, ended.at),
    )


def _infeasible(restored: Restored, found: LiftedOutcome, spent: int) -> LiftedOutcome:
    """With the certificate where there is one."""
    at = restored.at
    if at is None or restored.certificates < CERTIFYING:
        return replace(found, iterations=spent)
    return LiftedOutcome(
        at.w.at,
        at.x,
        at.mu,
        "infeasible",
        spent,
        violation=restored.least,
        certificates=restored.certificates,
    )


def _violated(program: LiftedProgram, at: BarrierPoint) -> float:
    """The largest violation of a row or a state equation."""
    rows = np.max(program.rows.violation(at.values.rows), initial=0.0)
    return float(max(rows, np.max(np.abs(at.values.defects), initial=0.0)))


def restore(program: LiftedProgram, starts: list[Flat], max_iterations: int, seed: int) -> Restored:
    """A feasible point by the elastic method: from ``starts``, then from seeded ones."""
    rng = np.random.default_rng(seed)
    seeded = [seeded_start(program.space, starts[0], rng) for _ in range(SEEDED_STARTS)]
    found = Restored(None, 0)
    for start in [starts[0], *seeded, *starts[1:]]:
        left = min(max_iterations - found.iterations, RESTORATION_ITERATIONS)
        if left <= 0 or found.certificates >= CERTIFYING:
            break
        frame = Frame(program, elastic=Elastic(1.0, RESTORATION_NEAR, start))
        method = InteriorPointMethod(
            frame,
            RESTORATION_ACCURACY,
            left,
            stop=lambda at: _violated(program, at) <= RESTORED,
        )
        zero = np.zeros(program.rows.size)
        ended = method.run(frame.at(start, None, zero, FIRST_BARRIER))
        found.iterations += ended.iterations
        violation = _violated(program, ended.at)
        if violation <= RESTORED:
            found.start = ended.at.w.at
            return found
        if ended.why == "converged":
            found.certificates += 1
            if violation < found.least:
                found.least, found.at = violation, ended.at
    return found


def seeded_start(space: ControlSpace, w: Flat, rng: np.random.Generator) -> Flat:
    """A point of the box: piecewise constant in time, within finite bounds or about the size of w.

    Constants are w's, at least 1, times a power of ten between a third and three.
    """
    lower, upper = space.bounds
    out = w.copy()
    for block in space:
        low, high, here = (block.view(v) for v in (lower, upper, w))
        pieces = np.minimum(
            np.arange(block.layout.count) * PIECES // max(block.layout.count, 1), PIECES - 1
        )
        drawn = rng.uniform(size=(PIECES, block.components))[pieces]
        size = np.maximum(1.0, np.abs(here))
        both = np.isfinite(low) & np.isfinite(high)
        free = here + size * (2.0 * drawn - 1.0)
        if block.layout.on == "const":
            free = np.where(here < 0, -1.0, 1.0) * size * 10.0 ** (drawn - 0.5)
        inside = np.where(both, low, 0.0) + np.where(both, high - low, 0.0) * drawn
        out[block.part] = np.clip(np.where(both, inside, free), low, high).reshape(-1)
    return out
