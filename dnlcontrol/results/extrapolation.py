"""Richardson extrapolation and fitted rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnlcontrol import checks


def extrapolate(
    depths: Sequence[int], values: Sequence[float], orders: Sequence[float] = (1.0, 2.0, 3.0)
) -> tuple[float, np.ndarray]:
    """J* and the coefficients c_k of J_L = J* + Σ_k c_k L^{-p_k}.

    As many terms as the deepest levels determine.

    Raises
    ------
    InputError where there is not one value for each depth.

    >>> limit, c = extrapolate([4, 8, 16], [1 + 2 / L + 3 / L**2 for L in (4, 8, 16)])
    >>> round(limit, 12), [round(float(v), 9) for v in c]
    (1.0, [2.0, 3.0])
    """
    if len(depths) != len(values) or not len(depths):
        checks.reject(
            "extrapolate.depths",
            f"{len(depths)} depths for {len(values)} values",
            "one value for each depth",
        )
    terms = min(len(orders), len(depths) - 1)
    L = np.asarray(depths[-terms - 1 :], dtype=float)
    matrix = np.stack([np.ones_like(L), *(L**-p for p in orders[:terms])], axis=1)
    solved = np.linalg.solve(matrix, np.asarray(values[-terms - 1 :], dtype=float))
    return float(solved[0]), solved[1:]


def fitted_rate(depths: Sequence[int], errors: Sequence[float], noise: float = 0.0) -> float:
    """p of error ≈ C L^{-p}, by least squares over the last four levels above ``noise``.

    NaN with fewer than two.

    Raises
    ------
    InputError where there is not one error for each depth.

    >>> round(fitted_rate([4, 8, 16], [1 / 4, 1 / 8, 1 / 16]), 12)
    1.0
    """
    if len(depths) != len(errors):
        checks.reject(
            "fitted_rate.depths",
            f"{len(depths)} depths for {len(errors)} errors",
            "one error for each depth",
        )
    L, e = np.asarray(depths, dtype=float), np.asarray(errors, dtype=float)
    seen = np.isfinite(e) & (e > max(noise, 0.0))
    L, e = L[seen][-4:], e[seen][-4:]
    if len(L) < 2:
        return float("nan")
    return float(-np.polyfit(np.log(L), np.log(e), 1)[0])
