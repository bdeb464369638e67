"""Extensions of samples to functions, their energies and cell averages, against quadrature.

The independent extension is np.interp in each variable of the mirrored array: bilinear between the
samples, constant outside.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.distances import control_distance
from dnlcontrol.discretisation.space.extension import Extension, tensor_values
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import differences
from tests.discretisation.space.samples import (
    DEPTHS,
    EXACT,
    HORIZON,
    centres,
    draw,
    flip,
    gauss,
    hats,
    layout,
    triangle_points,
)


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize("L", DEPTHS)
def test_extension_on_the_triangle_is_bilinear(L, shape):
    w = draw(L * (L + 1) // 2, *shape)
    control = Extension("w", layout("triangle", L), w)
    t, s = triangle_points(60)
    a, line = flip(L, w), centres(L)
    linear = np.einsum("pi,pj,ij...->p...", hats(t, line), hats(s, line), a)
    assert control(t, s) == pytest.approx(linear, rel=0, abs=EXACT)
    i, j = (np.minimum((L * v / HORIZON).astype(int), L - 1) for v in (t, s))
    assert np.array_equal(control.piecewise_constant(t, s), a[i, j])
    # arrays broadcast; numbers give the control's shape
    assert control(t[:, None], np.zeros(4)).shape == (60, 4, *shape)
    assert control(1.0, 0.5).shape == shape
    assert control.piecewise_constant(1.0, 0.5).shape == shape


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("place", ["path", "path at nodes"])
@pytest.mark.parametrize("L", DEPTHS)
def test_extension_on_the_path_is_piecewise_linear(L, place, shape):
    found = layout(place, L)
    v = draw(found.count, *shape)
    control, t = Extension("v", found, v), np.linspace(0, HORIZON, 41)
    line = centres(L) if place == "path" else HORIZON / L * np.arange(L + 1)
    assert control(t) == pytest.approx(np.tensordot(hats(t, line), v, 1), rel=0, abs=EXACT)
    inside = np.random.default_rng(0).uniform(0, HORIZON, 30)
    cell = (L * inside / HORIZON + (0.5 if place == "path at nodes" else 0.0)).astype(int)
    assert np.array_equal(control.piecewise_constant(inside), v[cell])
    assert control(0.3).shape == shape


def test_constants_take_no_argument():
    control = Extension("c", Layout(dnl.Grid(3, HORIZON), "const"), np.array([[1.0, 2.0]]))
    assert control().tolist() == [1.0, 2.0]
    assert control.array().tolist() == [1.0, 2.0]
    with pytest.raises(dnl.InputError, match="no argument"):
        control(0.5)


@pytest.mark.parametrize("L", DEPTHS)
def test_values_at_the_centres_are_the_samples(L):
    found = layout("triangle", L)
    w = draw(found.count, 2)
    control, tau = Extension("w", found, w), HORIZON / L
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
    w, half = draw(L * (L + 1) // 2), HORIZON / L / 2
    control = Extension("w", layout("triangle", L), w)
    line = np.linspace(0, HORIZON - half, 9)
    for fraction in (0.0, 0.3, 1.0):
        assert control(HORIZON - fraction * half, line) == pytest.approx(
            control(HORIZON - half, line), rel=0, abs=EXACT
        )
        late = half + (HORIZON - half) * np.linspace(0, 1, 9)
        assert control(late, fraction * half) == pytest.approx(
            control(late, half), rel=0, abs=EXACT
        )
    path = Extension("v", layout("path", L), draw(L, seed=2))
    assert path(np.array([0.0, half])) == pytest.approx(path.at(0), rel=0, abs=EXACT)
    assert path(np.array([HORIZON - half, HORIZON])) == pytest.approx(
        path.at(L - 1), rel=0, abs=EXACT
    )


def test_the_extension_is_continuous_across_the_diagonal_of_the_mirror():
    """On s = t it is the trace from both sides: zero filling instead would jump there."""
    control = Extension("w", layout("triangle", 6), draw(21))
    t = np.linspace(0.01, HORIZON, 50)
    near = control(t, t - 1e-9)
    # slopes up to 2·max|w|/τ = 20, times 1e-9
    assert control(t, t) == pytest.approx(near, rel=0, abs=1e-6)


@pytest.mark.parametrize(
    ("place", "times", "message"),
    [
        ("triangle", (0.5,), r"\(t, s\)"),
        ("path", (0.5, 0.2), r"\(t\)"),
        ("triangle", (0.2, 0.5), "0 <= s <= t"),
        ("triangle", (HORIZON + 0.01, 0.1), "times from 0"),
        ("path", (-0.01,), "times from 0"),
        ("path", (np.nan,), "times from 0"),
    ],
)
def test_points_outside_are_told(place, times, message):
    found = layout(place, 4)
    with pytest.raises(dnl.InputError, match=f"control 'w'.*{message}"):
        Extension("w", found, draw(found.count))(*times)


def test_energy_of_one_cell():
    """∫|∂_t ŵ|² = (d0² + d0 d1 + d1²)/3 over the cell between four centres, for every τ."""
    L, k = 5, (3, 1)  # the cell between centres 3, 4 in t and 1, 2 in s
    w = draw(L * (L + 1) // 2)
    a = flip(L, w)
    line = centres(L)
    found = layout("triangle", L)
    t, weight_t = gauss(line[[k[0], k[0] + 1]], 2)
    s, weight_s = gauss(line[[k[1], k[1] + 1]], 2)
    control, h = Extension("w", found, w), 1e-3 * HORIZON / L
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
    x, weight = gauss(np.unique(np.concatenate([[0.0, HORIZON], line])), 2)
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
    """‖∇Î w‖²_triangle <= Σ(|Δ_l w|² + |Δ_s w|²): never above on random arrays.

    Equal for w = l + s.
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
    """Centres: the supremum is 1; corners: above 1.

    The eigenvalues of an L² matrix are off by a few hundred ulp.
    """
    assert largest_ratio(L, centres(L)) == pytest.approx(1.0, abs=1e-12)
    w = draw(L * (L + 1) // 2)
    assert seminorm2(L, w) == pytest.approx(w @ energy_matrix(L, centres(L)) @ w, rel=1e-12)
    corners = (
        np.arange(L) * HORIZON / L
    )  # sample (l, s) at (t_{l-1}, t_s), constant beyond the last
    assert largest_ratio(L, corners) > 1.2


def test_the_constant_of_corners():
    """The limit 33/24 = 1.375.

    Of the mass matrix with rows 1/6, 2/3, 1/6 and a last diagonal entry 4/3 the eigenvector r^k at
    the end has 2/3 + (r + 1/r)/6 = 4/3 + r/6, so r = 1/4.
    """
    L = 12
    x, weight = gauss(np.arange(2 * L + 1) / 2, 2)  # τ = 1
    corners, middles = (hats(x, np.arange(L) + shift) for shift in (0.0, 0.5))
    assert np.linalg.eigvalsh(corners.T @ (weight[:, None] * corners))[-1] == pytest.approx(
        1.375, abs=1e-9
    )
    assert np.linalg.eigvalsh(middles.T @ (weight[:, None] * middles))[-1] == pytest.approx(
        1.0, abs=1e-12
    )
    assert 1.3 < largest_ratio(L, np.arange(L) * HORIZON / L) <= 1.375 + 1e-12
