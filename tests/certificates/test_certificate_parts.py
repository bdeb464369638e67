"""The parts of a certificate against independent slow paths; the object, bad input, and the
command.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian
from dnlcontrol.certificates import pontryagin, second_order
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.results.records import plain
from tests.certificates.test_optimality import (
    PROBLEMS,
    constrained,
    flat,
    maximum,
    network,
    saddle,
    solved,
    stacked,
)
from tests.random_problems import CASES, build

# -- the Hamiltonian
# ---------------------------------------------------------------------------------------------
UNCOUPLED = [
    name
    for name in CASES
    if any(
        not b.metric.smooth and b.layout.on != "const"
        for b in dnl.discretise(build(name).problem, 1).space
    )
]


@pytest.mark.parametrize("name", UNCOUPLED)
def test_hamiltonian_is_the_reduced_gradients_antiderivative(name: str):
    """∂h/∂v is the gradient at every node; second derivatives against second differences of h."""
    made = build(name)
    discrete = dnl.discretise(made.problem, made.depth)
    rng = np.random.default_rng(5)
    w = 0.5 * rng.standard_normal(discrete.space.size)
    evaluator, at = Evaluator(discrete), Multipliers(np.zeros(0))
    trajectory = evaluator.trajectory(w, at)
    h = Hamiltonian(evaluator, w, at, trajectory)
    for block in discrete.space:
        if block.metric.smooth or block.layout.on == "const":
            continue
        r, u = block.view(trajectory.gradient), block.view(w)
        seen = 0
        for s in h.nodes(block):
            part = h.sites(block, s)
            seen += part.stop - part.start
            np.testing.assert_allclose(h.gradient(block, s), r[part], rtol=1e-9, atol=1e-11)
            d = rng.standard_normal((3, *u[part].shape))
            e = 1e-4
            up, at_u, down = (h.values(block, s, u[None, part] + k * e * d) for k in (1, 0, -1))
            differences = (up - 2 * at_u + down) / e**2
            np.testing.assert_allclose(
                h.second_derivatives(block, s, d), differences, rtol=1e-5, atol=1e-6
            )
        assert seen == block.layout.count


def test_hamiltonian_of_the_theory():
    """h^s(v)/τ = ℓ(t_s, x^s, v) + Σ_{l>s} λ^l k(t_l, t_s, x^s, v) + μ c(t_s, x^s, v)/τ + ..., by
    hand.
    """
    s = solved("constrained")
    discrete = dnl.discretise(s.problem, s.depth)
    evaluator, at = Evaluator(discrete), Multipliers(stacked(s))
    h = Hamiltonian(evaluator, flat(s), at, evaluator.trajectory(flat(s), at))
    block = discrete.space.blocks["v"]
    tau = 1 / 6
    x = s.states
    # of the mean over two samples
    lam = np.append(s.costates[:-1] * tau, [s.terminal_gradient], axis=0) / 2

    def by_hand(node: int, v: float) -> float:
        t = tau * node
        total = np.mean(0.5 * (x[node] - 1) ** 2 + 0.1 * v**2 - 0.6 * t * v)
        for l in range(node + 1, 7):
            total += lam[l] @ (np.exp(t - tau * l) * (v - x[node] ** 2))
        total += s.multipliers["push"][node].ravel() @ (v + 0.2 * x[node]) / tau
        return float(total + s.multipliers["budget"].item() * v)

    for node in range(6):
        got = np.diff(h.values(block, node, np.array([[[0.3]], [[0.9]]])).ravel()) / tau
        assert got == pytest.approx(by_hand(node, 0.9) - by_hand(node, 0.3), abs=1e-8)


@pytest.mark.parametrize("case", ["t2", "t5", "v2", "o4", "o1", "bang-bang"])
def test_too_large_for_a_sample(case: str, monkeypatch: pytest.MonkeyPatch):
    """Stationarity and second derivatives where the sample would take too long."""
    monkeypatch.setattr(pontryagin, "WORK", 0)
    name, parameters, depth = PROBLEMS[case]
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    certificate = dnl.certify(dnl.solve(problem, depth, "exact"), seed=0)
    assert certificate.passed and certificate["Legendre: u"].passed, certificate


def test_negative_second_derivative_of_the_hamiltonian(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pontryagin, "WORK", 0)
    certificate = dnl.certify(maximum()[0], seed=0)
    assert (
        certificate["Legendre: u"].measured == pytest.approx(-1.0)
        and not certificate["Legendre: u"].passed
    )
    assert certificate["Legendre: v"].passed


@pytest.mark.parametrize(
    "more", [{}, {"constraints": [dnl.terminal_constraint(lambda x, c: x, upper=9.0)]}]
)
def test_discrete_minimisers_need_not_minimise_the_hamiltonian(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """½ x(1)² + 0.1 ∫ √(1+u²), x' = u², x(0) = -1, one step: J has its minima where H = λu² + 0.1
    √(1+u²) is largest.

    λ = x^1 < 0 there. The certificate then looks at J_L with another value at one node, or at its
    curvature there.
    """
    problem = dnl.ControlProblem(
        x0=[-1.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u**2),
        controls={"u": dnl.Control((), initial=0.9)},
        terminal=lambda x, c: 0.5 * x**2,
        running=lambda t, x, u: 0.1 * dnl.namespace(x).sqrt(1 + u.u**2),
        **more,
    )
    solution = dnl.solve(problem, 1, "exact")
    certificate = dnl.certify(solution, seed=0)
    row = certificate["Pontryagin: u"]
    assert certificate.passed and row.what.startswith("H is not convex"), certificate
    assert ("J_L" in row.what) and ("second derivatives" in row.what) == bool(more)
    monkeypatch.setattr(pontryagin, "WORK", 0)
    row = dnl.certify(solution, seed=0)["Legendre: u"]
    assert row.passed and "negative there" in row.what


# -- second order
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", ["t2", "t5", "v2", "o4", "o5b", "toy", "TvG"])
def test_lanczos_finds_the_dense_eigenvalue(case: str, monkeypatch: pytest.MonkeyPatch):
    name, parameters, depth = PROBLEMS[case]
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    solution = dnl.solve(problem, depth, "exact")
    dense = dnl.certify(solution, seed=0)["second order"]
    monkeypatch.setattr(second_order, "DENSE", 0)
    lanczos = dnl.certify(solution, seed=0)["second order"]
    assert "dense" in dense.what and "Lanczos" in lanczos.what
    assert lanczos.measured == pytest.approx(dense.measured, rel=1e-3)


def test_lanczos_sees_a_saddle(monkeypatch: pytest.MonkeyPatch):
    solution, _ = saddle()
    dense = dnl.certify(solution, seed=0)["second order"]
    monkeypatch.setattr(second_order, "DENSE", 0)
    lanczos = dnl.certify(solution, seed=0)["second order"]
    assert not lanczos.passed and lanczos.measured == pytest.approx(dense.measured, rel=1e-6)


@pytest.mark.parametrize("name, seed", [("Markov with outer, target", 0), ("outer, squared", 1)])
def test_saddles_on_a_symmetry_are_left(name: str, seed: int, monkeypatch: pytest.MonkeyPatch):
    """From the zero start the gradient vanishes by symmetry at a saddle; a cold start looks for it
    and gets lower.
    """
    made = build(name, seed)
    solution = dnl.solve(made.problem, made.depth, "adjoint")
    assert solution.success and dnl.certify(solution, seed=0).passed
    monkeypatch.setattr("dnlcontrol.minimise.newton.ESCAPES", 0)
    stuck = dnl.solve(made.problem, made.depth, "adjoint")
    certificate = dnl.certify(stuck, seed=0)
    assert stuck.success and certificate.failed == (certificate["second order"],), certificate
    assert solution.value < stuck.value - 1e-3


def test_eigenvalues_by_hand():
    """x' = u, ½ ∫u² + (c/2) x(1)²: the Hessian is the metric plus c·1⊗1, so 1 (or 1 + c); with x(1)
    fixed, 1.
    """

    def made(c: float, *constraints: Any) -> dnl.ControlProblem:
        return dnl.ControlProblem(
            x0=[1.0],
            dynamics=dnl.ODE(lambda t, x, u: u.u),
            controls={"u": dnl.Control(())},
            terminal=lambda x, _: 0.5 * c * x**2,
            regularisers=[dnl.L2("u", 1.0)],
            constraints=list(constraints),
        )

    fixed = dnl.terminal_constraint(lambda x, c: x, 0.0, 0.0, name="zero")
    for problem, expected in ((made(2.0), 1.0), (made(-0.5), 0.5), (made(-3.0, fixed), 1.0)):
        row = dnl.certify(dnl.solve(problem, 5, "exact"), seed=0)["second order"]
        assert row.passed and row.measured == pytest.approx(expected, rel=1e-9)


# -- the object, and what is bad input
# -------------------------------------------------------------------------------
def test_table_dictionary_and_file(tmp_path):
    certificate = dnl.certify(solved("bounded"), seed=3)
    assert (
        isinstance(certificate, dnl.Certificate)
        and certificate.seed == 3
        and certificate.failed == ()
    )
    lines = certificate.table().splitlines()
    assert lines[0].startswith(
        "bounded, adjoint backend, L = 6, left rule, tolerance 1e-08, seed 3: passed"
    )
    assert (
        len(lines) == 1 + len(certificate.checks)
        and len({line.find("e-0") >= 0 for line in lines}) == 2
    )
    assert repr(certificate) == str(certificate) == certificate.table()
    certificate.save(tmp_path / "deep" / "certificate.json")
    found = json.loads((tmp_path / "deep" / "certificate.json").read_text())
    assert found["kind"] == "certificate" and found["passed"] is True
    assert [c["name"] for c in found["checks"]] == [c.name for c in certificate.checks]
    assert certificate.to_dict()["checks"][0].keys() == {
        "name",
        "measured",
        "relation",
        "allowed",
        "passed",
        "what",
    }
    with pytest.raises(KeyError, match="stationarity"):
        certificate["nothing"]


def test_a_failed_certificate_says_so():
    damaged, row = saddle()
    certificate = dnl.certify(damaged, seed=0)
    assert "FAILED, " in certificate.table().splitlines()[0]
    assert any(
        line.startswith("FAILED") and row in line for line in certificate.table().splitlines()[1:]
    )
    assert row in [c.name for c in certificate.failed]


def test_the_seed_is_kept():
    first = dnl.certify(solved("network"))
    assert dnl.certify(solved("network"), seed=first.seed) == first


def test_the_tolerance_can_be_another():
    solution = dnl.solve(network(), 3, "adjoint", tolerance=1e-3)
    assert solution.stationarity > 1e-8 and dnl.certify(solution, seed=0).passed
    assert not dnl.certify(solution, 1e-10, seed=0).passed


BAD: dict[str, tuple[Callable[[dnl.Solution], Any], str]] = {
    "a study": (lambda s: dnl.certify([s]), "certify.solution: got"),
    "tolerance": (lambda s: dnl.certify(s, 0.0), "certify.tolerance: got 0.0"),
    "seed": (lambda s: dnl.certify(s, seed=-1), "certify.seed: got -1"),
    "no problem": (lambda s: dnl.certify(replace(s, problem=None)), "without its problem file"),
    "another problem": (
        lambda s: dnl.certify(replace(s, problem=constrained())),
        "as in the problem 'constrained'",
    ),
    "another horizon": (
        lambda s: dnl.certify(replace(s, problem=network(horizon=2.0))),
        "a horizon of 1.0",
    ),
    "fewer samples": (lambda s: dnl.certify(replace(s, states=s.states[:, :2])), "states of shape"),
    "fewer layers": (
        lambda s: dnl.certify(replace(s, costates=s.costates[1:])),
        "costates of shape",
    ),
    "a stray multiplier": (
        lambda s: dnl.certify(replace(s, multipliers={"x": np.zeros(1)})),
        "constraints",
    ),
    "a control missing": (
        lambda s: dnl.certify(replace(s, controls={"W": s.controls["W"]})),
        "controls",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str):
    call, told = BAD[name]
    with pytest.raises(dnl.InputError, match=told):
        call(solved("network"))


# -- from a run directory
# ----------------------------------------------------------------------------------------
MINE = """
import numpy as np
import dnlcontrol as dnl

