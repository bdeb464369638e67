"""Layouts, random samples, hat functions, quadrature and the forms of the theory loop by loop."""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.layout import Layout

DEPTHS = (1, 2, 3, 5, 8)
ON = {"triangle": ("ts", False), "path": ("t", False), "path at nodes": ("t", True)}
PLACES = ON | {"constant": ("const", False)}
HORIZON = 1.7  # not 1, so that every power of τ shows

# The metric's largest eigenvalue is at most 8 + τ² on the triangle and 4/τ + τ on the path, its
# smallest τ²/2 and τ; at T = 1.7 and L <= 16 the condition number is at most 16/τ² = 1.4e3. A solve
# loses that many units of 2.2e-16, times a few: 1e-11 leaves a factor 30. Products lose only a few
# dozen units.
SOLVE, PRODUCT = 1e-11, 1e-13

# Interpolation and quadrature are sums of products of O(1) numbers with weights that add up to
# O(1).
EXACT = 1e-13


def layout(place: str, L: int, T: float = HORIZON) -> Layout:
    on, at_nodes = PLACES[place]
    return Layout(dnl.Grid(L, T), on, at_nodes)


def sites(place: str, L: int) -> list[tuple[int, ...]]:
    """The indices (l, s), (l,) or () in packed order."""
    if place == "triangle":
        return [(l, s) for s in range(L) for l in range(s + 1, L + 1)]
    return [(l,) for l in range(L + (place == "path at nodes"))] if place != "constant" else [()]


EVERY = [(place, L) for place in PLACES for L in DEPTHS]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def flip(L: int, w: np.ndarray) -> np.ndarray:
    """a_ij = a_ji = w^{max(i,j)+1, min(i,j)} of packed samples."""
    site = {
        (l, s): i for i, (l, s) in enumerate((l, s) for s in range(L) for l in range(s + 1, L + 1))
    }
    return np.array([[w[site[max(i, j) + 1, min(i, j)]] for j in range(L)] for i in range(L)])


def hats(x: np.ndarray, line: np.ndarray) -> np.ndarray:
    """(points, samples): the piecewise-linear basis, constant outside."""
    return np.stack([np.interp(x, line, e) for e in np.eye(len(line))], axis=1)


def centres(L: int, horizon: float = HORIZON) -> np.ndarray:
    return (np.arange(L) + 0.5) * horizon / L


def triangle_points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    p = np.sort(np.random.default_rng(seed).uniform(0, HORIZON, (count, 2)), axis=1)
    return p[:, 1], p[:, 0]


def gauss(breaks: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(points)
    centre, half = (breaks[1:] + breaks[:-1]) / 2, np.diff(breaks) / 2
    return (centre[:, None] + np.outer(half, x)).ravel(), np.outer(half, w).ravel()


def form(
    place: str, L: int, u: np.ndarray, v: np.ndarray, smooth: bool, T: float = HORIZON
) -> float:
    """The bilinear form of theory.md, section 3, with weight 1, loop by loop; u, v are packed."""
    tau, here = T / L, {site: i for i, site in enumerate(sites(place, L))}
    total = 0.0
    if place == "constant":
        return float(np.sum(u * v))
    if place == "triangle":
        for (l, s), i in here.items():
            omega = 0.5 if smooth and s == l - 1 else 1.0
            total += tau**2 * omega * np.sum(u[i] * v[i])
            for neighbour in ((l + 1, s), (l, s + 1)):
                if smooth and neighbour in here:
                    j = here[neighbour]
                    total += np.sum((u[j] - u[i]) * (v[j] - v[i]))
        return float(total)
    for (l,), i in here.items():
        total += tau * np.sum(u[i] * v[i])
        if smooth and (l + 1,) in here:
            total += np.sum((u[i + 1] - u[i]) * (v[i + 1] - v[i])) / tau
    return float(total)


def penalty(place: str, L: int, w: np.ndarray, items: list) -> float:
    """R_L of theory.md, section 3."""
    total, tau = 0.0, HORIZON / L
    for item in items:
        if isinstance(item, dnl.TvG):
            jumps = sum(np.sum((w[i] - w[i - 1]) ** 2) for i in range(1, len(w)))
            total += item.weight * (jumps / tau + item.tau * np.sum(w[0] ** 2))
        else:
            total += 0.5 * item.weight * form(place, L, w, w, isinstance(item, dnl.H1))
    return float(total)


def reads_w(on: str, item: dnl.H1 | dnl.L2 | dnl.TvG) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.zeros(1),
        dynamics=dnl.Volterra(lambda t, s, y, u: u.w),
        controls={"w": dnl.Control((), on=on)},
        regularisers=[item],
    )


def mixed(bounds: dict[str, tuple] | None = None) -> dnl.ControlProblem:
    """Controls of every kind and shape, with and without H¹.

    v is read by the outer map, so at the nodes.
    """

    def kernel(t, s, y, u):
        return u.W @ y + u.b + u.k + u.c

    def outer(t, g, z, u):
        return g + z * u.v

    shapes = {
        "W": ((2, 2), "ts"),
        "b": ((2,), "ts"),
        "k": ((2,), "t"),
        "v": ((), "t"),
        "c": ((2,), "const"),
    }
    sides = bounds or {}
    return dnl.ControlProblem(
        horizon=HORIZON,
        x0=np.ones((1, 2)),
        dynamics=dnl.Volterra(kernel, outer=outer),
        controls={k: dnl.Control(s, on, *sides.get(k, ())) for k, (s, on) in shapes.items()},
        regularisers=[dnl.H1("W", 0.3), dnl.L2("b", 0.2), dnl.TvG("v", 0.5), dnl.H1("c", 0.1)],
    )


def dense_metric(space: dnl.ControlSpace) -> np.ndarray:
    return np.stack([space.metric(e) for e in np.eye(space.size)], axis=1)
