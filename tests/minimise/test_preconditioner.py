"""Splines between depths, extrapolated starts, and the coarse-grid correction.

The correction is for the Hessian's compact part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint import nested
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.prolongation import Samples, extrapolated, resample
from dnlcontrol.minimise import preconditioner as coarse
from dnlcontrol.minimise.faces import Face
from dnlcontrol.minimise.newton import forcing, newton
from dnlcontrol.minimise.preconditioner import Correction
from dnlcontrol.minimise.quadratic_model import Seen
from dnlcontrol.solving.learnt import recall
from problems import iris_dense, o1_hager, spirals


def toy(samples=16, **parameters):
    return spirals.problem(samples=samples, **parameters)


def layout(depth, on="ts"):
    return Layout(
        dnl.Grid(depth, 1.0) if hasattr(dnl, "Grid") else dnl.discretise(toy(4), depth).grid, on
    )


def sampled(at, function):
    return function(*at.positions)[:, None]


# -- between depths ------------------------------------------------------------------------------
@pytest.mark.parametrize("fine", [6, 12, 33])
def test_splines_reproduce_symmetric_bicubics(fine):
    """On the mirrored square these are cubic in each variable, as the spline is.

    Also beyond the outer centres.
    """

    def cubic(t, s):
        return (1 + t - 2 * t**3) * (1 + s - 2 * s**3)

    a, b = layout(8), layout(fine)
    np.testing.assert_allclose(
        resample(a, sampled(a, cubic), b, True), sampled(b, cubic), atol=1e-12
    )
    a, b = layout(8, "t"), layout(fine, "t")
    line = resample(a, sampled(a, lambda t: t**3 - t), b, True)
    np.testing.assert_allclose(line, sampled(b, lambda t: t**3 - t), atol=1e-12)


def test_splines_lose_less_than_linear_prolongation_in_H1():
    """Interpolation errors in H1: O(τ) for piecewise-linear, O(τ³) for cubic splines.

    The order is fitted.
    """

    def smooth(t, s):
        return np.cos(3 * t) * np.cos(3 * s)

    errors = {True: [], False: []}
    for depth in (8, 16, 32):
        target = dnl.discretise(toy(4), 2 * depth).space.blocks["W"]
        a = layout(depth)
        for kind, found in errors.items():
            off = resample(a, sampled(a, smooth), target.layout, kind) - sampled(
                target.layout, smooth
            )
            found.append(np.sqrt(np.sum(off * target.metric.apply(off))))
    order = {kind: -np.polyfit(np.log([8, 16, 32]), np.log(e), 1)[0] for kind, e in errors.items()}
    assert order[True] > 2.7
    assert order[False] < 1.5


def test_controls_that_may_jump_stay_within_their_samples():
    a, b = layout(8, "t"), layout(32, "t")
    step = sampled(a, lambda t: np.where(t < 0.5, -1.0, 1.0))
    assert np.abs(resample(a, step, b, False)).max() <= 1.0


def test_extrapolation_is_exact_for_quadratics_in_1_over_L():
    spaces = {L: dnl.discretise(toy(4), L).space for L in (8, 16, 32, 64)}

    def at(L):
        block = spaces[L].blocks["W"]
        t, s = block.layout.positions
        values = (1 + t * s + (t + s) / L - t**2 * s**2 / L**2)[:, None, None] * np.ones((2, 2))
        return spaces[L].assemble({"W": values, "b": values[:, 0]})

    levels = [Samples.of(spaces[L], at(L)).on(spaces[64]) for L in (8, 16, 32)]
    np.testing.assert_allclose(extrapolated((8, 16, 32), levels, spaces[64]), at(64), atol=1e-11)


# -- the correction ------------------------------------------------------------------------------
def dense(apply, size):
    return np.stack([apply(e) for e in np.eye(size)], axis=1)


def preconditioner(made, face):
    correct = made.on(face)
    return dense(lambda r: correct(face.restrict(r), face.riesz(face.restrict(r))), face.space.size)


@pytest.fixture
def at_random():
    """A small problem at a random control, where its Hessian is indefinite."""
    problem = toy(6, alpha=2e-3)
    evaluator = Evaluator(dnl.discretise(problem, 4))
    w = 2.0 * np.random.default_rng(3).standard_normal(evaluator.space.size)
    return evaluator, w, dense(lambda d: evaluator.hessian_product(w, d), evaluator.space.size)


def test_with_the_level_itself_as_coarse_level_every_eigenvalue_is_near_one_in_size(
    at_random, monkeypatch
):
    """Pairs nearer than e^{BULK_WIDTH} to 1 stay in the bulk.

    What is left are eigenvalues ±λ with |log λ| <= BULK_WIDTH.
    """
    evaluator, w, H = at_random
    monkeypatch.setattr(coarse, "KEPT_PAIRS", evaluator.space.size)
    monkeypatch.setattr(coarse, "LEAST_COUPLING", 0.0)
    made = coarse.correction(evaluator.space, evaluator.space, evaluator.hessian_product, w)
    P = preconditioner(made, Face(evaluator.space, np.zeros(evaluator.space.size, dtype=bool)))
    assert np.linalg.eigvalsh(0.5 * (H + H.T)).min() < 0
    found = np.linalg.eigvals(P @ H)
    assert np.abs(found.imag).max() < 1e-8
    assert np.abs(np.log(np.abs(found.real))).max() <= coarse.BULK_WIDTH + 1e-6


@pytest.mark.parametrize("held", [0.0, 0.3, 0.8])
def test_preconditioner_is_the_inverse_on_the_face_and_positive_definite(at_random, held):
    evaluator, w, _ = at_random
    space = evaluator.space
    made = nested.Nested(evaluator.discrete).correction(w, depth=2)
    free = np.random.default_rng(5).random(space.size) >= held
    A = dense(space.metric, space.size)
    BX = made.scale[:, None] * (A @ np.stack(made.rows).T)
    model = made.scale[:, None] * A + BX @ made.change @ BX.T
    P = preconditioner(made, Face(space, ~free))[np.ix_(free, free)]
    np.testing.assert_allclose(P @ model[np.ix_(free, free)], np.eye(free.sum()), atol=1e-8)
    np.testing.assert_allclose(P, P.T, atol=1e-8 * np.abs(P).max())
    assert np.linalg.eigvalsh(0.5 * (P + P.T)).min() > 0


def test_learning_makes_the_model_agree_with_the_products(monkeypatch):
    """After the update Ĥs = y: with BULK_WIDTH = 0 nothing is left to the bulk."""
    monkeypatch.setattr(coarse, "BULK_WIDTH", 0.0)
    monkeypatch.setattr(coarse, "KEPT_PAIRS", 90)
    evaluator = Evaluator(dnl.discretise(toy(6), 5))
    space, rng = evaluator.space, np.random.default_rng(7)
    H = dense(lambda d: evaluator.hessian_product(np.zeros(space.size), d), space.size)
    H = H + 0.3 * dense(space.metric, space.size)
    assert np.linalg.eigvalsh(0.5 * (H + H.T)).min() > 0
    start = nested.Nested(evaluator.discrete).correction(np.zeros(space.size), depth=2)
    for made in (start, coarse.empty(space)):
        S = rng.standard_normal((6, space.size))
        learnt = made.learn([Seen(s, H @ s) for s in S])
        for form in (learnt, learnt.compressed()):
            P = preconditioner(form, Face(space, np.zeros(space.size, dtype=bool)))
            np.testing.assert_allclose(P @ (H @ S.T), S.T, atol=1e-8 * np.abs(S).max())
            assert np.linalg.eigvalsh(0.5 * (P + P.T)).min() > 0


def test_compressing_twice_changes_nothing():
    """A level kept in files goes on as one that was not."""
    space = dnl.discretise(toy(6), 4).space
    s = np.random.default_rng(9).standard_normal((3, space.size))
    once = coarse.empty(space).learn([Seen(v, 5 * space.metric(v)) for v in s]).compressed()
    assert once.compressed() is once
    assert len(once.rows) == 3


def test_dependent_pairs_and_negative_ones_change_nothing():
    space = dnl.discretise(toy(6), 4).space
    made = coarse.empty(space)
    s = np.random.default_rng(8).standard_normal(space.size)
    assert made.learn([Seen(s, -space.metric(s))]) is made
    assert isinstance(made.learn(2 * [Seen(s, space.metric(s))]), Correction)


def test_nothing_stands_out_of_a_multiple_of_the_metric():
    space = dnl.discretise(toy(6), 4).space
    scale = coarse.bulk(space)
    assert (
        coarse.correction(space, space, lambda w, d: scale * space.metric(d), np.zeros(space.size))
        is None
    )


def test_the_last_model_is_solved_to_what_is_asked():
    """What the model leaves and what the next gradient adds to it stay below the tolerance.

    The gradient adds quadratic_rate ‖r‖².
    """
    tolerance = 1e-8
    for size in (1e-7, 3e-7):
        for quadratic_rate in (1e-3, 1.0, 1e4):
            accuracy = forcing(size, quadratic_rate, tolerance)
            assert accuracy + quadratic_rate * size**2 <= tolerance
            assert accuracy >= 0.3 * tolerance
    assert forcing(1e-7, 1.0, tolerance) == pytest.approx(0.6e-8, rel=1e-5)
    # a fiftieth: what is learnt serves the next model
    assert forcing(1e-3, 1.0, tolerance) == pytest.approx(2e-5)


# -- solves --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def ladder():
    problem, levels = toy(), []
    for depth in (8, 16, 32, 64):
        levels.append(dnl.solve(problem, depth, backend="adjoint", start=levels or None))
    return problem, levels


def test_iterations_do_not_grow_with_the_depth(ladder):
    _, levels = ladder
    assert all(s.success for s in levels)
    assert levels[3].nhev <= 1.3 * levels[2].nhev
    assert max(s.cg_per_step for s in levels[1:]) <= 6


def test_it_saves_products_and_finds_the_same_minimiser(ladder):
    """Strongly convex near the minimiser with H >= cA.

    A stationarity of 1e-8 is a distance of 1e-8/c, c = α/2 here.
    """
    problem, levels = ladder
    plain = Objective(Evaluator(dnl.discretise(problem, 64)))
    start = Samples.of(dnl.discretise(problem, 32).space, flat(problem, levels[2])).on(plain.space)
    without = newton(plain, start, 1e-8)
    assert without.converged
    assert levels[3].nhev < 0.6 * without.inner
    off = without.w - flat(problem, levels[3])
    assert np.sqrt(off @ plain.space.metric(off)) <= 2e-8 / 5e-3
    assert abs(without.value - levels[3].value) < 1e-12


def flat(problem, solution):
    space = dnl.discretise(problem, solution.depth).space
    return space.assemble({k: c.values for k, c in solution.controls.items()})


def test_one_coarser_solution_is_enough_for_a_correction(ladder):
    _, levels = ladder
    solution = dnl.solve(ladder[0], 64, backend="adjoint", start=levels[2])
    assert solution.success
    assert solution.nhev <= 12
    assert dnl.distance(solution, levels[3], "H1") < 1e-5


def test_work_is_reported(ladder, tmp_path):
    _, levels = ladder
    work = levels[3].work
    parts = levels[3].njev + 1 + work["product_cost"] * levels[3].nhev + work["coarse"]
    assert work["product_cost"] >= 2.0
    assert work["units"] >= parts - 1e-9
    levels[3].save(tmp_path / "run")
    assert dnl.load(tmp_path / "run").work == work


def limited(free, limit=np.inf, constraints=()):
    """The same problem with every control between -limit and limit, and constraints."""
    controls = {
        k: dnl.Control(c.shape, on=c.on, lower=-limit, upper=limit)
        for k, c in free.controls.items()
    }
    return dnl.ControlProblem(
        name="limited",
        x0=free.x0,
        dynamics=free.dynamics,
        controls=controls,
        terminal=free.terminal,
        regularisers=free.regularisers,
        constraints=constraints,
    )


def test_bounds_keep_the_rate():
    problem, levels = limited(toy(), 0.4), []
    for depth in (8, 16, 32, 64):
        levels.append(dnl.solve(problem, depth, backend="adjoint", start=levels or None))
    assert all(s.success for s in levels)
    assert any(np.any(np.abs(c.values) >= 0.4) for c in levels[3].controls.values())
    assert levels[3].nhev <= 1.3 * levels[2].nhev
    assert levels[3].cg_per_step <= 1.3 * levels[2].cg_per_step
    plain = Objective(Evaluator(dnl.discretise(problem, 32)))
    start = np.clip(
        Samples.of(dnl.discretise(problem, 16).space, flat(problem, levels[1])).on(plain.space),
        -0.4,
        0.4,
    )
    without = newton(plain, start, 1e-8)
    assert without.converged
    assert abs(without.value - levels[2].value) < 1e-10
    assert levels[2].nhev <= 0.8 * without.inner


@pytest.mark.parametrize("warm", ["duals", "controls"])
def test_constraints_keep_the_rate(warm):
    """Newton steps on the active rows, and the method of multipliers.

    Neither takes more iterations as L grows.
    """
    end = dnl.terminal_constraint(lambda x, c: x[1], -0.6, 0.6, name="end")
    problem, levels = limited(toy(12, alpha=2e-2), constraints=[end]), []
    for depth in (8, 16, 32, 64):
        levels.append(dnl.solve(problem, depth, backend="adjoint", start=levels or None, warm=warm))
    assert all(s.success for s in levels)
    assert all(np.any(s.multiplier("end") != 0) for s in levels)
    assert levels[3].nhev <= levels[2].nhev + 2 <= levels[1].nhev + 4
    assert levels[3].cg_per_step <= 1.3 * levels[2].cg_per_step
    cold = dnl.solve(problem, 16, backend="adjoint")
    assert abs(cold.value - levels[1].value) < 1e-9


def test_a_correction_changes_the_way_of_constrained_steps_but_not_the_end():
    """The constraint preconditioner is that of the Riesz map or of Ĥ.

    One quadratic model, one solution.
    """
    end = dnl.terminal_constraint(lambda x, c: x[1], -0.6, 0.6, name="end")
    problem = limited(toy(12, alpha=2e-2), constraints=[end])
    coarser = dnl.solve(problem, 16, backend="adjoint")
    found = [
        dnl.solve(problem, 32, backend="adjoint", start=s)
        for s in (coarser, replace(coarser))  # a copy has learnt nothing
    ]
    assert found[0].nhev < found[1].nhev
    assert abs(found[0].value - found[1].value) < 1e-12
    assert dnl.distance(*found) <= 2e-8 / 1e-2  # twice the stationarity over the curvature α/2


@pytest.mark.parametrize(
    "make", [lambda: iris_dense.problem(form="A", samples=12), o1_hager.problem]
)
def test_a_study_uses_it_everywhere(make):
    """Constants and forms without an H1 term, too; the levels agree with solves that start cold."""
    problem = make()
    study = dnl.study(problem, depths=[4, 8, 16])
    assert study.success
    cold = dnl.solve(problem, 16, backend="adjoint")
    assert abs(cold.value - study.levels[-1].adjoint.value) < 1e-9
    assert all(recall(level.adjoint).preconditioner is None for level in study.levels)
    assert study.work > study.levels[-1].adjoint.work["units"]


def test_several_starts_are_checked():
    problem = toy(4)
    with pytest.warns(dnl.ConvergenceWarning):
        a, b = (dnl.solve(problem, L, backend="adjoint", max_iterations=1) for L in (2, 4))
    with pytest.raises(ValueError, match="increasing depth"):
        dnl.solve(problem, 8, backend="adjoint", start=[b, a])


def test_a_resumed_study_goes_on_with_what_was_learnt(tmp_path):
    """The level after L = 32 starts from the learnt corrections.

    Kept in files, it takes the same iterations.
    """
    problem, names = toy(6), ["value", "stationarity", "nit", "njev", "nhev"]
    whole = dnl.study(problem, [8, 16, 32, 64], directory=tmp_path / "run").table()[names]
    for path in (tmp_path / "run" / "L00064" / "adjoint").iterdir():
        path.unlink()
    resumed = dnl.study(problem, [8, 16, 32, 64], directory=tmp_path / "run").table()[names]
    np.testing.assert_array_equal(resumed.to_numpy(float), whole.to_numpy(float))
