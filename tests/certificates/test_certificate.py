"""The certificate as an object: table, dictionary, file, seed and tolerance; what it refuses."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.certificates.cases import constrained, network, saddle, solved


def test_table_dictionary_and_file_agree(tmp_path):
    certificate = dnl.certify(solved("bounded"), seed=3)
    assert isinstance(certificate, dnl.Certificate)
    assert certificate.seed == 3
    assert certificate.failed == ()
    lines = certificate.table().splitlines()
    assert lines[0].startswith(
        "bounded, adjoint backend, L = 6, left rule, tolerance 1e-08, seed 3: passed"
    )
    assert len(lines) == 1 + len(certificate.checks)
    assert len({line.find("e-0") >= 0 for line in lines}) == 2
    assert repr(certificate) == str(certificate) == certificate.table()
    certificate.save(tmp_path / "deep" / "certificate.json")
    found = json.loads((tmp_path / "deep" / "certificate.json").read_text())
    assert found["kind"] == "certificate"
    assert found["passed"] is True
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
    assert solution.stationarity > 1e-8
    assert not dnl.certify(solution, seed=0)["tolerance"].passed
    assert dnl.certify(solution, 1e-3, seed=0).passed
    assert not dnl.certify(solution, 1e-10, seed=0).passed


BAD: dict[str, tuple[Callable[[dnl.Solution], Any], str]] = {
    "a study": (lambda s: dnl.certify([s]), "certify.solution: got"),
    "tolerance": (lambda s: dnl.certify(s, 0.0), "certify.tolerance: got 0.0"),
    "seed": (lambda s: dnl.certify(s, seed=-1), "certify.seed: got -1"),
    "no problem": (lambda s: dnl.certify(replace(s, problem=None)), "without its problem"),
    "another problem": (
        lambda s: dnl.certify(replace(s, problem=constrained())),
        "as in the problem 'constrained'",
    ),
    "another horizon": (
        lambda s: dnl.certify(replace(s, problem=network(horizon=2.0))),
        "a horizon of 1.0",
    ),
    "fewer samples": (
        lambda s: dnl.certify(replace(s, states=s.states[:, :2])),
        "Solution.costates: got array of shape",
    ),
    "fewer layers": (
        lambda s: dnl.certify(replace(s, costates=s.costates[1:])),
        "Solution.costates: got array of shape",
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
def test_what_cannot_be_certified_is_told(name: str):
    call, told = BAD[name]
    with pytest.raises(dnl.InputError, match=told):
        call(solved("network"))


def test_a_library_problem_is_found_by_name(tmp_path):
    """Its run does not say where the file is: it is named, and is that of the library."""
    solution = dnl.solve(importlib.import_module("problems.o1_hager").problem(), 4, "adjoint")
    solution.save(tmp_path)
    assert dnl.certify(dnl.load(tmp_path, problem="o1_hager"), seed=0).passed
