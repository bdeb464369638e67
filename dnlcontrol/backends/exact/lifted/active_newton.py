"""Newton's method on the active set of a lifted program: from an interior point to its minimiser.

Unknowns at an active bound are held there, active rows hold with equality, and each step solves

    ⎡ H   Jᵀ ⎤ ⎡ δ ⎤     ⎡ -∇f      ⎤
    ⎣ J   0  ⎦ ⎣ λ ⎦  =  ⎣ side - c ⎦     for the free unknowns and the active rows,

one sparse factorisation. At first a side is active when multiplier + ρ (value - side) points
outwards, ρ the metric's diagonal for controls and 1 otherwise; after a step violated sides join and
sides whose multiplier has the wrong sign leave, which is that rule again (a semismooth Newton
method: Hintermüller, Ito, Kunisch 2002).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import casadi as ca
import numpy as np
from scipy import sparse

from dnlcontrol.backends.exact.lifted.interior_point import InteriorPoint, LiftedPoint
from dnlcontrol.minimise.active_set import signed

# each step changes the active sets or converges quadratically; sets that still change are lost
NEWTON_STEPS = 20
# residuals and violations, against the tolerance: an error ε in a state costs ε/τ² in a control
RESIDUAL_SHARE = 1e-3
# how far, relative to 1 + its size, the minimiser may lie from the interior point it belongs to
POINT_DISTANCE = 1e-2
# relative to 1 + its size, how much the objective may rise where controls go farther than that
OBJECTIVE_RISE = 1e-9
# distance to a bound, of the second start: multipliers too small to tell held entries from free
# ones
BOUND_DISTANCE = 1e-3
# times the metric: curvatures down to 1e-6 of the metric's still converge by two digits a step
PROXIMAL = 1e-8
# of the multipliers of stabilised steps: dependent rows keep theirs, others lose 1e-8 of a change
DUAL_PROXIMAL = 1e-8

Bounds = tuple[np.ndarray, np.ndarray]
"""Lower and upper bounds of a vector."""


@dataclass(frozen=True)
class _State:
    """Unknowns v and multipliers of the rows λ, with derivatives at v.

    ``gradient`` ∇f and ``residual`` ∇f + Jᵀλ as v, ``values`` as λ, ``jacobian`` J's nonzeros.
    """

    v: np.ndarray
    rows: np.ndarray
    gradient: np.ndarray
    values: np.ndarray
    jacobian: np.ndarray
    residual: np.ndarray


class ActiveNewton:
    """Objective, rows and derivatives of an interior-point solver's program, with all bounds.

    ``stabilised``: with -δ (λ - λ_before) in the active rows, so that rows that depend on each
    other and on bounds (a state that its equation alone puts on its bound) leave the system
    regular.
    """

    def __init__(self, solver: InteriorPoint, stabilised: bool = False) -> None:
        self.stabilised = stabilised
        self.program = solver.program
        self.budget = solver.budget
        self.first, self.jacobian, self.second = (
            solver.solver.get_function(name) for name in ("nlp_grad_f", "nlp_jac_g", "nlp_hess_l")
        )
        (low, high), (c_low, c_high) = self.program.sides.states, self.program.sides.rows
        space, equal = self.program.discrete.space, np.zeros(low.size)
        self.bounds = (
            np.concatenate([space.bounds[0], low]),
            np.concatenate([space.bounds[1], high]),
        )
        self.row_bounds = np.concatenate([equal, c_low]), np.concatenate([equal, c_high])
        self.scale = np.concatenate([space.metric_diagonal, np.ones(low.size)])
        self._pattern()
        self.proximal = np.concatenate([PROXIMAL * space.metric_diagonal, np.zeros(low.size)])

    def refine(self, point: LiftedPoint, tolerance: float) -> LiftedPoint | None:
        """The minimiser near an interior point, its residuals far below ``tolerance``.

        None where the steps fail, lead elsewhere or use up the solver's budget.
        """
        start = np.concatenate([point.w, point.x.ravel()])
        if not np.all(np.isfinite(start)):
            return None
        rows = np.concatenate(
            [-point.costates.ravel(), point.multipliers[self.program.sides.row_index]]
        )
        at = self._at(start, rows)
        bound = sides(self.bounds, at.v, point.on_bounds, self.scale)
        side = sides(self.row_bounds, at.values, rows, 1.0)
        for guess in (bound, _snapped(self.bounds, bound, at.v)):
            found = self._settled(at, guess, side, tolerance)
            if found is not None and self._belongs(point, found[0].v):
                return self._point(point, *found)
        return None

    def _settled(
        self, at: _State, bound: np.ndarray, side: np.ndarray, tolerance: float
    ) -> tuple[_State, np.ndarray, np.ndarray] | None:
        """Where the steps and the active sets come to rest; None where they do not."""
        seen: set[bytes] = set()
        for _ in range(NEWTON_STEPS):
            stepped = None if self.budget.over else self._step(at, bound, side)
            if stepped is None or not np.all(np.isfinite(stepped.residual)):
                return None
            self.budget.take()
            at = stepped
            wrong = np.concatenate(
                [
                    _wrong(self.bounds, bound, at.v, -at.residual, tolerance),
                    _wrong(self.row_bounds, side, at.values, at.rows, tolerance),
                ]
            )
            if not wrong.any():
                if self._converged(at, bound, side, tolerance):
                    return at, bound, side
                continue
            key = np.isnan(np.concatenate([bound, side])).tobytes()
            if key in seen:
                wrong = wrong * (wrong == wrong.max())
            seen.add(key)
            bound = _toggled(self.bounds, bound, at.v, wrong[: len(bound)])
            side = _toggled(self.row_bounds, side, at.values, wrong[len(bound) :])
        return None

    def _belongs(self, point: LiftedPoint, v: np.ndarray) -> bool:
        """Whether it is the interior point's minimiser, not another stationary point.

        It lies beside the interior point; controls that are determined weakly, as on a singular
        arc, may lie far as long as states do not and the objective does not rise.
        """
        start = np.concatenate([point.w, point.x.ravel()])
        near = np.abs(v - start) <= POINT_DISTANCE * (1 + np.abs(start))
        if near.all():
            return True
        before, after = (float(self.first(at, [])[0]) for at in (start, v))
        return bool(
            near[point.w.size :].all() and after <= before + OBJECTIVE_RISE * (1 + abs(before))
        )

    def _pattern(self) -> None:
        """Places of the entries of [H Jᵀ; J 0].

        Both triangles of H, of which the upper one is given, then J and Jᵀ.
        """
        (i, j), (k, l) = (
            _triplets(f.sparsity_out(o)) for f, o in ((self.second, 0), (self.jacobian, 1))
        )
        n = len(self.bounds[0])
        self._J, self._strict = (k, l), np.flatnonzero(i < j)
        self._K = (
            np.concatenate([i, j[self._strict], k + n, l]),
            np.concatenate([j, i[self._strict], l, k + n]),
        )

    def _at(self, v: np.ndarray, rows: np.ndarray) -> _State:
        values, jacobian = self.jacobian(v, [])
        gradient, J = _column(self.first(v, [])[1]), np.array(jacobian.nonzeros())
        pulled = np.bincount(self._J[1], J * rows[self._J[0]], minlength=len(v))
        return _State(v, rows, gradient, _column(values), J, gradient + pulled)

    def _converged(self, at: _State, bound: np.ndarray, side: np.ndarray, tolerance: float) -> bool:
        """Residuals of the free unknowns, in units of the dual norm, and of the active rows."""
        stationary = np.where(np.isnan(bound), np.abs(at.residual) / np.sqrt(self.scale), 0.0)
        feasible = np.where(np.isnan(side), 0.0, np.abs(at.values - side))
        return bool(
            max(stationary.max(initial=0.0), feasible.max(initial=0.0))
            <= RESIDUAL_SHARE * tolerance
        )

    def _step(self, at: _State, bound: np.ndarray, side: np.ndarray) -> _State | None:
        """One Newton step for an active set (NaN: inactive).

        Controls without effect make the system singular: a proximal term keeps them where they are.
        """
        H = np.array(self.second(at.v, [], 1.0, at.rows).nonzeros())
        J = at.jacobian
        n = len(at.v)
        entries = np.concatenate([H, H[self._strict], J, J])
        free = np.isnan(bound)
        delta = np.where(free, 0.0, bound - at.v)
        kept = np.concatenate([free, ~np.isnan(side)])
        moved = np.bincount(
            self._K[0],
            entries * np.append(delta, np.zeros(len(side)))[self._K[1]],
            minlength=len(kept),
        )
        right = (np.concatenate([-at.gradient, np.nan_to_num(side) - at.values]) - moved)[kept]
        solved = None
        if not self.stabilised:
            solved = _solve(_restricted(self._K, entries, kept), right)
        if solved is None:
            dual = np.full(len(side), -DUAL_PROXIMAL if self.stabilised else 0.0)
            places = tuple(np.append(k, np.arange(n + len(side))) for k in self._K)
            diagonal = np.concatenate([entries, self.proximal, dual])
            right[int(np.count_nonzero(free)) :] += (dual * at.rows)[kept[n:]]
            solved = _solve(_restricted(places, diagonal, kept), right)
        if solved is None:
            return None
        count = int(np.count_nonzero(free))
        delta[free] = solved[:count]
        rows = np.zeros(len(side))
        rows[kept[n:]] = solved[count:]
        return self._at(at.v + delta, rows)

    def _point(
        self, point: LiftedPoint, at: _State, bound: np.ndarray, side: np.ndarray
    ) -> LiftedPoint:
        n_w, n_x = point.w.size, point.x.size
        pull = np.where(np.isnan(bound), 0.0, signed(self.bounds, bound, -at.residual))
        rows = signed(self.row_bounds, side, at.rows)
        return replace(
            point,
            w=np.clip(at.v[:n_w], *self.program.discrete.space.bounds),
            x=at.v[n_w:].reshape(point.x.shape),
            on_bounds=pull,
            costates=-rows[:n_x].reshape(point.costates.shape),
            multipliers=self.program.sides.multipliers(pull[n_w:], rows[n_x:]),
        )


def sides(
    bounds: Bounds, values: np.ndarray, multipliers: np.ndarray, scale: np.ndarray | float
) -> np.ndarray:
    """The side that each entry sits on by the primal-dual rule, NaN for inactive ones."""
    lower, upper = bounds
    shifted = values + multipliers / scale
    side = np.where(shifted >= upper, upper, np.where(shifted <= lower, lower, np.nan))
    return np.where(lower == upper, lower, side)


def _snapped(bounds: Bounds, side: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Those sides, and for free entries the bound that they almost touch."""
    for bound in bounds:
        side = np.where(np.isnan(side) & (np.abs(values - bound) <= BOUND_DISTANCE), bound, side)
    return side


