"""Many starts: the same minimisers for any number of workers.

They are counted once however a symmetry disguises them.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.problem.from_file import load_problem
from dnlcontrol.studies.multistart import _Gathering
from dnlcontrol.studies.symmetries import aligned, check_symmetries, gap, masses_of, verify
from problems.two_class_toy import problem as two_class_toy

UNITS = {"W": 0, "b": 0, "V": 1}  # k = V tanh(W x + b)
BOTH = [dnl.HiddenPermutation(UNITS), dnl.SignFlip(UNITS)]


def hidden_layer(
    hidden: int = 2, activation=dnl.tanh, weight: float = 1e-2, **bounds
) -> dnl.ControlProblem:
    """Two inputs carried to two targets by k(t, s, x) = V(t,s) σ(W(t,s) x + b(t,s))."""
    d = 2
    return dnl.ControlProblem(
        name="hidden_layer",
        x0=np.array([[1.0, 0.0], [-0.5, 0.5]]),
        dynamics=dnl.Volterra(lambda t, s, x, u: u.V @ activation(u.W @ x + u.b)),
        controls={
            "W": dnl.Control((hidden, d), on="ts", **bounds),
            "b": dnl.Control((hidden,), on="t"),
            "V": dnl.Control((d, hidden), on="ts"),
        },
        terminal=dnl.losses.squared(np.array([[0.0, 1.0], [0.5, -1.0]])),
        regularisers=[dnl.H1(name, weight) for name in UNITS],
    )


def random_parts(space, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return space.split(rng.standard_normal(space.size))


def masses(space) -> dict[str, np.ndarray]:
    return masses_of({block.name: block.layout for block in space})


def signed_permutations(hidden: int):
    for order in itertools.permutations(range(hidden)):
        for signs in itertools.product([1.0, -1.0], repeat=hidden):
            yield np.array(order), np.array(signs)


def moved(parts, order, signs):
    """Written out for this kernel: unit i becomes signs[i] times unit order[i]."""
    W = parts["W"]
    b = parts["b"]
    V = parts["V"]
    return {
        "W": signs[:, None] * W[:, order],
        "b": signs * b[:, order],
        "V": V[:, :, order] * signs,
    }


def table(result: dnl.MultiStart) -> list[tuple]:
    return [(r.start, r.value, r.success, r.cluster, r.stationarity, r.nit) for r in result.starts]


# -- the minimisers of a problem that has several ------------------------------------------------
@pytest.fixture(scope="module")
def toy() -> dnl.ControlProblem:
    return two_class_toy(samples=6, alpha=2e-3)


@pytest.fixture(scope="module")
def found(toy) -> dnl.MultiStart:
    return dnl.multistart(toy, depth=3, starts=5)


def test_several_minimisers_each_counted_once(found):
    assert all(row.success for row in found.starts)
    assert 2 <= len(found.clusters) < len(found.starts)
    assert sum(cluster.count for cluster in found.clusters) == len(found.starts)
    assert np.all(np.diff(found.values) > 1e-3)
    assert found.spread == found.values[-1] - found.values[0]
    for row in found.starts:
        assert abs(row.value - found.clusters[row.cluster].value) < 1e-12
    assert found.best is found.clusters[0].representative
    assert found.best.value == found.values[0]


def test_each_row_is_one_solve_from_its_own_start(toy, found):
    for k in (0, 2):
        start = {name: dnl.smooth_random(k, 1.0) for name in toy.controls}
        alone = dnl.solve(toy, 3, backend="adjoint", start=start)
        row = found.starts[k]
        assert abs(alone.value - row.value) < 1e-12
        assert dnl.distance(alone, found.clusters[row.cluster].representative) < 1e-5


def test_the_best_is_a_whole_solution(toy, found):
    assert found.best.problem is toy
    again = dnl.solve(toy, 3, backend="adjoint", start=found.best)
    assert again.nit == 0
    assert again.value == pytest.approx(found.best.value, abs=1e-14)


def test_the_table_has_one_row_for_each_start(found):
    pytest.importorskip("pandas")
    frame = found.table()
    assert frame.index.tolist() == list(range(5))
    assert frame.index.name == "start"
    assert {"value", "success", "cluster"} <= set(frame.columns)
    assert frame.groupby("cluster").size().tolist() == [cluster.count for cluster in found.clusters]


def test_the_same_result_for_any_number_of_workers(toy, found):
    """Bit by bit: rows, clusters and controls; toy's loss is a lambda."""
    pytest.importorskip("joblib")
    parallel = dnl.multistart(toy, depth=3, starts=5, workers=2)
    assert table(parallel) == table(found)
    for a, b in zip(parallel.clusters, found.clusters, strict=True):
        assert (a.value, a.count) == (b.value, b.count)
        for name, control in a.representative.controls.items():
            assert np.array_equal(control.values, b.representative.controls[name].values)
    assert parallel.best.problem is toy


