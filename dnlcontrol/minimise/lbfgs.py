"""L-BFGS in the metric of the controls, with bounds by projection."""

from __future__ import annotations

from collections import deque

import numpy as np

from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.faces import Face, complementarity, stationarity
from dnlcontrol.minimise.newton import NOT_FINITE
from dnlcontrol.minimise.outcome import Iterate, Outcome, Progress, SmoothFunction, kept_log, lines
from dnlcontrol.minimise.quadratic_model import binding

HISTORY = 20
ARMIJO = 1e-4


def lbfgs(
    objective: SmoothFunction,
    start: np.ndarray,
    tolerance: float,
    max_iterations: int = 2000,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Limited-memory BFGS whose initial inverse Hessian is γ A_FF^{-1}; the history restarts when
    the face changes.

    Two-loop recursion (Nocedal and Wright, Numerical Optimization, section 7.2) on the entries that
    are not held, projected Armijo backtracking. Pairs enter only with positive curvature. A solve
    that goes on from a checkpoint (``checkpoint``) gathers them anew.
    """
    space = objective.space
    kept = resumed(checkpoint, "lbfgs")
    w = np.clip(kept.get("w", start), *space.bounds)
    value, g = objective.value_and_gradient(w)
    if not (np.isfinite(value) and np.all(np.isfinite(g))):
        return Outcome(w, value, g, np.inf, False, NOT_FINITE, (Iterate(0, value, np.inf, 0.0, 0),))
    pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=HISTORY)
    held = None
    log = kept_log(kept, max_iterations)
    evaluations = 1
    message = (
        f"stopped after {max_iterations} iterations; raise max_iterations or use method='newton'"
    )
    for k in range(len(log), max_iterations + 1):
        if checkpoint:
            checkpoint.offer("lbfgs", {"w": w, "log": lines(log)})
        norm = stationarity(space, w, g)
        log.append(Iterate(k, value, norm, 0.0, evaluations))
        if progress:
            progress(log[-1])
        if norm <= tolerance and complementarity(space, w, g) <= tolerance:
            return Outcome(
                w, value, g, norm, True, f"stationarity {norm:.1e} <= {tolerance:.0e}", tuple(log)
            )
        if k == max_iterations:
            break
        now = binding(space, w, g)
        if held is None or not np.array_equal(now, held):
            pairs.clear()
            held, face = now, Face(space, now)
        direction = -_two_loop(face, face.restrict(g), pairs)
        if direction @ g >= 0:
            pairs.clear()
            direction = -face.riesz(face.restrict(g))
        step = 1.0
        found = False
        evaluations = 0
        while not found and evaluations < 40:
            new = np.clip(w + step * direction, *space.bounds)
            new_value, new_g = objective.value_and_gradient(new)
            evaluations += 1
            noise = 1e-15 * abs(value)
            found = (
                bool(np.isfinite(new_value))
                and new_value <= value + ARMIJO * float(g @ (new - w)) + noise
            )
            step *= 0.5
        if not found:
            if not pairs:
                message = (
                    f"the line search found no decrease at stationarity {norm:.1e}; use "
                    "method='newton'"
                )
                break
            pairs.clear()
            continue
        s, y = new - w, new_g - g
        if s @ y > 1e-14 * float(np.sqrt((s @ s) * (y @ y))):
            pairs.append((s, y))
        w = new
        value = new_value
        g = new_g
    return Outcome(w, value, g, norm, False, message, tuple(log))


def _two_loop(face: Face, g: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The inverse Hessian approximation applied to g."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alpha = float(s @ q) / float(s @ y)
        alphas.append(alpha)
        q -= alpha * y
    z = face.riesz(face.restrict(q))
    if pairs:
        s, y = pairs[-1]
        y = face.restrict(y)
        z *= float(s @ y) / float(y @ face.riesz(y))
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        z += (alpha - float(y @ z) / float(s @ y)) * s
    return face.restrict(z)
