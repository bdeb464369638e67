"""The residual network and its ODE.

Identities at each depth, rates, the boundary-value problem, TL² distances.
"""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.certificates.taylor import random_control
from dnlcontrol.discretisation.space.transport import tl2_distance
from dnlcontrol.limits.resnet_parts import energy_terms, model_of, parts_of
from dnlcontrol.results.extrapolation import extrapolate
from problems import resnet_tvg

FOUR = {"alpha": 0.1, "alpha_b": 0.2, "alpha_head": 0.05, "alpha_c": 0.3, "tau1": 0.7}


def ladder(problem, depths, tolerance=1e-10):
    found, start = [], None
    for depth in depths:
        start = dnl.solve(problem, depth, "adjoint", start=start, tolerance=tolerance)
        found.append(start)
    return found


@pytest.fixture(scope="module")
def problem():
    return resnet_tvg.problem(samples=8, **FOUR)


@pytest.fixture(scope="module")
def solutions(problem):
    return ladder(problem, [8, 16, 32, 64, 128])


@pytest.fixture(scope="module")
def continuum(solutions):
    return dnl.resnet_continuum(solutions[2])


# -- the functional ------------------------------------------------------------------------------
def test_the_functional_has_all_four_penalties(problem):
    """E_n written out, at a random control.

    E_n = Σ loss + α_1 (n Σ|ΔK|² + τ_1|K_0|²) + α_2 (the same for b) + α_3 |W|² + α_4 |c|².
    """
    n, rng = 6, np.random.default_rng(0)
    w = random_control(dnl.discretise(problem, n), rng)
    u = dnl.discretise(problem, n).space.split(w)
    x = problem.x0
    for K, b in zip(u["K"], u["b"], strict=True):
        x = x + np.tanh(x @ K.T + b) / n
    y = problem.x0[:, 0] + problem.x0[:, 1] ** 2
    expected = np.sum((x @ u["head_W"][0] + u["head_c"][0] - y) ** 2)
    for name, alpha in (("K", 0.1), ("b", 0.2)):
        v = u[name]
        expected += alpha * (n * np.sum(np.diff(v, axis=0) ** 2) + 0.7 * np.sum(v[0] ** 2))
    expected += 0.05 * np.sum(u["head_W"] ** 2) + 0.3 * np.sum(u["head_c"] ** 2)
    assert dnl.discretise(problem, n).value(w) == pytest.approx(expected, rel=1e-13)


def test_energy_terms_add_up(problem, solutions):
    model = model_of(problem, "problem")
    terms = energy_terms(model, parts_of(model, solutions[0]))
    assert set(terms) == {"data", "K", "b", "head_W", "head_c"}
    assert sum(terms.values()) == pytest.approx(solutions[0].value, rel=1e-13)


# -- identities at each depth --------------------------------------------------------------------
def test_every_identity_holds_at_every_depth(solutions):
    report = dnl.resnet_limit_report(solutions)
    assert report.passed, report
    assert report.depths == [8, 16, 32, 64, 128]
    assert all(len(c.checks) == 13 for c in report.certificates)


def test_other_horizons_and_other_solvers():
    """T = 2.5: the powers of τ and T show. The exact backend has its own costates."""
    base = resnet_tvg.problem(samples=4)
    longer = dnl.ControlProblem(
        horizon=2.5,
        x0=base.x0,
        dynamics=base.dynamics,
        controls=base.controls,
        terminal=base.terminal,
        regularisers=base.regularisers,
    )
    for problem, backend in ((longer, "adjoint"), (base, "exact")):
        report = dnl.resnet_limit_report([dnl.solve(problem, 6, backend)])
        assert report.certificates[0].passed, report


