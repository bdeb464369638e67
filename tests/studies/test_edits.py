"""A study or checkpoint that is gone on with after an edit: right, or refused by name."""

from __future__ import annotations

import json
import os
import shutil
import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.studies.study_files import place
from tests.generated_edits import Edit, left, outcome, report

COMMON = {
    "x0": np.ones((2, 1)),
    "controls": {"u": dnl.Control(())},
    "terminal": lambda x, c: (x[0] - 2.0) ** 2,
    "regularisers": [dnl.L2("u", 1.0)],
}


def capped(upper: float) -> dnl.ControlProblem:
    cap = dnl.terminal_constraint(lambda x, c: x[0], upper=upper, name="cap")
    growth = dnl.ODE(lambda t, x, u: u.u * x)
    return dnl.ControlProblem(name="cap", dynamics=growth, constraints=[cap], **COMMON)


def late(a: float) -> dnl.ControlProblem:
    """A term that vanishes at the nodes of depth 2."""

    def f(t, x, u):
        return u.u * x + a * dnl.namespace(x).maximum(t - 0.5, 0.0) * x

    return dnl.ControlProblem(name="late", dynamics=dnl.ODE(f), **COMMON)


def values(study: dnl.Study) -> list[float]:
    return [level.adjoint.value for level in study.levels]


@pytest.mark.parametrize(
    ("make", "before", "after", "named"),
    [(capped, 1.4, 1.2, "bounds of constraint 'cap'"), (late, 0.0, 5.0, "kernel")],
)
def test_levels_of_an_edited_problem_are_refused_or_solved_anew(
    tmp_path, make, before, after, named
):
    dnl.study(make(before), [2, 4], directory=tmp_path)
    told = rf"another problem: {named} changed since levels 2, 4 were solved; .*restart=True"
    with pytest.raises(dnl.InputError, match=told):
        dnl.study(make(after), [2, 4, 8], directory=tmp_path)
    again = dnl.study(make(after), [2, 4], directory=tmp_path, restart=True)
    fresh = dnl.study(make(after), [2, 4])
    np.testing.assert_allclose(values(again), values(fresh), rtol=0, atol=1e-12)


def test_random_edits():
    """0 stale of some dozens; DNLCONTROL_EDITS asks for more."""
    found = report(int(os.environ.get("DNLCONTROL_EDITS", "24")), seed=1)
    assert not [words for words in found if words not in ("refused", "right")]
    assert found["refused"] > 0
    assert found["right"] > 0


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("seed", 4, "batches"), ("rate", 0.06, "batches"), ("guess", 0.2, "start of control 'W'")],
)
def test_a_checkpoint_of_other_batches_or_another_start_is_refused(key, value, named):
    assert outcome(Edit("stochastic", key, value, named), "checkpoint", 5) == "refused"


def damage(kept, **fields):
    """Change a level's record; its arrays stay."""
    path = kept / "solution.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(("field", "value"), [("value", 0.25), ("stationarity", 1e-3)])
def test_a_level_that_is_not_proved_again_is_solved_anew(tmp_path, field, value):
    first = dnl.study(late(1.0), [2, 4], directory=tmp_path)
    damage(place(tmp_path, 2, "adjoint"), **{field: value})
    said: list[str] = []
    again = dnl.study(late(1.0), [2, 4], directory=tmp_path, progress=said.append)
    assert [line for line in said if "solved anew" in line] == said[:1]
    assert f"not proved again: {field}" in said[0]
    np.testing.assert_allclose(values(again), values(first), rtol=0, atol=1e-12)
    assert "kept" in said[1]


def test_a_level_stored_under_another_depth_is_solved_anew(tmp_path):
    dnl.study(late(1.0), [2, 4], directory=tmp_path)
    place(tmp_path, 4, "adjoint").parent.rename(tmp_path / "L00005")
    said: list[str] = []
    again = dnl.study(late(1.0), [2, 5], directory=tmp_path, progress=said.append)
    assert "L=5 adjoint" in said[1]
    assert "depth 4" in said[1]
    np.testing.assert_allclose(values(again), values(dnl.study(late(1.0), [2, 5])), atol=1e-12)


def test_saving_a_study_over_another_leaves_nothing_of_it(tmp_path):
    dnl.study(late(0.0), [2, 4], exact_to=4).save(tmp_path)
    second = dnl.study(late(5.0), [2, 4])
    second.save(tmp_path)
    back = dnl.load(tmp_path)
    assert values(back) == values(second)
    assert [level.exact for level in back.levels] == [None, None]
    with pytest.raises(dnl.InputError, match="what the levels belong to"):
        dnl.study(late(5.0), [2, 4], directory=tmp_path)


def test_a_level_out_of_time_goes_on_with_more(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        short = dnl.study(late(1.0), [4], directory=tmp_path, max_seconds=1e-6)
    assert not short.success
    assert dnl.study(late(1.0), [4], directory=tmp_path, max_seconds=500.0).success


def test_restart_needs_something_to_begin_anew():
    with pytest.raises(dnl.InputError, match="restart: got True without a directory"):
        dnl.study(late(1.0), [2], restart=True)
    with pytest.raises(dnl.InputError, match="restart: got True without a checkpoint"):
        dnl.solve(late(1.0), 2, "adjoint", restart=True)


def test_restart_leaves_a_checkpoint_of_another_solve(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(left("stochastic", "checkpoint", 5), folder)
    with pytest.raises(dnl.InputError, match=r"checkpoint: got .* changed since its state"):
        dnl.solve(late(1.0), 3, "adjoint", checkpoint=folder)
    found = dnl.solve(late(1.0), 3, "adjoint", checkpoint=folder, restart=True)
    assert found.success
    assert "continued" not in found.message
