"""A lifted program to a minimiser: the interior-point method, and restorations where it fails.

A run that is stuck away from feasibility is followed by restorations: the elastic method lowers the
violation alone, from where the run ended and from seeded points in the box. From a feasible point
the run begins anew, and no longer returns to violations as large as before. Where every restoration
ends at a stationary point of the violation, the problem is locally infeasible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.barrier.iterate import Elastic, Frame, Iterate
from dnlcontrol.minimise.barrier.method import FIRST_BARRIER, Ended, InteriorPointMethod, Told
from dnlcontrol.minimise.barrier.program import LiftedProgram
from dnlcontrol.minimise.faces import Face

# The cost is scaled only where the dual norm of its gradient at the start lies outside this range.
GRADIENT_RANGE = (1e-2, 1e2)
INNER_ACCURACY = 0.1  # of the tolerance; what follows takes the last digits
# a restoration ends at violations that a run from there takes to zero
RESTORED = 1e-3
RESTORATION_ACCURACY = 1e-6
RESTORATION_NEAR = 1e-4
RESTORATION_ITERATIONS = 100
MOST_RESTORATIONS = 4
SEEDED_STARTS = 4
# two stationary points of the violation are asked for before a problem is called infeasible
CERTIFYING = 2
PIECES = 4  # of a seeded start in time


@dataclass(frozen=True)
class LiftedOutcome:
    """Controls and multipliers where a program's solve ended.

    ``why``: "converged", "iterations", "stuck" or "infeasible"; then ``violation`` is the least
    seen, at ``certificates`` stationary points of it.
    """

    w: Flat
    x: np.ndarray
    mu: RowVector
    why: str
    iterations: int
    violation: float = 0.0
    certificates: int = 0


@dataclass
class Restored:
    """What restorations found: a feasible start, else the least violation and its point."""

    start: Flat | None
    iterations: int
    least: float = np.inf
    at: Iterate | None = None
    certificates: int = 0


def solve_lifted(
    program: LiftedProgram,
    start: Flat,
    tolerance: float,
    max_iterations: int,
    told: Told | None = None,
) -> LiftedOutcome:
    """Minimise from ``start``, (space.size,), to INNER_ACCURACY of the tolerance."""
    frame = Frame(program, cost_scale(program, start))
    accuracy = INNER_ACCURACY * tolerance
    w, spent, largest = start, 0, np.inf
    for attempt in range(MOST_RESTORATIONS + 1):
        method = InteriorPointMethod(frame, accuracy, max_iterations - spent, told)
        method.cap = largest
        zero = np.zeros(program.rows.size)
        ended = method.run(frame.at(w, None, zero, FIRST_BARRIER))
        spent += ended.iterations
        violation = _violated(program, ended.at)
        if ended.why != "stuck" or violation <= tolerance or not program.rows.size:
            return _outcome(frame, ended, spent)
        if attempt == MOST_RESTORATIONS or spent >= max_iterations:
            break
        found = restore(program, [ended.at.w.at, start], max_iterations - spent, attempt)
        spent += found.iterations
        if found.start is None:
            return _infeasible(frame, found, ended, spent)
        w, largest = found.start, 0.5 * max(ended.at.violation, RESTORED)
    return _outcome(frame, ended, spent)


def cost_scale(program: LiftedProgram, w: Flat) -> float:
    """What brings the dual norm of the cost's gradient into GRADIENT_RANGE."""
    x = program.states(w)
    model = program.model(w, x, np.zeros(program.rows.size), 1.0)
    whole = Face(program.space, np.zeros(program.space.size, dtype=bool))
    norm = whole.dual_norm(model.gradient(np.zeros_like(x)))
    if not np.isfinite(norm) or norm == 0:
        return 1.0
    return float(np.clip(norm, *GRADIENT_RANGE) / norm)


def _outcome(frame: Frame, ended: Ended, spent: int) -> LiftedOutcome:
    return LiftedOutcome(
        ended.at.w.at,
        ended.at.x,
        ended.at.mu / frame.scale,
        ended.why,
        spent,
        _violated(frame.program, ended.at),
    )


def _infeasible(frame: Frame, found: Restored, ended: Ended, spent: int) -> LiftedOutcome:
    if found.at is None or found.certificates < CERTIFYING:
        return _outcome(frame, ended, spent)
    at = found.at
    return LiftedOutcome(
        at.w.at, at.x, at.mu, "infeasible", spent, found.least, found.certificates
    )


def _violated(program: LiftedProgram, at: Iterate) -> float:
    """The largest violation of a row or a state equation."""
    rows = np.max(program.rows.violation(at.values.rows), initial=0.0)
    return float(max(rows, np.max(np.abs(at.values.defects), initial=0.0)))


def restore(
    program: LiftedProgram, starts: list[Flat], max_iterations: int, seed: int
) -> Restored:
    """A feasible point by the elastic method: from ``starts``, then from seeded ones."""
    rng = np.random.default_rng(seed)
    seeded = [seeded_start(program.space, starts[0], rng) for _ in range(SEEDED_STARTS)]
    found = Restored(None, 0)
    for start in [*starts, *seeded]:
        left = min(max_iterations - found.iterations, RESTORATION_ITERATIONS)
        if left <= 0:
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
