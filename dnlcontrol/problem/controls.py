"""Controls: functions on the triangle ("ts"), on the path ("t"), or constants ("const")."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks

WHERE = ("ts", "t", "const")


@dataclass(frozen=True)
class Control:
    """A control of one shape: w(t, s) on 0 <= s <= t <= T, v(t) on [0, T], or a constant c.

    Parameters
    ----------
    shape : the value's shape, rank <= 2; () is 0-d, an integer d means (d,).
    on : "ts" (triangle), "t" (path) or "const".
    lower, upper : bounds, numbers or arrays that broadcast to ``shape``; infinite by default.
    initial : a number, an array on the grid, a callable of (t, s), (t) or () that returns an array
        of ``shape``, or :func:`smooth_random`. Callables are sampled at the control's positions.

    Raises
    ------
    InputError for a shape of rank > 2, bounds that cross or do not broadcast, an initial guess that
    is not finite.

    >>> Control((2, 2), on="ts", lower=-3, upper=3).lower.shape
    (2, 2)
    """

    shape: Any
    on: str = "t"
    lower: Any = -np.inf
    upper: Any = np.inf
    initial: Initial = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", checks.shape_of("Control.shape", self.shape))
        checks.choice("Control.on", self.on, WHERE)
        lower = self._bound("Control.lower", self.lower)
        upper = self._bound("Control.upper", self.upper)
        if np.any(lower > upper):
            at = tuple(int(i) for i in np.argwhere(np.atleast_1d(lower > upper))[0])
            entry = np.atleast_1d(lower)[at], np.atleast_1d(upper)[at]
            checks.reject(
                "Control.lower, Control.upper",
                f"bounds that cross ({entry[0]:g} > {entry[1]:g})",
                "lower <= upper",
            )
        if np.any(lower == np.inf) or np.any(upper == -np.inf):
            seen = "a lower bound of inf or an upper bound of -inf"
            checks.reject("Control.lower, Control.upper", seen, "lower < inf, upper > -inf")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        if not callable(self.initial) and not isinstance(self.initial, SmoothRandom):
            checks.numbers(
                "Control.initial", self.initial, "finite numbers, a callable or smooth_random(...)"
            )

    def _bound(self, argument: str, value: object) -> np.ndarray:
        array = checks.array_of(argument, value, "numbers (or infinities)")
        if np.any(np.isnan(array)):
            checks.reject(argument, "NaN", "numbers or infinities")
        try:
            return np.array(np.broadcast_to(array, self.shape))
        except ValueError:
            checks.reject(
                argument, array, f"a number or an array that broadcasts to shape {self.shape}"
            )

    @property
    def bounded(self) -> bool:
        """Whether any entry has a finite bound."""
        return bool(np.any(np.isfinite(self.lower)) or np.any(np.isfinite(self.upper)))


@dataclass(frozen=True)
class SmoothRandom:
    """A random function of (t[, s]) that is the same at every depth; see :func:`smooth_random`."""

    seed: int
    scale: float

    def function(self, name: str, control: Control, horizon: float) -> Callable[..., np.ndarray]:
        """The function of (t[, s]) for one control, (*shape): a cosine series times ``scale``.

        Its coefficients are N(0, 1)/(1 + i² + j²). Of arrays t, s (m,) it is (m, *shape).
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        modes = 4
        decay = 1.0 / (1.0 + np.add.outer(np.arange(modes) ** 2, np.arange(modes) ** 2))
        raw = rng.standard_normal((modes, modes, *control.shape))
        coefficients = self.scale * raw * decay.reshape(modes, modes, *(1,) * len(control.shape))

        flat = coefficients.reshape(modes, modes, -1)

        def value(t: ArrayLike = 0.0, s: ArrayLike = 0.0) -> np.ndarray:
            t, s = np.broadcast_arrays(np.asarray(t, dtype=float), s)
            a, b = (
                np.cos(np.multiply.outer(v, np.arange(modes) * np.pi) / horizon) for v in (t, s)
            )
            series = np.einsum("...i,...j,ijk->...k", a, b, flat)
            return np.asarray(series.reshape((*t.shape, *control.shape)))

        return value


Initial: TypeAlias = ArrayLike | Callable[..., ArrayLike] | SmoothRandom
"""A number, an array on the grid, a callable of (t, s), (t) or (), or a SmoothRandom."""


def smooth_random(seed: int, scale: float = 1.0) -> SmoothRandom:
    """An initial guess: one smooth random function of (t[, s]), seeded, the same at every depth.

    u(t, s) = scale · Σ_{i,j<4} ξ_ij cos(iπt/T) cos(jπs/T) / (1 + i² + j²), ξ_ij normal, drawn once
    per control.

    >>> smooth_random(seed=1, scale=0.1)
    SmoothRandom(seed=1, scale=0.1)
    """
    return SmoothRandom(
        checks.seed("smooth_random.seed", seed),
        checks.non_negative("smooth_random.scale", scale),
    )
