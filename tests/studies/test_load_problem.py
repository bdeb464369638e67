"""A run keeps its problem file, and runs no code but what is named or was the user's already."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.problem.from_file import load_problem, rebuilt
from dnlcontrol.results.solution_files import save_solution
from dnlcontrol.shell.cli import main
from tests.shell.command_line import MINE


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def loud(file: Path) -> Path:
    """A problem file that leaves a mark where it runs."""
    mark = file.with_suffix(".mark")
    file.write_text(f"{MINE}\nfrom pathlib import Path; Path({str(mark)!r}).touch()\n")
    return mark


def solved(file: Path, folder: Path) -> None:
    """A run of the file, saved with its source as the command line does."""
    found = load_problem(file, {"target": 2.5})
    save_solution(dnl.solve(found.problem(), 2, "adjoint"), folder, found.source)


def quiet(folder: Path) -> dnl.Solution:
    """Loaded without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return dnl.load(folder)


def doubtful(folder: Path, told: str) -> dnl.Solution:
    """Loaded with one line that says why there is no problem."""
    with pytest.warns(UserWarning, match=told) as warned:
        found = dnl.load(folder)
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)
    assert found.problem is None
    return found


def test_a_run_keeps_text_digest_and_absolute_path_and_works_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    monkeypatch.chdir(tmp_path)
    arguments = ("mine.py", "-p", "target=2.5", "--backend", "adjoint", "--json")
    assert run("solve", *arguments, "--depth", 2, "--out", "solution") == 0
    assert run("study", *arguments, "--depths", "1,2", "--out", "study") == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    for record in (
        "solution/solution.json",
        "study/study.json",
        "study/L00002/adjoint/solution.json",
    ):
        source = json.loads((tmp_path / record).read_text())["source"]
        assert source["path"] == str(file.resolve())
        assert source["text"] == MINE
        assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert source["parameters"] == {"target": 2.5}
    solution = quiet(tmp_path / "solution")
    network = solution.to_module()
    assert network is not None
    assert dnl.certify(solution, seed=0).passed
    assert quiet(tmp_path / "study").levels[-1].solution.problem is not None
    assert run("certify", tmp_path / "study") == 0


def test_what_changed_is_said_and_the_file_runs_only_where_it_is_named(tmp_path):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    mark = loud(file)
    solved(file, folder)
    mark.unlink()
    assert quiet(folder).problem is not None
    assert mark.is_file()  # its own path, outside the run, unchanged
    mark.unlink()
    file.write_text(file.read_text() + "\n")
    doubtful(folder, "the problem file changed since the solve: .*dnl.load")
    assert not mark.exists()
    with pytest.warns(UserWarning, match="the problem file changed since the solve"):
        named = dnl.load(folder, problem=file)
    assert mark.is_file()
    assert named.problem is not None


def planted(folder: Path, **source: object) -> None:
    """Another source in the record of a run."""
    path = folder / "solution.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "source": {**record["source"], **source}}))


def test_a_file_in_the_run_does_not_run(tmp_path):
    file, folder = tmp_path / "mine.py", tmp_path / "study" / "L00002" / "adjoint"
    file.write_text(MINE)
    solved(file, folder)
    (tmp_path / "study" / "problem.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "study")
    for inside in (folder / "mine.py", tmp_path / "study" / "mine.py"):
        mark = loud(inside)
        digest = hashlib.sha256(inside.read_bytes()).hexdigest()
        cwd = f"/proc/self/cwd/{os.path.relpath(inside)}"
        for path, told in (
            (str(inside.resolve()), "lies in the run directory"),
            (str(tmp_path / "link" / inside.relative_to(tmp_path / "study")), "without links"),
            (cwd, "without links"),
            (os.path.relpath(inside), "without links"),
        ):
            planted(folder, path=path, sha256=digest)
            doubtful(folder, f"its problem file .* {told}")
            assert run("certify", folder) == 2
        assert not mark.exists()
        assert run("certify", folder, "--problem", inside) == 0
        assert mark.is_file()
        mark.unlink()
        inside.unlink()


@pytest.mark.parametrize("path", ["/dev/zero", "/", "\0", "x" * 5000, ""])
def test_strange_paths_are_one_line(tmp_path, path):
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(MINE)
    solved(file, folder)
    planted(folder, path=path)
    doubtful(folder, "its problem file")


def test_a_run_without_a_digest_runs_nothing(tmp_path):
    """As written by earlier versions."""
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    mark = loud(file)
    solved(file, folder)
    mark.unlink()
    planted(folder, sha256=None)
    doubtful(folder, "was kept without its digest")
    assert not mark.exists()


def test_what_the_file_imports_or_reads_is_seen_by_what_it_makes(tmp_path):
    file, folder, data = tmp_path / "mine.py", tmp_path / "run", tmp_path / "x0.txt"
    text = MINE.replace("x0=np.ones(1)", f"x0=np.loadtxt({str(data)!r}, ndmin=1)")
    file.write_text(text)
    np.savetxt(data, [1.0])
    solved(file, folder)
    assert quiet(folder).problem is not None
    np.savetxt(data, [1.5])
    doubtful(folder, r"makes another problem \(x0\)")


def test_library_problems_are_the_librarys(tmp_path):
    found = load_problem("t7_h1_triangle")
    source = {**found.source, "path": str(tmp_path / "gone" / "t7_h1_triangle.py")}
    problem, doubt = rebuilt(source, tmp_path / "run")
    assert problem is not None
    assert doubt == ""
    problem, doubt = rebuilt({**source, "sha256": "0" * 64}, tmp_path / "run")
    assert problem is None
    assert "is not there" in doubt


def test_a_file_edited_within_a_second_runs_as_it_is(tmp_path):
    """Python's own cache of bytecode goes by seconds and sizes."""
    file = tmp_path / "mine.py"
    for target in ("1.0", "2.0", "3.0"):
        file.write_text(MINE.replace("target=1.0", f"target={target}"))
        problem = load_problem(file).problem()
        cost = problem.terminal.function(np.zeros(()), None)
        assert cost == float(target) ** 2


def test_a_file_runs_as_python_runs_it(tmp_path):
    """Annotations are values, as without ``from __future__ import annotations``."""
    file = tmp_path / "mine.py"
    file.write_text(MINE + "\ndef annotated(x: 1 + 1): pass\n")
    assert load_problem(file).module.annotated.__annotations__ == {"x": 2}