def test_a_solve_runs_on_one_thread_and_leaves_the_others_as_they_were(toy):
    """The last digit of a sum depends on the number of threads that share it."""
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        with pytest.warns(dnl.ConvergenceWarning):
            dnl.multistart(
                toy,
                2,
                starts=1,
                max_iterations=1,
                progress=lambda _: seen.add(torch.get_num_threads()),
            )
        assert seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_joblib_backend_that_hands_over_lists_and_one_of_threads(toy, found):
    joblib = pytest.importorskip("joblib")
    from joblib._parallel_backends import LokyBackend

    class Lists(LokyBackend):
        supports_return_generator = False  # as of pools, Ray's among them

    joblib.register_parallel_backend("lists", Lists)
    for backend in ("lists", "threading"):
        with joblib.parallel_config(backend=backend):
            assert table(dnl.multistart(toy, depth=3, starts=5, workers=2)) == table(found)


def test_a_problem_file_with_functions_of_its_own_reaches_the_workers(tmp_path):
    """Workers cannot import the file by name: its functions travel by value."""
    pytest.importorskip("joblib")
    file = tmp_path / "wells.py"
    file.write_text("""
import numpy as np, dnlcontrol as dnl

def depth_of(x):
    return (x * x - 1) * (x * x - 1) + 0.1 * x

def cost(x, c):
    return depth_of(x)

def problem():
    return dnl.ControlProblem(x0=np.zeros(1), dynamics=dnl.ODE(lambda t, x, u: u.u),
                              controls={"u": dnl.Control(())},
                              terminal=cost, regularisers=[dnl.L2("u", 0.1)])
""")
    wells = load_problem(file).problem()
    one, two = (dnl.multistart(wells, depth=2, starts=4, workers=n) for n in (1, 2))
    assert len(one.clusters) == 2
    assert table(one) == table(two)


# -- the order of arrival ------------------------------------------------------------------------
def gathered(points: np.ndarray, order, near: float, failed=()) -> tuple[list[tuple], list, int]:
    """Clusters of numbers at most ``near`` apart, and the largest number of solutions held."""
    gathering, most = _Gathering(lambda a, b: abs(a.value - b.value) <= near), 0
    for k in order:
        gathering.add(
            int(k),
            SimpleNamespace(value=points[k], success=k not in failed, stationarity=0.0, nit=0),
        )
        most = max(most, len(gathering.leaders) + len(gathering.waiting))
    return (
        [(k, s.value) for k, s in gathering.leaders.items()],
        sorted(gathering.belongs.items()),
        most,
    )


