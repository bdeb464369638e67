"""Newton's method on the active kinks: ∇_w J(w, θ) = 0, a_k(w) = 0 for the kinks that are active.

The sides θ of active kinks are unknowns, their multipliers; every other kink stands on its side. A
side that leaves [0, 1] lets its kink go, a kink that is crossed becomes active.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.backends.kinks.kinked_function import KinkedFunction
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.faces import Face, held_entries

ITERATIONS = 25
DENSE = 2000  # unknowns of one linear system
LONGEST = 0.1  # a step in the metric: the pieces on both sides are known near the point only
ON_KINK = 1e-11  # of an argument that Newton's method has put to zero, relative to the largest


@dataclass(frozen=True)
class Finished:
    """Controls w and sides θ, the dual norm of ∇_w J(w, θ) there, and the steps made."""

    w: Flat
    theta: np.ndarray
    norm: float
    iterations: int
    converged: bool


def finish(
    function: KinkedFunction, w: Flat, theta: np.ndarray, active: np.ndarray, tolerance: float
) -> Finished:
    """From w (size,), sides θ and active kinks (both (kinks,)) to a point stationary on them."""
    space = function.discrete.space
    best = Finished(w, theta, np.inf, 0, False)
    for k in range(ITERATIONS + 1):
        v = function.joined(w, theta)
        _, g = function.smooth.value_and_gradient(v)
        r = g[: function.size]
        a = function.arguments(w)
        theta, active, changed = _updated(a, theta, active)
        norm = Face(space, held_entries(space, w, r)).dual_norm(r)
        if not np.isfinite(norm):
            return best
        on = np.max(np.abs(a[active]), initial=0.0) <= ON_KINK * (1.0 + _size(a))
        if not changed and norm < best.norm and on:
            best = Finished(w, theta, norm, k, norm <= tolerance)
        if best.converged or k == ITERATIONS:
            break
        if changed:
            v = function.joined(w, theta)
            _, g = function.smooth.value_and_gradient(v)
        free = np.flatnonzero(~held_entries(space, w, g[: function.size]))
        unknown = np.concatenate([free, function.size + np.flatnonzero(active)])
        if unknown.size > DENSE:
            return best
        step = _step(function, v, g, unknown)
        length = float(np.sqrt(max(step[: function.size] @ space.metric(step[: function.size]), 0)))
        step *= min(1.0, LONGEST / length) if length > 0 else 1.0
        w = np.clip(w + step[: function.size], *space.bounds)
        theta = theta + step[function.size :]
    return best


def _updated(
    a: np.ndarray, theta: np.ndarray, active: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Sides and active kinks after a step, and whether the active kinks are others."""
    zero = ON_KINK * (1.0 + _size(a))
    leaves = active & ((theta < 0.0) | (theta > 1.0))
    crossed = ~active & np.where(theta > 0.5, a < -zero, a > zero) & np.isfinite(a)
    theta = np.clip(theta, 0.0, 1.0)
    return theta, (active & ~leaves) | crossed, bool(np.any(leaves) or np.any(crossed))


def _step(function: KinkedFunction, v: Flat, g: Flat, unknown: np.ndarray) -> Flat:
    """Newton's step of the gradient in the unknowns, (total,), each kink's row scaled to size 1."""
    K = function.second(v, unknown)[unknown]
    K = 0.5 * (K + K.T)
    size = np.sqrt(np.linalg.norm(K, axis=0))
    scale = 1.0 / np.where(size > 0, size, 1.0)
    solved = np.linalg.lstsq(scale[:, None] * K * scale, -scale * g[unknown], rcond=1e-13)[0]
    step = np.zeros(function.total)
    step[unknown] = scale * solved
    return step


def _size(a: np.ndarray) -> float:
    return float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
