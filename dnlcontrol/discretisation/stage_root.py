"""Which root of an implicit stage x = r(x) is the right one: the one that continues the last state.

Newton's method from the last state x̂ finds it where its steps contract. Where they do not, the
stage is reached from x̂ in a homotopy of the step's weight,

    x = x̂ + θ (r(x) - x̂),    θ from 0 to 1

which for an ODE and the trapezoidal rule is the same step with its length θτ. Entries of a state
may differ by any power of ten (stiff kinetics), so that each is measured by its own scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Linearised = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""x (n, d) -> r (n, d) and I - r_x (n, d, d), sample by sample."""

# Newton's method whose steps at least halve stays in a ball about its start in which the root is
# the only one (Newton-Mysovskikh: h < 1); the next root of the homotopy is asked for twice that
CONTRACTION = 0.5
FIRST_CONTRACTION = 0.25
# steps below this share of every entry are too close to the root to leave it
NEAR = 1e-6
# entries below this share of the largest are rounding of it
LEAST_SHARE = 1e-12
# corrections at one weight θ: halving steps come from 1 to NEAR in 20, quadratic ones in 6
CORRECTIONS = 8
# the least increment of θ: a fold, behind which no root continues, is a square root in θ, so that
# the state there is known to 2^{-12}
LEAST_INCREMENT = 2.0**-24
# doublings from the least increment to 1 and back, several times
MOST_INCREMENTS = 200
# a difference of two computed roots relative to the entries that is no rounding
SAME_ROOT = 1e-6
# what Newton's next step may change of an entry, in units of its rounding: 1e-12 in float64
ROUGH_UNITS = 4096.0
# a residual of so many units of rounding of its own terms is noise
RESIDUAL_UNITS = 8.0


def own_scale(*states: np.ndarray) -> np.ndarray:
    """The largest size that each entry takes in some states (n, d), never 0."""
    size = np.max(np.abs(states), axis=0)
    size = np.where(np.isfinite(size), size, 0.0)
    largest = size.max(axis=-1, keepdims=True)
    return np.asarray(np.maximum(size, np.where(largest > 0, LEAST_SHARE * largest, 1.0)))


def doubtful(steps: Sequence[np.ndarray], start: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Where Newton's steps (n, d) from ``start`` to ``x`` did not halve from one to the next.

    True also where x is not finite from a start that is; (n,).
    """
    scale = own_scale(start, x)
    sizes = np.array([np.max(np.abs(step) / scale, axis=-1) for step in steps])
    grew = (sizes[1:] > CONTRACTION * sizes[:-1]) & (sizes[1:] > NEAR)
    lost = np.any(grew, axis=0) | ~np.all(np.isfinite(x), axis=-1)
    return np.asarray(lost & np.all(np.isfinite(start), axis=-1))


def rough(steps: Sequence[np.ndarray], x: np.ndarray, eps: float) -> np.ndarray:
    """Where Newton's next step would still change an entry of x, told from the last two; (n,)."""
    scale = own_scale(x)
    last = np.abs(steps[-1])
    if len(steps) > 1:
        sizes = [np.max(np.abs(step) / scale, axis=-1, keepdims=True) for step in steps[-2:]]
        with np.errstate(all="ignore"):
            last = last * np.minimum(1.0, np.nan_to_num(sizes[1] / sizes[0]))
    return np.asarray(np.any(last > ROUGH_UNITS * eps * scale, axis=-1))


def unsettled(
    residual: np.ndarray, value: np.ndarray, slope: np.ndarray, x: np.ndarray, eps: float
) -> np.ndarray:
    """Where an entry of x - r(x) is above the rounding of its own terms; (n,).

    Those are x_i, r_i and the r_x x; ``slope`` is I - r_x (n, d, d).
    """
    through = np.abs(np.eye(x.shape[-1]) - slope) @ np.abs(x)[..., None]
    terms = np.abs(x) + np.abs(value) + through[..., 0]
    above = np.abs(residual) > RESIDUAL_UNITS * eps * terms
    return np.asarray(np.any(above, axis=-1))


def chosen(newton: np.ndarray, continued: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Of two roots (n, d) those that continue ``start``; Newton's own where both are the same."""
    same = np.abs(newton - continued) <= SAME_ROOT * own_scale(newton, continued, start)
    keep = np.all(same, axis=-1) | ~np.all(np.isfinite(continued), axis=-1)
    return np.where(keep[:, None], newton, continued)


@np.errstate(all="ignore")
def continued_root(linearised: Linearised, start: np.ndarray, eps: float) -> np.ndarray:
    """The root of x = r(x) that continues ``start`` (n, d); NaN in samples where none does."""
    theta = np.zeros(len(start))
    increment = np.where(np.all(np.isfinite(start), axis=-1), 1.0, 0.0)
    x = start
    for _ in range(MOST_INCREMENTS):
        ahead = np.minimum(theta + increment, 1.0)
        y, held = _corrected(linearised, start, x, ahead, eps)
        x, theta = np.where(held[:, None], y, x), np.where(held, ahead, theta)
        increment = np.where(held, 2.0, 0.5) * increment
        if np.all((theta == 1.0) | (increment < LEAST_INCREMENT)):
            break
    return np.where((theta == 1.0)[:, None], x, np.nan)


def _corrected(
    linearised: Linearised, start: np.ndarray, x: np.ndarray, theta: np.ndarray, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """The root at weight θ (n,) beside the one x, by Newton's method; and where it was found."""
    eye, weight = np.eye(x.shape[-1]), theta[:, None]
    y, before = x, np.full(len(x), np.inf)
    held, near = np.ones(len(x), dtype=bool), np.zeros(len(x), dtype=bool)
    for k in range(CORRECTIONS):
        value, slope = linearised(y)
        residual = y - start - weight * (value - start)
        step = solved((1.0 - weight[..., None]) * eye + weight[..., None] * slope, residual)
        y = np.where(near[:, None], y, y - step)
        size = np.max(np.abs(step) / own_scale(x, y), axis=-1)
        contraction = FIRST_CONTRACTION if k == 1 else CONTRACTION
        held &= near | ((size <= contraction * before) | (size <= NEAR)) & np.isfinite(size)
        near |= size <= max(NEAR, np.sqrt(eps))
        before = size
        if np.all(near | ~held):
            break
    return y, held & near


def solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """matrix⁻¹ right, (n, d), sample by sample; NaN where a matrix is singular or not finite."""
    usable = np.all(np.isfinite(matrix), axis=(-2, -1))
    try:
        return _solved_where(usable, matrix, right)
    except np.linalg.LinAlgError:
        sign, _ = np.linalg.slogdet(np.where(usable[:, None, None], matrix, 0.0))
        return _solved_where(sign != 0, matrix, right)


def _solved_where(usable: np.ndarray, matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    out = np.full_like(right, np.nan)
    out[usable] = np.linalg.solve(matrix[usable], right[usable][..., None])[..., 0]
    return out
