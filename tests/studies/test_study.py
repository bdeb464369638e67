"""Studies: tables, rates, branches, files, and the kill-and-resume promise."""

from __future__ import annotations

import dataclasses
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.results.branches import leaves
from dnlcontrol.studies.result import Level, Study
from problems import o1_hager, t7_h1_triangle, two_class_toy

TIMES = ["seconds", "peak_memory_mb", "work", "product_cost"]


@pytest.fixture(scope="module")
def t7() -> Study:
    return dnl.study(
        t7_h1_triangle.problem(), [4, 8, 16, 32], exact_to=8, reference=t7_h1_triangle.reference()
    )


def test_table_rates_and_limit(t7):
    table = t7.table()
    assert list(table.index) == [4, 8, 16, 32]
    assert t7.success
    assert t7.statements == []
    assert table.loc[8, "value_gap"] <= 1e-12
    assert np.isnan(table.loc[16, "value_gap"])
    assert t7.extrapolated_value == pytest.approx(t7.reference.value, rel=1e-6)
    assert t7.rates["value"] == pytest.approx(1.0, abs=0.1)
    assert t7.rates["controls_L2_error"] == pytest.approx(1.0, abs=0.1)
    assert (np.diff(table["controls_L2_step"][1:]) < 0).all()


def test_without_a_closed_form_errors_are_against_the_finest_level():
    made = dnl.study(two_class_toy.problem(samples=6, alpha=0.2), [2, 4, 8])
    errors = made.table()["controls_L2_error"]
    assert np.isnan(errors[8])
    assert errors[4] < errors[2]


def test_a_lost_branch_is_said(t7):
    solutions = [level.adjoint for level in t7.levels]
    u = solutions[3].controls["u"]
    flipped = Extension("u", u.layout, -u.values)
    jumped = Study(
        "jump", (*t7.levels[:3], Level(dataclasses.replace(solutions[3], controls={"u": flipped})))
    )
    assert any("branch lost at L=32" in s for s in jumped.statements)
    assert jumped.first_of_branch == 3
    assert np.isnan(jumped.rates["value"])


@pytest.mark.parametrize("horizon", [1e-4, 1.0, 1e4])
def test_a_step_is_compared_with_the_size_in_one_unit(horizon):
    """u = 2 on [0, T] has the L2 norm 2 √T: a step of 6 % of that is a jump, one of 4 % is not."""
    problem = dnl.ControlProblem(
        x0=[1.0],
        horizon=horizon,
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=2.0)},
        running=lambda t, x, u: (u.u - 2.0) ** 2,
    )
    solution, size = dnl.solve(problem, 4, backend="adjoint"), 2 * np.sqrt(horizon)
    assert leaves(solution, 0.06 * size, 0.01 * size)
    assert not leaves(solution, 0.04 * size, 0.01 * size)


def test_a_level_that_leaves_its_branch_says_so_in_its_message(t7):
    """Two coarse levels near each other, far from the only minimiser there is.

    The third solve cannot continue them.
    """
    problem, levels = t7_h1_triangle.problem(), [level.adjoint for level in t7.levels[:3]]

    def away(solution, by):
        u = solution.controls["u"]
        moved = Extension("u", u.layout, u.values + by)
        return dataclasses.replace(solution, controls={"u": moved})

    followed = dnl.solve(problem, 32, backend="adjoint", start=levels)
    assert "branch" not in followed.message
    alone = dnl.solve(problem, 32, backend="adjoint", start=away(levels[2], 3.0))
    assert "branch" not in alone.message  # one level shows no distance to compare with
    left = dnl.solve(problem, 32, backend="adjoint", start=[away(s, 3.0) for s in levels])
    assert left.success
    assert left.value == pytest.approx(followed.value, abs=1e-12)
    assert "branch lost at L=32: its controls are" in left.message
    study = Study("jump", tuple(Level(s) for s in (*[away(s, 3.0) for s in levels], left)))
    assert study.statements[0] in f"{left.message}; rates start there"
    assert not any(level.adjoint.message.count("branch") for level in t7.levels)


def test_a_study_logs_it(monkeypatch):
    """The line of that level, as it happens."""
    monkeypatch.setattr(
        "dnlcontrol.solving.solve.branch_note",
        lambda solution, coarser: "branch lost at L=8: for this test",
    )
    said: list[str] = []
    made = dnl.study(o1_hager.problem(), [4, 8], progress=said.append)
    assert [line for line in said if "branch lost" in line] == [
        f"L=8 adjoint: {made.levels[1].adjoint.message}"
    ]


def test_save_load_and_pictures(t7, tmp_path):
    t7.save(tmp_path / "run")
    back = dnl.load(tmp_path / "run")
    frame = back.table().drop(columns=["value_error", "controls_L2_error"])
    np.testing.assert_allclose(frame.to_numpy(float), t7.table()[frame.columns].to_numpy(float))
    for path in t7.plots(tmp_path / "pictures"):
        assert path.stat().st_size > 5_000
    assert t7.plot(tmp_path / "convergence.png").exists()
    solution = back.levels[-1].adjoint
    assert np.array_equal(solution.controls["u"].values, t7.levels[-1].adjoint.controls["u"].values)


def test_a_directory_of_another_problem_is_refused(tmp_path):
    dnl.study(o1_hager.problem(), [4], directory=tmp_path)
    with pytest.raises(dnl.InputError, match=r"directory: got .*another problem"):
        dnl.study(t7_h1_triangle.problem(), [4], directory=tmp_path)
    with pytest.raises(dnl.InputError, match="another problem"):
        dnl.study(two_class_toy.problem(samples=6), [4], directory=tmp_path)


def test_finished_levels_are_kept(tmp_path):
    first = dnl.study(o1_hager.problem(), [4, 8], directory=tmp_path)
    said: list[str] = []
    again = dnl.study(o1_hager.problem(), [4, 8, 16], directory=tmp_path, progress=said.append)
    assert sum("kept" in line for line in said) == 2
    assert len(again.levels) == 3
    assert again.levels[1].adjoint.seconds == first.levels[1].adjoint.seconds


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import dnlcontrol as dnl
from problems import two_class_toy
print("ready", flush=True)
depths = [2, 3, 4, 6, 8, 12, 16]
dnl.study(two_class_toy.problem(samples=8), depths, exact_to=4, directory={directory!r})
print("done", flush=True)
"""


def test_a_killed_study_ends_with_the_same_table(tmp_path):
    """SIGKILL at five random moments, then a run to the end."""
    root = str(Path(__file__).parents[2])
    undisturbed = dnl.study(
        two_class_toy.problem(samples=8), [2, 3, 4, 6, 8, 12, 16], exact_to=4
    ).table()
    script = SCRIPT.format(root=root, directory=str(tmp_path / "killed"))
    chance = random.Random(time.time_ns())  # a fresh moment each time is the point of the test
    kills = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            time.sleep(chance.uniform(0.3, 4.0))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    resumed = dnl.load(tmp_path / "killed").table()
    assert list(resumed.columns) == list(undisturbed.columns)
    np.testing.assert_array_equal(
        resumed.drop(columns=TIMES).to_numpy(float), undisturbed.drop(columns=TIMES).to_numpy(float)
    )
