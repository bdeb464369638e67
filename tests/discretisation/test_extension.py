"""Extensions of samples to functions, the way between depths, and distances, against independent
quadrature.

The independent extension is np.interp in each variable of the mirrored array: bilinear between the
samples, constant outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.linalg import eigh

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.distances import control_distance, path_distance
from dnlcontrol.discretisation.space.extension import (
    Extension,
    cell_averages,
    prolong,
    restrict,
    tensor_values,
)
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import differences, penalty_matrix
from dnlcontrol.problem.regularisers import H1
from dnlcontrol.results.solution import Solution

T = 1.7  # the horizon; not 1, so that every power of τ shows
DEPTHS = (1, 2, 3, 5, 8)
ON = {"triangle": ("ts", False), "path": ("t", False), "path at nodes": ("t", True)}

# Interpolation and quadrature are sums of products of O(1) numbers with weights that add up to
# O(1).
EXACT = 1e-13


def layout(place: str, L: int, horizon: float = T) -> Layout:
    on, at_nodes = ON[place]
    return Layout(dnl.Grid(L, horizon), on, at_nodes)


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


def centres(L: int, horizon: float = T) -> np.ndarray:
    return (np.arange(L) + 0.5) * horizon / L


def triangle_points(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    p = np.sort(np.random.default_rng(seed).uniform(0, T, (count, 2)), axis=1)
    return p[:, 1], p[:, 0]


# -- the flip and the two extensions
# ------------------------------------------------------------------------
@pytest.mark.parametrize("L", DEPTHS)
def test_flip_identity(L):
    """The mirrored array is symmetric, its diagonal is w^{i+1,i}, and every sample appears once or
    twice.
    """
    found = layout("triangle", L)
    w = draw(found.count, 2)
    a = found.mirrored(w)
    assert np.array_equal(a, flip(L, w)) and np.array_equal(a, a.transpose(1, 0, 2))
    for i in range(L):
        assert np.array_equal(a[i, i], w[found.index(i + 1, i)])
    assert np.array_equal(found.packed(a), w)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("L", DEPTHS)
def test_extension_on_the_triangle(L, shape):
    w = draw(L * (L + 1) // 2, *shape)
    control = Extension("w", layout("triangle", L), w)
    t, s = triangle_points(60)
    a, line = flip(L, w), centres(L)
    linear = np.einsum("pi,pj,ij...->p...", hats(t, line), hats(s, line), a)
    assert control(t, s) == pytest.approx(linear, rel=0, abs=EXACT)
    i, j = (np.minimum((L * v / T).astype(int), L - 1) for v in (t, s))
    assert np.array_equal(control.piecewise_constant(t, s), a[i, j])
    # arrays broadcast; numbers give the control's shape
    assert control(t[:, None], np.zeros(4)).shape == (60, 4, *shape)
    assert control(1.0, 0.5).shape == shape and control.piecewise_constant(1.0, 0.5).shape == shape


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("place", ["path", "path at nodes"])
@pytest.mark.parametrize("L", DEPTHS)
def test_extension_on_the_path(L, place, shape):
    found = layout(place, L)
    v = draw(found.count, *shape)
    control, t = Extension("v", found, v), np.linspace(0, T, 41)
    line = centres(L) if place == "path" else T / L * np.arange(L + 1)
    assert control(t) == pytest.approx(np.tensordot(hats(t, line), v, 1), rel=0, abs=EXACT)
    inside = np.random.default_rng(0).uniform(0, T, 30)
    cell = (L * inside / T + (0.5 if place == "path at nodes" else 0.0)).astype(int)
    assert np.array_equal(control.piecewise_constant(inside), v[cell])
    assert control(0.3).shape == shape


def test_constants():
    control = Extension("c", Layout(dnl.Grid(3, T), "const"), np.array([[1.0, 2.0]]))
    assert control().tolist() == [1.0, 2.0] and control.array().tolist() == [1.0, 2.0]
    with pytest.raises(dnl.InputError, match="no argument"):
        control(0.5)


@pytest.mark.parametrize("L", DEPTHS)
def test_values_at_the_centres_are_the_samples(L):
    found = layout("triangle", L)
    w = draw(found.count, 2)
    control, tau = Extension("w", found, w), T / L
    for l in range(1, L + 1):
        for s in range(l):
            t, r = (l - 0.5) * tau, (s + 0.5) * tau
            assert control(t, r) == pytest.approx(control.at(l, s), rel=0, abs=EXACT)
            assert np.array_equal(control.piecewise_constant(t, r), control.at(l, s))
            assert np.array_equal(control.array()[l - 1, s], control.at(l, s))
    assert control(*control.positions) == pytest.approx(w, rel=0, abs=EXACT)


@pytest.mark.parametrize("L", DEPTHS)
def test_constant_in_the_outer_half_cells(L):
    """Nothing changes between t = T - τ/2 and T, nor between s = 0 and τ/2."""
    w, half = draw(L * (L + 1) // 2), T / L / 2
    control = Extension("w", layout("triangle", L), w)
    line = np.linspace(0, T - half, 9)
    for fraction in (0.0, 0.3, 1.0):
        assert control(T - fraction * half, line) == pytest.approx(
            control(T - half, line), rel=0, abs=EXACT
        )
        late = half + (T - half) * np.linspace(0, 1, 9)
        assert control(late, fraction * half) == pytest.approx(
            control(late, half), rel=0, abs=EXACT
        )
    path = Extension("v", layout("path", L), draw(L, seed=2))
    assert path(np.array([0.0, half])) == pytest.approx(path.at(0), rel=0, abs=EXACT)
    assert path(np.array([T - half, T])) == pytest.approx(path.at(L - 1), rel=0, abs=EXACT)


def test_the_extension_is_continuous_across_the_diagonal_of_the_mirror():
    """On s = t it is the trace from both sides: zero filling instead would jump there."""
    control = Extension("w", layout("triangle", 6), draw(21))
    t = np.linspace(0.01, T, 50)
    near = control(t, t - 1e-9)
    # slopes up to 2·max|w|/τ = 20, times 1e-9
    assert control(t, t) == pytest.approx(near, rel=0, abs=1e-6)


@pytest.mark.parametrize(
    ("place", "times", "message"),
    [
        ("triangle", (0.5,), r"\(t, s\)"),
        ("path", (0.5, 0.2), r"\(t\)"),
        ("triangle", (0.2, 0.5), "0 <= s <= t"),
        ("triangle", (T + 0.01, 0.1), "times from 0"),
        ("path", (-0.01,), "times from 0"),
        ("path", (np.nan,), "times from 0"),
    ],
)
def test_points_outside_are_told(place, times, message):
    found = layout(place, 4)
    with pytest.raises(dnl.InputError, match=f"control 'w'.*{message}"):
        Extension("w", found, draw(found.count))(*times)


# -- energies
# -----------------------------------------------------------------------------------------------
def gauss(breaks: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(points)
    centre, half = (breaks[1:] + breaks[:-1]) / 2, np.diff(breaks) / 2
    return (centre[:, None] + np.outer(half, x)).ravel(), np.outer(half, w).ravel()


def test_energy_of_one_cell():
    """∫|∂_t ŵ|² = (d0² + d0 d1 + d1²)/3 over the cell between four centres, for every τ."""
    L, k = 5, (3, 1)  # the cell between centres 3, 4 in t and 1, 2 in s
    w = draw(L * (L + 1) // 2)
    a = flip(L, w)
    line = centres(L)
    found = layout("triangle", L)
    t, weight_t = gauss(line[[k[0], k[0] + 1]], 2)
    s, weight_s = gauss(line[[k[1], k[1] + 1]], 2)
    control, h = Extension("w", found, w), 1e-3 * T / L
    # in the cell Î is linear in t, so the central difference is its slope
    slope = (control(t[:, None] + h, s) - control(t[:, None] - h, s)) / (2 * h)
    d0, d1 = a[k[0] + 1, k[1]] - a[k[0], k[1]], a[k[0] + 1, k[1] + 1] - a[k[0], k[1] + 1]
    # rounding of the difference quotient: 2.2e-16/(1e-3 τ), squared energy of slopes 1/τ: 1e-12
    assert weight_t @ slope**2 @ weight_s == pytest.approx((d0**2 + d0 * d1 + d1**2) / 3, rel=1e-11)
    values = tensor_values(found, w, np.concatenate([s, t]), slope=0)[2:, :2, 0]
    assert weight_t @ values**2 @ weight_s == pytest.approx(
        (d0**2 + d0 * d1 + d1**2) / 3, rel=EXACT
    )


def energy_matrix(L: int, line: np.ndarray) -> np.ndarray:
    """E with wᵀE w = ‖∇Î w‖² on the triangle (half the square's), samples placed at ``line``."""
    x, weight = gauss(np.unique(np.concatenate([[0.0, T], line])), 2)
    value, slope = hats(x, line), np.zeros((len(x), L))
    for i in range(L - 1):
        inside = (x > line[i]) & (x < line[i + 1])
        slope[inside, i], slope[inside, i + 1] = (
            -1 / (line[i + 1] - line[i]),
            1 / (line[i + 1] - line[i]),
        )
    mass, stiffness = value.T @ (weight[:, None] * value), slope.T @ (weight[:, None] * slope)
    arrays = np.array([flip(L, e) for e in np.eye(L * (L + 1) // 2)])
    mixed = np.einsum("aij,ik,jl,bkl->ab", arrays, stiffness, mass, arrays, optimize=True)
    return 0.5 * (
        mixed + np.einsum("aij,ik,jl,bkl->ab", arrays, mass, stiffness, arrays, optimize=True)
    )


def largest_ratio(L: int, line: np.ndarray) -> float:
    """sup ‖∇Î w‖² / Σ differences² over arrays that are not constant."""
    D = differences(layout("triangle", L))[0].toarray()
    E, edges = energy_matrix(L, line), D.T @ D
    # a constant has neither energy nor differences: fix the first sample
    return float(eigh(E[1:, 1:], edges[1:, 1:], eigvals_only=True)[-1])


def seminorm2(L: int, w: np.ndarray) -> float:
    """‖∇Î w‖² by the library: the H¹ distance to the zero function."""
    found = layout("triangle", L)
    return control_distance(found, w, found, np.zeros_like(w), "H1") ** 2


@pytest.mark.parametrize("L", [2, 3, 5, 8])
def test_energy_is_at_most_the_differences(L):
    """‖∇Î w‖²_triangle <= Σ(|Δ_l w|² + |Δ_s w|²): never above on random arrays, equal for w = l +
    s.
    """
    found = layout("triangle", L)
    D, _ = differences(found)
    for seed in range(30):
        w = draw(found.count, 2, seed=seed)
        assert seminorm2(L, w) <= np.sum((D @ w) ** 2) * (1 + EXACT)
    w = (found.layers + found.sources).astype(float)
    assert seminorm2(L, w) == pytest.approx(np.sum((D @ w) ** 2), rel=EXACT)


@pytest.mark.parametrize("L", [2, 4, 8])
def test_the_constant_is_one_with_centres_and_not_with_corners(L):
    """Centres: the supremum is 1 (the eigenvalues of an L² matrix: a few hundred ulp). Corners:
    above 1.
    """
    assert largest_ratio(L, centres(L)) == pytest.approx(1.0, abs=1e-12)
    w = draw(L * (L + 1) // 2)
    assert seminorm2(L, w) == pytest.approx(w @ energy_matrix(L, centres(L)) @ w, rel=1e-12)
    corners = np.arange(L) * T / L  # sample (l, s) at (t_{l-1}, t_s), constant beyond the last
    assert largest_ratio(L, corners) > 1.2


def test_the_constant_of_corners():
    """It tends to 33/24 = 1.375: of the mass matrix with rows 1/6, 2/3, 1/6 and a last diagonal
    entry 4/3 the eigenvector r^k at the end has 2/3 + (r + 1/r)/6 = 4/3 + r/6, so r = 1/4."""
    L = 12
    x, weight = gauss(np.arange(2 * L + 1) / 2, 2)  # τ = 1
    corners, middles = (hats(x, np.arange(L) + shift) for shift in (0.0, 0.5))
    assert np.linalg.eigvalsh(corners.T @ (weight[:, None] * corners))[-1] == pytest.approx(
        1.375, abs=1e-9
    )
    assert np.linalg.eigvalsh(middles.T @ (weight[:, None] * middles))[-1] == pytest.approx(
        1.0, abs=1e-12
    )
    assert 1.3 < largest_ratio(L, np.arange(L) * T / L) <= 1.375 + 1e-12


# -- between depths
# -----------------------------------------------------------------------------------------
PAIRS = [(1, 4), (3, 5), (4, 8), (8, 4), (6, 6), (5, 2), (2, 6)]


@pytest.mark.parametrize("place", ON)
@pytest.mark.parametrize(("coarse", "fine"), PAIRS)
def test_prolongation_samples_the_extension(place, coarse, fine):
    source, target = layout(place, coarse), layout(place, fine)
    w = draw(source.count, 2)
    found = prolong(source, w, target)
    control = Extension("w", source, w)
    assert found.shape == (target.count, 2)
    assert found == pytest.approx(control(*target.positions), rel=0, abs=EXACT)
    if coarse == fine:
        assert found == pytest.approx(w, rel=0, abs=EXACT)


@pytest.mark.parametrize("place", ["triangle", "path"])
def test_tripling_the_depth_keeps_the_samples(place):
    """The centres of L are centres of 3L, so the finer extension passes through the coarse
    samples.
    """
    source, target = layout(place, 4), layout(place, 12)
    w = draw(source.count)
    finer = Extension("w", target, prolong(source, w, target))
    assert finer(*source.positions) == pytest.approx(w, rel=0, abs=EXACT)


def test_nested_nodes_keep_the_function():
    source, target = layout("path at nodes", 3), layout("path at nodes", 6)
    v, t = draw(source.count, 2), np.linspace(0, T, 50)
    finer = Extension("v", target, prolong(source, v, target))
    assert finer(t) == pytest.approx(Extension("v", source, v)(t), rel=0, abs=EXACT)
    assert restrict(target, finer.values, source) == pytest.approx(v, rel=0, abs=EXACT)


@pytest.mark.parametrize("place", ["triangle", "path"])
@pytest.mark.parametrize(("fine", "coarse"), PAIRS)
def test_restriction_averages_the_cells(place, fine, coarse):
    """Against the mean over a grid on which both depths' cells are unions of cells."""
    source, target = layout(place, fine), layout(place, coarse)
    w, n = draw(source.count, 2), math.lcm(fine, coarse)
    cell = (np.arange(n) * fine) // n
    values = flip(fine, w)[np.ix_(cell, cell)] if place == "triangle" else w[cell]
    for _ in range(1 if place == "path" else 2):
        values = np.moveaxis(values.reshape(coarse, n // coarse, *values.shape[1:]).mean(1), 0, -2)
    expected = values if place == "path" else target.packed(values)
    assert restrict(source, w, target) == pytest.approx(expected, rel=0, abs=EXACT)


@pytest.mark.parametrize("place", ON)
@pytest.mark.parametrize(("coarse", "fine"), [(3, 6), (4, 12), (3, 5), (1, 3)])
def test_constants_survive_both_ways(place, coarse, fine):
    source, target = layout(place, coarse), layout(place, fine)
    w = np.full((source.count, 2), 1.25)
    up = prolong(source, w, target)
    assert up == pytest.approx(1.25, rel=EXACT)
    assert restrict(target, up, source) == pytest.approx(1.25, rel=EXACT)


@pytest.mark.parametrize("factor", [2, 3])
def test_linear_functions_survive_away_from_the_boundary(factor):
    """On the path all cells but the two end cells; on the triangle all that touch neither t = T nor
    s = 0 and, unless the function is one of t + s, lie two cells off the diagonal, where the mirror
    bends it."""
    L = 6
    source, target = layout("path", L), layout("path", factor * L)
    v = 2.0 - 3.0 * source.line
    back = restrict(target, prolong(source, v, target), source)
    assert back[1:-1] == pytest.approx(v[1:-1], rel=1e-13)
    # flat in the outer half cells
    assert abs(back[0] - v[0]) > 0.01 and abs(back[-1] - v[-1]) > 0.01
    source, target = layout("triangle", L), layout("triangle", factor * L)
    t, s = source.positions
    l, j = source.layers, source.sources
    inside = (l < L) & (j > 0)
    for w, kept in ((1.0 + 2.0 * (t + s), inside), (1.0 + 2.0 * t - s, inside & (l - 1 - j >= 2))):
        back = restrict(target, prolong(source, w, target), source)
        assert kept.sum() >= 3 and back[kept] == pytest.approx(w[kept], rel=1e-13)


# -- cell averages and the recovery sequence
# ----------------------------------------------------------------
def bent(t: Any, s: Any) -> np.ndarray:
    """Smooth on the triangle; the mirror has a kink across the diagonal, f_t - f_s = 3 cos t +
    t²/2.
    """
    return np.sin(2 * t - s) + 0.5 * t**2 * s


def even(t: Any, s: Any) -> np.ndarray:
    """Smooth also when mirrored."""
    return np.cosh(t) + np.cosh(s)


def gaps(function: Callable[..., Any], L: int) -> tuple[float, float]:
    """max |cell average - value at the centre| off and on the diagonal."""
    found = layout("triangle", L)
    gap = np.abs(cell_averages(function, found) - function(*found.positions))
    near = found.layers - found.sources == 1
    return float(gap[~near].max()), float(gap[near].max())


def test_orders_of_cell_averages():
    """Off the diagonal the average is the centre's value to O(τ²); on it the mirrored kink leaves
    O(τ), unless there is none."""
    (off, on), (finer_off, finer_on) = gaps(bent, 32), gaps(bent, 64)
    assert math.log2(off / finer_off) == pytest.approx(2.0, abs=0.1)
    assert math.log2(on / finer_on) == pytest.approx(1.0, abs=0.1)
    (off, on), (finer_off, finer_on) = gaps(even, 32), gaps(even, 64)
    assert math.log2(off / finer_off) == pytest.approx(2.0, abs=0.1)
    assert math.log2(on / finer_on) == pytest.approx(2.0, abs=0.1)


def test_cell_averages_are_averages():
    """Off the diagonal four Gauss points miss τ⁸ f⁽⁸⁾ (4!)⁴/(9 (8!)³) = 5.6e-10 τ⁸ f⁽⁸⁾, here below
    1e-14.
    """
    L = 16
    found = layout("triangle", L)
    averages, tau = cell_averages(bent, found), T / L
    for l, s in ((3, 0), (9, 4), (16, 2)):
        x, a = gauss(np.array([(l - 1) * tau, l * tau]), 10)
        y, b = gauss(np.array([s * tau, (s + 1) * tau]), 10)
        exact = a @ bent(x[:, None], y) @ b / tau**2
        assert averages[found.index(l, s)] == pytest.approx(exact, rel=1e-12)


def test_cell_averages_on_the_diagonal():
    """There the mirrored function has a kink: its average is f(c, c) + τ (f_t - f_s)/6 + O(τ²)."""
    L = 64
    found, tau = layout("triangle", L), T / L
    averages = cell_averages(lambda t, s: 3.0 * t + s, found)
    for s in (0, 20, L - 1):
        centre = 4.0 * (s + 0.5) * tau
        assert averages[found.index(s + 1, s)] - centre == pytest.approx(
            tau * (3.0 - 1.0) / 6, rel=1e-10
        )


@pytest.mark.parametrize("place", ["path", "constant"])
def test_cell_averages_elsewhere(place):
    if place == "constant":
        found = Layout(dnl.Grid(3, T), "const")
        assert cell_averages(lambda: np.array([1.0, 2.0]), found).tolist() == [[1.0, 2.0]]
        return
    found = layout("path", 5)
    edges = np.linspace(0, T, 6)
    exact = -np.diff(np.cos(3 * edges)) / (3 * T / 5)
    # four Gauss points on a cell of width 0.34 miss 5.6e-10 (3·0.34)⁸ = 6.6e-10
    assert cell_averages(lambda t: np.sin(3 * t), found) == pytest.approx(exact, abs=1e-9)
    assert cell_averages(lambda t: np.stack([t, 2 * t], axis=-1), found).shape == (5, 2)


def h1_energy(function: Callable[..., Any], t_slope: Any, s_slope: Any) -> float:
    """½ (‖w‖² + ‖∇w‖²) on the triangle 0 <= s <= t <= 1 by Gauss quadrature in (t, s/t)."""
    t, a = gauss(np.array([0.0, 1.0]), 20)
    r, b = gauss(np.array([0.0, 1.0]), 20)
    t, s, weight = t[:, None], t[:, None] * r, (a * t)[:, None] * b
    return 0.5 * float(np.sum(weight * sum(f(t, s) ** 2 for f in (function, t_slope, s_slope))))


def recovered(function: Callable[..., Any], L: int) -> float:
    """R_L with α = 1 at the cell averages."""
    found = layout("triangle", L, 1.0)
    w = cell_averages(function, found)
    return 0.5 * float(w @ (penalty_matrix(found, [H1("w", 1.0)]) @ w))


def test_recovery_sequence_of_a_smooth_mirror():
    """R_L = R - (τ/4) ∫|w_t(1, s)|² ds + O(τ²): the differences leave out the half cells at t = 1
    (at s = 0 the slope of cosh vanishes)."""
    exact = h1_energy(even, lambda t, s: np.sinh(t) + 0 * s, lambda t, s: np.sinh(s) + 0 * t)
    constants = [L * (recovered(even, L) - exact) for L in (32, 64)]
    # extrapolated, the remainder is O(1/L²) of a constant of order 1
    assert 2 * constants[1] - constants[0] == pytest.approx(-0.25 * math.sinh(1.0) ** 2, abs=1e-3)


def test_recovery_sequence_with_a_kink():
    """First order as well: the kink costs O(1) on each of L diagonal cells of area τ²."""
    slopes = (
        lambda t, s: 2 * np.cos(2 * t - s) + t * s,
        lambda t, s: -np.cos(2 * t - s) + 0.5 * t**2,
    )
    exact = h1_energy(bent, *slopes)
    errors = [abs(recovered(bent, L) - exact) for L in (64, 128)]
    assert (
        math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1) and errors[1] < 0.02 * exact
    )


# -- distances
# ----------------------------------------------------------------------------------------------
def brute_points(fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t, s and weights on the triangle: 3×3 Gauss on each cell below the diagonal, in (t,
    (s-a)/(t-a)) on each diagonal half cell (exact to degree 4 there, to degree 5 per variable
    elsewhere)."""
    h = T / fine
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
    """On the triangle, over a grid that contains all centres of both depths; hats are linear on its
    cells, so the difference quotients in ``slopes`` are exact to rounding, 2.2e-16/1e-7 = 2e-9."""
    fine = math.lcm(2 * La, 2 * Lb)
    a = flip(La, u)
    b = flip(Lb, v)
    x = centres(La)
    y = centres(Lb)
    if norm == "sup":
        grid = np.linspace(0, T, fine + 1)
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
    grid = np.linspace(0, T, math.lcm(2 * La, 2 * Lb) + 1)
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
    found = Layout(dnl.Grid(2, T), "const")
    u, v = np.array([[1.0, 2.0]]), np.array([[4.0, -2.0]])
    assert [control_distance(found, u, found, v, n) for n in ("L2", "sup", "H1")] == [5.0, 4.0, 0.0]


def solution(L: int, seed: int, horizon: float = T) -> Solution:
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
    """sup: the largest entry; L2: root of the time integral of the mean over samples of |x
    - y|².
    """
    a, b = solution(3, 0), solution(5, 1)
    grid = np.linspace(0, T, 16)
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
    breaks = np.unique([0.0, T, *centres(3), *centres(4)])
    t, s = (breaks[k] for k in np.tril_indices(len(breaks)))
    assert np.abs(a.control("W")(t, s) - b.control("W")(t, s)).max() == pytest.approx(
        sup, rel=1e-13
    )


def test_prolonged_controls_come_close():
    """‖Î_{kL} P w - Î_L w‖ falls to 0 as k grows: with order 1.5, from the outer half cells of
    width τ/2k.
    """
    source = layout("triangle", 3)
    w = draw(source.count)
    found = []
    for k in (8, 16):
        target = layout("triangle", 3 * k)
        found.append(control_distance(source, w, target, prolong(source, w, target)))
    assert found[1] < found[0] / 2


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