@pytest.mark.parametrize("name", ["K", "b"])
def test_a_moved_sample_is_noticed(solutions, name):
    """Adding 1e-6 to one inner entry breaks the Euler-Lagrange identity there.

    The stationarity stays as claimed.
    """
    s = solutions[0]
    values = s.controls[name].values.copy()
    values[3] += 1e-6
    moved = {**s.controls, name: dataclasses.replace(s.controls[name], values=values)}
    report = dnl.resnet_limit_report([dataclasses.replace(s, controls=moved)])
    assert f"Euler-Lagrange, {name}" in [c.name for c in report.certificates[0].failed]
    assert "states" in [c.name for c in report.certificates[0].failed]


def test_the_summed_identity_needs_the_costate_of_the_next_layer(problem, solutions):
    """With ψ_i in the place of ψ_{i+1} it is off by O(τ), far above the tolerance."""
    s = solutions[1]
    model = model_of(problem, "problem")
    parts = parts_of(model, s)
    X = parts.states
    psi = parts.costates
    K = parts.samples["K"]
    b = parts.samples["b"]
    slopes = 1 - np.tanh(np.einsum("ijk,ink->inj", K, X[:-1]) + b[:, None]) ** 2
    right, wrong = (
        np.einsum("inj,ink->jk", slopes * p, X[:-1]) / 8 / 16 for p in (psi[1:], psi[:-1])
    )
    assert np.abs(0.7 * K[0] + right / 0.2).max() < 1e-9
    assert np.abs(0.7 * K[0] + wrong / 0.2).max() > 1e-4


# -- over the depths -----------------------------------------------------------------------------
def test_observed_rates_are_about_one(solutions):
    rates = dnl.resnet_limit_report(solutions).rates
    for name in ("value_step", "K_TL2", "b_TL2", "states_sup", "head", "start_K", "end_K"):
        assert rates[name] == pytest.approx(1.0, abs=0.1), name


def test_second_differences_stay_bounded(solutions):
    """n³ Σ|K_{i+1} - 2K_i + K_{i-1}|² tends to ∫|K''|²."""
    report = dnl.resnet_limit_report(solutions)
    for name in ("K", "b"):
        rough = [row[f"second_differences_{name}"] for row in report.rows]
        steps = np.abs(np.diff(rough))
        assert np.all(steps[1:] < 0.75 * steps[:-1])


def test_a_study_will_do(problem, tmp_path):
    study = dnl.study(problem, [4, 8])
    report = dnl.resnet_limit_report(study)
    assert report.depths == [4, 8]
    assert "Euler-Lagrange, K" in report.table()
    assert report.to_dict()["rows"][1]["K_TL2"] > 0


def test_rates_are_refused_when_the_weights_vanish():
    """Nearly constant labels: the head's constant does everything, K is about 0.

    The identities still hold.
    """
    base = resnet_tvg.problem(samples=8)

    def loss(x, c, y):
        return 8 * (c.head_W @ x + c.head_c - y) ** 2

    flat = dnl.ControlProblem(
        name="flat",
        x0=base.x0,
        dynamics=base.dynamics,
        controls=base.controls,
        terminal=dnl.cost(loss, target=1 + 1e-3 * base.x0[:, 0]),
        regularisers=base.regularisers,
    )
    report = dnl.resnet_limit_report(ladder(flat, [4, 8], 1e-8))
    assert not report.passed
    assert report.rates == {}
    assert "K is close to 0" in report.refused
    assert all(c.passed for c in report.certificates), report
    assert dnl.resnet_limit_report(ladder(flat, [4, 8], 1e-8), least=0.0).rates


