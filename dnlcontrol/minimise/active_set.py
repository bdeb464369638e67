"""Newton steps on the active constraints: the last digits of a constrained minimiser.

Near a solution the method of multipliers knows which sides are active. Each step here solves

    min rᵀδ + ½ δᵀHδ   subject to   C δ = target - c   (active rows),   δ = 0 on held controls

by conjugate gradients in the null space of C, with the Riesz map or its correction (coarse.py) as
the constraint preconditioner (Gould, Hribar, Nocedal 2001), and updates the multipliers and the
active set (primal-dual active set rule: a side is active when μ + ρ (c - side) points outwards). It
needs one gradient sweep for each active row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol.minimise.evaluator import Products, Trajectory
from dnlcontrol.minimise.faces import Face, held_entries
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.preconditioner import PAIRS, Preconditioner
from dnlcontrol.minimise.quadratic_model import Seen

STEPS = 60
ROW_LIMIT = 400
CG_LIMIT = 500
NOISE = 1e-6
TIGHTER = 1e-3  # an error ε in a state costs ε/τ² in a control that acts through two integrals


@dataclass(frozen=True)
class KKTPoint:
    """Controls and multipliers with the dual norm of the Lagrangian's gradient and the largest
    residual of c.

    ``log``: (value, stationarity, CG iterations before it) of every Newton step.
    """

    w: np.ndarray
    mu: np.ndarray
    stationarity: float
    residual: float
    value: float
    log: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class _Active:
    """The active rows, the values they should take, and their gradients on the free controls.

    ``solved``: the gradients under the preconditioner, an inner product's inverse matrix like the
    Riesz map.
    """

    index: np.ndarray
    target: np.ndarray
    gradients: np.ndarray
    solved: np.ndarray
    inverse: np.ndarray

    def project(self, z: np.ndarray) -> np.ndarray:
        """Onto the null space of the gradients, orthogonally in that inner product."""
        return z - self.solved.T @ (self.inverse @ (self.gradients @ z))

    def split(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """g less its part Cᵀy in the span of the gradients, and y.

        What is left has the size of the projected direction: otherwise rounding of a large Cᵀy
        passes for descent.
        """
        y = self.inverse @ (self.solved @ g)
        return g - self.gradients.T @ y, y


def newton_on_active(
    evaluator: Products,
    w: np.ndarray,
    mu: np.ndarray,
    rho: float | np.ndarray,
    tolerance: float,
    steps: int = STEPS,
    growth: float = np.inf,
    preconditioner: Preconditioner | None = None,
) -> KKTPoint | None:
    """A point whose stationarity is below ``tolerance`` (its residual far below), or None if the
    steps do not reach it.

    ``preconditioner``: of the Lagrangian's Hessian; it learns from every step.

    All wrong rows change sides at once; where such a set comes back, only the worst row does. They
    end after ``steps`` steps, or where the stationarity is ``growth`` times that of the first.
    """
    rows, space = evaluator.rows, evaluator.space
    lower, upper = space.bounds
    side = active_sides(rows.bounds, evaluator.constraint_values(w), mu, rho)
    seen: set[bytes] = set()
    first: float | None = None
    log: list[tuple[float, float, int]] = []
    inner = 0
    for _ in range(steps):
        index = np.flatnonzero(~np.isnan(side))
        if len(index) > min(ROW_LIMIT, space.size):
            return None
        mu = np.where(np.isnan(side), 0.0, mu)
        at = evaluator.trajectory(w, Multipliers(mu))
        held = held_entries(space, w, at.gradient)
        face = Face(space, held)
        norm = face.dual_norm(at.gradient)
        residual = float(np.max(np.abs(at.constraints - side)[index], initial=0.0))
        off = float(np.max(np.minimum(w - lower, upper - w)[held], initial=0.0))
        first = norm if first is None else first
        value = at.value - float(mu @ at.constraints)
        log.append((value, norm, inner))
        inner = 0
        if not np.isfinite(norm + residual) or norm > max(growth * first, tolerance):
            return None
        if norm <= tolerance and residual <= TIGHTER * tolerance and off <= tolerance:
            wrong = _wrong(rows.bounds, side, at.constraints, mu, tolerance)
            if not wrong.any():
                return KKTPoint(w, signed(rows.bounds, side, mu), norm, residual, value, tuple(log))
            key = np.isnan(side).tobytes()
            if key in seen:
                wrong = wrong * (wrong == wrong.max())
            seen.add(key)
            nearer = np.where(at.constraints > rows.bounds[1], rows.bounds[1], rows.bounds[0])
            side = np.where(wrong > 0, np.where(np.isnan(side), nearer, np.nan), side)
            mu = _refitted(
                evaluator,
                face,
                w,
                np.where(np.isnan(side), 0.0, mu),
                np.flatnonzero(~np.isnan(side)),
            )
            continue
        solve = _solver(face, preconditioner)
        active = _active(evaluator, face, w, index, side[index], solve)
        seen_here: list[Seen] = []
        delta, change, inner = _step(
            evaluator, face, active, solve, w, mu, at, 0.1 * tolerance, seen_here
        )
        if delta is None:
            return None
        if preconditioner is not None:
            preconditioner.add(seen_here)
        near = np.where(w - lower < upper - w, lower, upper)
        w = np.clip(np.where(held, near, w + delta), lower, upper)
        mu[index] += change
    return None


def _wrong(
    bounds: tuple[np.ndarray, np.ndarray],
    side: np.ndarray,
    c: np.ndarray,
    mu: np.ndarray,
    tolerance: float,
) -> np.ndarray:
    """How wrong each row is: its violation where inactive, a multiplier of the wrong sign where
    active; else 0.
    """
    lower, upper = bounds
    inactive = np.isnan(side)
    violation = np.maximum(np.maximum(lower - c, c - upper), 0.0)
    inward = np.where(side == upper, -mu, mu)
    inward = np.where(inactive | (lower == upper), 0.0, np.maximum(inward, 0.0))
    wrong = np.where(inactive, violation, inward)
    return np.where(wrong > np.where(inactive, TIGHTER, 1.0) * tolerance, wrong, 0.0)


def active_sides(
    bounds: tuple[np.ndarray, np.ndarray], c: np.ndarray, mu: np.ndarray, rho: float | np.ndarray
) -> np.ndarray:
    """The side that each row sits on, NaN for inactive rows; ρ = 0: by the multipliers alone, down
    to NOISE of them.
    """
    lower, upper = bounds
    side = np.full(len(c), np.nan)
    if not np.any(rho):
        floor = NOISE * np.max(np.abs(mu), initial=0.0)
        shifted = np.where(
            mu > floor, np.inf, np.where(mu < -floor, -np.inf, np.clip(0.0, lower, upper))
        )
    else:
        shifted = c + mu / rho
    side = np.where(shifted > upper, upper, side)
    side = np.where(shifted < lower, lower, side)
    return np.where(lower == upper, lower, side)


def signed(bounds: tuple[np.ndarray, np.ndarray], side: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Multipliers without the wrong signs that rounding leaves on weakly active rows."""
    lower, upper = bounds
    mu = np.where((side == upper) & (lower < upper), np.maximum(mu, 0.0), mu)
    return np.where((side == lower) & (lower < upper), np.minimum(mu, 0.0), mu)


