"""Multipliers in words, the Hamiltonian along the path, a solution's record of its solve."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import dnlcontrol as dnl
from problems import (
    o1_hager,
    o4_bryson_denham,
    o5b_van_der_pol,
    two_class_toy,
    v2_transient_impact,
    v5_minimum_energy,
)

BOTH = pytest.mark.parametrize("backend", ["exact", "adjoint"])
SOLVERS = [("adjoint", "auto"), ("exact", "lifted"), ("exact", "condensed")]


@cache
def bryson_denham(backend: str) -> dnl.Solution:
    return dnl.solve(o4_bryson_denham.problem(), 12, backend=backend)


# -- multipliers ---------------------------------------------------------------------------------
@BOTH
def test_multiplier_by_name_and_node(backend: str):
    solution = bryson_denham(backend)
    bound = solution.multiplier("x <= bound")
    assert bound.shape == (12, 1, 2)
    assert bound.min() >= 0
    # symmetric in t; by hand from x^{l+1} = x^l + τ v^l, v^{l+1} = v^l + τ u^l: contact begins at
    # layer 5
    np.testing.assert_array_equal(solution.multiplier("x <= bound", 5), bound[4])
    np.testing.assert_array_equal(
        solution.multiplier("x <= bound", layer=12, sample=0), bound[11, 0]
    )
    assert solution.multiplier("arrival").shape == (1, 1, 2)
    assert solution.multiplier("arrival", 12, 0).shape == (2,)
    np.testing.assert_allclose(bound, bryson_denham("exact").multiplier("x <= bound"), atol=1e-5)


@BOTH
def test_sign_of_an_equality(backend: str):
    """V2: J_L(q) = q² J_L(1) for the amount q sold, so that μ = -dJ_L/dq = -2 J_L."""
    solution = dnl.solve(v2_transient_impact.problem(), 8, backend=backend)
    assert solution.multiplier("everything is sold", 8, 0).item() == pytest.approx(
        -2 * solution.value, rel=1e-8
    )


def test_samples_by_their_number():
    bounds = dnl.state_bounds(upper=0.5, name="x", samples=[1, 2])
    problem = dnl.ControlProblem(
        x0=[0.0, 0.1, 0.2],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: (x - 1) ** 2,
        regularisers=[dnl.L2("u", 0.1)],
        constraints=[bounds],
    )
    solution = dnl.solve(problem, 3, backend="adjoint")
    assert solution.multiplier("x", 3, 2) > 1e-2 > abs(solution.multiplier("x", 3, 1))
    with pytest.raises(dnl.InputError, match=r"multiplier.sample: got 0; allowed: one of \[1, 2\]"):
        solution.multiplier("x", 3, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("no such",), r"multiplier.name: got 'no such'|multiplier.name: got no such"),
        ((3,), "multiplier.name: got 3; allowed: one of"),
        (("x <= bound", 0), "multiplier.layer: got 0; allowed: one of"),
        (("x <= bound", 13), "multiplier.layer: got 13"),
        (("x <= bound", -1), "multiplier.layer: got -1"),
        (("x <= bound", 1.5), r"multiplier.layer: got 1\.5"),
        (("arrival", 11), r"multiplier.layer: got 11; allowed: one of \[12\]"),
        (("arrival", 12, 1), "multiplier.sample: got 1"),
    ],
)
def test_unknown_multipliers(arguments, told: str):
    with pytest.raises(dnl.InputError, match=told):
        bryson_denham("adjoint").multiplier(*arguments)


# -- Hamiltonian ---------------------------------------------------------------------------------
@BOTH
def test_hamiltonian_of_an_autonomous_problem_is_constant_to_first_order(backend: str):
    depths = [32, 64, 128]
    found = [
        dnl.hamiltonian(dnl.solve(o5b_van_der_pol.problem(), L, backend=backend)) for L in depths
    ]
    assert [h.shape for h in found] == [(L, 1) for L in depths]
    rate = -np.polyfit(np.log(depths), np.log([np.ptp(h) for h in found]), 1)[0]
    assert rate == pytest.approx(1, abs=0.1)


def test_hamiltonian_in_closed_form():
    """O1: H = 1/cosh²1.

    H = v² + x² + ψ v = (1 - tanh²) x² with v = u + x/2 = -tanh(1-t) x, ψ = 2 tanh(1-t) x.
    """
    depths = [32, 64, 128]
    errors = []
    for L in depths:
        a, b = (
            dnl.hamiltonian(dnl.solve(o1_hager.problem(), L, backend=name))
            for name in ("exact", "adjoint")
        )
        np.testing.assert_allclose(a, b, atol=1e-7)
        errors.append(np.max(np.abs(a - np.cosh(1.0) ** -2)))
    assert -np.polyfit(np.log(depths), np.log(errors), 1)[0] == pytest.approx(1, abs=0.1)


@BOTH
def test_hamiltonian_with_memory(backend: str):
    """V5: H = -2 u², exact at every depth.

    p = 0 and ∇Φ = 2 x(1), so H = k(1, s) u · 2 x(1) = -2 u² as u = -x(1) k(1, s).
    """
    solution = dnl.solve(v5_minimum_energy.problem(), 8, backend=backend)
    u = solution.controls["u"].values
    np.testing.assert_allclose(dnl.hamiltonian(solution)[:, 0], -2 * u**2, atol=1e-7)


def test_hamiltonian_against_its_definition():
    """λ^l·k summed by hand for a dense network, N = 4 samples of rank 1."""
    problem = two_class_toy.problem(samples=4)
    s = dnl.solve(problem, 3, backend="adjoint")
    W, b = s.controls["W"], s.controls["b"]
    lam = np.concatenate([s.costates[:-1] * s.grid.step, s.terminal_gradient[None]])  # N λ
    for n in range(4):
        for k in range(3):
            by_hand = sum(
                lam[l, n] @ np.tanh(W.at(l, k) @ s.states[k, n] + b.at(l, k))
                for l in range(k + 1, 4)
            )
            assert dnl.hamiltonian(s)[k, n] == pytest.approx(by_hand, abs=1e-10)


def test_hamiltonian_needs_the_problem(tmp_path):
    solution = bryson_denham("adjoint")
    solution.save(tmp_path / "run")
    with pytest.raises(dnl.InputError):
        dnl.hamiltonian(dnl.load(tmp_path / "run"))
    with pytest.raises(dnl.InputError, match=r"hamiltonian\.solution: got 3"):
        dnl.hamiltonian(3)
    with pytest.raises(dnl.InputError, match=r"hamiltonian\.solution: got constraints"):
        dnl.hamiltonian(replace(solution, problem=o1_hager.problem()))


# -- the record ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("backend", "formulation"), SOLVERS)
@pytest.mark.parametrize(
    ("make", "L"),
    [
        (o4_bryson_denham.problem, 12),
        (o5b_van_der_pol.problem, 16),
        (lambda: two_class_toy.problem(samples=6), 3),
    ],
)
def test_the_same_solve_twice_is_the_same_bit_for_bit(make, L: int, backend: str, formulation: str):
    a, b = (dnl.solve(make(), L, backend=backend, formulation=formulation) for _ in range(2))
    assert a.log == b.log
    assert len(a.log) > 1
    for x, y in ((a.states, b.states), (a.costates, b.costates)):
        np.testing.assert_array_equal(x, y)
    assert all(np.array_equal(a.controls[k].values, b.controls[k].values) for k in a.controls)
    assert a.options == b.options
    assert a.value == b.value


@BOTH
def test_options_are_kept_and_reloaded(backend: str, tmp_path):
    guess = {"u": dnl.smooth_random(7, 0.1)}
    solution = dnl.solve(
        v2_transient_impact.problem(), 8, backend=backend, start=guess, max_iterations=50
    )
    expected = {
        "backend": backend,
        "rule": "left",
        "max_iterations": 50,
        "max_seconds": None,
        "tolerance": 1e-8,
        "warm": "duals",
        "seeds": {"u": 7},
        "start": "guesses for u",
    }
    of_backend: dict[str, dict[str, object]] = {
        "exact": {"formulation": "auto", "force": False, "verbose": False},
        "adjoint": {
            "method": "newton",
            "device": "cpu",
            "dtype": "float64",
            "chunk": None,
            "distributed": False,
            "checkpoint": None,
        },
    }
    assert solution.options == expected | of_backend[backend]
    assert solution.environment["threads"]["torch"] >= 1
    assert solution.environment["python"]
    solution.save(tmp_path / "run")
    loaded = dnl.load(tmp_path / "run")
    assert loaded.options == solution.options
    assert loaded.environment == solution.environment
    assert loaded.versions == solution.versions
    assert loaded.log == solution.log
    np.testing.assert_array_equal(
        loaded.multiplier("everything is sold", 8), solution.multiplier("everything is sold", 8)
    )
    started = dnl.solve(v2_transient_impact.problem(), 8, backend=backend, start=loaded)
    assert started.options["start"].startswith("a solution of depth 8")
    assert started.options["seeds"] == {}


def test_files_without_the_record_still_load(tmp_path):
    bryson_denham("adjoint").save(tmp_path / "run")
    path = tmp_path / "run" / "solution.json"
    record = json.loads(path.read_text())
    for key in ("options", "environment", "multiplier_nodes"):
        del record[key]
    path.write_text(json.dumps(record))
    loaded = dnl.load(tmp_path / "run")
    assert loaded.options == {}
    assert loaded.multiplier("arrival").shape == (1, 1, 2)
    with pytest.raises(
        dnl.InputError, match=r"multiplier\.layer: got a solution from an older file"
    ):
        loaded.multiplier("arrival", 12)
