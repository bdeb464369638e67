"""certify accepts what is solved, by either backend."""

from __future__ import annotations

import importlib

import pytest

import dnlcontrol as dnl
from tests.certificates.cases import MAKERS, PROBLEMS, at_zero, concave, solved


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
@pytest.mark.parametrize("case", PROBLEMS)
def test_accepts_the_reference_problems(case: str, backend: str):
    name, parameters, depth = PROBLEMS[case]
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    solution = dnl.solve(problem, depth, backend)
    certificate = dnl.certify(solution, seed=0)
    assert certificate.passed, certificate
    names = {c.name for c in certificate.checks}
    assert {
        "states",
        "value",
        "stationarity",
        "costates",
        "second order",
        "Taylor, gradient",
    } <= names
    assert {f"Pontryagin: {k}" for k in problem.controls} <= names
    assert {f"feasible: {c.name}" for c in problem.constraints} <= names


def test_every_reference_problem_with_controls_is_here():
    from dnlcontrol.problem.from_file import listed

    known = {name for name, _, _ in PROBLEMS.values()}
    for name, _ in listed():
        problem = importlib.import_module(f"problems.{name}").problem()
        assert name in known or not problem.controls, f"add {name} to PROBLEMS"


def test_the_damaged_solutions_were_sound():
    for name in MAKERS:
        assert dnl.certify(solved(name), seed=0).passed
    for problem in (concave(1.0), concave(1.0, bound=0.0)):
        assert dnl.certify(at_zero(problem, 4), seed=0).passed
