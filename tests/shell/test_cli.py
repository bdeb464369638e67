"""The command line: every command, one JSON object, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from tests.shell.command_line import (
    MINE,
    PROBLEMS,
    SOLVE_KEYS,
    STUDY_KEYS,
    TOY,
    Ran,
    assert_bad_input,
    problem_file,
    refuse,
)


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_solve_prints_one_json_object(cli, backend: str):
    ran = cli("solve", "t7_h1_triangle", "--depth", 4, "--backend", backend, "--json")
    found = ran.json
    assert ran.status == 0
    assert ran.err == ""
    assert set(found) >= SOLVE_KEYS
    assert (found["problem"], found["backend"], found["rule"]) == (
        "t7_h1_triangle",
        backend,
        "left",
    )
    assert (found["depth"], found["samples"], found["controls"]) == (4, 1, 10)
    assert found["success"] is True
    assert found["status"] == 0
    assert found["stationarity"] <= 1e-8
    from problems.t7_h1_triangle import reference

    assert found["value"] == pytest.approx(reference().discrete_value(4), rel=1e-12)


@pytest.mark.parametrize("formulation", ["lifted", "condensed"])
def test_the_formulation_reaches_the_solver(cli, tmp_path: Path, formulation: str):
    ran = cli(
        "solve",
        "o1_hager",
        "--depth",
        4,
        "--formulation",
        formulation,
        "--out",
        tmp_path / "run",
        "--json",
    )
    solution = dnl.load(tmp_path / "run")
    assert ran.status == 0
    assert solution.formulation == formulation == solution.options["formulation"]


def test_solve_in_words(cli):
    ran = cli("solve", "o1_hager", "--depth", 4, "--backend", "adjoint")
    assert ran.status == 0
    assert ran.err == ""
    assert ran.out.startswith("Solution('o1_hager', adjoint, L=4, value=")
    assert "\nmessage: " in ran.out


def test_parameters_reach_the_problem(cli):
    found = cli("solve", *TOY, "-p", "width=3", "--depth", 1, "--backend", "adjoint", "--json").json
    assert (found["samples"], found["controls"]) == (8, 3 * 3 + 3)


def test_solve_saves_what_it_prints(cli, runs: Path, tmp_path: Path):
    solve = partial(
        cli, "solve", problem_file(tmp_path), "--depth", 2, "--backend", "adjoint", "--json"
    )
    ran = solve("-p", "target=0.5", "--out", tmp_path / "run")
    solution = dnl.load(tmp_path / "run")
    assert solution.value == ran.json["value"]
    # the minimum of (v + 1/2)² + v²/2
    assert solution.value == pytest.approx(0.5**2 / 3, rel=1e-12)
    assert solution.source["parameters"] == {"target": 0.5}
    assert solution.source["path"].endswith("mine.py")


def test_start_from_a_run(cli, runs: Path):
    solve = partial(cli, "solve", "t2_scalar_resnet", "--backend", "adjoint", "--json")
    coarse = solve("--depth", 8, "--out", runs / "t2").json
    cold, warm = solve("--depth", 9).json, solve("--depth", 9, "--start", runs / "t2").json
    assert coarse["success"]
    assert warm["success"]
    assert warm["value"] == pytest.approx(cold["value"], rel=1e-9)
    assert warm["iterations"] < cold["iterations"]


def test_start_from_a_study_is_its_finest_level(cli, runs: Path):
    solve = partial(cli, "solve", "t7_h1_triangle", "--json", "--start", runs / "ladder")
    assert solve("--depth", 4).json["iterations"] == 0 < solve("--depth", 2).json["iterations"]


def test_study_prints_levels_and_rates(cli, runs: Path):
    ran = cli("study", "t7_h1_triangle", "--depths", "2,4", "--exact-to", 2, "--json")
    found = ran.json
    assert ran.status == 0
    assert ran.err == ""
    assert set(found) >= STUDY_KEYS
    assert [level["depth"] for level in found["levels"]] == [2, 4]
    for level in found["levels"]:
        assert set(level) >= SOLVE_KEYS
        assert set(level) >= {
            "controls_L2_step",
            "states_sup_step",
            "controls_L2_error",
            "value_gap",
        }
    first, second = found["levels"]
    assert first["controls_L2_step"] is None
    assert second["controls_L2_step"] > 0
    assert first["value_gap"] < 1e-10
    assert second["value_gap"] is None
    assert set(found["rates"]) >= {"value", "controls_L2", "states_sup"}


def test_study_writes_table_pictures_and_solutions(cli, tmp_path: Path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    study = partial(cli, "study", "t7_h1_triangle", "--out", tmp_path / "run", "--depths")
    ran = study("2,4")
    assert ran.status == 0
    assert "extrapolated value" in ran.out
    assert ran.err == ""
    table = pd.read_csv(tmp_path / "run" / "table.csv")
    assert table["depth"].tolist() == [2, 4]
    assert {
        "value",
        "controls_L2_step",
        "value_error",
    } <= set(table)
    for picture in ("convergence", "control_u", "states", "costates"):
        content = (tmp_path / "run" / f"{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5000
    json.loads((tmp_path / "run" / "summary.json").read_text(), parse_constant=refuse)
    loaded = dnl.load(tmp_path / "run")
    assert isinstance(loaded, dnl.Study)
    assert loaded.depths == [2, 4]
    assert loaded.levels[-1].adjoint.value == table["value"].iloc[-1]
    made = (tmp_path / "run" / "L00004" / "adjoint" / "arrays.npz").stat().st_mtime_ns
    assert study("2,4,8").status == 0
    assert dnl.load(tmp_path / "run").depths == [2, 4, 8]
    assert (tmp_path / "run" / "L00004" / "adjoint" / "arrays.npz").stat().st_mtime_ns == made


def test_check_prints_taylor_rates_and_sizes(cli):
    ran = cli("check", *TOY, "--depth", 2, "--json")
    found = ran.json
    assert ran.status == 0
    assert ran.err == ""
    assert found["passed"] is True
    assert found["taylor_gradient_rate"] == pytest.approx(2, abs=0.1)
    assert found["taylor_hessian_rate"] == pytest.approx(3, abs=0.1)
    assert found["state_shape"] == [2]
    assert found["predicted"]["controls"] == 3 * (4 + 2)
    assert "taylor_gradient_rate: " in cli("check", "o1_hager", "--depth", 2).out


def test_compare_prints_the_distances(cli, runs: Path):
    ran = cli("compare", runs / "t7", runs / "ladder", "--json")
    found, (a, b) = ran.json, (dnl.load(runs / "t7"), dnl.load(runs / "ladder").levels[-1].adjoint)
    assert ran.status == 0
    assert ran.err == ""
    assert found["depths"] == [3, 4]
    assert found["values"] == [a.value, b.value]
    assert found["controls_L2"] == dnl.distance(a, b) > 0
    assert found["costates_sup"] == dnl.distance(a, b, "sup", "costates")
    same = cli("compare", runs / "t7", runs / "t7", "--json").json
    assert all(
        same[k] == 0 for k in ("value_difference", "controls_L2", "controls_H1", "states_sup")
    )
    assert "controls_L2: " in cli("compare", runs / "t7", runs / "ladder").out


def test_problems_lists_every_problem_file(cli):
    ran = cli("problems")
    lines = ran.out.splitlines()
    assert ran.status == 0
    assert ran.err == ""
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in PROBLEMS.glob("*.py"))
    assert all(len(line.split()) > 3 for line in lines)


def test_every_command_has_help(cli):
    for command in ("solve", "study", "check", "compare", "certify", "problems"):
        assert command in cli("--help").out
        ran = cli(command, "--help")
        assert ran.status == 0
        assert ran.out.startswith("usage: dnlcontrol")
    assert cli("--version").out == f"dnlcontrol {dnl.__version__}\n"


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_not_converged_is_status_1(cli, backend: str):
    ran = cli("solve", *TOY, "--depth", 2, "--backend", backend, "--max-iterations", 1, "--json")
    found = ran.json
    assert ran.status == 1
    assert ran.err == ""
    assert found["success"] is False
    assert found["status"] != 0
    assert "stationarity" in found["message"]
    assert np.isfinite(found["value"])
    assert found["stationarity"] > 1e-8


def test_a_study_that_has_not_converged_is_status_1(cli):
    ran = cli("study", *TOY, "--depths", "1,2", "--max-iterations", 1, "--json")
    assert ran.status == 1
    assert ran.json["success"] is False
    assert any("not converged" in statement for statement in ran.json["statements"])


def test_nan_is_null(cli, tmp_path: Path):
    problem = problem_file(tmp_path, MINE.replace("u.u)", "u.u * float('nan'))"))
    short = ["--max-iterations", 1, "--json"]
    ran = cli(
        "solve", problem, "--depth", 2, "--backend", "adjoint", "--out", tmp_path / "run", *short
    )
    assert ran.status == 1
    assert ran.json["value"] is None
    assert ran.json["success"] is False
    assert np.isnan(dnl.load(tmp_path / "run").value)
    assert "NaN" not in (tmp_path / "run" / "solution.json").read_text()
    assert cli("study", problem, "--depths", "1,2", *short).json["levels"][0]["value"] is None


def test_what_a_problem_file_prints_is_no_result(cli, tmp_path: Path):
    head = "def problem(target=1.0):\n"
    noisy = MINE.replace(head, f"print('one')\n{head}    print('two')\n")
    ran = cli(
        "solve", problem_file(tmp_path, noisy), "--depth", 2, "--backend", "adjoint", "--json"
    )
    assert ran.json["problem"] == "mine"
    assert ran.err == "one\ntwo\n"


def spawn(*arguments: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "dnlcontrol", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PROBLEMS.parent,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def test_process_solves():
    ran = spawn("solve", "t7_h1_triangle", "--depth", "2", "--json")
    assert ran.status == 0
    assert ran.err == ""
    assert ran.json["success"] is True


def test_process_does_not_converge():
    ran = spawn(
        "solve", *TOY, "--depth", "2", "--max-iterations", "1", "--backend", "adjoint", "--json"
    )
    assert ran.status == 1
    assert ran.err == ""
    assert ran.json["success"] is False


def test_process_refuses():
    ran = spawn("solve", "t7_h1_triangle", "--depth", "2", "--rule", "simpson", "--json")
    assert_bad_input(ran, "rule: got 'simpson'")


def test_process_lists_problems_without_heavy_imports():
    code = (
        "import sys; from dnlcontrol.shell.cli import main; main(['problems']); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "numpy" in loaded
    assert not {"torch", "casadi", "scipy", "matplotlib", "pandas"} & loaded
