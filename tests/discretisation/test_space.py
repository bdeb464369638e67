"""The space of controls: packing, metric, Riesz map, faces and penalties against loops and dense
algebra.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import Metric, penalty_matrix
from dnlcontrol.minimise.faces import Face, complementarity, held_entries, stationarity

DEPTHS = (1, 2, 3, 5, 8)
PLACES = {"triangle": ("ts", False), "path": ("t", False), "path at nodes": ("t", True)}
PLACES["constant"] = ("const", False)
HORIZON = 1.7  # not 1, so that every power of τ shows

# The metric's largest eigenvalue is at most 8 + τ² on the triangle and 4/τ + τ on the path, its
# smallest τ²/2 and τ; at T = 1.7 and L <= 16 the condition number is at most 16/τ² = 1.4e3. A solve
# loses that many units of 2.2e-16, times a few: 1e-11 leaves a factor 30. Products lose only a few
# dozen units.
SOLVE, PRODUCT = 1e-11, 1e-13


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


# -- packing
# ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("place", "L"), EVERY)
def test_sites_are_packed_by_column(place, L):
    found, expected = layout(place, L), sites(place, L)
    assert found.count == len(expected)
    if place == "constant":
        assert found.positions == ()
        return
    tau = HORIZON / L
    assert [found.index(*site) for site in expected] == list(range(found.count))
    if place == "triangle":
        assert list(zip(found.layers, found.sources, strict=True)) == expected
        centres = [((l - 0.5) * tau, (s + 0.5) * tau) for l, s in expected]
    else:
        assert found.sources.tolist() == [l for (l,) in expected]
        centres = [((l + (0.0 if found.at_nodes else 0.5)) * tau,) for (l,) in expected]
    np.testing.assert_allclose(np.transpose(found.positions), centres, rtol=1e-14)


@pytest.mark.parametrize("L", DEPTHS)
def test_a_column_is_one_block(L):
    """Column s holds w^{s+1,s}, ..., w^{L,s}; the columns follow each other without gaps."""
    found, end = layout("triangle", L), 0
    for s in range(L):
        column = found.column(s)
        assert column.start == end and column.step is None
        expected = [(l, s) for l in range(s + 1, L + 1)]
        assert list(zip(found.layers[column], found.sources[column], strict=True)) == expected
        end = column.stop
    assert end == found.count


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
@pytest.mark.parametrize(("place", "L"), EVERY)
def test_dense_and_packed_are_inverse(place, L, shape):
    found = layout(place, L)
    values = draw(found.count, *shape)
    dense = found.dense(values)
    if place == "triangle":
        assert dense.shape == (L, L, *shape)
        for l in range(1, L + 1):
            for s in range(L):
                if s < l:
                    assert np.array_equal(dense[l - 1, s], values[found.index(l, s)])
                else:
                    assert np.all(np.isnan(dense[l - 1, s]))
    else:
        assert np.array_equal(dense, values[0] if place == "constant" else values)
    assert np.array_equal(found.packed(dense), values)
    assert not np.shares_memory(dense, values)


@pytest.mark.parametrize(
    ("place", "index"),
    [
        ("triangle", (0, 0)),
        ("triangle", (2, 2)),
        ("triangle", (4, 0)),
        ("triangle", (2, -1)),
        ("triangle", (2,)),
        ("path", (3,)),
        ("path", (-1,)),
        ("path", (1, 0)),
        ("path at nodes", (4,)),
        ("constant", (1,)),
    ],
)
def test_sites_that_are_not_there(place, index):
    with pytest.raises(dnl.InputError, match=r"at\(.*allowed: 0 <= "):
        layout(place, 3).index(*index)


@pytest.mark.parametrize("L", DEPTHS)
def test_mirrored_is_the_flip_across_the_diagonal(L):
    """a_ij = a_ji = w^{max(i,j)+1, min(i,j)}."""
    found = layout("triangle", L)
    values = draw(found.count, 2)
    square = found.mirrored(values)
    for i in range(L):
        for j in range(L):
            assert np.array_equal(square[i, j], values[found.index(max(i, j) + 1, min(i, j))])


# -- metric
# -------------------------------------------------------------------------------------------------
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


# -- penalties
# ----------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize(
    ("on", "item", "value"),
    [
        # w^{1,0} = 1, w^{2,0} = 2, w^{2,1} = 4, τ = 1/2:  mass ¼(½ + 4 + ½·16) = 3.125, differences
        # 1 + 4
        ("ts", dnl.H1("w", 2.0), 8.125),
        ("ts", dnl.L2("w", 2.0), 0.25 * (1 + 4 + 16)),
        # v = 1, 2 at τ = 1/2:  ½ (1 + 4) = 2.5, 2 (2 - 1)² = 2
        ("t", dnl.H1("w", 2.0), 4.5),
        ("t", dnl.L2("w", 2.0), 2.5),
        # n (2 - 1)² + τ_1 1², n = 2
        ("t", dnl.TvG("w", 3.0, tau=5.0), 3.0 * (2.0 + 5.0)),
        ("const", dnl.H1("w", 2.0), 9.0),
        ("const", dnl.L2("w", 2.0), 9.0),
    ],
)
def test_penalties_by_hand(on, item, value):
    packed = {"ts": [1.0, 2.0, 4.0], "t": [1.0, 2.0], "const": [3.0]}[on]
    space = dnl.ControlSpace(reads_w(on, item), dnl.Grid(2, 1.0))
    w = np.array(packed)
    assert space.penalty(w) == pytest.approx(value, rel=1e-15)
    assert w @ space.penalty_gradient(w) == pytest.approx(2 * value, rel=1e-15)


def reads_w(on: str, item: dnl.H1 | dnl.L2 | dnl.TvG) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.zeros(1),
        dynamics=dnl.Volterra(lambda t, s, y, u: u.w),
        controls={"w": dnl.Control((), on=on)},
        regularisers=[item],
    )


def test_weight_zero_is_no_metric_and_no_penalty():
    space = dnl.ControlSpace(reads_w("t", dnl.H1("w", 0.0)), dnl.Grid(4, 2.0))
    w = draw(4)
    assert space.penalty(w) == 0.0
    assert space.metric(w) == pytest.approx(0.5 * w)  # the L² mass τ


# -- the whole space
# ----------------------------------------------------------------------------------------
def mixed(bounds: dict[str, tuple] | None = None) -> dnl.ControlProblem:
    """Controls of every kind and shape, with and without H¹; v is read by the outer map, so at the
    nodes.
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


