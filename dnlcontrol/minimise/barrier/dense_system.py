"""Dense systems of a step: min ½ dᵀK d + gᵀd subject to C d = -r, by the null space of C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector

DEPENDENT = 1e-12  # of the largest pivot of the scaled rows: those below repeat others
# the first shift of an indefinite matrix, its growth, and the largest (Wächter, Biegler 2006)
FIRST_SHIFT = 1e-4
SHIFT_GROWTH = 8.0
LARGEST_SHIFT = 1e20
# a pivot of the scaled matrix below this, some fifty units of rounding, has no sign
LEAST_PIVOT = 1e-14
# entries of the diagonal below this share of the largest, in the metric, are scaled by it
LEAST_DIAGONAL = 1e-12


@dataclass(frozen=True)
class DenseSystem:
    """K on the null space of C, factorised; everything is scaled by ``scale``.

    ``normal`` spans what the independent rows ``kept`` fix, ``null`` the rest (None: all);
    ``shift`` times the metric made K positive definite there.
    """

    matrix: np.ndarray
    rows: np.ndarray
    scale: Flat
    normal: np.ndarray
    null: np.ndarray | None
    triangle: np.ndarray
    kept: np.ndarray
    factor: np.ndarray
    shift: float

    @staticmethod
    def of(
        matrix: np.ndarray, rows: np.ndarray, metric: Flat, shift: float = 0.0
    ) -> DenseSystem | None:
        """The system of K, (n, n), and C, (m, n), shifted by multiples of the ``metric``, (n,).

        ``shift``: the first that is tried after 0; None where none up to LARGEST_SHIFT is enough,
        or where K or C are not finite.
        """
        from scipy.linalg import LinAlgError

        if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(rows))):
            return None
        used, following = 0.0, shift or FIRST_SHIFT
        while used <= LARGEST_SHIFT:
            try:
                return DenseSystem._shifted(matrix + used * np.diag(metric), rows, metric, used)
            except LinAlgError:
                used, following = following, SHIFT_GROWTH * following
        return None

    @staticmethod
    def _shifted(matrix: np.ndarray, rows: np.ndarray, metric: Flat, shift: float) -> DenseSystem:
        """Of a shifted matrix; LinAlgError where it is not positive definite on the null space."""
        from scipy.linalg import qr

        diagonal = np.abs(np.diagonal(matrix))
        floor = LEAST_DIAGONAL * metric * max(float(np.max(diagonal / metric)), LEAST_DIAGONAL)
        scale = 1.0 / np.sqrt(np.maximum(diagonal, floor))
        C = rows * scale
        scaled = matrix * np.outer(scale, scale)
        if not len(C):
            one = np.zeros((len(matrix), 0))
            none = np.zeros(0, dtype=int)
            factor = _definite(scaled)
            return DenseSystem(
                scaled, C, scale, one, None, np.zeros((0, 0)), kept=none, factor=factor, shift=shift
            )
        Q, R, order = qr(C.T, pivoting=True, mode="full")
        pivots = np.abs(np.diagonal(R))
        rank = int(np.count_nonzero(pivots > DEPENDENT * float(pivots[0]))) if pivots[0] else 0
        null = Q[:, rank:]
        factor = _definite(null.T @ scaled @ null)
        return DenseSystem(
            scaled,
            C,
            scale,
            Q[:, :rank],
            null,
            R[:rank, :rank],
            kept=order[:rank],
            factor=factor,
            shift=shift,
        )

    def solve(self, g: Flat, r: RowVector) -> tuple[Flat, RowVector]:
        """d and the multipliers y with K d + g + Cᵀy = 0, (n,) and (m,)."""
        from scipy.linalg import cho_solve, solve_triangular

        g = g * self.scale
        d = np.zeros_like(g)
        y = np.zeros(len(self.rows))
        if len(self.kept):
            d = self.normal @ solve_triangular(self.triangle, -r[self.kept], trans="T")
        if self.null is None:
            d = -cho_solve((self.factor, True), g)
        elif self.null.shape[1]:
            right = self.null.T @ (g + self.matrix @ d)
            d = d - self.null @ cho_solve((self.factor, True), right)
        if len(self.kept):
            left = -(self.normal.T @ (g + self.matrix @ d))
            y[self.kept] = solve_triangular(self.triangle, left)
        return d * self.scale, y


def _definite(matrix: np.ndarray) -> np.ndarray:
    """The Cholesky factor, or LinAlgError where a pivot has no sign."""
    from scipy.linalg import LinAlgError, cholesky

    factor = cholesky(matrix, lower=True) if len(matrix) else matrix
    pivots = np.diagonal(factor)
    if len(pivots) and float(pivots.min()) ** 2 <= LEAST_PIVOT * float(pivots.max()) ** 2:
        raise LinAlgError("a pivot without a sign")
    return factor
