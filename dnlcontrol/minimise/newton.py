"""Trust-region Newton-CG in the metric of the controls, with bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.checkpoint import Checkpoint, resumed
from dnlcontrol.minimise.faces import Face, complementarity, stationarity
from dnlcontrol.minimise.lanczos import Ends, curvatures
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
from dnlcontrol.minimise.quadratic_model import Step, binding

# ratios of actual to predicted decrease (Conn, Gould, Toint 2000, ch. 6): a step is accepted above
# the first, the radius shrinks below the second and grows above the third
ACCEPT_RATIO = 1e-4
SHRINK_RATIO = 0.25
GROW_RATIO = 0.75
SHRINK_FACTOR = 0.25
GROW_FACTOR = 4.0
# changes of J below this share of |J| are noise of the sums over samples and layers
VALUE_NOISE = 1e-13
# a radius below this, relative to 1 + ‖w‖_A, is some fifty units of rounding of w
LEAST_RADIUS = 1e-14
MOST_PRODUCTS = 500  # of one model
# reduction asked of one model: the next one is better preconditioned by what this one learns
LEAST_REDUCTION = 2e-2
LOCAL_STATIONARITY = 1e-2  # above, steps tell nothing about the next ones
ESCAPES = 5  # saddles left in one solve
# lengths 1, ½, ..., 2^{-11} are tried along a negative curvature: h² = 2.4e-7 of the first decrease
ESCAPE_LENGTHS = 12


@dataclass(frozen=True)
class State:
    """What an iteration starts from.

    ``inner``: the products of the last model; ``escapes``: saddles left so far;
    ``quadratic_rate``: see :func:`newton`.
    """

    w: Flat
    value: float
    g: Flat
    radius: float = 1.0
    inner: int = 0
    escapes: int = 0
    quadratic_rate: float = np.inf

    def kept(self, log: Sequence[Iterate]) -> dict[str, Any]:
        """What a checkpoint holds; value and gradient are formed again."""
        names = ("w", "radius", "inner", "escapes", "quadratic_rate")
        return {name: getattr(self, name) for name in names} | {"log": lines(log)}


def newton(
    objective: SmoothFunction,
    start: Flat,
    tolerance: float,
    max_iterations: int = 100,
    progress: Progress | None = None,
    cold: bool = False,
    *,
    quadratic_rate: float = np.inf,
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Minimise from ``start``, (space.size,), to stationarity ``tolerance`` in the dual norm.

    Negative curvature is followed to the radius.

    ``cold``: where the iterates come to rest, the lowest curvature is looked for, and followed if
    negative; a start on a symmetry of the problem may otherwise end at a saddle.

    The model is solved to min(0.1, ‖r‖^{1/2}) ‖r‖, r the stationarity: superlinear, few inner
    iterations far out; but not beyond half of quadratic_rate ‖r‖², what the next stationarity will
    be however well it is solved, nor beyond what both together may be at the end.
    ``quadratic_rate`` is learnt from the steps; a value from a coarser level saves products in the
    first. ``checkpoint``: the checkpoint to go on from.

    The outcome has ``converged`` where stationarity and complementarity are at most the tolerance.
    Else its message says which of three ends it was: J or its gradient not finite at the start,
    ``max_iterations`` used up, or a radius at which float64 resolves no further decrease.
    """
    space = objective.space
    kept = resumed(checkpoint, "newton")
    at = _first(objective, start, kept, quadratic_rate)
    if not finite(at.value, at.g):
        return not_started(at.w, at.value, at.g, at.radius)
    log = kept_log(kept, max_iterations)
    message = f"stopped after {max_iterations} iterations; raise max_iterations or start closer"
    for k in range(len(log), max_iterations + 1):
        if checkpoint:
            checkpoint.offer("newton", at.kept(log))
        norm = stationarity(space, at.w, at.g)
        log.append(Iterate(k, at.value, norm, at.radius, at.inner))
        if progress:
            progress(log[-1])
        if norm <= tolerance and complementarity(space, at.w, at.g) <= tolerance:
            ends = _curvatures(objective, at) if cold and at.escapes < ESCAPES else None
            lower = None if ends is None or not ends.negative else _below(objective, at, ends)
            if lower is None or k == max_iterations:
                done = reached(norm, tolerance)
                return Outcome(at.w, at.value, at.g, norm, True, done, log=tuple(log), ends=ends)
            at = _escaped(objective, at, lower)
            continue
        if k == max_iterations:
            break
        step = _descent(objective, at, norm, tolerance)
        after = _accept(objective, at, step, norm)
        if after is None:
            message = (
                f"no further decrease can be resolved in float64 at stationarity {norm:.1e}; "
                "loosen the tolerance or rescale the cost"
            )
            break
        at = after
    return Outcome(at.w, at.value, at.g, norm, False, message, log=tuple(log))