def test_one_flat_vector_holds_all_controls():
    L = 4
    space = dnl.ControlSpace(mixed(), dnl.Grid(L, HORIZON))
    sizes = {"W": 10 * 4, "b": 10 * 2, "k": 4 * 2, "v": 5, "c": 2}
    assert {b.name: b.size for b in space} == sizes and space.size == sum(sizes.values())
    w = np.arange(space.size, dtype=float)
    parts = space.split(w)
    assert {k: v.shape for k, v in parts.items()} == {
        "W": (10, 2, 2),
        "b": (10, 2),
        "k": (4, 2),
        "v": (5,),
        "c": (1, 2),
    }
    assert np.array_equal(space.assemble(parts), w)
    assert np.array_equal(np.concatenate([v.ravel() for v in parts.values()]), w)


def dense_metric(space: dnl.ControlSpace) -> np.ndarray:
    return np.stack([space.metric(e) for e in np.eye(space.size)], axis=1)


@pytest.mark.parametrize("L", [1, 3, 6])
def test_metric_of_the_space_and_its_inverse(L):
    """Each control has its own form, component by component; A^{-1} A = A A^{-1} = 1."""
    space = dnl.ControlSpace(mixed(), dnl.Grid(L, HORIZON))
    w, v = draw(space.size), draw(space.size, seed=1)
    expected, places = (
        0.0,
        {
            "W": ("triangle", True),
            "b": ("triangle", False),
            "k": ("path", False),
            "v": ("path at nodes", True),
            "c": ("constant", True),
        },
    )
    for block in space:
        place, smooth = places[block.name]
        expected += form(place, L, block.values(w), block.values(v), smooth)
    assert v @ space.metric(w) == pytest.approx(expected, rel=1e-12)
    assert space.riesz(space.metric(w)) == pytest.approx(w, rel=0, abs=SOLVE * np.abs(w).max())
    bound = SOLVE * np.abs(w).max()
    assert space.metric(space.riesz(w)) == pytest.approx(w, rel=0, abs=bound)
    assert space.metric_diagonal == pytest.approx(np.diag(dense_metric(space)), rel=PRODUCT)


