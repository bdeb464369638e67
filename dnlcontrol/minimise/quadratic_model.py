"""The quadratic model q(d) = gᵀd + ½ dᵀH d in a trust region of the metric A and a box of bounds.

On a face of the box: conjugate gradients preconditioned by the Riesz map A_FF^{-1} or a correction
of it (preconditioner.py), stopped at the radius and at negative curvature (Steihaug 1983). Where
steps meet bounds they are projected, the face is updated and the model is solved on, until the
projected gradient of the model itself is small (Bertsekas 1982: the two-metric projection is a
descent direction because the held entries are left out of the metric).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.faces import Face, held_entries

Product = Callable[[Flat], Flat]
Solve = Callable[[Flat, Flat], Flat]
"""(r, A_FF^{-1} r) -> an approximation of H_FF^{-1} r_F, on one face; all (space.size,)."""

# products of one model that are kept: as many as a preconditioner keeps pairs
MOST_SEEN = 40
# a held entry so near its bound, relative to 1 + |w|, is put there first [chosen]
SNAP_DISTANCE = 1e-3
# changes of face within one model; each shrinks the model value, so this only bounds the work
MOST_FACES = 50
# dᵀHd below five units of rounding (2.2e-16) of |d|ᵀ|Hd| has no sign
CURVATURE_ROUNDING = 1e-15
# of a projected step, relative to its slope: convergence asks for any share below ½ (Bertsekas
# 1982), and a small one refuses few steps
PROJECTED_DECREASE = 1e-2
# a projected step shortened by 2^{-40} = 1e-12 hardly changes w in its last digits
MOST_HALVINGS = 40


class Preconditioning(Protocol):
    """A preconditioner that knows more of H than the metric does."""

    def on(self, face: Face) -> Solve:
        """(r, A_FF^{-1} r) -> an approximation of H_FF^{-1} r_F, on one face."""
        ...


@dataclass(frozen=True)
class Seen:
    """One product y = Hs with sᵀy = 1, and z = A^{-1}y where it is known; each (space.size,)."""

    s: Flat
    y: Flat
    z: Flat | None = None


@dataclass(frozen=True)
class Step:
    """A step d, (space.size,), and its model value q(d) <= 0.

    ``inner``: the products spent; ``at_radius``: whether it stopped there; ``seen``: what the
    iterations learnt of H.
    """

    d: Flat
    predicted: float
    inner: int
    at_radius: bool
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Part:
    """A part p of a step and Hp, both (space.size,), the products spent, whether at the radius."""

    p: Flat
    Hp: Flat
    products: int
    at_radius: bool = False

    def then(self, more: Part) -> Part:
        """Both, one after the other; it ends where the second does."""
        products = self.products + more.products
        return Part(self.p + more.p, self.Hp + more.Hp, products, more.at_radius)


@dataclass(frozen=True)
class QuadraticModel:
    """q(d) = gᵀd + ½ dᵀH d, for w + d in the box.

    ``product`` is d -> Hd; w, the gradient g and every d are (space.size,); on ``face`` the first
    iterations go.
    """

    space: ControlSpace
    product: Product
    w: Flat
    g: Flat
    face: Face

    def minimise(
        self,
        radius: float,
        accuracy: float,
        max_products: int,
        correction: Preconditioning | None = None,
    ) -> Step:
        """A step with ‖d‖_A <= ``radius`` and projected gradient at most ``accuracy`` (dual norm).

        It ends earlier at the radius, where it arrives by length or by negative curvature, and
        after ``max_products`` products. ``correction`` preconditions the iterations.
        """
        seen: list[Seen] = []
        at, face = self._start()
        for _ in range(MOST_FACES):
            correct = None if correction is None else correction.on(face)
            here = FaceModel(face, self.product, self.g + at.Hp, at.p, correct)
            move = here.minimise(radius, accuracy, max_products - at.products, seen)
            if not move.products:
                break
            move = self._in_box(here, move)
            at = at.then(move)
            spent = at.products >= max_products
            if at.at_radius or spent or not self.space.bounded or not move.p.any():
                break
            face = self._face(at)
            if face.dual_norm(self.g + at.Hp) <= accuracy:
                break
        predicted = float(self.g @ at.p + 0.5 * at.p @ at.Hp)
        return Step(at.p, predicted, at.products, at.at_radius, tuple(seen))

    def _start(self) -> tuple[Part, Face]:
        """Onto the bounds that are close, if that lowers the model, and the face there."""
        nowhere = np.zeros_like(self.g)
        near = snapped(self.space, self.w, self.g)
        if not near.any():
            return Part(nowhere, nowhere, 0), self.face
        move = Part(near, self.product(near), 1)
        if float(self.g @ near + 0.5 * near @ move.Hp) < 0:
            return move, self._face(move)
        return Part(nowhere, nowhere, 1), self.face

    def _face(self, at: Part) -> Face:
        return Face(self.space, binding(self.space, self.w + at.p, self.g + at.Hp))

    def _in_box(self, here: FaceModel, move: Part) -> Part:
        """The move itself where it stays in the box, else its projection.

        The projection is shortened until the model falls enough: mᵀt + ½ tᵀHt <= 10^{-2} mᵀt < 0.
        """
        trial = self._projected(here, move.p)
        if np.array_equal(trial, move.p) or not self.space.bounded:
            return move
        beta = 1.0
        for used in range(1, MOST_HALVINGS + 1):
            Ht = self.product(trial)
            slope = float(here.m @ trial)
            if slope < 0 and slope + 0.5 * float(trial @ Ht) <= PROJECTED_DECREASE * slope:
                return Part(trial, Ht, move.products + used)
            beta *= 0.5
            trial = self._projected(here, beta * move.p)
        nowhere = np.zeros_like(move.p)
        return Part(nowhere, nowhere, move.products + MOST_HALVINGS)

    def _projected(self, here: FaceModel, p: Flat) -> Flat:
        """The part of p that stays in the box."""
        return np.asarray(np.clip(self.w + here.d + p, *self.space.bounds) - self.w - here.d)


@dataclass(frozen=True)
class FaceModel:
    """mᵀp + ½ pᵀHp over the free entries of a face, beyond the part d of the step: m = g + Hd.

    The preconditioner is r -> ``correct``(r, A_FF^{-1} r), symmetric and positive definite, by
    default the Riesz map.
    """

    face: Face
    product: Product
    m: Flat
    d: Flat
    correct: Solve | None = None

    def minimise(self, radius: float, accuracy: float, max_products: int, seen: list[Seen]) -> Part:
        """Conjugate gradients within ‖d + p‖_A <= ``radius``, to ``accuracy`` in the dual norm.

        Products with positive curvature are added to ``seen``, at most MOST_SEEN.
        """
        metric = self.face.space.metric
        p = np.zeros_like(self.m)
        Hp = np.zeros_like(self.m)
        r = self.face.restrict(self.m)
        z, natural, norm = self._preconditioned(r)
        rz = float(r @ z)
        direction = -z
        for k in range(max(max_products, 1)):
            if norm <= accuracy:
                return Part(p, Hp, k)
            Hv = self.product(direction)
            curvature = float(direction @ Hv)
            reach = to_radius(self.d + p, direction, metric, radius)
            flat = curvature <= CURVATURE_ROUNDING * float(np.abs(direction) @ np.abs(Hv))
            step, scale = (reach, 0.0) if flat else (rz / curvature, 1.0 / np.sqrt(curvature))
            learn = seen if not flat and len(seen) < MOST_SEEN else None
            if step >= reach:
                if learn is not None:
                    learn.append(Seen(scale * direction, scale * Hv))
                return Part(p + reach * direction, Hp + reach * Hv, k + 1, True)
            p = p + step * direction
            Hp = Hp + step * Hv
            r = self.face.restrict(r + step * Hv)
            before = natural
            z, natural, norm = self._preconditioned(r)
            if learn is not None:
                solved = scale / step * (natural - before) if self.face.whole else None
                learn.append(Seen(scale * direction, scale * Hv, solved))
            rz, old = float(r @ z), rz
            direction = -z + (rz / old) * direction
        return Part(p, Hp, max_products)

    def _preconditioned(self, r: Flat) -> tuple[Flat, Flat, float]:
        """The preconditioned residual, A_FF^{-1} r and its dual norm, with one Riesz solve."""
        z = self.face.riesz(r)
        norm = float(np.sqrt(max(float(r @ z), 0.0)))
        return (z if self.correct is None else self.correct(r, z)), z, norm


def to_radius(d: Flat, p: Flat, metric: Product, radius: float) -> float:
    """The θ >= 0 with ‖d + θp‖_A = radius, the larger root of aθ² + 2bθ + c = 0, a, c as below.

    Written without cancellation: -c / (b + (b² - ac)^{1/2}) where b > 0.
    """
    Ap = metric(p)
    a = float(p @ Ap)
    b = float(d @ Ap)
    c = float(d @ metric(d)) - radius**2
    if c >= 0:
        return 0.0
    root = np.sqrt(b * b - a * c)
    return float(-c / (b + root)) if b > 0 else float((root - b) / a)


def binding(space: ControlSpace, w: Flat, m: Flat) -> Flat:
    """Entries at a bound whose gradient m pushes outwards; a boolean vector (space.size,)."""
    lower, upper = space.bounds
    return ((w <= lower) & (m >= 0)) | ((w >= upper) & (m <= 0))


def snapped(space: ControlSpace, w: Flat, g: Flat) -> Flat:
    """The step of held entries close to their bounds onto them, (space.size,).

    An entry just inside a bound whose gradient pushes outwards would be free, block every projected
    step, and let no length be accepted that is not tiny. Entries further off move by projected
    steps, within the radius.
    """
    if not space.bounded:
        return np.zeros_like(w)
    lower, upper = space.bounds
    target = np.where(g > 0, lower, upper)
    close = np.abs(target - w) <= SNAP_DISTANCE * (1.0 + np.abs(w))
    return np.where(held_entries(space, w, g) & close, target - w, 0.0)
