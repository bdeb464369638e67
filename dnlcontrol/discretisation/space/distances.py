"""Distances between functions known on grids of different depth.

Controls: between the piecewise-linear extensions. Differences are bilinear on the cells of the
merged grid of both sets of samples, so two-point Gauss quadrature (exact to degree 3 per variable)
gives L² norms and H¹ seminorms without error, and the supremum is taken at a vertex. On the
triangle the mirrored function's integral over the square is halved. On uniform grids this L²
distance induces the same convergence as TL².
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.discretisation.space.extension import linear_weights, tensor_values
from dnlcontrol.discretisation.space.layout import Layout

NORMS = ("L2", "H1", "sup")


def control_distance(a: Layout, u: np.ndarray, b: Layout, v: np.ndarray, norm: str = "L2") -> float:
    """‖Î u - Î v‖ for samples u, v (sites, *shape) of one control on two layouts.

    "H1" is the seminorm, 0 for constants.
    """
    checks.choice("distance.norm", norm, NORMS)
    if a.on == "const":
        gap = (u - v).ravel()
        return {
            "L2": float(np.linalg.norm(gap)),
            "sup": float(np.abs(gap).max(initial=0.0)),
            "H1": 0.0,
        }[norm]
    breaks = np.unique(np.concatenate([a.line, b.line, [0.0, a.grid.horizon]]))
    if norm == "sup":
        return float(np.abs(tensor_values(a, u, breaks) - tensor_values(b, v, breaks)).max())
    x, weight = gauss_points(breaks)
    slopes: list[int | None] = [None] if norm == "L2" else [0] if a.on == "t" else [0, 1]
    total = 0.0
    for slope in slopes:
        gap = tensor_values(a, u, x, slope) - tensor_values(b, v, x, slope)
        density = (gap**2).sum(-1)
        total += float(weight @ density) if a.on == "t" else 0.5 * float(weight @ density @ weight)
    return float(np.sqrt(total))


def path_distance(
    t: np.ndarray, x: np.ndarray, r: np.ndarray, y: np.ndarray, norm: str = "sup"
) -> float:
    """Between piecewise-linear paths x at the nodes t and y at r, (nodes, N, *shape).

    "sup": the largest entry; "L2": root of the time integral of the mean over samples.
    """
    checks.choice("distance.norm", norm, ("L2", "sup"))
    breaks = np.unique(np.concatenate([t, r]))
    points, weight = (breaks, None) if norm == "sup" else gauss_points(breaks)
    flat = [linear_weights(n, points) @ v.reshape(len(v), -1) for n, v in ((t, x), (r, y))]
    gap = flat[0] - flat[1]
    if weight is None:
        return float(np.abs(gap).max(initial=0.0))
    return float(np.sqrt(weight @ (gap**2).sum(1) / x.shape[1]))


def gauss_points(breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two-point Gauss nodes and weights on each of n intervals, each (2n,)."""
    centre, half = 0.5 * (breaks[1:] + breaks[:-1]), 0.5 * np.diff(breaks)
    x = np.stack([centre - half / np.sqrt(3.0), centre + half / np.sqrt(3.0)], axis=1).ravel()
    return x, np.repeat(half, 2)


def function_distance(
    layout: Layout, values: np.ndarray, function: Callable[..., ArrayLike]
) -> float:
    """‖Î w - f‖ in L² for samples w (sites, *shape) and a known f of (t, s), (t) or ().

    Two-point Gauss quadrature on quarter cells. The quadrature error is O(τ⁴) for smooth f, below
    the O(τ) distance that it measures.
    """
    if layout.on == "const":
        return float(np.linalg.norm(np.ravel(values[0] - np.asarray(function()))))
    breaks = np.linspace(0.0, layout.grid.horizon, 4 * layout.grid.depth + 1)
    x, weight = gauss_points(breaks)
    ours = tensor_values(layout, values, x)
    if layout.on == "t":
        theirs = np.asarray(function(x), dtype=float).reshape(ours.shape)
        return float(np.sqrt(weight @ ((ours - theirs) ** 2).sum(-1)))
    t, s = np.meshgrid(x, x, indexing="ij")
    theirs = np.asarray(function(np.maximum(t, s), np.minimum(t, s)), dtype=float).reshape(
        ours.shape
    )
    return float(np.sqrt(0.5 * weight @ ((ours - theirs) ** 2).sum(-1) @ weight))
