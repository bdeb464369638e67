"""The quadratic model q(d) = gᵀd + ½ dᵀH d in a trust region of the metric A and a box of bounds.

On a face of the box: conjugate gradients preconditioned by the Riesz map A_FF^{-1} or a correction
of it (coarse.py), stopped at the radius and at negative curvature (Steihaug 1983). Where steps meet
bounds they are projected, the face is updated and the model is solved on, until the projected
gradient of the model itself is small (Bertsekas 1982: the two-metric projection is a descent
direction because the held entries are left out of the metric).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.minimise.faces import Face, held_entries

Product = Callable[[np.ndarray], np.ndarray]
PAIRS = 40  # products of one model that are kept
CLOSE = 1e-3  # a held entry so near its bound, relative to 1 + |w|, is put there first
# changes of face within one model; each shrinks the model value, so this only bounds the work
FACES = 50


class Correction(Protocol):
    """A preconditioner that knows more of H than the metric does."""

    def on(self, face: Face) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """(r, A_FF^{-1} r) -> an approximation of H_FF^{-1} r_F, on one face."""
        ...


@dataclass(frozen=True)
class Seen:
    """One product y = Hs with sᵀy = 1, and A^{-1}y where it is known."""

    s: np.ndarray
    y: np.ndarray
    z: np.ndarray | None = None


@dataclass(frozen=True)
class Step:
    """A step d, its model value q(d) <= 0, the CG iterations spent and whether it stopped at the
    radius.

    ``seen``: what the iterations learnt of H.
    """

    d: np.ndarray
    predicted: float
    inner: int
    at_radius: bool
    seen: tuple[Seen, ...] = ()


def solve_model(
    space: ControlSpace,
    product: Product,
    w: np.ndarray,
    g: np.ndarray,
    face: Face,
    radius: float,
    accuracy: float,
    max_products: int,
    correction: Correction | None = None,
) -> Step:
    """Minimise the model to ``accuracy`` in the dual norm of its projected gradient, in at most
    ``max_products`` products.
    """
    d = np.zeros_like(g)
    Hd = np.zeros_like(g)
    inner = 0
    seen: list[Seen] = []
    lower, upper = space.bounds
    near = snapped(space, w, g)
    if near.any():
        Hn = product(near)
        inner += 1
        if float(g @ near + 0.5 * near @ Hn) < 0:
            d, Hd = near, Hn
            face = Face(space, binding(space, w + d, g + Hd))
    for _ in range(FACES):
        m = g + Hd
        correct = None if correction is None else correction.on(face)
        p, Hp, used, at_radius = conjugate_gradients(
            face, product, m, d, radius, accuracy, max_products - inner, correct, seen
        )
        inner += used
        if not used:
            break
        clipped = np.clip(w + d + p, lower, upper) - w - d
        if np.array_equal(clipped, p) or not space.bounded:
            d, Hd = d + p, Hd + Hp
        else:
            clipped, Hp, used = _projected_search(space, product, w, d, m, p, clipped)
            inner += used
            d = d + clipped
            Hd = Hd + Hp
            at_radius = False
            if not clipped.any():
                break
        if at_radius or inner >= max_products or not space.bounded:
            return Step(d, float(g @ d + 0.5 * d @ Hd), inner, at_radius, tuple(seen))
        face = Face(space, binding(space, w + d, g + Hd))
        if face.dual_norm(g + Hd) <= accuracy:
            break
    return Step(d, float(g @ d + 0.5 * d @ Hd), inner, False, tuple(seen))


def conjugate_gradients(
    face: Face,
    product: Product,
    m: np.ndarray,
    base: np.ndarray,
    radius: float,
    accuracy: float,
    max_products: int,
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    seen: list[Seen] | None = None,
) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Minimise mᵀp + ½ pᵀHp over the free entries, ‖base + p‖_A <= radius; returns p, Hp,
    iterations, at the radius.

    The preconditioner is r -> ``correct``(r, A_FF^{-1} r), symmetric and positive definite, by
    default the Riesz map; ``accuracy`` is in the dual norm. Products with positive curvature are
    added to ``seen``, at most PAIRS.
    """
    metric = face.space.metric
    p, Hp = np.zeros_like(m), np.zeros_like(m)
    r = face.restrict(m)
    z, natural, norm = _preconditioned(face, r, correct)
    rz = float(r @ z)
    direction = -z
    for k in range(max(max_products, 1)):
        if norm <= accuracy:
            return p, Hp, k, False
        Hv = product(direction)
        curvature = float(direction @ Hv)
        reach = _to_radius(base + p, direction, metric, radius)
        # below rounding of the product itself a curvature has no sign
        flat = curvature <= 1e-15 * float(np.abs(direction) @ np.abs(Hv))
        step, scale = (reach, 0.0) if flat else (rz / curvature, 1.0 / np.sqrt(curvature))
        learn = seen if not flat and seen is not None and len(seen) < PAIRS else None
        if step >= reach:
            if learn is not None:
                learn.append(Seen(scale * direction, scale * Hv))
            return p + reach * direction, Hp + reach * Hv, k + 1, True
        p, Hp = p + step * direction, Hp + step * Hv
        r = face.restrict(r + step * Hv)
        before = natural
        z, natural, norm = _preconditioned(face, r, correct)
        if learn is not None:
            solved = scale / step * (natural - before) if face.whole else None
            learn.append(Seen(scale * direction, scale * Hv, solved))
        rz, old = float(r @ z), rz
        direction = -z + (rz / old) * direction
    return p, Hp, max_products, False