Solver = Callable[[np.ndarray], tuple[np.ndarray, float]]


def _solver(face: Face, preconditioner: Preconditioner | None) -> Solver:
    """r -> its preconditioned form and its dual norm on the face."""
    used = preconditioner is not None and preconditioner.used
    correct = preconditioner.current().on(face) if preconditioner is not None and used else None

    def solve(r: np.ndarray) -> tuple[np.ndarray, float]:
        z = face.riesz(r)
        norm = float(np.sqrt(max(float(r @ z), 0.0)))
        return (z if correct is None else face.restrict(correct(r, z))), norm

    return solve


def _active(
    evaluator: Products,
    face: Face,
    w: np.ndarray,
    index: np.ndarray,
    target: np.ndarray,
    solve: Solver,
) -> _Active:
    C = np.zeros((len(index), evaluator.space.size))
    Z = np.zeros_like(C)
    for k, i in enumerate(index):
        unit = np.zeros(evaluator.rows.size)
        unit[i] = 1.0
        C[k] = face.restrict(evaluator.constraint_gradient(w, unit))
        Z[k] = solve(C[k])[0]
    return _Active(index, target, C, Z, np.linalg.pinv(C @ Z.T, rcond=1e-13, hermitian=True))


def _refitted(
    evaluator: Products, face: Face, w: np.ndarray, mu: np.ndarray, index: np.ndarray
) -> np.ndarray:
    """Multipliers of a changed active set that fit the gradient best: those of rows let go pass to
    their neighbours.

    Otherwise the gradient would jump by the multipliers let go, and with it the set of held
    controls.
    """
    mu = mu.copy()
    active = _active(evaluator, face, w, index, np.zeros(len(index)), _solver(face, None))
    mu[index] -= active.inverse @ (
        active.solved @ evaluator.trajectory(w, Multipliers(mu)).gradient
    )
    return mu


def _step(
    evaluator: Products,
    face: Face,
    active: _Active,
    solve: Solver,
    w: np.ndarray,
    mu: np.ndarray,
    at: Trajectory,
    accuracy: float,
    seen: list[Seen],
) -> tuple[np.ndarray | None, np.ndarray, int]:
    """δ, the change of the active multipliers and the CG iterations; δ is None at negative
    curvature.

    Products with positive curvature are added to ``seen``.
    """
    multipliers, r = Multipliers(mu), face.restrict(at.gradient)

    def product(d: np.ndarray) -> np.ndarray:
        return evaluator.hessian_product(w, d, multipliers)

    delta = active.solved.T @ (active.inverse @ (active.target - at.constraints[active.index]))
    g, y = active.split(face.restrict(r + product(delta)) if delta.any() else r)
    z, norm = solve(g)
    z = active.project(z)
    p, gz = -z, float(g @ z)
    accuracy = max(accuracy, 1e-13 * norm)
    for k in range(CG_LIMIT):
        if norm <= accuracy or gz <= 0:
            return delta, -y, k
        Hp = product(p)
        curvature = float(p @ Hp)
        if curvature <= 0:
            return None, np.zeros(0), k
        if len(seen) < PAIRS:
            seen.append(Seen(p / np.sqrt(curvature), Hp / np.sqrt(curvature)))
        delta = delta + gz / curvature * p
        g, more = active.split(face.restrict(g + gz / curvature * Hp))
        y = y + more
        z, norm = solve(g)
        z = active.project(z)
        gz, old = float(g @ z), gz
        p = -z + gz / old * p
    return delta, -y, CG_LIMIT
