"""Distances between controls and between paths of two depths, against independent quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.distances import control_distance, path_distance
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.results.solution import Solution
from tests.discretisation.space.samples import (
    HORIZON,
    centres,
    draw,
    flip,
    gauss,
    hats,
    layout,
    triangle_points,
)


def brute_points(fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t, s and weights on the triangle: 3×3 Gauss on each cell below the diagonal.

    On each diagonal half cell in (t, (s-a)/(t-a)); exact to degree 4 there, to degree 5 per
    variable elsewhere.
    """
    h = HORIZON / fine
    x, a = gauss(np.array([0.0, 1.0]), 3)
    ts = []
    ss = []
    ws = []
    for i in range(fine):
        for j in range(i):
            ts.append(np.repeat((i + x) * h, 3))
            ss.append(np.tile((j + x) * h, 3))
            ws.append(np.outer(a, a).ravel() * h**2)
        ts.append(np.repeat((i + x) * h, 3))
        ss.append((i + np.outer(x, x).ravel()) * h)
        ws.append(np.outer(a * x, a).ravel() * h**2)
    return np.concatenate(ts), np.concatenate(ss), np.concatenate(ws)


def slopes(x: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Derivatives of the hats, at points that are no samples."""
    step = 1e-7 * line[0] if line[0] > 0 else 1e-7 * line[1]
    return (hats(x + step, line) - hats(x - step, line)) / (2 * step)


def brute_distance(La: int, u: np.ndarray, Lb: int, v: np.ndarray, norm: str) -> float:
    """On the triangle, over a grid that contains all centres of both depths.

    Hats are linear on its cells, so the difference quotients in ``slopes`` are exact to rounding,
    2.2e-16/1e-7 = 2e-9.
    """
    fine = math.lcm(2 * La, 2 * Lb)
    a = flip(La, u)
    b = flip(Lb, v)
    x = centres(La)
    y = centres(Lb)
    if norm == "sup":
        grid = np.linspace(0, HORIZON, fine + 1)
        t, s = (grid[k] for k in np.tril_indices(fine + 1))
        gap = np.einsum("pi,pj,ijc->pc", hats(t, x), hats(s, x), a)
        return float(np.abs(gap - np.einsum("pi,pj,ijc->pc", hats(t, y), hats(s, y), b)).max())
    t, s, weight = brute_points(fine)
    total = 0.0
    for left, right in ((hats, hats),) if norm == "L2" else ((slopes, hats), (hats, slopes)):
        gap = np.einsum("pi,pj,ijc->pc", left(t, x), right(s, x), a)
        gap -= np.einsum("pi,pj,ijc->pc", left(t, y), right(s, y), b)
        total += float(weight @ (gap**2).sum(1))
    return math.sqrt(total)


@pytest.mark.parametrize("norm", ["L2", "H1", "sup"])
@pytest.mark.parametrize(("La", "Lb"), [(3, 5), (4, 6), (1, 4), (5, 5), (2, 1)])
def test_distance_on_the_triangle_is_exact(La, Lb, norm):
    u, v = draw(La * (La + 1) // 2, 2), draw(Lb * (Lb + 1) // 2, 2, seed=1)
    found = control_distance(layout("triangle", La), u, layout("triangle", Lb), v, norm)
    expected = brute_distance(La, u, Lb, v, norm)
    assert found == pytest.approx(expected, rel=1e-7 if norm == "H1" else 1e-12)


@pytest.mark.parametrize("places", [("path", "path"), ("path at nodes", "path at nodes")])
@pytest.mark.parametrize(("La", "Lb"), [(3, 5), (4, 6), (1, 4), (5, 5)])
def test_distance_on_the_path_is_exact(La, Lb, places):
    a, b = layout(places[0], La), layout(places[1], Lb)
    u, v = draw(a.count, 2), draw(b.count, 2, seed=1)
    grid = np.linspace(0, HORIZON, math.lcm(2 * La, 2 * Lb) + 1)
    x, weight = gauss(grid, 3)
    gap = np.stack(
        [np.interp(x, a.line, u[:, c]) - np.interp(x, b.line, v[:, c]) for c in range(2)]
    )
    assert control_distance(a, u, b, v, "L2") == pytest.approx(
        math.sqrt((gap**2).sum(0) @ weight), rel=1e-12
    )
    nodes = np.stack(
        [np.interp(grid, a.line, u[:, c]) - np.interp(grid, b.line, v[:, c]) for c in range(2)]
    )
    assert control_distance(a, u, b, v, "sup") == pytest.approx(np.abs(nodes).max(), rel=1e-12)
    # piecewise linear on the grid: ∫|slope|² is the sum of squared increments over the step
    energy = np.sum(np.diff(nodes, axis=1) ** 2) / (grid[1] - grid[0])
    assert control_distance(a, u, b, v, "H1") == pytest.approx(math.sqrt(energy), rel=1e-10)


def test_distance_of_constants():
    found = Layout(dnl.Grid(2, HORIZON), "const")
    u, v = np.array([[1.0, 2.0]]), np.array([[4.0, -2.0]])
    assert [control_distance(found, u, found, v, n) for n in ("L2", "sup", "H1")] == [5.0, 4.0, 0.0]


def solution(L: int, seed: int, horizon: float = HORIZON) -> Solution:
    """A solution in shape only, with random controls and paths."""
    grid = dnl.Grid(L, horizon)
    layouts = {
        "W": Layout(grid, "ts"),
        "v": Layout(grid, "t"),
        "g": Layout(grid, "t", True),
        "c": Layout(grid, "const"),
    }
    controls = {k: Extension(k, x, draw(x.count, 2, seed=seed)) for k, x in layouts.items()}
    paths = [draw(L + 1, 3, 2, seed=seed + k) for k in (50, 60)]
    return Solution(
        name="random",
        backend="adjoint",
        grid=grid,
        value=0.0,
        stationarity=0.0,
        feasibility=0.0,
        complementarity=0.0,
        status=0,
        message="",
        states=paths[0],
        costates=paths[1],
        terminal_gradient=paths[0][0],
        controls=controls,
    )


@pytest.mark.parametrize("norm", ["L2", "H1", "sup"])
def test_distance_of_solutions_is_that_of_their_controls(norm):
    a, b = solution(3, 0), solution(5, 1)
    parts = []
    for name in a.controls:
        u, v = a.controls[name], b.controls[name]
        parts.append(control_distance(u.layout, u.values, v.layout, v.values, norm))
        assert dnl.distance(a, b, norm=norm, of=name) == parts[-1]
    together = max(parts) if norm == "sup" else math.sqrt(sum(p**2 for p in parts))
    assert dnl.distance(a, b, norm=norm) == pytest.approx(together, rel=1e-14)


@pytest.mark.parametrize("of", ["controls", "W", "v", "g", "c", "states", "costates"])
@pytest.mark.parametrize("norm", ["L2", "H1", "sup"])
def test_distance_is_a_metric(norm, of):
    if norm == "H1" and of in ("states", "costates"):
        with pytest.raises(
            dnl.InputError, match=r"distance.norm: got 'H1'; allowed: 'L2' or 'sup'"
        ):
            dnl.distance(solution(3, 0), solution(3, 1), norm=norm, of=of)
        return
    found = [solution(L, seed) for L, seed in ((3, 0), (5, 1), (4, 2))]
    d = [[dnl.distance(a, b, norm=norm, of=of) for b in found] for a in found]
    assert [d[i][i] for i in range(3)] == [0.0, 0.0, 0.0]
    for i in range(3):
        for j in range(3):
            assert d[i][j] == pytest.approx(d[j][i], rel=1e-12)
            assert i == j or d[i][j] > (0.0 if norm != "H1" or of != "c" else -1.0)
            for k in range(3):
                assert d[i][k] <= (d[i][j] + d[j][k]) * (1 + 1e-14)


def test_distances_of_paths():
    """sup: the largest entry; L2: root of the time integral of the samples' mean of |x - y|²."""
    a, b = solution(3, 0), solution(5, 1)
    grid = np.linspace(0, HORIZON, 16)
    t, weight = gauss(grid, 3)

    def gap(x: np.ndarray) -> np.ndarray:
        left, right = hats(x, a.grid.nodes), hats(x, b.grid.nodes)
        return np.tensordot(left, a.states, 1) - np.tensordot(right, b.states, 1)

    l2 = math.sqrt(weight @ (gap(t) ** 2).sum((1, 2)) / a.samples)
    assert dnl.distance(a, b, norm="L2", of="states") == pytest.approx(l2, rel=1e-12)
    assert dnl.distance(a, b, norm="sup", of="states") == pytest.approx(
        np.abs(gap(grid)).max(), rel=1e-12
    )
    x, y = np.array([[0.0], [1.0]]), np.array([[0.0], [0.0]])
    ends = np.array([0.0, 2.0])
    assert path_distance(ends, x, ends, y, "L2") == pytest.approx(math.sqrt(2 / 3), rel=1e-14)


def test_the_supremum_is_attained_at_a_merged_vertex():
    a, b = solution(3, 0), solution(4, 1)
    sup = dnl.distance(a, b, norm="sup", of="W")
    t, s = triangle_points(5000)
    assert np.abs(a.control("W")(t, s) - b.control("W")(t, s)).max() <= sup
    breaks = np.unique([0.0, HORIZON, *centres(3), *centres(4)])
    t, s = (breaks[k] for k in np.tril_indices(len(breaks)))
    assert np.abs(a.control("W")(t, s) - b.control("W")(t, s)).max() == pytest.approx(
        sup, rel=1e-13
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "H2"}, "distance.norm"),
        ({"of": "x"}, "common control"),
        ({"of": "value"}, "common control"),
    ],
)
def test_distances_that_are_not_there(change, message):
    with pytest.raises(dnl.InputError, match=message):
        dnl.distance(solution(2, 0), solution(3, 1), **change)


def test_distance_between_different_problems_is_told():
    with pytest.raises(dnl.InputError, match="horizons"):
        dnl.distance(solution(2, 0), solution(2, 0, horizon=1.0))
    with pytest.raises(dnl.InputTypeError, match=r"distance\.b"):
        dnl.distance(solution(2, 0), 1.0)
