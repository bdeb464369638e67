"""The command line tells bad input in one line and leaves with status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.command_line import MINE, assert_bad_input, problem_file

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
    "no seconds": ("solve o1_hager --depth 2 --max-seconds 0", "max_seconds: got 0"),
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


BAD_CONTROLS = "dnl.Reference('x', controls={'u': lambda t: 1 / 0})"


@pytest.mark.parametrize("json_too", [False, True], ids=["words", "json"])
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_one_line(cli, runs: Path, name: str, json_too: bool):
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
        "class E(BaseException): ...\ndef problem(): raise E": "problem(): got E ()",
        MINE + "def reference(**parameters): return 1 / 0": "reference(): got ZeroDivisionError",
        MINE + f"def reference(**p): return {BAD_CONTROLS}": "raises ZeroDivisionError",
        MINE + "def reference(**p): return dnl.Reference('x', value='y')": "Reference.value",
    }.items(),
    ids=[
        *("syntax", "import", "exit", "no problem", "returns", "raises", "formula", "own base"),
        *("reference", "controls of a reference", "value of a reference"),
    ],
)
def test_a_bad_problem_file_is_told_in_one_line(cli, tmp_path: Path, text: str, told: str):
    out = tmp_path / "run"
    ran = cli("study", problem_file(tmp_path, text), "--depths", "1,2", "--out", out)
    assert_bad_input(ran, told)
    assert not list(out.glob("L*")), "something was solved"


def test_bad_input_leaves_no_directory(cli, tmp_path: Path):
    ran = cli("solve", "no_such_problem", "--depth", 2, "--out", tmp_path / "run")
    assert_bad_input(ran, "no_such_problem")
    assert not (tmp_path / "run").exists()


def test_cuda_is_refused_where_there_is_none(cli):
    if pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is a CUDA device")
    ran = cli("solve", "o1_hager", "--depth", 2, "--backend", "adjoint", "--device", "cuda")
    assert_bad_input(ran, "device: got 'cuda'; allowed: 'cpu' (this machine shows 0 CUDA devices)")
    assert_bad_input(
        cli("study", "o1_hager", "--depths", "2", "--device", "cuda"), "device: got 'cuda'"
    )
