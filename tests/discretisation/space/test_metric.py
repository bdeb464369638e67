"""The metric, its Riesz map and the penalties against loops and dense algebra."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import Metric, penalty_matrix
from tests.discretisation.space.samples import (
    EVERY,
    HORIZON,
    PLACES,
    PRODUCT,
    SOLVE,
    draw,
    form,
    layout,
    penalty,
)


def gram(place: str, L: int, smooth: bool) -> np.ndarray:
    eye = np.eye(layout(place, L).count)
    return np.array([[form(place, L, u, v, smooth) for v in eye] for u in eye])


@pytest.mark.parametrize("smooth", [True, False], ids=["H1", "L2"])
@pytest.mark.parametrize(("place", "L"), EVERY)
def test_metric_is_the_form_of_the_theory(place, L, smooth):
    metric, A = Metric(layout(place, L), smooth), gram(place, L, smooth)
    values = draw(len(A), 3)
    np.testing.assert_allclose(
        metric.matrix.toarray(), A, rtol=PRODUCT, atol=PRODUCT * np.abs(A).max()
    )
    np.testing.assert_allclose(
        metric.apply(values), A @ values, rtol=0, atol=PRODUCT * np.abs(A).max()
    )
    np.testing.assert_allclose(metric.diagonal, np.diag(A), rtol=PRODUCT)


@pytest.mark.parametrize("smooth", [True, False], ids=["H1", "L2"])
@pytest.mark.parametrize(("place", "L"), EVERY)
def test_riesz_map_is_the_inverse(place, L, smooth):
    metric, A = Metric(layout(place, L), smooth), gram(place, L, smooth)
    r = draw(len(A), 3)
    expected = np.linalg.solve(A, r)
    np.testing.assert_allclose(
        metric.solve(r), expected, rtol=0, atol=SOLVE * np.abs(expected).max()
    )


@pytest.mark.parametrize("L", [1, 2, 3, 4, 7, 12, 16, 33])
@pytest.mark.parametrize("place", ["triangle", "path", "path at nodes"])
def test_cosine_transform_against_sparse_factorisation(place, L):
    """At L = 33 the condition number is 16/τ² = 6e3, which SOLVE still covers."""
    from scipy.sparse.linalg import splu

    metric = Metric(layout(place, L), True)
    r = draw(metric.layout.count, 4)
    expected = splu(metric.matrix).solve(r)
    np.testing.assert_allclose(
        metric.solve(r), expected, rtol=0, atol=SOLVE * np.abs(expected).max()
    )


def test_the_mirrored_energy_is_twice_the_form():
    """wᵀA w is half of the square's energy with mass 1: that is why ω = ½ on the diagonal."""
    L, T = 6, HORIZON
    found = layout("triangle", L)
    w = draw(found.count, 1)
    a = found.mirrored(w)
    square = (
        (T / L) ** 2 * np.sum(a**2)
        + np.sum(np.diff(a, axis=0) ** 2)
        + np.sum(np.diff(a, axis=1) ** 2)
    )
    assert form("triangle", L, w, w, True) == pytest.approx(square / 2, rel=PRODUCT)


PENALTIES = {
    "H1": [dnl.H1("w", 0.7)],
    "L2": [dnl.L2("w", 0.3)],
    "both": [dnl.L2("w", 0.3), dnl.H1("w", 0.7)],
    "TvG": [dnl.TvG("w", 0.4, tau=1.3)],
    "all": [dnl.TvG("w", 0.4, 0.0), dnl.L2("w", 0.2), dnl.H1("w", 0.1)],
}


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize(("place", "L"), EVERY)
def test_penalties_are_those_of_the_theory(place, L, kind):
    items = PENALTIES[kind]
    if any(isinstance(i, dnl.TvG) for i in items) and not place.startswith("path"):
        with pytest.raises(dnl.InputError, match="a path control"):
            items[0].check(PLACES[place][0])
        return
    found = layout(place, L)
    w, d = draw(found.count, 2), draw(found.count, 2, seed=1)
    Q = penalty_matrix(found, items)
    scale = np.abs(Q).max()
    assert 0.5 * np.sum(w * (Q @ w)) == pytest.approx(penalty(place, L, w, items), rel=PRODUCT)
    # R is quadratic: (R(w+d) - R(w-d))/2 is its derivative along d exactly
    slope = (penalty(place, L, w + d, items) - penalty(place, L, w - d, items)) / 2
    assert np.sum(d * (Q @ w)) == pytest.approx(slope, abs=PRODUCT * scale * w.size)
    assert np.array_equal(Q.toarray(), Q.toarray().T)


@pytest.mark.parametrize("L", [1, 2, 3, 8, 21])
def test_the_representer_of_t7_is_exact(L):
    """κ_L = kᵀA^{-1}k and the representer A^{-1}k of x(1) = τ Σ_s u^{L,s}.

    In closed form

        κ_L = 1 + cosh(θ(L-½))/sinh(θL),  θ = 2 asinh(1/(2L)),
        A^{-1}k = [cosh θ(l-½) + cosh θ(s+½)]/sinh θL.
    """
    found = Layout(dnl.Grid(L, 1.0), "ts")
    k = np.where(found.layers == L, 1 / L, 0.0)[:, None]
    representer = Metric(found, True).solve(k)
    theta = 2 * math.asinh(0.5 / L)
    kappa = 1 + math.cosh(theta * (L - 0.5)) / math.sinh(theta * L)
    expected = np.cosh(theta * (found.layers - 0.5)) + np.cosh(theta * (found.sources + 0.5))
    # condition number 16 L² = 7e3 at L = 21
    assert float(k[:, 0] @ representer[:, 0]) == pytest.approx(kappa, rel=SOLVE)
    np.testing.assert_allclose(representer[:, 0], expected / math.sinh(theta * L), rtol=SOLVE)


def test_kappa_of_t7_converges_with_its_constant():
    """κ_L = 1 + coth 1 - 1/(2L) + O(L^-2): the order and the constant."""
    exact, gaps = 1 + 1 / math.tanh(1.0), []
    for L in (32, 64):
        found = Layout(dnl.Grid(L, 1.0), "ts")
        k = np.where(found.layers == L, 1 / L, 0.0)[:, None]
        gaps.append(abs(float(k[:, 0] @ Metric(found, True).solve(k)[:, 0]) - exact + 0.5 / L))
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(2.0, abs=0.1)
