"""The minimum condition where H is too large to sample, not convex, or not minimised."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import dnlcontrol as dnl
from dnlcontrol.certificates.minimum_principle import needles
from tests.certificates.cases import PROBLEMS, maximum


@pytest.mark.parametrize("case", ["t2", "t5", "v2", "o4", "o1", "bang-bang"])
def test_legendre_stands_in_where_a_sample_is_too_large(case: str, monkeypatch: pytest.MonkeyPatch):
    """Stationarity and second derivatives where the sample would take too long."""
    monkeypatch.setattr(needles, "WORK", 0)
    name, parameters, depth = PROBLEMS[case]
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    certificate = dnl.certify(dnl.solve(problem, depth, "exact"), seed=0)
    assert certificate.passed and certificate["Legendre: u"].passed, certificate


def test_a_negative_second_derivative_of_the_hamiltonian_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(needles, "WORK", 0)
    certificate = dnl.certify(maximum()[0], seed=0)
    assert certificate["Legendre: u"].measured == pytest.approx(-1.0)
    assert not certificate["Legendre: u"].passed
    assert certificate["Legendre: v"].passed


@pytest.mark.parametrize(
    "more", [{}, {"constraints": [dnl.terminal_constraint(lambda x, c: x, upper=9.0)]}]
)
def test_discrete_minimisers_need_not_minimise_the_hamiltonian(
    more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """One step of x' = u², x(0) = -1: J has its minima where H is largest.

    The cost is ½ x(1)² + 0.1 ∫ √(1+u²), H = λu² + 0.1 √(1+u²) and λ = x^1 < 0 there. The
    certificate then looks at J_L with another value at one node, or at its curvature there.
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
    assert "J_L" in row.what
    assert ("second derivatives" in row.what) == bool(more)
    monkeypatch.setattr(needles, "WORK", 0)
    row = dnl.certify(solution, seed=0)["Legendre: u"]
    assert row.passed
    assert "negative there" in row.what