def test_clusters_do_not_depend_on_the_order_of_arrival():
    """Also for chains, in which "equal" is not transitive."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        points = rng.uniform(0, 1, 30)
        expected = gathered(points, range(30), 0.1, failed={3, 11})
        for _ in range(5):
            got = gathered(points, rng.permutation(30), 0.1, failed={3, 11})
            assert got[:2] == expected[:2]


def test_memory_does_not_grow_with_the_number_of_starts():
    """300 starts into 4 minimisers; up to 8 starts are under way at a time."""
    rng = np.random.default_rng(0)
    points = rng.integers(0, 4, 300) + 1e-3 * rng.uniform(size=300)
    order = np.argsort(np.arange(300) + rng.uniform(0, 8, 300))
    leaders, belongs, most = gathered(points, order, 0.01)
    assert len(leaders) == 4
    assert len(belongs) == 300
    assert most <= 4 + 8


# -- symmetries ----------------------------------------------------------------------------------
def test_alignment_finds_the_nearest_of_all_signed_permutations():
    """Against enumeration of the 2^3 · 3! elements."""
    space = dnl.discretise(hidden_layer(hidden=3), 3).space
    mass = masses(space)
    both = check_symmetries(BOTH)
    for seed in range(5):
        u, v = random_parts(space, seed), random_parts(space, seed + 50)
        every = {"permuted and flipped": [], "permuted": [], "flipped": []}
        for order, signs in signed_permutations(3):
            distance = gap(moved(u, order, signs), v, mass)
            every["permuted and flipped"].append(distance)
            if np.all(signs > 0):
                every["permuted"].append(distance)
            if np.array_equal(order, np.arange(3)):
                every["flipped"].append(distance)
        for symmetries, name in (
            (both, "permuted and flipped"),
            (BOTH[:1], "permuted"),
            (BOTH[1:], "flipped"),
        ):
            image, distance = aligned(u, v, symmetries, mass)
            assert distance == pytest.approx(min(every[name]), rel=1e-12)
            assert gap(image, v, mass) == pytest.approx(distance, rel=1e-12)


def test_every_copy_of_one_solution_is_recognised():
    problem = hidden_layer(hidden=3)
    space, mass = dnl.discretise(problem, 3).space, masses(dnl.discretise(problem, 3).space)
    u = random_parts(space, 1)
    w = space.assemble(u)
    evaluator = dnl.discretise(problem, 3)
    for order, signs in signed_permutations(3):
        copy = moved(u, order, signs)
        assert evaluator.value(space.assemble(copy)) == pytest.approx(evaluator.value(w), rel=1e-12)
        assert aligned(copy, u, check_symmetries(BOTH), mass)[1] == 0.0


def test_gap_is_the_distance_of_the_piecewise_constant_extensions():
    space = dnl.discretise(hidden_layer(), 4).space
    u, v = random_parts(space, 1), random_parts(space, 2)
    layouts: dict[str, Layout] = {block.name: block.layout for block in space}
    total = sum(
        float(layouts[k].grid.step ** {"ts": 2, "t": 1}[layouts[k].on] * np.sum((u[k] - v[k]) ** 2))
        for k in u
    )
    assert gap(u, v, masses(space)) == pytest.approx(np.sqrt(total), rel=1e-14)


def test_a_multistart_counts_disguised_minimisers_once():
    problem = hidden_layer(weight=0.1)
    plain = dnl.multistart(problem, depth=2, starts=4)
    merged = dnl.multistart(problem, depth=2, starts=4, symmetries=BOTH)
    assert [r.value for r in plain.starts] == [r.value for r in merged.starts]
    assert all(r.success for r in plain.starts)
    assert len(merged.clusters) < len(plain.clusters)
    # The values tell the same: as many clusters as different values, and one value to a cluster.
    assert (
        len(merged.clusters)
        == len(np.unique(merged.values.round(9)))
        == len(np.unique(plain.values.round(9)))
    )
    for row in merged.starts:
        assert abs(row.value - merged.clusters[row.cluster].value) < 1e-9


def test_align_makes_independent_solutions_comparable():
    problem = hidden_layer()
    a = dnl.solve(problem, 3, backend="adjoint", start={k: dnl.smooth_random(0) for k in UNITS})
    copy = moved(
        {k: c.values for k, c in a.controls.items()}, np.array([1, 0]), np.array([-1.0, 1.0])
    )
    b = dnl.solve(
        problem,
        6,
        backend="adjoint",
        start=replace(a, controls={k: replace(c, values=copy[k]) for k, c in a.controls.items()}),
    )
    near, far = dnl.distance(dnl.align(b, a, BOTH), a), dnl.distance(b, a)
    assert near < 0.2 < 1.0 < far
    assert dnl.distance(dnl.align(a, b, BOTH), b) == pytest.approx(near, rel=1e-6)
    assert np.array_equal(dnl.align(b, a, BOTH).states, b.states)


def test_a_single_hidden_unit_and_a_finite_group_agree():
    """k = v tanh(w x): (v, w) -> (-v, -w), as sign flips of whole controls and as a listed map."""
    problem = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.Volterra(lambda t, s, x, u: u.v * dnl.tanh(u.w * x)),
        controls={"v": dnl.Control((), on="ts"), "w": dnl.Control((), on="ts")},
        terminal=dnl.losses.squared(np.array([2.0])),
        regularisers=[dnl.H1("v", 0.1), dnl.H1("w", 0.1)],
    )
    flip = dnl.SignFlip({"v": None, "w": None})
    listed = dnl.FiniteSymmetry([lambda parts: {"v": -parts["v"], "w": -parts["w"]}])
    plain, one, two = (
        dnl.multistart(problem, depth=2, starts=4, symmetries=s) for s in (None, flip, [listed])
    )
    assert len(plain.clusters) == 2 * len(one.clusters)
    assert table(one) == table(two)


def test_padded_coordinates_of_a_dense_network_are_a_finite_symmetry():
    """W -> D W D, b -> D b with D = diag(1, 1, -1): x0 is 0 there and the loss does not look."""
    D = np.diag([1.0, 1.0, -1.0])
    mirror = dnl.FiniteSymmetry([lambda parts: {"W": D @ parts["W"] @ D, "b": parts["b"] @ D}])
    discrete = dnl.discretise(two_class_toy(samples=4, width=3), 2)
    verify(discrete, [mirror])
    u = random_parts(discrete.space, 3)
    assert aligned(mirror.maps[0](u), u, [mirror], masses(discrete.space))[1] == 0.0


def test_two_hidden_layers_are_aligned_in_turn():
    """Symmetries that share a control.

    The distance never grows, and a copy near its original is recovered.
    """
    problem = dnl.ControlProblem(
        x0=np.ones((1, 2)),
        dynamics=dnl.Volterra(lambda t, s, x, u: u.V @ dnl.tanh(u.M @ dnl.tanh(u.W @ x))),
        controls={
            k: dnl.Control(s, on="t") for k, s in {"W": (3, 2), "M": (3, 3), "V": (2, 3)}.items()
        },
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.L2(k, 1.0) for k in "WMV"],
    )
    layers = [dnl.HiddenPermutation({"W": 0, "M": 1}), dnl.HiddenPermutation({"M": 0, "V": 1})]
    discrete = dnl.discretise(problem, 2)
    verify(discrete, layers)
    rng, mass = np.random.default_rng(0), masses(discrete.space)
    for seed in range(20):
        u, v = random_parts(discrete.space, seed), random_parts(discrete.space, seed + 100)
        assert aligned(u, v, layers, mass)[1] <= gap(u, v, mass)
        one = layers[0].draw(u, rng)
        assert aligned(one, u, layers, mass)[1] <= 1e-12


# -- what is refused and what is said ------------------------------------------------------------
@pytest.mark.parametrize(
    ("problem", "symmetries", "says"),
    [
        (hidden_layer(activation=dnl.relu), dnl.SignFlip(UNITS), "changes a value"),
        (hidden_layer(), dnl.HiddenPermutation({"W": 0, "b": 0}), "changes a value"),
        (hidden_layer(lower=0), BOTH, "out of its bounds"),
        (hidden_layer(lower=[[-1.0], [-2.0]]), dnl.HiddenPermutation(UNITS), "out of its bounds"),
        (two_class_toy(samples=4), dnl.HiddenPermutation({"W": 0, "b": 0}), "changes a value"),
        (hidden_layer(), dnl.HiddenPermutation({"W": 0, "U": 0}), "unknown control 'U'"),
        (hidden_layer(), dnl.HiddenPermutation({"W": 2}), r"axis 2 of 'W'.*\(2, 2\)"),
        (
            hidden_layer(hidden=3),
            dnl.HiddenPermutation({"W": 0, "V": 0}),
            "numbers of hidden units",
        ),
        (hidden_layer(), dnl.FiniteSymmetry([lambda parts: {"W": -parts["W"]}]), "changes a value"),
        (hidden_layer(), dnl.FiniteSymmetry([lambda parts: {"W": parts["b"]}]), "of shape"),
        (hidden_layer(), ["permutations"], "a list of HiddenPermutation"),
    ],
)
def test_what_is_not_a_symmetry_is_refused(problem, symmetries, says):
    with pytest.raises(dnl.InputError, match=f"symmetries: got .*{says}"):
        dnl.multistart(problem, depth=2, starts=1, symmetries=symmetries)


def test_a_symmetry_that_moves_a_constraint_is_refused():
    problem = dnl.ControlProblem(
        x0=np.zeros((1, 2)),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((2,))},
        terminal=lambda x, c: x[0] + x[1],
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x[0], lower=0.0, upper=0.0, name="end")],
    )
    swap = dnl.HiddenPermutation({"u": 0})
    with pytest.raises(dnl.InputError, match="violation of a constraint"):
        verify(dnl.discretise(problem, 2), [swap])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"starts": 0}, "starts: got 0"),
        ({"workers": 0}, "workers: got 0"),
        ({"workers": 1.5}, "workers: got 1.5"),
        ({"scale": 0}, "scale: got 0"),
        ({"distinct": -1}, "distinct: got -1"),
        ({"seed": -1}, "seed: got -1"),
        ({"start": None}, "unknown option 'start'"),
        ({"itermax": 3}, "unknown option 'itermax'"),
        ({"backend": "other"}, "backend: got 'other'"),
    ],
)
def test_bad_arguments(toy, arguments, says):
    with pytest.raises(dnl.InputError, match=says):
        dnl.multistart(toy, 2, **arguments)


def test_starts_that_do_not_converge_are_rows_and_the_best_of_them_is_kept(toy):
    with pytest.warns(dnl.ConvergenceWarning, match="none of the 3 starts converged"):
        result = dnl.multistart(toy, 3, starts=3, max_iterations=1)
    assert not result.clusters
    assert np.isnan(result.spread)
    assert result.values.size == 0
    assert [row.cluster for row in result.starts] == [-1, -1, -1]
    assert result.best.value == min(row.value for row in result.starts)
    assert not result.best.success
    assert "0 of 3 starts converged" in repr(result)


def test_without_joblib_the_extra_is_named(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match=r"dnlcontrol\[parallel\]"):
        dnl.multistart(toy, 2, starts=2, workers=2)