def problem(target=1.0):
    return dnl.ControlProblem(
        name="mine", x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: (x - target) ** 2, regularisers=[dnl.L2("u", 1.0)])
"""


def command(*arguments: Any) -> int:
    from dnlcontrol.shell.cli import main

    return main([str(a) for a in arguments])


def test_run_directories(tmp_path, capsys):
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(MINE)
    assert (
        command(
            "solve", file, "--depth", 3, "-p", "target=2.5", "--backend", "adjoint", "--out", run
        )
        == 0
    )
    capsys.readouterr()
    assert command("certify", run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is True and found["problem"] == "mine" and found["depth"] == 3
    assert command("certify", run) == 0 and "passed" in capsys.readouterr().out.splitlines()[0]
    assert plain(dnl.certify(dnl.load(run), seed=0).to_dict()) == found
    # the file has changed since
    file.write_text(MINE.replace("(x - target) ** 2", "2 * (x - target) ** 2"))
    assert command("certify", run) == 1 and "FAILED" in capsys.readouterr().out
    file.unlink()
    assert command("certify", run) == 2
    told = capsys.readouterr()
    assert (
        told.out == ""
        and "its problem cannot be built again" in told.err
        and "no such file" in told.err
    )
    dnl.solve(solved("bounded").problem, 2, "adjoint").save(tmp_path / "bare")
    assert (
        command("certify", tmp_path / "bare", "--json") == 2
        and "without its problem file" in capsys.readouterr().err
    )


def test_a_library_problem_is_found_by_name(tmp_path):
    solution = dnl.solve(importlib.import_module("problems.o1_hager").problem(), 4, "adjoint")
    moved = replace(
        solution, problem=None, source={"path": "/elsewhere/problems/o1_hager.py", "parameters": {}}
    )
    assert dnl.certify(moved, seed=0).passed


def test_a_study_is_certified_at_its_deepest_level(tmp_path, capsys):
    assert command("study", "t7_h1_triangle", "--depths", "2,4", "--out", tmp_path) == 0
    capsys.readouterr()
    assert command("certify", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["depth"] == 4
