"""The command line: every command, one JSON object, exit statuses, one line for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.shell.cli import main

PROBLEMS = Path(__file__).parents[2] / "problems"
SOLVE_KEYS = {
    "problem",
    "backend",
    "rule",
    "depth",
    "value",
    "stationarity",
    "success",
    "status",
    "message",
    "iterations",
    "evaluations",
    "seconds",
    "peak_memory_mb",
    "samples",
    "controls",
}
STUDY_KEYS = {"problem", "levels", "rates", "extrapolated_value"}
TOY = ["two_class_toy", "-p", "samples=8"]
MINE = """
import numpy as np
import dnlcontrol as dnl

def problem(target=1.0):
    return dnl.ControlProblem(
        name="mine", x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: (x - target) ** 2, regularisers=[dnl.L2("u", 1.0)])
"""


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The only line on standard output, as strict JSON."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} in JSON")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run one command in this process."""

    def run(*arguments: Any) -> Ran:
        capsys.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved runs: t7 (depth 3), hager (depth 4), ladder (a study of t7), and broken ones."""
    folder = tmp_path_factory.mktemp("runs")
    for arguments in (
        ["solve", "t7_h1_triangle", "--depth", "3", "--backend", "adjoint", "--out", "t7"],
        ["solve", "o1_hager", "--depth", "4", "--backend", "adjoint", "--out", "hager"],
        ["study", "t7_h1_triangle", "--depths", "2,4", "--exact-to", "2", "--out", "ladder"],
        ["solve", "t7_h1_triangle", "--depth", "2", "--backend", "adjoint", "--out", "truncated"],
    ):
        assert main([*arguments[:-1], str(folder / arguments[-1])]) == 0
    arrays = folder / "truncated" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:100])
    (folder / "file").write_text("not a directory")
    (folder / "empty").mkdir()
    return folder


def problem_file(folder: Path, text: str = MINE) -> Path:
    (folder / "mine.py").write_text(text)
    return folder / "mine.py"


# -- what is printed
# ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_solve(cli, backend: str):
    ran = cli("solve", "t7_h1_triangle", "--depth", 4, "--backend", backend, "--json")
    found = ran.json
    assert ran.status == 0 and ran.err == "" and set(found) >= SOLVE_KEYS
    assert (found["problem"], found["backend"], found["rule"]) == (
        "t7_h1_triangle",
        backend,
        "left",
    )
    assert (found["depth"], found["samples"], found["controls"]) == (4, 1, 10)
    assert found["success"] is True and found["status"] == 0 and found["stationarity"] <= 1e-8
    from problems.t7_h1_triangle import reference

    assert found["value"] == pytest.approx(reference().discrete_value(4), rel=1e-12)


@pytest.mark.parametrize("formulation", ["lifted", "condensed"])
def test_formulation(cli, tmp_path: Path, formulation: str):
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
    assert (
        ran.status == 0 and solution.formulation == formulation == solution.options["formulation"]
    )


def test_solve_in_words(cli):
    ran = cli("solve", "o1_hager", "--depth", 4, "--backend", "adjoint")
    assert ran.status == 0 and ran.err == ""
    assert (
        ran.out.startswith("Solution('o1_hager', adjoint, L=4, value=") and "\nmessage: " in ran.out
    )


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
    assert solution.source["parameters"] == {"target": 0.5} and solution.source["path"].endswith(
        "mine.py"
    )


def test_start_from_a_run(cli, runs: Path):
    solve = partial(cli, "solve", "t2_scalar_resnet", "--backend", "adjoint", "--json")
    coarse = solve("--depth", 8, "--out", runs / "t2").json
    cold, warm = solve("--depth", 9).json, solve("--depth", 9, "--start", runs / "t2").json
    assert (
        coarse["success"]
        and warm["success"]
        and warm["value"] == pytest.approx(cold["value"], rel=1e-9)
    )
    assert warm["iterations"] < cold["iterations"]


def test_start_from_a_study_is_its_finest_level(cli, runs: Path):
    solve = partial(cli, "solve", "t7_h1_triangle", "--json", "--start", runs / "ladder")
    assert solve("--depth", 4).json["iterations"] == 0 < solve("--depth", 2).json["iterations"]


def test_study(cli, runs: Path):
    ran = cli("study", "t7_h1_triangle", "--depths", "2,4", "--exact-to", 2, "--json")
    found = ran.json
    assert ran.status == 0 and ran.err == "" and set(found) >= STUDY_KEYS
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
    assert first["controls_L2_step"] is None and second["controls_L2_step"] > 0
    assert first["value_gap"] < 1e-10 and second["value_gap"] is None
    assert set(found["rates"]) >= {"value", "controls_L2", "states_sup"}


def test_study_writes_table_pictures_and_solutions(cli, tmp_path: Path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    study = partial(cli, "study", "t7_h1_triangle", "--out", tmp_path / "run", "--depths")
    ran = study("2,4")
    assert ran.status == 0 and "extrapolated value" in ran.out and ran.err == ""
    table = pd.read_csv(tmp_path / "run" / "table.csv")
    assert table["depth"].tolist() == [2, 4] and {
        "value",
        "controls_L2_step",
        "value_error",
    } <= set(table)
    for picture in ("convergence", "control_u", "states", "costates"):
        content = (tmp_path / "run" / f"{picture}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000
    json.loads((tmp_path / "run" / "summary.json").read_text(), parse_constant=refuse)
    loaded = dnl.load(tmp_path / "run")
    assert isinstance(loaded, dnl.Study) and loaded.depths == [2, 4]
    assert loaded.levels[-1].adjoint.value == table["value"].iloc[-1]
    made = (tmp_path / "run" / "L00004" / "adjoint" / "arrays.npz").stat().st_mtime_ns
    assert study("2,4,8").status == 0 and dnl.load(tmp_path / "run").depths == [2, 4, 8]
    assert (tmp_path / "run" / "L00004" / "adjoint" / "arrays.npz").stat().st_mtime_ns == made


def test_check(cli):
    ran = cli("check", *TOY, "--depth", 2, "--json")
    found = ran.json
    assert ran.status == 0 and ran.err == "" and found["passed"] is True
    assert found["taylor_gradient_rate"] == pytest.approx(2, abs=0.1)
    assert found["taylor_hessian_rate"] == pytest.approx(3, abs=0.1)
    assert found["state_shape"] == [2] and found["predicted"]["controls"] == 3 * (4 + 2)
    assert "taylor_gradient_rate: " in cli("check", "o1_hager", "--depth", 2).out


def test_compare(cli, runs: Path):
    ran = cli("compare", runs / "t7", runs / "ladder", "--json")
    found, (a, b) = ran.json, (dnl.load(runs / "t7"), dnl.load(runs / "ladder").levels[-1].adjoint)
    assert ran.status == 0 and ran.err == ""
    assert found["depths"] == [3, 4] and found["values"] == [a.value, b.value]
    assert found["controls_L2"] == dnl.distance(a, b) > 0
    assert found["costates_sup"] == dnl.distance(a, b, "sup", "costates")
    same = cli("compare", runs / "t7", runs / "t7", "--json").json
    assert all(
        same[k] == 0 for k in ("value_difference", "controls_L2", "controls_H1", "states_sup")
    )
    assert "controls_L2: " in cli("compare", runs / "t7", runs / "ladder").out


def test_problems(cli):
    ran = cli("problems")
    lines = ran.out.splitlines()
    assert ran.status == 0 and ran.err == ""
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in PROBLEMS.glob("*.py"))
    assert all(len(line.split()) > 3 for line in lines)


def test_help_and_version(cli):
    for command in ("solve", "study", "check", "compare", "certify", "problems"):
        assert command in cli("--help").out
        ran = cli(command, "--help")
        assert ran.status == 0 and ran.out.startswith("usage: dnlcontrol")
    assert cli("--version").out == f"dnlcontrol {dnl.__version__}\n"


# -- not converged
# ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_not_converged(cli, backend: str):
    ran = cli("solve", *TOY, "--depth", 2, "--backend", backend, "--max-iterations", 1, "--json")
    found = ran.json
    assert ran.status == 1 and ran.err == ""
    assert found["success"] is False and found["status"] != 0 and "stationarity" in found["message"]
    assert np.isfinite(found["value"]) and found["stationarity"] > 1e-8


def test_study_not_converged(cli):
    ran = cli("study", *TOY, "--depths", "1,2", "--max-iterations", 1, "--json")
    assert ran.status == 1 and ran.json["success"] is False
    assert any("not converged" in statement for statement in ran.json["statements"])


def test_nan_is_null(cli, tmp_path: Path):
    problem = problem_file(tmp_path, MINE.replace("u.u)", "u.u * float('nan'))"))
    short = ["--max-iterations", 1, "--json"]
    ran = cli(
        "solve", problem, "--depth", 2, "--backend", "adjoint", "--out", tmp_path / "run", *short
    )
    assert ran.status == 1 and ran.json["value"] is None and ran.json["success"] is False
    assert np.isnan(dnl.load(tmp_path / "run").value)
    assert "NaN" not in (tmp_path / "run" / "solution.json").read_text()
    assert cli("study", problem, "--depths", "1,2", *short).json["levels"][0]["value"] is None


def test_what_a_problem_file_prints_is_no_result(cli, tmp_path: Path):
    head = "def problem(target=1.0):\n"
    noisy = MINE.replace(head, f"print('one')\n{head}    print('two')\n")
    ran = cli(
        "solve", problem_file(tmp_path, noisy), "--depth", 2, "--backend", "adjoint", "--json"
    )
    assert ran.json["problem"] == "mine" and ran.err == "one\ntwo\n"


# -- bad input
# ----------------------------------------------------------------------------------------------
BAD = {
    "no command": ("", "COMMAND"),
    "unknown command": ("dissolve", "'dissolve'"),
    "unknown option": ("solve o1_hager --depth 2 --fast", "--fast"),
    "no depth": ("solve o1_hager", "--depth"),
    "depth of text": ("solve o1_hager --depth abc", "--depth: invalid int value: 'abc'"),
    "depth 0": ("solve o1_hager --depth 0", "depth: got 0; allowed: an integer >= 1"),
    "negative depth": ("check o1_hager --depth -1", "depth: got -1; allowed: an integer >= 1"),
    "one run": ("compare {runs}/t7", "RUN"),
    "certify a missing run": ("certify {runs}/none", "no such directory"),
    "certify a truncated run": ("certify {runs}/truncated", "truncated"),
    "unknown rule": (
        "solve o1_hager --depth 2 --rule simpson",
        "rule: got 'simpson'; allowed: 'left' or 'trapezoid'",
    ),
    "unknown rule in a study": (
        "study o1_hager --depths 2,4 --rule simpson",
        "rule: got 'simpson'",
    ),
    "unknown rule in a check": ("check o1_hager --depth 2 --rule simpson", "rule: got 'simpson'"),
    "unknown backend": ("solve o1_hager --depth 2 --backend ipopt", "backend: got 'ipopt'"),
    "unknown formulation": (
        "solve o1_hager --depth 2 --formulation dense",
        "formulation: got 'dense'",
    ),
    "formulation of adjoint": (
        "solve o1_hager --depth 2 --backend adjoint --formulation lifted",
        "formulation: got 'lifted'; allowed: 'auto' for the adjoint backend",
    ),
    "unknown formulation of adjoint": (
        "solve o1_hager --depth 2 --backend adjoint --formulation dense",
        "formulation: got 'dense'",
    ),
    "no formulation": (
        "solve o1_hager --depth 2 --formulation",
        "--formulation: expected one argument",
    ),
    "formulation of a study": ("study o1_hager --depths 2 --formulation lifted", "--formulation"),
    "no tolerance": ("solve o1_hager --depth 2 --tolerance 0", "tolerance: got 0.0"),
    "NaN as tolerance": ("study o1_hager --depths 2 --tolerance nan", "tolerance: got nan"),
    "no iterations": ("solve o1_hager --depth 2 --max-iterations 0", "max_iterations: got 0"),
    "unknown problem": ("solve no_such_problem --depth 2", "no_such_problem (no such file)"),
    "missing file": ("check {runs}/no_such.py --depth 2", "no_such.py (no such file)"),
    "directory as problem": ("solve {runs} --depth 2", "(no such file)"),
    "parameter without a value": ("solve o1_hager --depth 2 -p alpha", "-p: got 'alpha'"),
    "unknown parameter": ("solve two_class_toy --depth 2 -p alhpa=1", "-p alhpa"),
    "rejected parameter": ("solve two_class_toy --depth 2 -p samples=0", "samples: got 0"),
    "depths of text": ("study o1_hager --depths abc", "--depths: got 'abc'"),
    "depths that fall": ("study o1_hager --depths 8,4", "depths: got [8, 4]"),
    "negative exact-to": ("study o1_hager --depths 2 --exact-to -1", "exact_to: got -1"),
    "missing run": ("compare {runs}/t7 {runs}/none", "no such directory"),
    "empty run": ("compare {runs}/t7 {runs}/empty", "a directory without solution.json"),
    "truncated run": ("compare {runs}/t7 {runs}/truncated", "truncated"),
    "two problems": ("compare {runs}/t7 {runs}/hager", "distance: got"),
    "missing start": ("solve o1_hager --depth 2 --start {runs}/none", "no such directory"),
    "truncated start": ("solve t7_h1_triangle --depth 2 --start {runs}/truncated", "truncated"),
    "start of another problem": (
        "solve o1_hager --depth 2 --start {runs}/t7",
        "a solution without a",
    ),
    "file as out": ("solve o1_hager --depth 2 --out {runs}/file", "directory: got"),
    "out below a file": ("study o1_hager --depths 2 --out {runs}/file/below", "directory: got"),
    "solution into a study": (
        "solve t7_h1_triangle --depth 2 --out {runs}/ladder",
        "which holds a study",
    ),
    "study into a solution": (
        "study t7_h1_triangle --depths 2 --out {runs}/t7",
        "which holds a solution",
    ),
    "study of another problem": (
        "study o1_hager --depths 2 --out {runs}/ladder",
        "of another problem",
    ),
    "cuda for exact": (
        "solve o1_hager --depth 2 --device cuda",
        "device: got 'cuda'; allowed: 'cpu'",
    ),
}


def assert_bad_input(ran: Ran, told: str) -> None:
    assert ran.status == 2 and ran.out == ""
    assert (
        ran.err.startswith("dnlcontrol: ") and ran.err.endswith("\n") and ran.err.count("\n") == 1
    ), ran.err
    assert told in ran.err


@pytest.mark.parametrize("json_too", [False, True], ids=["words", "json"])
@pytest.mark.parametrize("name", BAD)
def test_bad_input(cli, runs: Path, name: str, json_too: bool):
    line, told = BAD[name]
    arguments = [a.format(runs=runs) for a in line.split()]
    assert_bad_input(cli(*arguments, *(["--json"] if json_too and arguments else [])), told)


@pytest.mark.parametrize(
    ("text", "told"),
    {
        "def problem(:": "SyntaxError",
        "import no_such_module": "no_such_module",
        "import sys; sys.exit(0)": "SystemExit",
        "def other(): ...": "no function problem()",
        "def problem(): return 3": "problem(): got 3; allowed: a ControlProblem",
        "def problem(): raise RuntimeError('two\\nlines')": "RuntimeError (two lines)",
        MINE.replace("(x - target) ** 2", "x > 0 and 1"): "terminal: a formula may not branch",
        MINE + "def reference(**parameters): return 1 / 0": "reference(): got ZeroDivisionError",
    }.items(),
    ids=["syntax", "import", "exit", "no problem", "returns", "raises", "formula", "reference"],
)
def test_bad_problem_file(cli, tmp_path: Path, text: str, told: str):
    assert_bad_input(cli("study", problem_file(tmp_path, text), "--depths", "1,2"), told)


def test_bad_input_leaves_no_directory(cli, tmp_path: Path):
    ran = cli("solve", "no_such_problem", "--depth", 2, "--out", tmp_path / "run")
    assert_bad_input(ran, "no_such_problem")
    assert not (tmp_path / "run").exists()


def test_cuda_where_there_is_none(cli):
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is a CUDA device")
    ran = cli("solve", "o1_hager", "--depth", 2, "--backend", "adjoint", "--device", "cuda")
    assert_bad_input(ran, "device: got 'cuda'; allowed: 'cpu' (this machine shows 0 CUDA devices)")
    assert_bad_input(
        cli("study", "o1_hager", "--depths", "2", "--device", "cuda"), "device: got 'cuda'"
    )


# -- the real thing
# -----------------------------------------------------------------------------------------
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
    assert ran.status == 0 and ran.err == "" and ran.json["success"] is True


def test_process_does_not_converge():
    ran = spawn(
        "solve", *TOY, "--depth", "2", "--max-iterations", "1", "--backend", "adjoint", "--json"
    )
    assert ran.status == 1 and ran.err == "" and ran.json["success"] is False


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
    assert "numpy" in loaded and not {"torch", "casadi", "scipy", "matplotlib", "pandas"} & loaded
