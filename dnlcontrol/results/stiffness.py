"""Whether an explicit rule is stable for a problem at a depth: the step times the fastest rate.

x^{l+1} = x^l + τ A x^l grows although x' = A x decays where τ|λ| > 2 for an eigenvalue λ of A with
a negative real part. Of any problem A = G_z k_y F_x at s = t, by differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.problem.engines import numpy_engine

# of an explicit step: |1 + τλ| <= 1 needs τ|λ| <= 2
STABLE = 2.0
MARGIN = 0.01  # of the depth that is named: at τ|λ| = 2 itself nothing decays
# states that are so many times the first ones may have grown by instability alone
TAME = 1e3
MOST_LAYERS = 6
MOST_SAMPLES = 3
# larger Jacobians are met by products alone
DENSE_STATE = 64
POWER_STEPS = 50
# of a central difference: the cube root of the unit rounding
DIFFERENCE = float(np.finfo(float).eps ** (1 / 3))
LEAST_ENTRY = 1e-3  # of the largest: a difference of a smaller entry takes this one's size

Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class StateRate:
    """The fastest decay |λ| that was seen along a path, and where."""

    size: float
    layer: int
    sample: int


def tame(x: np.ndarray) -> int:
    """The number of first layers whose states x (L+1, N, *state) are finite and of one size.

    That size is the one of the first two layers that are not 0; at least 1.
    """
    sizes = np.max(np.abs(x).reshape(len(x), -1), axis=1)
    first = sizes[sizes > 0][:2]
    usual = np.max(first[np.isfinite(first)], initial=0.0) or 1.0
    over = ~(sizes <= TAME * usual)
    return max(int(np.argmax(over)) if np.any(over) else len(x), 1)


def stiff(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> str:
    """In words, with a remedy, that the rule is explicit and its steps too long; '' if not."""
    if discrete.grid.implicit:
        return ""
    rate = fastest(discrete, w, x)
    number = discrete.grid.step * rate.size
    if not number > STABLE:
        return ""
    depth = int(np.ceil((1.0 + MARGIN) * discrete.depth * number / STABLE))
    return (
        f"stiff: the step {discrete.grid.step:.3g} times the fastest rate {rate.size:.3g} is "
        f"{number:.3g} > 2 (t = {discrete.grid.nodes[rate.layer]:.6g}, layer {rate.layer}, sample "
        f"{rate.sample}), so that the rule {discrete.grid.rule!r} amplifies what decays; take a "
        f"larger depth, a depth of at least {depth}, or rule='trapezoid'"
    )


@np.errstate(all="ignore")
def fastest(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> StateRate:
    """The largest |λ| with a negative real part at a few tame layers and samples."""
    last = min(tame(x), discrete.depth) - 1
    best = StateRate(0.0, 0, 0)
    for l in np.unique(np.linspace(0, last, MOST_LAYERS).astype(int)).tolist():
        for n in np.unique(np.linspace(0, x.shape[1] - 1, MOST_SAMPLES).astype(int)).tolist():
            size = _decay(x.shape[2:], _jacobian(discrete, w, x[: l + 1, n], n))
            if size > best.size:
                best = StateRate(size, l, n)
    return best


def _jacobian(discrete: DiscreteProblem, w: Flat, x: np.ndarray, n: int) -> Product:
    """v -> G_z k_y F_x v at the last of the layers x (l+1, *state) of sample n."""
    l, p = len(x) - 1, discrete.problem
    z = np.zeros(p.integral_shape)
    for s in range(l if p.formulas.outer else 0):
        z = z + discrete.grid.later[s] * _kernel(discrete, w, l, s, x[s])

    def product(v: np.ndarray) -> np.ndarray:
        through = _difference(lambda y: _kernel(discrete, w, l + 1, l, y), x[l], v)
        if p.formulas.outer is None:
            return through
        return _difference(lambda z: _outer(discrete, w, l, n, z), z, through)

    return product


def _kernel(discrete: DiscreteProblem, w: Flat, l: int, s: int, x: np.ndarray) -> np.ndarray:
    """k(t_l, t_s, F(t_s, x))."""
    f, t, e = discrete.problem.formulas, discrete.grid.nodes, numpy_engine()
    y = f.feature(e, t[s], x, discrete.controls_at(w, f.feature, s)) if f.feature else x
    controls = discrete.controls_at(w, f.kernel, l, s)
    return np.asarray(f.kernel(e, t[l], t[s], y, controls), dtype=float)


def _outer(discrete: DiscreteProblem, w: Flat, l: int, n: int, z: np.ndarray) -> np.ndarray:
    """G(t_l, g, z)."""
    p, t, e = discrete.problem, discrete.grid.nodes, numpy_engine()
    outer, free = p.formulas.outer, p.formulas.free_term
    assert outer is not None
    g = free(e, t[l], p.x0[n]) if free else p.x0[n]
    return np.asarray(outer(e, t[l], g, z, discrete.controls_at(w, outer, l)), dtype=float)


def _difference(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """f'(x) v by a central difference; v of any size."""
    size = float(np.max(np.abs(v), initial=0.0))
    if not size > 0:
        return np.zeros_like(np.asarray(f(x)))
    largest = float(np.max(np.abs(x), initial=0.0)) or 1.0
    here = np.maximum(np.abs(x), LEAST_ENTRY * largest)
    # the longest step that changes no entry by more than its share
    h = DIFFERENCE * float(np.min(here[np.abs(v) > 0] / np.abs(v)[np.abs(v) > 0]))
    return np.asarray((f(x + h * v) - f(x - h * v)) / (2.0 * h))


def _decay(shape: tuple[int, ...], product: Product) -> float:
    """The largest |λ| of an eigenvalue with a negative real part; 0 where there is none."""
    size = int(np.prod(shape, dtype=int))
    if size > DENSE_STATE:
        return _decay_by_powers(shape, product)
    matrix = np.stack([np.ravel(product(v.reshape(shape))) for v in np.eye(size)], axis=1)
    if not np.all(np.isfinite(matrix)):
        return 0.0
    values = np.linalg.eigvals(matrix)
    return float(np.max(np.abs(values[values.real < 0]), initial=0.0))


def _decay_by_powers(shape: tuple[int, ...], product: Product) -> float:
    """The same by the power method; complex pairs turn, so that growths are averaged."""
    v = np.random.default_rng(0).standard_normal(shape)
    v /= np.linalg.norm(v)
    growths, quotients = [], []
    for _ in range(POWER_STEPS):
        ahead = product(v)
        growth = float(np.linalg.norm(ahead))
        if not (np.isfinite(growth) and growth > 0):
            return 0.0
        growths.append(growth)
        quotients.append(float(np.sum(v * ahead)))
        v = ahead / growth
    half = POWER_STEPS // 2
    decays = np.mean(quotients[half:]) < 0
    return float(np.exp(np.mean(np.log(growths[half:])))) if decays else 0.0
