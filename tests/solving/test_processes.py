"""The same bits in another process: forked, spawned, of another hash seed, by joblib."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl

ROOT = Path(__file__).parents[2]
SMALL, MANY = 4, 6000  # samples; of many sums go over threads of OpenMP
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def classes(samples: int) -> dnl.ControlProblem:
    X = np.random.default_rng(0).uniform(-1, 1, (samples, 2))
    Y = np.sign(X[:, :1] * X[:, 1:])
    return dnl.ControlProblem(
        name="classes",
        x0=X,
        dynamics=dnl.Dense(2, "C"),
        controls={"W": dnl.Control((2, 2), on="ts", initial=dnl.smooth_random(1, 0.3))},
        terminal=dnl.losses.squared(Y, head=dnl.head(1, 2, initial=0.3)),
        regularisers=[dnl.H1(k, 0.05) for k in "Wb"]
        + [dnl.L2(k, 0.05) for k in ("head_W", "head_c")],
    )


def bits(solution: dnl.Solution) -> list[str]:
    arrays = [v.values for _, v in sorted(solution.controls.items())]
    numbers = [solution.value, solution.stationarity, float(solution.nit)]
    return [n.hex() for n in numbers] + [a.tobytes().hex() for a in (*arrays, solution.states)]


def solved(which: str, samples: int = SMALL, most: int = 4) -> list[str]:
    """The bits of a solve that is stopped early, so that its path shows."""
    ways: dict[str, dict[str, Any]] = {
        "exact": {"backend": "exact"},
        "adjoint": {"backend": "adjoint"},
        "mini-batches": {
            "backend": "adjoint",
            "method": dnl.Adam(dnl.MiniBatches(size=3, seed=2, epochs=2)),
        },
    }
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        return bits(dnl.solve(classes(samples), 3, max_iterations=most, **ways[which]))


def everything() -> dict[str, list[str]]:
    return {which: solved(which) for which in ("exact", "adjoint", "mini-batches")}


PRINT = "import json; from tests.solving.test_processes import everything; "
PRINT += "print(json.dumps(everything()))"
# in a process of its own: the number of OpenMP's threads holds from the start
FORKED = """
import os, signal, sys
import torch
from tests.solving.test_processes import MANY, solved
torch.set_num_threads(2)
alone = solved("adjoint", MANY, 1)
child = os.fork()
if not child:
    os._exit(5 if solved("adjoint", MANY, 1) == alone and torch.get_num_threads() == 2 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_hash_seeds_change_nothing():
    """Both backends and mini-batches, in two processes."""
    found = [run(PRINT, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    first, second = (json.loads(done.stdout) for done in found)
    assert first == second
    assert len({tuple(v) for v in first.values()}) == 3


@needs_fork
def test_a_forked_child_solves_as_its_parent_does():
    """One thread: after both backends have solved in the parent."""
    alone = everything()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"same" if everything() == alone else b"others")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"same"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_fork
def test_a_forked_child_of_a_parent_with_threads_neither_hangs_nor_differs():
    """GNU's OpenMP waits for threads that the child does not have."""
    done = run(FORKED, OMP_NUM_THREADS="2")
    assert done.returncode == 5, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_gives_the_same(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this platform")
    alone = everything()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(everything) == alone


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_starts_by_joblib_are_those_of_one_process(backend):
    joblib = pytest.importorskip("joblib")
    alone = dnl.multistart(classes(SMALL), 2, 3, seed=4)
    with joblib.parallel_config(backend=backend):
        found = dnl.multistart(classes(SMALL), 2, 3, seed=4, workers=2)
    assert [(a.value, a.nit, a.cluster) for a in found.starts] == [
        (a.value, a.nit, a.cluster) for a in alone.starts
    ]
    assert bits(found.best) == bits(alone.best)
