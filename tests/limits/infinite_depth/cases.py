"""Random stacks with exact tails, their states at depth 2,000, and slow paths."""

from __future__ import annotations

import numpy as np

from dnlcontrol.limits import infinite_depth as D

STACKS = 200
DEEP = 2000
LATEST = 30
POOL = 16
NORMS = (1, 2, np.inf)
EPS = np.finfo(float).eps


class Batch:
    """200 random stacks with exact tails.

    Every state at depths 0..LATEST and at DEEP from plain NumPy.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.norm = np.array([NORMS[i % 3] for i in range(STACKS)])
        self.depth = rng.integers(0, LATEST + 1, STACKS)
        self.power = rng.random(STACKS) < 0.6
        self.c, self.cb = 10 ** rng.uniform(-2, 0, STACKS), 10 ** rng.uniform(-2, 0, STACKS)
        self.s = np.where(self.power, rng.uniform(1.2, 3, STACKS), rng.uniform(0.5, 0.97, STACKS))

    def sizes(self, c: np.ndarray, k: int) -> np.ndarray:
        return c * np.where(self.power, float(k) ** -self.s, np.minimum(self.s, 1.0) ** k)

    def bound(self, c: np.ndarray, i: int) -> D.PowerLaw | D.Geometric:
        return D.PowerLaw(c[i], self.s[i]) if self.power[i] else D.Geometric(c[i], self.s[i])

    def tail(self, i: int) -> D.Tail:
        return D.Tail(self.bound(self.c, i), self.bound(self.cb, i))

    def unit(self, *shape: int) -> np.ndarray:
        """(3, POOL, *shape): matrices or vectors of norm 1 in each of the three norms."""
        made = self.rng.standard_normal((3, POOL, *shape))
        for j, norm in enumerate(NORMS):
            for a in made[j]:
                a /= np.linalg.norm(a, norm) * (1 + 1e-12)
        return made

    def of(self, pool: np.ndarray, k: int) -> np.ndarray:
        """The pool's member of each stack at layer k."""
        i = np.arange(STACKS)
        return pool[i % 3, (i + k) % POOL]

    def follow(self, x: np.ndarray, step) -> tuple[np.ndarray, np.ndarray]:
        early = [x]
        for k in range(1, DEEP + 1):
            x = step(k, x)
            if k <= LATEST:
                early.append(x)
        return np.array(early), x

    def check(self, early: np.ndarray, late: np.ndarray, certify, vacuous_at_most: float) -> None:
        """No bound is exceeded, and most say something."""
        reports = [certify(i) for i in range(STACKS)]
        ratios = []
        for i, report in enumerate(reports):
            true = np.linalg.norm(late[i] - early[self.depth[i], i], self.norm[i])
            # both states are rounded: 2,000 layers of at most (d + 8) EPS, amplified as the bound
            # on the norms is
            size = np.linalg.norm(late[i], self.norm[i]) + report.state_norm
            rounding = DEEP * (late.shape[1] + 8) * EPS * (size + 1)
            assert true <= report.bound + rounding, (i, true, report)
            assert report.network == "converges"
            ratios.append(true / report.bound)
        assert np.mean([r.vacuous for r in reports]) <= vacuous_at_most
        assert np.median(ratios) > 0.02


def inside(
    rng: np.random.Generator, x: np.ndarray, radius: np.ndarray, norm: np.ndarray
) -> np.ndarray:
    """A random point of each ball, half of them on the sphere."""
    step = rng.standard_normal(x.shape)
    for i, row in enumerate(step):
        row *= (
            radius[i] / np.linalg.norm(row, norm[i]) * (1 - 1e-12) * rng.choice([1.0, rng.random()])
        )
    return x + step


def convolution_matrix(filters: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Entry by entry from the definition."""
    out, channels, *kernel = filters.shape
    matrix = np.zeros((out, *size, channels, *size))
    for i in np.ndindex(*size):
        for j in np.ndindex(*kernel):
            source = tuple(a + b - k // 2 for a, b, k in zip(i, j, kernel, strict=True))
            if all(0 <= a < n for a, n in zip(source, size, strict=True)):
                matrix[(slice(None), *i, slice(None), *source)] = filters[
                    (slice(None), slice(None), *j)
                ]
    return matrix.reshape(out * int(np.prod(size)), -1)


ONE = D.PowerLaw(1, 0)
HARMONIC = D.PowerLaw(1, 1)
