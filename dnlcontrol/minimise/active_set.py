"""Newton steps on the active constraints: the last digits of a constrained minimiser.

Near a solution the method of multipliers knows which sides are active. Each step here solves

    min rᵀδ + ½ δᵀHδ   subject to   C δ = target - c   (active rows),   δ = 0 on held controls

by conjugate gradients in the null space of C, with the Riesz map or its correction
(preconditioner.py) as the constraint preconditioner (Gould, Hribar, Nocedal 2001), and updates the
multipliers and the active set (primal-dual active set rule: a side is active when μ + ρ (c - side)
points outwards). It needs one gradient sweep for each active row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.barrier.dense_system import DenseSystem
from dnlcontrol.minimise.barrier.lifted_program import CondensedModel
from dnlcontrol.minimise.evaluator import Products, Trajectory
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.preconditioner import Preconditioner
from dnlcontrol.minimise.quadratic_model import MOST_SEEN, Product, Seen

MOST_STEPS = 60  # each changes a few sides or gains digits; this only bounds the work
MOST_ROWS = 400  # active at once: each costs a gradient in every step
MOST_PRODUCTS = 500  # of one step
MULTIPLIER_NOISE = 1e-6  # of the largest one, as interior-point methods leave on inactive rows
# Of the tolerance, for residuals: an error ε in a state costs ε/τ² in a control that acts through
# two integrals.
ROW_ACCURACY = 1e-3
RESIDUAL_ROUNDING = 1e-13  # of the first norm: iterations gain no further digit
DEPENDENT_ROWS = 1e-13  # of the largest eigenvalue of C A⁻¹ Cᵀ: rows below repeat others
# times the metric: a singular matrix, as in a linear program, needs one; a saddle needs more
LARGEST_CURVATURE_SHIFT = 1e-3

DenseSource = Callable[[Flat, np.ndarray, RowVector], CondensedModel]
"""(w, states, μ) -> the Lagrangian's Hessian and the rows' Jacobian in the controls, dense."""


@dataclass(frozen=True)
class Patience:
    """When Newton steps on the active rows give up.

    After ``steps`` of them, or where the stationarity is ``growth`` times that of the first.
    """

    steps: int = MOST_STEPS
    growth: float = np.inf


PATIENT = Patience()


@dataclass(frozen=True)
class KKTPoint:
    """Controls w, multipliers μ, dual norm of the Lagrangian's gradient, largest residual of c.

    ``log``: (value, stationarity, CG iterations before it) of every Newton step.
    """

    w: Flat
    mu: RowVector
    stationarity: float
    residual: float
    value: float
    log: tuple[tuple[float, float, int], ...] = ()


def newton_on_active(
    evaluator: Products,
    w: Flat,
    mu: RowVector,
    rho: float | RowVector,
    tolerance: float,
    *,
    patience: Patience = PATIENT,
    preconditioner: Preconditioner | None = None,
    dense: DenseSource | None = None,
) -> KKTPoint | None:
    """A point whose stationarity is below ``tolerance``, by Newton steps on the active rows.

    Its residual is far below. The steps begin at the controls w, the multipliers μ and the sides
    that μ and ρ say are active.

    ``preconditioner``: of the Lagrangian's Hessian; it learns from every step. ``dense``: where
    that Hessian and the rows' Jacobian can be formed; each step then solves one dense system.

    All wrong rows change sides at once; where such a set comes back, only the worst row does.

    None where ``patience`` ends, at negative curvature, where something is not finite and where
    more rows are active than MOST_ROWS or controls: what called it goes on as before.
    """
    bounds = evaluator.rows.bounds
    side = active_sides(bounds, evaluator.constraint_values(w), mu, rho)
    tried: set[bytes] = set()
    log: list[tuple[float, float, int]] = []
    inner = 0
    for _ in range(patience.steps):
        if np.count_nonzero(~np.isnan(side)) > min(MOST_ROWS, evaluator.space.size):
            return None
        here = _Here.of(evaluator, w, mu, side)
        log.append((here.value, here.norm, inner))
        inner = 0
        largest = max(patience.growth * log[0][1], tolerance)
        if not np.isfinite(here.norm + here.residual) or here.norm > largest:
            return None
        if here.solved(tolerance, 0.0 if dense is not None else tolerance):
            wrong = _wrong(bounds, side, here.at.constraints, here.mu, tolerance)
            if not wrong.any():
                return here.kkt(bounds, log)
            key = np.isnan(side).tobytes()
            if key in tried:
                wrong = wrong * (wrong == wrong.max())
            tried.add(key)
            side = _changed(bounds, side, here.at.constraints, wrong)
            mu = _refitted(evaluator, here, side, dense)
            continue
        if dense is not None:
            direction = _dense_direction(here, dense)
        else:
            direction = _direction(evaluator, here, preconditioner, 0.1 * tolerance)
        if direction is None:
            return None
        if preconditioner is not None:
            preconditioner.add(direction.seen)
        w = here.moved(direction.delta)
        mu = here.mu.copy()
        mu[here.index] += direction.change
        inner = direction.products
    return None


@dataclass(frozen=True)
class _Here:
    """A point, the active rows' sides (NaN: inactive) and what was found there.

    ``held``: the entries of w on the way to a bound, (space.size,); ``norm``: the stationarity.
    """

    w: Flat
    multipliers: Multipliers
    side: RowVector
    at: Trajectory
    held: np.ndarray
    face: Face
    norm: float

    @staticmethod
    def of(evaluator: Products, w: Flat, mu: RowVector, side: RowVector) -> _Here:
        """The point w with the multipliers of the active rows."""
        multipliers = Multipliers(np.where(np.isnan(side), 0.0, mu))
        at = evaluator.trajectory(w, multipliers)
        held = held_entries(evaluator.space, w, at.gradient)
        face = Face(evaluator.space, held)
        return _Here(w, multipliers, side, at, held, face, norm=face.dual_norm(at.gradient))

    @property
    def mu(self) -> RowVector:
        return self.multipliers.mu

    @property
    def index(self) -> np.ndarray:
        """The active rows."""
        return np.flatnonzero(~np.isnan(self.side))

    @property
    def value(self) -> float:
        """J alone."""
        return self.at.value - float(self.mu @ self.at.constraints)

    @property
    def residual(self) -> float:
        """The largest distance of an active row to its side."""
        return float(np.max(np.abs(self.at.constraints - self.side)[self.index], initial=0.0))

    def solved(self, tolerance: float, reach: float) -> bool:
        """Whether the conditions of the present active set hold, held entries within ``reach``."""
        lower, upper = self.face.space.bounds
        distance = np.minimum(self.w - lower, upper - self.w)[self.held]
        off = float(np.max(distance, initial=0.0))
        return self.norm <= tolerance and self.residual <= ROW_ACCURACY * tolerance and off <= reach

    def kkt(
        self, bounds: tuple[RowVector, RowVector], log: list[tuple[float, float, int]]
    ) -> KKTPoint:
        """The point as a solution."""
        mu = signed(bounds, self.side, self.mu)
        return KKTPoint(self.w, mu, self.norm, self.residual, self.value, tuple(log))

    def moved(self, delta: Flat) -> Flat:
        """w + δ in the box, held entries on the nearer bound."""
        lower, upper = self.face.space.bounds
        near = np.where(self.w - lower < upper - self.w, lower, upper)
        moved: Flat = np.clip(np.where(self.held, near, self.w + delta), lower, upper)
        return moved


def _wrong(
    bounds: tuple[RowVector, RowVector],
    side: RowVector,
    c: RowVector,
    mu: RowVector,
    tolerance: float,
) -> RowVector:
    """How wrong each row is, 0 where it is right.

    Its violation where inactive, a multiplier of the wrong sign where active.
    """
    lower, upper = bounds
    inactive = np.isnan(side)
    violation = np.maximum(np.maximum(lower - c, c - upper), 0.0)
    inward = np.where(side == upper, -mu, mu)
    inward = np.where(inactive | (lower == upper), 0.0, np.maximum(inward, 0.0))
    wrong = np.where(inactive, violation, inward)
    return np.where(wrong > np.where(inactive, ROW_ACCURACY, 1.0) * tolerance, wrong, 0.0)


def _changed(
    bounds: tuple[RowVector, RowVector], side: RowVector, c: RowVector, wrong: RowVector
) -> RowVector:
    """The sides after every wrong row was let go, or put on the side that it violates."""
    lower, upper = bounds
    nearer = np.where(c > upper, upper, lower)
    return np.where(wrong > 0, np.where(np.isnan(side), nearer, np.nan), side)


def active_sides(
    bounds: tuple[RowVector, RowVector], c: RowVector, mu: RowVector, rho: float | RowVector
) -> RowVector:
    """The side that each row sits on, NaN for inactive rows.

    ρ = 0: by the multipliers alone, down to MULTIPLIER_NOISE of them.
    """
    lower, upper = bounds
    side = np.full(len(c), np.nan)
    if not np.any(rho):
        floor = MULTIPLIER_NOISE * np.max(np.abs(mu), initial=0.0)
        shifted = np.where(
            mu > floor, np.inf, np.where(mu < -floor, -np.inf, np.clip(0.0, lower, upper))
        )
    else:
        shifted = c + mu / rho
    side = np.where(shifted > upper, upper, side)
    side = np.where(shifted < lower, lower, side)
    return np.where(lower == upper, lower, side)


def signed(bounds: tuple[RowVector, RowVector], side: RowVector, mu: RowVector) -> RowVector:
    """Multipliers without the wrong signs that rounding leaves on weakly active rows."""
    lower, upper = bounds
    mu = np.where((side == upper) & (lower < upper), np.maximum(mu, 0.0), mu)
    return np.where((side == lower) & (lower < upper), np.minimum(mu, 0.0), mu)


Solver = Callable[[Flat], tuple[Flat, float]]


def _solver(face: Face, preconditioner: Preconditioner | None) -> Solver:
    """r -> its preconditioned form and its dual norm on the face."""
    used = preconditioner is not None and preconditioner.used
    correct = preconditioner.current().on(face) if preconditioner is not None and used else None

    def solve(r: Flat) -> tuple[Flat, float]:
        z = face.riesz(r)
        norm = float(np.sqrt(max(float(r @ z), 0.0)))
        return (z if correct is None else face.restrict(correct(r, z))), norm

    return solve


@dataclass(frozen=True)
class _ActiveRows:
    """The gradients C of the active rows on the free controls, (active, space.size).

    ``solved``: the gradients under the preconditioner, an inner product's inverse matrix like the
    Riesz map, A⁻¹; ``inverse``: that of C A⁻¹ Cᵀ, (active, active).
    """

    gradients: np.ndarray
    solved: np.ndarray
    inverse: np.ndarray

    @staticmethod
    def of(evaluator: Products, here: _Here, index: np.ndarray, solve: Solver) -> _ActiveRows:
        """By one gradient sweep for each row of ``index``."""
        C = np.zeros((len(index), evaluator.space.size))
        for k, i in enumerate(index):
            unit = np.zeros(evaluator.rows.size)
            unit[i] = 1.0
            C[k] = evaluator.constraint_gradient(here.w, unit)
        return _ActiveRows.from_gradients(here.face, C, solve)

    @staticmethod
    def from_gradients(face: Face, gradients: np.ndarray, solve: Solver) -> _ActiveRows:
        """Of gradients that are known, (active, space.size)."""
        C = np.where(face.free, gradients, 0.0)
        Z = np.zeros_like(C)
        for k, row in enumerate(C):
            Z[k] = solve(row)[0]
        return _ActiveRows(C, Z, np.linalg.pinv(C @ Z.T, rcond=DEPENDENT_ROWS, hermitian=True))

    def step_to(self, gap: RowVector) -> Flat:
        """The shortest δ with Cδ = gap, (active,)."""
        return np.asarray(self.solved.T @ (self.inverse @ gap))

    def project(self, z: Flat) -> Flat:
        """Onto the null space of the gradients, orthogonally in that inner product."""
        return np.asarray(z - self.solved.T @ (self.inverse @ (self.gradients @ z)))

    def split(self, g: Flat) -> tuple[Flat, RowVector]:
        """g less its part Cᵀy in the span of the gradients, and y, (active,).

        What is left has the size of the projected direction: otherwise rounding of a large Cᵀy
        passes for descent.
        """
        y = self.inverse @ (self.solved @ g)
        return g - self.gradients.T @ y, y


def _refitted(
    evaluator: Products, here: _Here, side: RowVector, dense: DenseSource | None
) -> RowVector:
    """Multipliers of a changed active set that fit the gradient best.

    Those of rows let go pass to their neighbours. Otherwise the gradient would jump by the
    multipliers let go, and with it the set of held controls.
    """
    mu = np.where(np.isnan(side), 0.0, here.mu)
    index = np.flatnonzero(~np.isnan(side))
    solve = _solver(here.face, None)
    if dense is None:
        active = _ActiveRows.of(evaluator, here, index, solve)
    else:
        C = dense(here.w, here.at.states, mu).jacobian[index]
        active = _ActiveRows.from_gradients(here.face, C, solve)
    gradient = evaluator.trajectory(here.w, Multipliers(mu)).gradient
    change = active.inverse @ (active.solved @ gradient)
    mu = mu.copy()
    mu[index] -= change
    return mu


@dataclass(frozen=True)
class _Direction:
    """δ, (space.size,), the change of the active multipliers, and products, some to learn from."""

    delta: Flat
    change: RowVector
    products: int
    seen: tuple[Seen, ...]


def _direction(
    evaluator: Products, here: _Here, preconditioner: Preconditioner | None, accuracy: float
) -> _Direction | None:
    """The Newton step of the active rows to ``accuracy`` in the dual norm.

    None at negative curvature.
    """
    solve = _solver(here.face, preconditioner)
    active = _ActiveRows.of(evaluator, here, here.index, solve)
    product = partial(evaluator.hessian_product, here.w, multipliers=here.multipliers)
    gap = (here.side - here.at.constraints)[here.index]
    r = here.face.restrict(here.at.gradient)
    return _System(product, here.face, active, solve).solved(r, gap, accuracy)


def _dense_direction(here: _Here, dense: DenseSource) -> _Direction | None:
    """The Newton step of the active rows by one dense system; None at negative curvature.

    Held entries go to their bounds, and the others answer to that.
    """
    model = dense(here.w, here.at.states, here.mu)
    free, index = here.face.free, here.index
    onto = np.where(free, 0.0, here.moved(np.zeros_like(here.w)) - here.w)
    H, C = model.hessian, model.jacobian[index]
    metric = here.face.space.metric_diagonal[free]
    delta, change = onto, np.zeros(len(index))
    gap = (here.side - here.at.constraints)[index] - C @ onto
    if free.any():
        system = DenseSystem.of(H[np.ix_(free, free)], C[:, free], metric)
        if system is None or system.shift > LARGEST_CURVATURE_SHIFT:
            return None
        inner, change = system.solve((here.at.gradient + H @ onto)[free], -gap)
        delta = onto.copy()
        delta[free] = inner
    return _Direction(delta, change, 1, ())


@dataclass(frozen=True)
class _System:
    """min rᵀδ + ½ δᵀHδ subject to C δ = gap on a face; ``product`` is d -> H d."""

    product: Product
    face: Face
    active: _ActiveRows
    solve: Solver

    def solved(self, r: Flat, gap: RowVector, accuracy: float) -> _Direction | None:
        """By projected conjugate gradients; products with positive curvature are kept."""
        active = self.active
        seen: list[Seen] = []
        delta = active.step_to(gap)
        g, y = active.split(self.face.restrict(r + self.product(delta)) if delta.any() else r)
        z, norm = self.solve(g)
        z = active.project(z)
        p, gz = -z, float(g @ z)
        accuracy = max(accuracy, RESIDUAL_ROUNDING * norm)
        for k in range(MOST_PRODUCTS):
            if norm <= accuracy or gz <= 0:
                return _Direction(delta, -y, k, tuple(seen))
            Hp = self.product(p)
            curvature = float(p @ Hp)
            if curvature <= 0:
                return None
            if len(seen) < MOST_SEEN:
                seen.append(Seen(p / np.sqrt(curvature), Hp / np.sqrt(curvature)))
            delta = delta + gz / curvature * p
            g, more = active.split(self.face.restrict(g + gz / curvature * Hp))
            y = y + more
            z, norm = self.solve(g)
            z = active.project(z)
            gz, old = float(g @ z), gz
            p = -z + gz / old * p
        return _Direction(delta, -y, MOST_PRODUCTS, tuple(seen))
