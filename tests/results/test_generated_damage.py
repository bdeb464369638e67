"""Damaged runs whose checksums fit: refused in one line with the name of the file, or still true.

What is asserted of each damage, drawn by hypothesis:

- nothing but InputError leaves ``load`` or ``certify``, with one line that names a file of the run
  (``certify``: the solution);
- loading needs less memory than MEMORY;
- a solution that is loaded says what was saved, as far as a certificate vouches for it (name,
  backend, grid, controls, states, costates, multipliers, value, measures, status, within what the
  certificate allows), or the certificate rejects it. What no certificate can know is left out:
  words, versions, seconds, counts, the log and options that were only asked for.

``DAMAGES=5000 pytest -m slow FILE`` draws so many.
"""

from __future__ import annotations

import os
import random
import shutil
import tracemalloc
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dnlcontrol as dnl
from tests.generated_damage import SOLUTION_KINDS, STUDY_KINDS, checkpoint

QUICK = 100  # of each test
NIGHTLY = int(os.environ.get("DAMAGES", "1000"))
EPS = 1e-8
MEMORY = 200 << 20  # bytes; the archives have 3 kB, the bombs 40 MB
PROBLEM = dnl.ControlProblem(
    name="kept",
    x0=[1.0, 0.5],
    dynamics=dnl.ODE(lambda t, x, u: u.u - 0.5 * x),
    controls={"u": dnl.Control((), lower=-0.6, upper=2.0)},
    running=lambda t, x, u: u.u**2 + x * u.u + x**2,
    constraints=[dnl.terminal_constraint(lambda x, c: x, 0.2, 5.0, name="arrive")],
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A solution of each backend, and a study of both."""
    folder = tmp_path_factory.mktemp("runs")
    for backend in ("exact", "adjoint"):
        dnl.solve(PROBLEM, 3, backend, tolerance=1e-10).save(folder / backend)
    dnl.study(PROBLEM, [2, 3], exact_to=2, tolerance=1e-10, directory=folder / "study")
    return folder


def arrays(s: dnl.Solution) -> Iterator[tuple[str, np.ndarray]]:
    yield from (("states", s.states), ("costates", s.costates))
    yield "terminal gradient", s.terminal_gradient
    yield from ((f"control {k}", c.values) for k, c in s.controls.items())
    yield from ((f"multiplier {k}", np.asarray(v)) for k, v in s.multipliers.items())
    measures = [s.value, s.stationarity, s.feasibility, s.complementarity]
    yield "measures", np.array(measures)


def differs(seen: dnl.Solution, saved: dnl.Solution) -> str:
    """Where the meaning of one solution is not that of the other; '' for nowhere."""
    for key in ("name", "backend", "grid", "status"):
        if getattr(seen, key) != getattr(saved, key):
            return key
    if seen.tolerance > EPS:
        return "tolerance"
    before = dict(arrays(saved))
    if dict(arrays(seen)).keys() != before.keys():
        return "names"
    for name, values in arrays(seen):
        allowed = EPS * (1 + np.max(np.abs(before[name]), initial=0.0))
        if values.shape != before[name].shape or not np.all(
            np.abs(values - before[name]) <= allowed
        ):
            return name
    return ""


def told(error: BaseException, path: Path) -> None:
    """An InputError of one line that can be printed and names a file of the run."""
    assert isinstance(error, dnl.InputError), repr(error)
    assert len(str(error).splitlines()) == 1
    assert str(path) in str(error).encode().decode()


def loaded(path: Path) -> Any:
    """What is read, or None where it is refused."""
    tracemalloc.start()
    try:
        found = dnl.load(path)
    except Exception as error:
        told(error, path)
        found = None
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < MEMORY, f"{most >> 20} MB"
    return found


def rejected(seen: dnl.Solution) -> bool:
    """By the certificate, as a solution of the problem that was saved; refused in one line."""
    words = ""
    try:
        return not dnl.certify(replace(seen, problem=PROBLEM), seed=0).passed
    except dnl.InputError as error:
        words = str(error)
    assert len(words.splitlines()) == 1
    return True


def check_solution(runs: Path, backend: str, rng: random.Random) -> None:
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(runs / backend, run)
        words = rng.choice(SOLUTION_KINDS)(run, rng)
        seen = loaded(run)
        if seen is not None:
            changed = differs(seen, dnl.load(runs / backend))
            assert not changed or rejected(seen), f"{words}: accepted with another {changed}"


def check_study(runs: Path, rng: random.Random) -> None:
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(runs / "study", run)
        words = rng.choice(STUDY_KINDS)(run, rng)
        seen, saved = loaded(run), dnl.load(runs / "study")
        for a, b in zip(seen.levels, saved.levels, strict=True) if seen is not None else ():
            assert a.stored_constant == b.stored_constant, words
            for one, other in zip(a.solutions, b.solutions, strict=True):
                changed = differs(one, other)
                assert not changed or rejected(one), f"{words}: accepted with another {changed}"


def drawn(examples: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=slow
    )


BACKENDS = st.sampled_from(["exact", "adjoint"])
CHOICES = st.integers(0, 2**32 - 1).map(random.Random)


@given(backend=BACKENDS, rng=CHOICES)
@drawn(QUICK)
def test_a_damaged_solution_is_refused_or_true(runs, backend, rng):
    check_solution(runs, backend, rng)


@given(rng=CHOICES)
@drawn(QUICK)
def test_a_damaged_study_is_refused_or_true(runs, rng):
    check_study(runs, rng)


@pytest.mark.slow
@given(backend=BACKENDS, rng=CHOICES)
@drawn(NIGHTLY)
def test_many_damaged_solutions_are_refused_or_true(runs, backend, rng):
    check_solution(runs, backend, rng)


@pytest.mark.slow
@given(rng=CHOICES)
@drawn(NIGHTLY)
def test_many_damaged_studies_are_refused_or_true(runs, rng):
    check_study(runs, rng)


@pytest.mark.parametrize("backend", ["exact", "adjoint"])
def test_what_is_undamaged_is_true(runs, backend):
    seen = dnl.load(runs / backend)
    assert dnl.certify(replace(seen, problem=PROBLEM), seed=0).passed
    assert differs(seen, dnl.solve(PROBLEM, 3, backend, tolerance=1e-10)) == ""


# -- the state of a minimiser --------------------------------------------------------------------
class Stopped(Exception):
    pass


def stop(iterate: Any) -> None:
    if iterate.iteration == 3:
        raise Stopped


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A solve that ended after three iterations."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stopped):
        dnl.solve(PROBLEM, 3, "adjoint", checkpoint=folder, every=0, progress=stop, method="lbfgs")
    assert (folder / "checkpoint.npz").is_file()
    return folder


@given(rng=CHOICES)
@drawn(20)
def test_a_damaged_checkpoint_is_refused_or_left(stopped, rng):
    """Refused in a line, left with a warning, or gone on from: a success is a minimiser."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(stopped, run)
        words = checkpoint(run, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = dnl.solve(PROBLEM, 3, "adjoint", checkpoint=run, method="lbfgs")
            except Exception as error:
                told(error, run)
                return
        assert not found.success or not rejected(found), words
