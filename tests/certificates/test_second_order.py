"""The smallest eigenvalue of the Hessian, dense, by Lanczos and by hand; saddles."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.found import NO_MINIMISER
from dnlcontrol.certificates import second_order
from tests.certificates.cases import PROBLEMS, saddle
from tests.random_problems import build


@pytest.mark.parametrize("case", ["t2", "t5", "v2", "o4", "o5b", "toy", "TvG"])
def test_lanczos_finds_the_dense_eigenvalue(case: str, monkeypatch: pytest.MonkeyPatch):
    name, parameters, depth = PROBLEMS[case]
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    solution = dnl.solve(problem, depth, "exact")
    dense = dnl.certify(solution, seed=0)["second order"]
    monkeypatch.setattr(second_order, "DENSE", 0)
    lanczos = dnl.certify(solution, seed=0)["second order"]
    assert "dense" in dense.what
    assert "Lanczos" in lanczos.what
    assert lanczos.measured == pytest.approx(dense.measured, rel=1e-3)


def test_lanczos_sees_a_saddle(monkeypatch: pytest.MonkeyPatch):
    solution, _ = saddle()
    dense = dnl.certify(solution, seed=0)["second order"]
    monkeypatch.setattr(second_order, "DENSE", 0)
    lanczos = dnl.certify(solution, seed=0)["second order"]
    assert not lanczos.passed
    assert lanczos.measured == pytest.approx(dense.measured, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "seed"), [("Markov with outer, target", 0), ("outer, squared", 1)]
)
def test_saddles_on_a_symmetry_are_left(name: str, seed: int, monkeypatch: pytest.MonkeyPatch):
    """From the zero start the gradient vanishes by symmetry at a saddle.

    A cold start looks for it and gets lower.
    """
    made = build(name, seed)
    solution = dnl.solve(made.problem, made.depth, "adjoint")
    assert solution.success
    assert dnl.certify(solution, seed=0).passed
    monkeypatch.setattr("dnlcontrol.minimise.newton.ESCAPES", 0)
    monkeypatch.setattr("dnlcontrol.solving.gate.ESCAPES", 0)
    with pytest.warns(dnl.ConvergenceWarning, match="stationary, but no minimiser"):
        stuck = dnl.solve(made.problem, made.depth, "adjoint")
    assert stuck.status == NO_MINIMISER
    certificate = dnl.certify(stuck, seed=0)
    assert certificate.failed == (certificate["second order"],), certificate
    assert solution.value < stuck.value - 1e-3


def test_eigenvalues_by_hand():
    """x' = u, ½ ∫u² + (c/2) x(1)²: the Hessian is the metric plus c·1⊗1.

    Its least eigenvalue is therefore 1 (or 1 + c); with x(1) fixed, 1.
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
        assert row.passed
        assert row.measured == pytest.approx(expected, rel=1e-9)