# -- the continuum -------------------------------------------------------------------------------
def test_extrapolated_minimisers_agree_with_the_boundary_value_problem(solutions, continuum):
    """Richardson over five depths leaves O(L^-5) in the value.

    Over two depths it leaves O(L^-2) in the controls.
    """
    limit, _ = extrapolate([s.depth for s in solutions], [s.value for s in solutions], (1, 2, 3, 4))
    assert continuum.value == pytest.approx(limit, abs=1e-7)
    t = np.array([0.3, 0.5, 0.8])
    for name in ("K", "b"):
        gaps = []
        for a, b in itertools.pairwise(solutions[1:]):
            mixed = 2 * b.controls[name](t) - a.controls[name](t)
            gaps.append(np.abs(mixed - continuum.controls[name](t)).max())
        # two doublings, 16 up to the kinks of the extension
        assert gaps[-1] < 1e-3
        assert gaps[-1] < gaps[0] / 8
    for name, constant in continuum.constants.items():
        a, b = (s.controls[name].values[0] for s in solutions[-2:])
        np.testing.assert_allclose(2 * b - a, constant, atol=2e-4)
    np.testing.assert_allclose(
        2 * solutions[-1].state(0.5) - solutions[-2].state(0.5), continuum.state(0.5), atol=2e-4
    )
    np.testing.assert_allclose(
        2 * solutions[-1].costate(0.5) - solutions[-2].costate(0.5),
        continuum.costate(0.5),
        atol=2e-4,
    )


def test_the_boundary_value_problem_satisfies_its_conditions(problem, continuum):
    """Within the solver's tolerance 1e-8, times the size of the functions."""
    K, dK = continuum.controls["K"], continuum.slopes["K"]
    np.testing.assert_allclose(dK(0.0), 0.7 * K(0.0), atol=1e-7)
    np.testing.assert_allclose(dK(1.0), 0.0, atol=1e-7)
    np.testing.assert_allclose(continuum.state(0.0), problem.x0, atol=1e-7)
    # the summed identity of the limit: τ_1 K(0) = -(1/2α) ∫ G
    t, weights = np.polynomial.legendre.leggauss(40)
    t, weights = 0.5 * (t + 1), 0.5 * weights
    x, psi = continuum.state(t), continuum.costate(t)
    slope = (
        1 - np.tanh(np.einsum("mij,mnj->mni", K(t), x) + continuum.controls["b"](t)[:, None]) ** 2
    )
    G = np.einsum("m,mni,mnj->ij", weights, slope * psi, x) / 8
    np.testing.assert_allclose(0.7 * K(0.0), -G / 0.2, atol=1e-6)


def test_the_continuum_functional(problem, continuum):
    terms = dnl.continuum_energy(problem, continuum.controls, continuum.constants)
    assert set(terms) == set(continuum.terms)
    for name, value in terms.items():  # differences over 4096 cells: O(6e-8) of ∫|K'|²
        assert value == pytest.approx(continuum.terms[name], abs=1e-7)
    # the recovery sequence of the minimiser: cell averages have values that tend to E at the rate 1
    constants = {k: (lambda v=v: v) for k, v in continuum.constants.items()}
    found = dnl.recovery_sequence(
        problem, {**continuum.controls, **constants}, [8, 16, 32, 64], continuum.value
    )
    assert found.passed
    assert found.rate == pytest.approx(1.0, abs=0.1)


def test_a_problem_without_a_head():
    """No constants: the boundary-value problem has no parameters."""
    x0 = np.array([[0.5], [-0.3]])
    loss = dnl.losses.squared(x0 + np.array([[0.5], [0.1]]))
    problem = dnl.ControlProblem(
        x0=x0,
        dynamics=dnl.ResNet(1),
        terminal=loss,
        regularisers=[dnl.TvG("K", 0.05), dnl.TvG("b", 0.05)],
    )
    found = ladder(problem, [16, 32, 64])
    limit, _ = extrapolate([16, 32, 64], [s.value for s in found])
    continuum = dnl.resnet_continuum(found[0])
    assert continuum.value == pytest.approx(limit, abs=1e-6)
    assert continuum.constants == {}


