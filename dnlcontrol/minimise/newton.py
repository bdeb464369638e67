"""Trust-region Newton-CG in the metric of the controls, with bounds."""

from __future__ import annotations

from functools import partial

import numpy as np

from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.faces import Face, complementarity, stationarity
from dnlcontrol.minimise.lanczos import lowest_curvature
from dnlcontrol.minimise.outcome import Iterate, Outcome, Progress, SmoothFunction, kept_log, lines
from dnlcontrol.minimise.quadratic_model import binding

# ratios of actual to predicted decrease (Conn, Gould, Toint 2000, ch. 6)
ACCEPT = 1e-4
SHRINK = 0.25
GROW = 0.75
# changes of J below this share of |J| are noise of the sums over samples and layers
ROUNDING = 1e-13
CG_LIMIT = 500
# reduction asked of one model: the next one is better preconditioned by what this one learns
MOST = 2e-2
FAR = 1e-2  # stationarity above which steps tell nothing about the next ones
ESCAPES = 5  # saddles left in one solve
NOT_FINITE = (
    "the cost or its gradient is not finite at the start; start elsewhere or bound the controls"
)


def newton(
    objective: SmoothFunction,
    start: np.ndarray,
    tolerance: float,
    max_iterations: int = 100,
    progress: Progress | None = None,
    cold: bool = False,
    quadratic_rate: float = np.inf,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Minimise to stationarity ``tolerance`` in the dual norm; negative curvature is followed to
    the radius.

    ``cold``: where the iterates come to rest, the lowest curvature is looked for, and followed if
    negative; a start on a symmetry of the problem may otherwise end at a saddle.

    The model is solved to min(0.1, ‖r‖^{1/2}) ‖r‖, r the stationarity: superlinear, few inner
    iterations far out; but not beyond half of quadratic_rate ‖r‖², what the next stationarity will
    be however well it is solved, nor beyond what both together may be at the end.
    ``quadratic_rate`` is learnt from the steps; a value from a coarser level saves products in the
    first. ``checkpoint``: the checkpoint to go on from.
    """
    space = objective.space
    kept = resumed(checkpoint, "newton")
    w = np.clip(kept.get("w", start), *space.bounds)
    value, g = objective.value_and_gradient(w)
    radius = kept.get("radius", 1.0)
    inner = kept.get("inner", 0)
    escapes = kept.get("escapes", 0)
    log = kept_log(kept, max_iterations)
    # "bend" in files of version 0.1.0
    quadratic_rate = kept.get("quadratic_rate", kept.get("bend", quadratic_rate))
    if not (np.isfinite(value) and np.all(np.isfinite(g))):
        return Outcome(
            w, value, g, np.inf, False, NOT_FINITE, (Iterate(0, value, np.inf, radius, 0),)
        )
    message = f"stopped after {max_iterations} iterations; raise max_iterations or start closer"
    for k in range(len(log), max_iterations + 1):
        if checkpoint:
            checkpoint.offer(
                "newton",
                {
                    "w": w,
                    "radius": radius,
                    "inner": inner,
                    "escapes": escapes,
                    "quadratic_rate": quadratic_rate,
                    "log": lines(log),
                },
            )
        norm = stationarity(space, w, g)
        log.append(Iterate(k, value, norm, radius, inner))
        if progress:
            progress(log[-1])
        if norm <= tolerance and complementarity(space, w, g) <= tolerance:
            lower = _below(objective, w, value, g) if cold and escapes < ESCAPES else None
            if lower is not None and k < max_iterations:
                w = lower
                (value, g) = objective.value_and_gradient(lower)
                radius = 1.0
                inner = 0
                escapes = escapes + 1
                continue
            return Outcome(
                w, value, g, norm, True, f"stationarity {norm:.1e} <= {tolerance:.0e}", tuple(log)
            )
        if k == max_iterations:
            break
        face = Face(space, binding(space, w, g))
        # on the face found by signs alone the norm also holds entries that will go to their bounds
        accuracy = forcing(min(face.dual_norm(g), norm), quadratic_rate, tolerance)
        step = objective.solve_model(w, g, face, radius, accuracy, CG_LIMIT)
        inner = step.inner
        new = np.clip(w + step.d, *space.bounds)
        new_value, new_g = objective.value_and_gradient(new)
        ratio = _ratio(value, new_value, step.predicted)
        if ratio is None:  # both decreases are below rounding: let the gradient decide
            ratio = 1.0 if stationarity(space, new, new_g) < norm else 0.0
        length = float(np.sqrt(max(step.d @ space.metric(step.d), 0.0)))
        if ratio < SHRINK:
            radius = 0.25 * min(radius, length)
        elif ratio > GROW and step.at_radius:
            radius = 4.0 * radius
        if ratio > ACCEPT:
            if not step.at_radius and 0 < norm <= FAR:
                quadratic_rate = min(quadratic_rate, stationarity(space, new, new_g) / norm**2)
            w = new
            value = new_value
            g = new_g
        elif radius <= 1e-14 * (1.0 + float(np.sqrt(w @ space.metric(w)))):
            message = (
                f"no further decrease can be resolved in float64 at stationarity {norm:.1e}; "
                "loosen the tolerance or rescale the cost"
            )
            break
    return Outcome(w, value, g, norm, False, message, tuple(log))


def forcing(size: float, quadratic_rate: float, tolerance: float) -> float:
    """How well to solve the model at stationarity ``size``; see :func:`newton`."""
    if size > FAR or not np.isfinite(quadratic_rate):
        return float(max(min(0.1, np.sqrt(size)) * size, 0.1 * tolerance))
    left = quadratic_rate * size**2
    enough = np.clip(0.6 * tolerance - left, 0.3 * tolerance, None)  # together below the tolerance
    return float(max(min(0.1 * size, 0.5 * left), MOST * size, enough))


def _below(
    objective: SmoothFunction, w: np.ndarray, value: float, g: np.ndarray
) -> np.ndarray | None:
    """A point with a lower value along the lowest curvature λ < 0; None at a minimiser, as far as
    Lanczos sees.

    A step of length h in the metric should lower J by ½|λ|h²; a quarter of that is asked for.
    """
    space = objective.space
    curvature, v = lowest_curvature(
        partial(objective.hessian_product, w), Face(space, binding(space, w, g))
    )
    if curvature == 0.0:
        return None
    v = v if g @ v <= 0 else -v
    for h in 0.5 ** np.arange(12):
        for sign in (1.0, -1.0):
            trial = np.clip(w + sign * h * v, *space.bounds)
            if objective.value_and_gradient(trial)[0] < value + 0.125 * curvature * h**2:
                return trial
    return None


def _ratio(old: float, new: float, predicted: float) -> float | None:
    """Actual over predicted decrease; None when neither can be told from rounding."""
    if not np.isfinite(new):
        return -1.0
    noise = ROUNDING * max(abs(old), abs(new))
    if -predicted <= noise and abs(old - new) <= 10 * noise:
        return None
    return (new - old) / predicted if predicted < 0 else -1.0