def _first(
    objective: SmoothFunction, start: Flat, kept: Mapping[str, Any], quadratic_rate: float
) -> State:
    """The start in the box, or where a checkpoint's state left off."""
    w = np.clip(kept.get("w", start), *objective.space.bounds)
    value, g = objective.value_and_gradient(w)
    return State(
        w,
        value,
        g,
        radius=kept.get("radius", 1.0),
        inner=kept.get("inner", 0),
        escapes=kept.get("escapes", 0),
        # "bend" in files of version 0.1.0
        quadratic_rate=kept.get("quadratic_rate", kept.get("bend", quadratic_rate)),
    )


def _descent(objective: SmoothFunction, at: State, norm: float, tolerance: float) -> Step:
    """The step of the quadratic model, solved as well as :func:`forcing` says."""
    face = Face(objective.space, binding(objective.space, at.w, at.g))
    # on the face found by signs alone the norm also holds entries that will go to their bounds
    accuracy = forcing(min(face.dual_norm(at.g), norm), at.quadratic_rate, tolerance)
    return objective.solve_model(at.w, at.g, face, at.radius, accuracy, MOST_PRODUCTS)


def _accept(objective: SmoothFunction, at: State, step: Step, norm: float) -> State | None:
    """Where the step leads, or the same point with a smaller radius; None below LEAST_RADIUS."""
    space = objective.space
    new = np.clip(at.w + step.d, *space.bounds)
    value, g = objective.value_and_gradient(new)
    ratio = _ratio(at.value, value, step.predicted)
    if ratio is None:  # both decreases are below rounding: let the gradient decide
        ratio = 1.0 if stationarity(space, new, g) < norm else 0.0
    length = float(np.sqrt(max(step.d @ space.metric(step.d), 0.0)))
    radius = at.radius
    if ratio < SHRINK_RATIO:
        radius = SHRINK_FACTOR * min(radius, length)
    elif ratio > GROW_RATIO and step.at_radius:
        radius = GROW_FACTOR * radius
    after = replace(at, radius=radius, inner=step.inner)
    if ratio > ACCEPT_RATIO:
        rate = at.quadratic_rate
        if not step.at_radius and 0 < norm <= LOCAL_STATIONARITY:
            rate = min(rate, stationarity(space, new, g) / norm**2)
        return replace(after, w=new, value=value, g=g, quadratic_rate=rate)
    size = float(np.sqrt(at.w @ space.metric(at.w)))
    return None if radius <= LEAST_RADIUS * (1.0 + size) else after


def forcing(size: float, quadratic_rate: float, tolerance: float) -> float:
    """How well to solve the model at stationarity ``size``; see :func:`newton`."""
    if size > LOCAL_STATIONARITY or not np.isfinite(quadratic_rate):
        return float(max(min(0.1, np.sqrt(size)) * size, 0.1 * tolerance))
    left = quadratic_rate * size**2
    enough = np.clip(0.6 * tolerance - left, 0.3 * tolerance, None)  # together below the tolerance
    return float(max(min(0.1 * size, 0.5 * left), LEAST_REDUCTION * size, enough))


def _escaped(objective: SmoothFunction, at: State, lower: Flat) -> State:
    """A new beginning at the lower point beside a saddle."""
    value, g = objective.value_and_gradient(lower)
    return replace(at, w=lower, value=value, g=g, radius=1.0, inner=0, escapes=at.escapes + 1)


def _curvatures(objective: SmoothFunction, at: State) -> Ends:
    face = Face(objective.space, binding(objective.space, at.w, at.g))
    return curvatures(partial(objective.hessian_product, at.w), face)


def _below(objective: SmoothFunction, at: State, ends: Ends) -> Flat | None:
    """A point with a lower value along the lowest curvature λ < 0; None where none is found.

    A step of length h in the metric should lower J by ½|λ|h²; a quarter of that is asked for.
    """
    v = ends.lowest if at.g @ ends.lowest <= 0 else -ends.lowest
    for h in 0.5 ** np.arange(ESCAPE_LENGTHS):
        for sign in (1.0, -1.0):
            trial: Flat = np.clip(at.w + sign * h * v, *objective.space.bounds)
            if objective.value_and_gradient(trial)[0] < at.value + 0.125 * ends.low * h**2:
                return trial
    return None


def _ratio(old: float, new: float, predicted: float) -> float | None:
    """Actual over predicted decrease; None when neither can be told from rounding."""
    if not np.isfinite(new):
        return -1.0
    noise = VALUE_NOISE * max(abs(old), abs(new))
    if -predicted <= noise and abs(old - new) <= 10 * noise:
        return None
    return (new - old) / predicted if predicted < 0 else -1.0