def _preconditioned(
    face: Face,
    r: np.ndarray,
    correct: Callable[[np.ndarray, np.ndarray], np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The preconditioned residual, A_FF^{-1} r and its dual norm, with one Riesz solve."""
    z = face.riesz(r)
    norm = float(np.sqrt(max(float(r @ z), 0.0)))
    return (z if correct is None else correct(r, z)), z, norm


def _to_radius(d: np.ndarray, p: np.ndarray, metric: Product, radius: float) -> float:
    """The θ >= 0 with ‖d + θp‖_A = radius, the larger root of a quadratic written without
    cancellation.
    """
    Ap = metric(p)
    a = float(p @ Ap)
    b = float(d @ Ap)
    c = float(d @ metric(d)) - radius**2
    if c >= 0:
        return 0.0
    root = np.sqrt(b * b - a * c)
    return float(-c / (b + root)) if b > 0 else float((root - b) / a)


def binding(space: ControlSpace, w: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Entries at a bound whose gradient pushes outwards."""
    lower, upper = space.bounds
    return ((w <= lower) & (m >= 0)) | ((w >= upper) & (m <= 0))


def snapped(space: ControlSpace, w: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The step of held entries close to their bounds onto them.

    An entry just inside a bound whose gradient pushes outwards would be free, block every projected
    step, and let no length be accepted that is not tiny. Entries further off move by projected
    steps, within the radius.
    """
    if not space.bounded:
        return np.zeros_like(w)
    lower, upper = space.bounds
    target = np.where(g > 0, lower, upper)
    close = np.abs(target - w) <= CLOSE * (1.0 + np.abs(w))
    return np.where(held_entries(space, w, g) & close, target - w, 0.0)


def _projected_search(
    space: ControlSpace,
    product: Product,
    w: np.ndarray,
    d: np.ndarray,
    m: np.ndarray,
    p: np.ndarray,
    trial: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Halve β until the projected step lowers the model enough: mᵀt + ½ tᵀHt <= 10^{-2} mᵀt < 0."""
    lower, upper = space.bounds
    beta = 1.0
    for used in range(1, 41):
        Ht = product(trial)
        slope = float(m @ trial)
        if slope < 0 and slope + 0.5 * float(trial @ Ht) <= 1e-2 * slope:
            return trial, Ht, used
        beta *= 0.5
        trial = np.clip(w + d + beta * p, lower, upper) - w - d
    return np.zeros_like(p), np.zeros_like(p), 40