def test_penalties_of_the_space_add_up():
    L = 3
    problem = mixed()
    space = dnl.ControlSpace(problem, dnl.Grid(L, HORIZON))
    w = draw(space.size)
    places = {"W": "triangle", "b": "triangle", "v": "path at nodes", "c": "constant"}
    expected = sum(
        penalty(p, L, space.split(w)[k], problem.regularisers_of(k)) for k, p in places.items()
    )
    assert space.penalty(w) == pytest.approx(expected, rel=1e-12)


# -- faces
# --------------------------------------------------------------------------------------------------
def box() -> tuple[dnl.ControlSpace, np.ndarray, np.ndarray]:
    """A bounded space with a point that has entries inside, at and pushed against their bounds."""
    problem = mixed({"W": (-0.6, 0.6), "b": (-np.inf, 0.4), "v": (-0.5, np.inf)})
    space = dnl.ControlSpace(problem, dnl.Grid(5, HORIZON))
    w = np.clip(0.8 * draw(space.size), *space.bounds)
    return space, w, 0.5 * draw(space.size, seed=1)


def test_held_entries():
    """Entry i is held when w_i - r_i / A_ii lies on or beyond its bound."""
    space, w, r = box()
    lower, upper = space.bounds
    held, diagonal = held_entries(space, w, r), np.diag(dense_metric(space))
    for i in range(space.size):
        step = w[i] - r[i] / diagonal[i]
        assert held[i] == (step <= lower[i] or step >= upper[i])
    inside = (w > lower) & (w < upper)
    assert 0 < held.sum() < space.size and np.any(held & inside) and np.any(~held & ~inside)
    # on the bound
    assert held_entries(space, upper, np.zeros(space.size))[np.isfinite(upper)].all()
    gaps = [
        min(abs(w[i] - b) for b in (lower[i], upper[i]))
        if not inside[i]
        else (w[i] - lower[i] if w[i] - r[i] / diagonal[i] <= lower[i] else upper[i] - w[i])
        for i in np.flatnonzero(held)
    ]
    assert complementarity(space, w, r) == pytest.approx(max(gaps), rel=1e-15)


def test_nothing_is_held_without_bounds():
    space = dnl.ControlSpace(mixed(), dnl.Grid(3, HORIZON))
    w = draw(space.size)
    assert not held_entries(space, w, 1e6 * w).any() and complementarity(space, w, w) == 0.0


def masks(space: dnl.ControlSpace) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    some = rng.random(space.size) < 0.4
    whole_component = np.zeros(space.size, dtype=bool)
    block = space.blocks["W"]
    view = whole_component[block.part].reshape(block.layout.count, block.components)
    view[:, 1] = True
    whole_component[block.part] = view.ravel()
    same_sites = np.zeros(space.size, dtype=bool)
    same_sites[block.part] = np.repeat(np.arange(block.layout.count) % 3 == 0, block.components)
    one = np.zeros(space.size, dtype=bool)
    one[7] = True
    return {
        "none": np.zeros(space.size, dtype=bool),
        "all": np.ones(space.size, dtype=bool),
        "some": some,
        "a component": whole_component,
        "sites": same_sites,
        "one": one,
    }


@pytest.mark.parametrize("which", ["none", "all", "some", "a component", "sites", "one"])
def test_riesz_map_on_a_face_is_the_inverse_of_the_principal_submatrix(which):
    space, _, r = box()
    held = masks(space)[which]
    face, F = Face(space, held), np.flatnonzero(~held)
    A = dense_metric(space)[np.ix_(F, F)]
    expected = np.zeros(space.size)
    expected[F] = np.linalg.solve(A, r[F])
    scale = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(face.riesz(r), expected, rtol=0, atol=SOLVE * scale)
    restricted = np.where(held, 0.0, r)
    assert np.array_equal(face.restrict(r), restricted)
    assert face.dual_norm(r) == pytest.approx(math.sqrt(r @ expected), rel=SOLVE)
    np.testing.assert_allclose(face.riesz(restricted), expected, rtol=0, atol=SOLVE * scale)