def _wrong(
    bounds: Bounds, side: np.ndarray, values: np.ndarray, multipliers: np.ndarray, tolerance: float
) -> np.ndarray:
    """How wrong each entry is: violation where inactive, wrong sign's size where active; else 0."""
    lower, upper = bounds
    violation = np.maximum(np.maximum(lower - values, values - upper), 0.0)
    inward = np.where(
        lower == upper, 0.0, np.maximum(np.where(side == upper, -multipliers, multipliers), 0.0)
    )
    wrong = np.where(np.isnan(side), violation, inward)
    return np.where(wrong > np.where(np.isnan(side), RESIDUAL_SHARE, 0.1) * tolerance, wrong, 0.0)


def _toggled(bounds: Bounds, side: np.ndarray, values: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Wrong active entries are let go, wrong inactive ones held at the side that they violate."""
    violated = np.where(values > bounds[1], bounds[1], bounds[0])
    return np.where(wrong > 0, np.where(np.isnan(side), violated, np.nan), side)


def _solve(matrix: sparse.csc_matrix, right: np.ndarray) -> np.ndarray | None:
    """The solution, None where the factorisation finds the matrix singular."""
    from scipy.sparse.linalg import splu

    if not matrix.shape[0]:
        return right
    try:
        solved = splu(matrix).solve(right)
    except RuntimeError:  # exactly singular
        return None
    return solved if np.all(np.isfinite(solved)) else None


def _column(value: ca.DM) -> np.ndarray:
    return np.asarray(value.full()).ravel()


def _triplets(pattern: ca.Sparsity) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = pattern.get_triplet()
    return np.array(rows, dtype=int), np.array(columns, dtype=int)


def _restricted(
    places: tuple[np.ndarray, ...], entries: np.ndarray, kept: np.ndarray
) -> sparse.csc_matrix:
    """The kept rows and columns of a symmetric matrix, with its diagonal even where that is zero.

    Other zeros are left out. With a whole diagonal SuperLU tells a singular matrix by a pivot that
    is zero; without, it may fail on one that is so by its pattern.
    """
    number = np.cumsum(kept) - 1
    rows, columns = places
    here = kept[rows] & kept[columns] & (entries != 0.0)
    size = int(np.count_nonzero(kept))
    diagonal = np.arange(size)
    i, j = (np.append(number[k[here]], diagonal) for k in (rows, columns))
    return sparse.csc_matrix((np.append(entries[here], np.zeros(size)), (i, j)), shape=(size, size))
