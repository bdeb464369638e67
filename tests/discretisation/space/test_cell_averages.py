"""Cell averages of functions, and the recovery sequence that they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.extension import cell_averages
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import penalty_matrix
from dnlcontrol.problem.regularisers import H1
from tests.discretisation.space.samples import HORIZON, gauss, layout


def bent(t: Any, s: Any) -> np.ndarray:
    """Smooth on the triangle; the mirror has a kink across the diagonal.

    There f_t - f_s = 3 cos t + t²/2.
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
    """Off the diagonal the average is the centre's value to O(τ²).

    On it the mirrored kink leaves O(τ), unless there is none.
    """
    (off, on), (finer_off, finer_on) = gaps(bent, 32), gaps(bent, 64)
    assert math.log2(off / finer_off) == pytest.approx(2.0, abs=0.1)
    assert math.log2(on / finer_on) == pytest.approx(1.0, abs=0.1)
    (off, on), (finer_off, finer_on) = gaps(even, 32), gaps(even, 64)
    assert math.log2(off / finer_off) == pytest.approx(2.0, abs=0.1)
    assert math.log2(on / finer_on) == pytest.approx(2.0, abs=0.1)


def test_cell_averages_are_averages():
    """Off the diagonal four Gauss points miss O(τ⁸), here below 1e-14.

    The error is τ⁸ f⁽⁸⁾ (4!)⁴/(9 (8!)³) = 5.6e-10 τ⁸ f⁽⁸⁾.
    """
    L = 16
    found = layout("triangle", L)
    averages, tau = cell_averages(bent, found), HORIZON / L
    for l, s in ((3, 0), (9, 4), (16, 2)):
        x, a = gauss(np.array([(l - 1) * tau, l * tau]), 10)
        y, b = gauss(np.array([s * tau, (s + 1) * tau]), 10)
        exact = a @ bent(x[:, None], y) @ b / tau**2
        assert averages[found.index(l, s)] == pytest.approx(exact, rel=1e-12)


def test_cell_averages_on_the_diagonal():
    """There the mirrored function has a kink: its average is f(c, c) + τ (f_t - f_s)/6 + O(τ²)."""
    L = 64
    found, tau = layout("triangle", L), HORIZON / L
    averages = cell_averages(lambda t, s: 3.0 * t + s, found)
    for s in (0, 20, L - 1):
        centre = 4.0 * (s + 0.5) * tau
        assert averages[found.index(s + 1, s)] - centre == pytest.approx(
            tau * (3.0 - 1.0) / 6, rel=1e-10
        )


@pytest.mark.parametrize("place", ["path", "constant"])
def test_cell_averages_on_the_path_and_of_constants(place):
    if place == "constant":
        found = Layout(dnl.Grid(3, HORIZON), "const")
        assert cell_averages(lambda: np.array([1.0, 2.0]), found).tolist() == [[1.0, 2.0]]
        return
    found = layout("path", 5)
    edges = np.linspace(0, HORIZON, 6)
    exact = -np.diff(np.cos(3 * edges)) / (3 * HORIZON / 5)
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
    """R_L = R - (τ/4) ∫|w_t(1, s)|² ds + O(τ²): the differences leave out the half cells at t = 1.

    At s = 0 the slope of cosh vanishes.
    """
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
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)
    assert errors[1] < 0.02 * exact