def test_stationarity_is_the_dual_norm_on_the_free_entries():
    space, w, r = box()
    F = np.flatnonzero(~held_entries(space, w, r))
    A = dense_metric(space)[np.ix_(F, F)]
    assert stationarity(space, w, r) == pytest.approx(
        math.sqrt(r[F] @ np.linalg.solve(A, r[F])), rel=SOLVE
    )


def test_dual_norm_is_the_largest_slope_per_unit_of_the_metric():
    """sup rᵀd over dᵀA d <= 1 is (rᵀA^{-1}r)^{1/2}, attained at A^{-1}r."""
    space = dnl.ControlSpace(mixed(), dnl.Grid(3, HORIZON))
    r = draw(space.size)
    norm = stationarity(space, np.zeros(space.size), r)
    best = space.riesz(r)
    assert r @ best / math.sqrt(best @ space.metric(best)) == pytest.approx(norm, rel=SOLVE)
    for seed in range(20):
        d = draw(space.size, seed=seed)
        assert r @ d <= norm * math.sqrt(d @ space.metric(d)) * (1 + SOLVE)


# -- a problem with its answer
# ------------------------------------------------------------------------------
@pytest.mark.parametrize("L", [1, 2, 3, 8, 21])
def test_the_representer_of_t7_is_exact(L):
    """x(1) = τ Σ_s u^{L,s} has κ_L = kᵀA^{-1}k = 1 + cosh(θ(L-½))/sinh(θL), θ = 2 asinh(1/(2L)),
    and the representer A^{-1}k = [cosh θ(l-½) + cosh θ(s+½)]/sinh θL."""
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


# -- initial guesses
# ----------------------------------------------------------------------------------------
def test_initial_guesses_are_sampled_at_the_sites_and_clipped():
    L = 4
    grid = dnl.Grid(L, HORIZON)
    space = dnl.ControlSpace(mixed({"k": (-1.0, 1.0)}), grid)
    tau = grid.step
    w = space.initial(
        {
            "W": lambda t, s: np.array([[t, s], [0.0, t * s]]),
            "b": 0.5,
            "k": lambda t: 2.0 * t,
            "v": np.arange(5.0),
            "c": lambda: np.array([3.0, 4.0]),
        }
    )
    parts = space.split(w)
    for i, (l, s) in enumerate(sites("triangle", L)):
        t, r = (l - 0.5) * tau, (s + 0.5) * tau
        assert parts["W"][i] == pytest.approx(np.array([[t, r], [0.0, t * r]]), rel=1e-14)
    assert np.all(parts["b"] == 0.5) and np.array_equal(parts["c"], [[3.0, 4.0]])
    assert parts["k"] == pytest.approx(
        np.clip(2 * (np.arange(L) + 0.5) * tau, -1, 1)[:, None] * np.ones(2)
    )
    assert np.array_equal(parts["v"], np.arange(5.0))
    dense = space.blocks["W"].layout.dense(parts["W"])
    assert np.array_equal(space.split(space.initial({"W": dense}))["W"], parts["W"])
    assert np.array_equal(space.split(space.initial({"W": parts["W"]}))["W"], parts["W"])


def test_smooth_random_is_one_function_at_every_depth():
    """Its samples at depths 3 and 9 agree where the sites coincide: centres (l-½)/3 are
    (3l-1-½)/9.
    """
    problem = dnl.ControlProblem(
        horizon=HORIZON,
        x0=np.zeros((1, 2)),
        dynamics=dnl.Dense(2, "C"),
        controls={"W": dnl.Control((2, 2), on="ts", initial=dnl.smooth_random(4, 0.3))},
    )
    coarse, fine = (dnl.ControlSpace(problem, dnl.Grid(L, HORIZON)) for L in (3, 9))
    a, b = (s.blocks["W"].layout.dense(s.split(s.initial())["W"]) for s in (coarse, fine))
    for l in range(1, 4):
        for s in range(l):
            assert a[l - 1, s] == pytest.approx(b[3 * l - 2, 3 * s + 1], rel=1e-13, abs=1e-15)
    assert np.nanstd(a) > 0.01
