"""A small problem in natural units, and what the families of such problems share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import dnlcontrol as dnl

Rng = np.random.Generator
Formula = Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """A constraint lower <= fn <= upper in natural units; ``kind`` "state" needs no formula."""

    kind: str
    lower: float = -np.inf
    upper: float = np.inf
    fn: Formula | None = None


@dataclass(frozen=True)
class Plain:
    """A problem in natural units.

    start : name -> number, the saddle, maximiser or kink to begin at.
    minimiser : name -> the constant control that is a global minimiser; None where none is known.
    minimum : the least value; None where it is not elementary.
    """

    right: Formula | dnl.Dynamics  # x' = f(t, x, u), or with memory the kernel k(t, s, y, u)
    controls: Mapping[str, dnl.Control]
    x0: np.ndarray
    start: Mapping[str, float]
    terminal: Any = None
    running: Formula | None = None
    weights: tuple[dnl.H1 | dnl.L2, ...] = ()
    rows: tuple[Row, ...] = ()
    memory: bool = False
    target: np.ndarray | None = None  # of ``terminal``, (N, ...)
    minimiser: Mapping[str, Any] | None = None
    minimum: float | None = None
    rules: tuple[str, ...] = ("left", "trapezoid")
    depths: tuple[int, ...] = (4, 6, 8)


def path(rng: Rng, *names: str, **bounds: Any) -> tuple[int, dict[str, dnl.Control]]:
    """d in 1..3, and path controls of shape (d,)."""
    d = int(rng.integers(1, 4))
    return d, {name: dnl.Control((d,), **bounds) for name in names}


def zeros(rng: Rng, d: int) -> np.ndarray:
    """N equal samples at 0, (N, d), N in 1..4."""
    return np.zeros((int(rng.integers(1, 5)), d))


def total(x: Any) -> Any:
    return dnl.namespace(x).sum(x)


def velocity(t: Any, x: Any, u: Any) -> Any:
    """x' = u."""
    return u.u


def well(x: Any, c: Any) -> Any:
    """Σ (x² - 1)²."""
    return total((x * x - 1.0) ** 2)


def energy(weight: float, *names: str) -> tuple[dnl.L2, ...]:
    return tuple(dnl.L2(name, weight) for name in names)
