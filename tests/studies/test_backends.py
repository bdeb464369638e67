"""Studies on the exact backend alone, and on the one that the forecast chooses."""

from __future__ import annotations

import json

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.shell.cli import main
from dnlcontrol.studies.result import Level
from problems import o1_hager, two_class_toy


@pytest.fixture(scope="module")
def exact() -> dnl.Study:
    return dnl.study(
        o1_hager.problem(), [4, 8, 16], backend="exact", reference=o1_hager.reference()
    )


def test_an_exact_study_has_the_table_of_an_adjoint_one(exact):
    adjoint = dnl.study(o1_hager.problem(), [4, 8, 16], reference=o1_hager.reference())
    assert exact.success
    assert exact.statements == []
    assert all(level.adjoint is None for level in exact.levels)
    assert all(level.solution is level.exact for level in exact.levels)
    assert list(exact.table().columns) == list(adjoint.table().columns)
    for one, other in zip(exact.rows, adjoint.rows, strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=1e-12)
        assert one["constant"] == pytest.approx(other["constant"], rel=1e-7)
        assert one["value_exact"] == one["value"]
        assert np.isnan(one["value_gap"])
    assert exact.extrapolated_value == pytest.approx(adjoint.extrapolated_value, abs=1e-11)
    assert exact.rates["value"] == pytest.approx(adjoint.rates["value"], abs=1e-8)
    assert set(exact.summary()) == set(adjoint.summary())
    assert [r["backend"] for r in exact.summary()["levels"]] == ["exact"] * 3


def test_it_is_saved_and_loaded(exact, tmp_path):
    exact.save(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*/adjoint"))
    back = dnl.load(tmp_path / "run")
    assert all(level.adjoint is None for level in back.levels)
    assert [level.solution.value for level in back.levels] == [
        level.solution.value for level in exact.levels
    ]
    for path in exact.plots(tmp_path / "pictures"):
        assert path.stat().st_size > 5_000


def test_finished_exact_levels_are_kept_beside_adjoint_ones(tmp_path):
    problem, said = o1_hager.problem(), []
    dnl.study(problem, [4, 8], directory=tmp_path)
    dnl.study(problem, [4, 8], backend="exact", directory=tmp_path)
    dnl.study(problem, [4, 8, 16], backend="exact", directory=tmp_path, progress=said.append)
    assert sum("exact: kept" in line for line in said) == 2
    assert all(level.adjoint is None for level in dnl.load(tmp_path).levels)


def test_options_belong_to_the_exact_levels():
    problem = o1_hager.problem()
    by_name = dnl.study(problem, [2, 4], backend="exact", formulation="condensed")
    by_object = dnl.study(problem, [2, 4], backend=dnl.Exact(formulation="condensed"))
    assert [level.solution.formulation for level in by_name.levels] == ["condensed"] * 2
    assert [level.solution.value for level in by_object.levels] == [
        level.solution.value for level in by_name.levels
    ]
    with pytest.raises(dnl.InputError, match="method: got 'lbfgs'"):
        dnl.study(problem, [2], backend="exact", method="lbfgs")
    with pytest.raises(dnl.InputError, match="exact_to: got 4 beside backend='exact'"):
        dnl.study(problem, [2], 4, backend="exact")
    with pytest.raises(dnl.InputError, match="level: got no solution"):
        Level()


def test_auto_chooses_once_for_the_ladder_and_says_why(tmp_path):
    small = dnl.study(o1_hager.problem(), [2, 4], backend="auto", directory=tmp_path)
    assert [level.solution.backend for level in small.levels] == ["exact"] * 2
    assert small.choice.startswith("backend='exact' chosen: a small differential equation")
    assert small.statements[0] == small.choice
    assert dnl.load(tmp_path).choice == small.choice
    problem = two_class_toy.problem()
    # the first level alone would be solved by the exact backend
    assert dnl.solve(problem, 2, "auto", max_iterations=1).backend == "exact"
    deep = dnl.study(problem, [2, 12], backend="auto", max_iterations=1)
    assert [level.solution.backend for level in deep.levels] == ["adjoint"] * 2
    assert "at L=12" in deep.statements[0]
    asked = dnl.study(o1_hager.problem(), [2, 4], backend="auto", method="lbfgs")
    assert asked.levels[0].solution.options["method"] == "lbfgs"


@pytest.mark.parametrize(("backend", "ran"), [("exact", "exact"), ("auto", "exact")])
def test_the_command_line_has_it(backend: str, ran: str, capsys):
    assert main(["study", "o1_hager", "--depths", "2,4", "--backend", backend, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [level["backend"] for level in found["levels"]] == [ran] * 2
    assert main(["solve", "o1_hager", "--depth", "2", "--backend", backend, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == ran
