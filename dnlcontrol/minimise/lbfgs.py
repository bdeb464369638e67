"""L-BFGS in the metric of the controls, with bounds by projection."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.faces import Face, complementarity, stationarity
from dnlcontrol.minimise.outcome import (
    Iterate,
    Outcome,
    Progress,
    SmoothFunction,
    finite,
    kept_log,
    lines,
    not_started,
    reached,
)
from dnlcontrol.minimise.quadratic_model import binding

KEPT_PAIRS = 20  # Nocedal and Wright (section 7.2) find 3 to 20 good; vectors are cheap here
ARMIJO_SHARE = 1e-4  # of the slope (Nocedal and Wright, section 3.1)
MOST_HALVINGS = 40  # of a step: 2^{-40} = 1e-12 of it is lost in the rounding of w
VALUE_ROUNDING = 1e-15  # of |J|, some five units of rounding: a rise that is not told from none
CURVATURE_ROUNDING = 10.0  # sᵀy relative to |s| |y|, in VALUE_ROUNDING: of longer sums
PATIENCE = 5 * KEPT_PAIRS  # iterations without anything better: the history is renewed five times


@dataclass
class Memory:
    """The last pairs (s, y) on one face, as an approximation of the inverse Hessian."""

    face: Face
    pairs: deque[tuple[Flat, Flat]] = field(default_factory=lambda: deque(maxlen=KEPT_PAIRS))

    def on(self, held: Flat) -> Memory:
        """Itself where the face stays the same, else an empty one."""
        if np.array_equal(held, ~self.face.free):
            return self
        return Memory(Face(self.face.space, held))

    def direction(self, g: Flat) -> Flat:
        """-(approximate inverse Hessian) g, or where it does not descend -A_FF^{-1} g."""
        direction = -self.solve(self.face.restrict(g))
        if direction @ g >= 0:
            self.pairs.clear()
            direction = -self.face.riesz(self.face.restrict(g))
        return direction

    def solve(self, g: Flat) -> Flat:
        """The inverse Hessian approximation applied to g (two-loop recursion)."""
        q, alphas = g.copy(), []
        for s, y in reversed(self.pairs):
            alpha = float(s @ q) / float(s @ y)
            alphas.append(alpha)
            q -= alpha * y
        z = self.face.riesz(self.face.restrict(q))
        if self.pairs:
            s, y = self.pairs[-1]
            y = self.face.restrict(y)
            z *= float(s @ y) / float(y @ self.face.riesz(y))
        for (s, y), alpha in zip(self.pairs, reversed(alphas), strict=True):
            z += (alpha - float(y @ z) / float(s @ y)) * s
        return self.face.restrict(z)

    def learn(self, s: Flat, y: Flat, rounding: float = VALUE_ROUNDING) -> None:
        """Take up a step and its change of the gradient where its curvature is positive."""
        if s @ y > CURVATURE_ROUNDING * rounding * float(np.sqrt((s @ s) * (y @ y))):
            self.pairs.append((s, y))


@dataclass(frozen=True)
class Point:
    """w with value and gradient, and the evaluations that led there."""

    w: Flat
    value: float
    g: Flat
    evaluations: int


class Best:
    """Of the points whose value is within rounding of the least one, that of least stationarity."""

    def __init__(self, rounding: float) -> None:
        self.rounding = rounding
        self.least = np.inf
        self.at: Point | None = None
        self.norm = np.inf
        self.waited = 0

    def meet(self, at: Point, norm: float) -> None:
        """The next point; ``waited`` counts those since anything became better."""
        noise = self.rounding * abs(at.value)
        lower = at.value < self.least - noise
        self.least = min(self.least, at.value)
        outdone = self.at is None or self.at.value > self.least + noise
        better = at.value <= self.least + noise and (outdone or norm < self.norm)
        if better:
            self.at, self.norm = at, norm
        self.waited = 0 if lower or better else self.waited + 1

    def outcome(self, message: str, log: list[Iterate]) -> Outcome:
        """Where a minimiser ends that has not converged."""
        assert self.at is not None
        at = self.at
        return Outcome(at.w, at.value, at.g, self.norm, False, message, log=tuple(log))


def lbfgs(
    objective: SmoothFunction,
    start: Flat,
    tolerance: float,
    max_iterations: int = 2000,
    progress: Progress | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    rounding: float = VALUE_ROUNDING,
) -> Outcome:
    """Limited-memory BFGS whose initial inverse Hessian is γ A_FF^{-1}.

    From ``start``, (space.size,); the history restarts when the face changes. Two-loop recursion
    (Nocedal and Wright, Numerical Optimization, section 7.2) on the entries that are not held,
    projected Armijo backtracking. Pairs enter only with positive curvature. A solve that goes on
    from a checkpoint (``checkpoint``) gathers them anew.

    ``rounding``: of J, in units of |J|; the default is that of a sum in float64.

    The outcome has ``converged`` where stationarity and complementarity are at most the tolerance.
    Else it is the least stationary of the iterates whose J is the least one up to rounding, and its
    message says which of four ends it was: J or its gradient not finite at the start,
    ``max_iterations`` used up, a line search without decrease along -A_FF^{-1} g, or nothing better
    for PATIENCE iterations.
    """
    space = objective.space
    kept = resumed(checkpoint, "lbfgs")
    w = np.clip(kept.get("w", start), *space.bounds)
    at = Point(w, *objective.value_and_gradient(w), evaluations=1)
    if not finite(at.value, at.g):
        return not_started(at.w, at.value, at.g, 0.0)
    memory, best = Memory(Face(space, binding(space, at.w, at.g))), Best(rounding)
    log = kept_log(kept, max_iterations)
    message = (
        f"stopped after {max_iterations} iterations; raise max_iterations or use method='newton'"
    )
    for k in range(len(log), max_iterations + 1):
        if checkpoint:
            checkpoint.offer("lbfgs", {"w": at.w, "log": lines(log)})
        norm = stationarity(space, at.w, at.g)
        log.append(Iterate(k, at.value, norm, 0.0, at.evaluations))
        if progress:
            progress(log[-1])
        if norm <= tolerance and complementarity(space, at.w, at.g) <= tolerance:
            done = reached(norm, tolerance)
            return Outcome(at.w, at.value, at.g, norm, True, done, log=tuple(log))
        best.meet(at, norm)
        if k == max_iterations:
            break
        if best.waited >= PATIENCE:
            message = (
                f"no further decrease can be resolved in float64 at stationarity {best.norm:.1e}; "
                "loosen the tolerance or rescale the cost"
            )
            break
        memory = memory.on(binding(space, at.w, at.g))
        new = _searched(objective, at, memory.direction(at.g), rounding)
        if new is not None:
            memory.learn(new.w - at.w, new.g - at.g, rounding)
            at = new
        elif memory.pairs:
            memory.pairs.clear()
            at = replace(at, evaluations=MOST_HALVINGS)
        else:
            message = (
                f"the line search found no decrease at stationarity {best.norm:.1e}; "
                "use method='newton'"
            )
            break
    return best.outcome(message, log)


def _searched(
    objective: SmoothFunction, at: Point, direction: Flat, rounding: float
) -> Point | None:
    """Where the first of the projected steps 1, ½, ... leads that lowers J enough."""
    step = 1.0
    noise = rounding * abs(at.value)
    for evaluations in range(1, MOST_HALVINGS + 1):
        w: Flat = np.clip(at.w + step * direction, *objective.space.bounds)
        value, g = objective.value_and_gradient(w)
        enough = at.value + ARMIJO_SHARE * float(at.g @ (w - at.w)) + noise
        if np.isfinite(value) and value <= enough:
            return Point(w, value, g, evaluations)
        step *= 0.5
    return None
