"""Richardson extrapolation and fitted rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dnlcontrol import checks

STEEPEST = 16.0  # exponents are looked for between -16 and 16: no rule has more than 4


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


def local_rate(depths: Sequence[int], values: Sequence[float]) -> float:
    """p of J_L = J* + c L^{-p} through the last three levels; NaN where no p fits them.

    Negative where the differences grow with L.

    >>> round(local_rate([4, 8, 16], [1 + L**-0.5 for L in (4, 8, 16)]), 9)
    0.5
    """
    (a, b, c), (u, v, w) = (np.asarray(x, dtype=float)[-3:] for x in (depths, values))
    if v == w or not np.isfinite(u + v + w):
        return float("nan")
    sought = (u - v) / (v - w)

    def excess(p: float) -> float:
        """Increasing in p: both differences are integrals of p x^{-p-1}."""
        if p == 0.0:
            return float(np.log(b / a) / np.log(c / b) - sought)
        return float(((a / b) ** -p - 1) / (1 - (c / b) ** -p) - sought)

    low, high = -STEEPEST, STEEPEST
    if not excess(low) < 0 < excess(high):
        return float("nan")
    while high - low > 1e-12:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return 0.5 * (low + high)


def corrections(
    depths: Sequence[int], values: Sequence[float], orders: Sequence[float]
) -> list[float]:
    """By how much each further exponent moves the limit: from J_L over one to all terms.

    The k-th is also what the limit of k terms moves by when its coarsest level is dropped.

    >>> [round(c, 12) for c in corrections([4, 8, 16], [1 + 2 / L for L in (4, 8, 16)], (1.0, 2.0))]
    [-0.125, 0.0]
    """
    terms = min(len(orders), len(depths) - 1)
    limits = [extrapolate(depths, values, orders[:k])[0] for k in range(terms + 1)]
    return np.diff(limits).tolist()