# -- TL² -----------------------------------------------------------------------------------------
def brute_force(t, f, r, g):
    """The best permutation of equally many atoms."""
    n = len(t)
    cost = (t[:, None] - r) ** 2 + ((f[:, None] - g[None]) ** 2).sum(-1)
    return min(
        np.sqrt(np.mean(cost[np.arange(n), list(p)])) for p in itertools.permutations(range(n))
    )


def test_tl2_against_all_permutations():
    rng = np.random.default_rng(3)
    t, r = (np.sort(rng.uniform(size=5)) for _ in range(2))
    f, g = rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
    assert tl2_distance(t, f, r, g) == pytest.approx(brute_force(t, f, r, g), rel=1e-12)
    doubled = tl2_distance(np.repeat(t, 2), np.repeat(f, 2, axis=0), r, g)
    assert doubled == pytest.approx(tl2_distance(t, f, r, g), rel=1e-12)


def test_tl2_of_constants_is_the_distance_of_the_grids():
    """Cell centres of n and 2n cells: every atom moves by τ/4."""
    for n in (4, 32):
        coarse, fine = (np.arange(n) + 0.5) / n, (np.arange(2 * n) + 0.5) / (2 * n)
        found = tl2_distance(coarse, np.ones((n, 3)), fine, np.ones((2 * n, 3)))
        assert found == pytest.approx(0.25 / n, rel=1e-12)


def test_tl2_is_a_distance_below_the_monotone_coupling(monkeypatch):
    rng = np.random.default_rng(4)
    grids = [(np.arange(n) + 0.5) / n for n in (6, 8, 12)]
    values = [rng.standard_normal((len(t), 1)) for t in grids]
    d = [
        [tl2_distance(grids[i], values[i], grids[j], values[j]) for j in range(3)] for i in range(3)
    ]
    assert all(d[i][i] == 0 for i in range(3))
    assert d[0][1] == pytest.approx(d[1][0], rel=1e-12)
    assert d[0][2] <= d[0][1] + d[1][2]
    monkeypatch.setattr("dnlcontrol.discretisation.space.transport.MOST_ATOMS", 1)
    assert tl2_distance(grids[0], values[0], grids[1], values[1]) >= d[0][1]


# -- input, script -------------------------------------------------------------------------------
def test_bad_input_is_named(solutions):
    def reject(call, message):
        with pytest.raises((dnl.InputError, dnl.InputTypeError), match=message):
            call()

    s = solutions[0]
    other = dnl.ControlProblem(
        x0=np.ones((1, 2)), dynamics=dnl.Dense(2), terminal=lambda x, c: x[0] ** 2
    )
    h1 = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ResNet(1),
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.H1("K", 1.0), dnl.TvG("b", 1.0)],
    )
    many = resnet_tvg.problem(samples=200)
    reject(lambda: dnl.resnet_limit_report(3), "a Study or a list of solutions")
    reject(lambda: dnl.resnet_limit_report(solutions[::-1]), "increasing depths >= 3")
    reject(
        lambda: dnl.resnet_limit_report([dataclasses.replace(s, problem=other)]), "ResNet dynamics"
    )
    reject(
        lambda: dnl.resnet_limit_report([dataclasses.replace(s, problem=h1)]),
        r"one TvG\('K', weight > 0\)",
    )
    reject(lambda: dnl.resnet_limit_report(solutions, least=-1), "resnet_limit_report.least")
    reject(lambda: dnl.resnet_continuum(3), "resnet_continuum.start")
    reject(
        lambda: dnl.resnet_continuum(dataclasses.replace(s, problem=many)),
        "at most 400: small data",
    )
    reject(lambda: dnl.continuum_energy(s.problem, {"K": 1}), "a mapping with functions K and b")
    reject(
        lambda: dnl.continuum_energy(s.problem, {"K": 1, "b": 2}, {}), "continuum_energy.constants"
    )


def test_the_script_runs(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "benchmarks/09_resnet_to_ode.py", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "resnet_to_ode.png").stat().st_size > 10_000
    assert "K_TL2" in done.stdout
