"""A solve that runs out of time returns its last iterate, on every way to a minimiser."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.watch import Deadline, OutOfTime, Watch
from dnlcontrol.minimise.outcome import Iterate
from problems import o4_bryson_denham, two_class_toy

WAYS = {
    "newton": {"backend": "adjoint"},
    "gauss-newton": {"backend": "adjoint", "method": "gauss-newton"},
    "lbfgs": {"backend": "adjoint", "method": "lbfgs"},
    "msa": {"backend": "adjoint", "method": "msa"},
    "adam": {"backend": "adjoint", "method": "adam"},
    "lifted": {"backend": "exact", "formulation": "lifted"},
    "condensed": {"backend": "exact", "formulation": "condensed"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_time_is_over_before_the_tolerance_is_reached(way):
    with pytest.warns(dnl.ConvergenceWarning, match="raise max_seconds"):
        solution = dnl.solve(two_class_toy.problem(), 6, max_seconds=1e-6, **WAYS[way])
    assert solution.status == 1
    assert np.isfinite(solution.value)


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_with_constraint_rows_too(backend):
    with pytest.warns(dnl.ConvergenceWarning, match="raise max_seconds"):
        solution = dnl.solve(o4_bryson_denham.problem(), 20, backend, max_seconds=1e-6)
    assert solution.status == 1


@pytest.mark.parametrize(
    "way", [pytest.param(w, marks=[pytest.mark.slow] if w == "msa" else []) for w in WAYS]
)
@pytest.mark.filterwarnings("ignore::dnlcontrol.ConvergenceWarning")  # msa finds no descent
def test_time_enough_changes_nothing(way):
    plain, timed = (
        dnl.solve(two_class_toy.problem(), 4, max_seconds=s, **WAYS[way]) for s in (None, 600.0)
    )
    assert timed.status == plain.status != 1
    assert timed.value == plain.value
    assert timed.nit == plain.nit


def test_levels_of_a_study_have_the_time_each():
    with pytest.warns(dnl.ConvergenceWarning):
        study = dnl.study(two_class_toy.problem(), [4, 8], exact_to=4, max_seconds=1e-6)
    assert [level.adjoint.status for level in study.levels] == [1, 1]
    exact = study.levels[0].exact
    assert exact is not None
    assert exact.status == 1


def test_a_watch_keeps_the_iterate_that_was_accepted():
    """A trial point that the minimiser falls back from has another value."""
    watch = Watch(Deadline.after(0.0))
    a, b, c = np.eye(3)
    watch.saw(a, 2.0)
    watch.told(Iterate(0, 2.0, 1.0, 1.0, 0))
    watch.saw(b, 3.0)
    watch.told(Iterate(1, 2.0, 1.0, 0.5, 0))
    watch.saw(c, 1.0)
    outcome = watch.outcome(b)
    np.testing.assert_array_equal(outcome.w, a)
    assert outcome.iterations == 1
    assert not outcome.converged
    with pytest.raises(OutOfTime), watch.armed():
        watch.told(Iterate(2, 1.0, 1.0, 0.5, 0))
    np.testing.assert_array_equal(watch.outcome(b).w, c)
    watch.check()  # disarmed: what is formed afterwards is not stopped
