"""Mini-batches: unbiased gradients, seeded, then the minimiser of all samples."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.stochastic import batch_gradient, partition, subset
from problems import iris_dense, spirals
from tests.random_problems import CASES, build


@pytest.mark.parametrize("name", CASES)
def test_the_mean_over_a_partition_is_the_gradient(name):
    """Σ (|B|/N) g_B = dJ/dw and the same for J, for every partition.

    Sums of a few O(1) terms in another order.
    """
    case = build(name)
    discrete = dnl.discretise(case.problem, case.depth)
    w = 0.5 * np.random.default_rng(1).standard_normal(discrete.space.size)
    evaluator, N = Evaluator(discrete, chunk=2, stored=False), case.problem.samples
    value, g = evaluator.value_and_gradient(w)
    parts = partition(np.random.default_rng(2), N, 2)
    found = [(len(rows) / N, batch_gradient(evaluator, w, rows)) for rows in parts]
    scale = 1 + np.abs(g).max(initial=0.0)
    assert sum(share * v for share, (v, _) in found) == pytest.approx(value, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(
        sum(share * h for share, (_, h) in found), g, rtol=0, atol=1e-12 * scale
    )


def test_partition():
    """Every sample once; sizes equal up to one; at most the size that was asked for."""
    parts = partition(np.random.default_rng(0), 23, 5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(23))
    assert sorted(len(p) for p in parts) == [4, 4, 5, 5, 5]
    assert [len(p) for p in partition(np.random.default_rng(0), 3, 100)] == [3]


def test_chunks_of_a_batch():
    """A batch larger than a chunk is taken in pieces of at most that size.

    Each row with its own data.
    """
    problem = iris_dense.problem(samples=30)
    evaluator = Evaluator(dnl.discretise(problem, 2), chunk=4)
    rows = np.random.default_rng(0).permutation(30)[:11]
    pieces = list(subset(evaluator.sweep, rows))
    assert [d.free.shape[1] for d in pieces] == [4, 4, 3]
    found = np.concatenate([d.free[0].numpy() for d in pieces])
    np.testing.assert_array_equal(found, problem.x0[np.sort(rows)])


def test_a_study_takes_mini_batches_at_every_level():
    """The same minimisers as by Newton's method alone, after so many epochs."""
    problem = iris_dense.problem(samples=30)
    batches = dnl.MiniBatches(size=10, epochs=3)
    found = dnl.study(problem, [1, 2], method="adam", batches=batches)
    expected = dnl.study(problem, [1, 2])
    assert found.success
    assert all(level.adjoint.message.startswith("3 epochs") for level in found.levels)
    for a, b in zip(found.levels, expected.levels, strict=True):
        # both are stationary to 1e-8, so that values differ by its square over the curvature
        assert a.adjoint.value == pytest.approx(b.adjoint.value, rel=1e-12)


@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_batches_then_newton_reach_the_minimiser(method):
    """The stationarity of a solve on all samples, at the minimiser that Newton finds alone.

    Iris has one branch.
    """
    problem = iris_dense.problem(samples=60)
    expected = dnl.solve(problem, 2, "adjoint")
    lines: list = []
    batches = dnl.MiniBatches(size=16, epochs=5)
    found = dnl.solve(problem, 2, "adjoint", method=method, batches=batches, progress=lines.append)
    assert found.success
    assert found.stationarity <= 1e-8
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.message.startswith("5 epochs, then stationarity")
    assert (
        [i.iteration for i in lines]
        == [line[0] for line in found.log]
        == list(range(found.nit + 1))
    )
    assert [line[4] for line in found.log[:5]] == [4] * 5  # batches per epoch
    space = dnl.discretise(problem, 2).space
    assert [None if i.controls is None else i.controls.shape for i in lines[:6]] == [
        (space.size,)
    ] * 5 + [None]
    # Newton starts from where the epochs have got to
    assert found.log[5][1] < 0.5 * found.log[0][1]


def test_spirals_on_batches():
    found = dnl.solve(
        spirals.problem(scale=0.3),
        8,
        "adjoint",
        method="adam",
        batches=dnl.MiniBatches(size=16, epochs=5),
    )
    # that of the branch from zero
    assert found.success
    assert found.stationarity <= 1e-8
    assert found.value < 0.6096


@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_equal_seeds_give_equal_iterates(method):
    def run(seed: int) -> dnl.Solution:
        batches = dnl.MiniBatches(size=16, epochs=3, seed=seed, polish=False)
        with pytest.warns(dnl.ConvergenceWarning, match="stopped after 3 epochs; polish=True"):
            return dnl.solve(
                spirals.problem(scale=0.3), 4, "adjoint", method=method, batches=batches
            )

    first = run(0)
    again = run(0)
    other = run(1)
    for name in ("W", "b"):
        np.testing.assert_array_equal(first.controls[name].values, again.controls[name].values)
    assert first.log == again.log
    assert first.value != other.value
    assert first.status == 1
    assert not first.success
    assert first.nit == 3


def test_sgd_in_the_metric_takes_the_same_path_at_every_depth():
    """From one start, as a function of (t, s): the distance to L = 64 falls with the step.

    The distance after 3 epochs. Steps are functions of (t, s) too, because A^{-1} g converges with
    L; order 1 in L between 8 and 16 against 64: (1/8 - 1/64)/(1/16 - 1/64) = 2.3; asked for is 1.5.
    """

    def path(depth: int) -> dnl.Solution:
        batches = dnl.MiniBatches(size=16, epochs=3, polish=False)
        with pytest.warns(dnl.ConvergenceWarning):
            return dnl.solve(
                spirals.problem(scale=0.3), depth, "adjoint", method="sgd", batches=batches
            )

    coarse, middle, fine = (path(L) for L in (8, 16, 64))
    assert dnl.distance(coarse, fine) > 1.5 * dnl.distance(middle, fine)


@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_bounds(method):
    """Every sample wants more, so u = 0.5 throughout.

    min ½(x(1) - 2)² + ½∫u², x' = u, x(0) = 0 or 0.4, u <= 0.5.
    """
    problem = dnl.ControlProblem(
        x0=np.array([0.0, 0.4]),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), upper=0.5)},
        terminal=lambda x, c: 0.5 * (x - 2.0) ** 2,
        regularisers=[dnl.L2("u", 1.0)],
    )
    batches = dnl.MiniBatches(size=1, epochs=60, polish=False)
    # converged without polish
    found = dnl.solve(problem, 4, "adjoint", method=method, batches=batches)
    np.testing.assert_array_equal(found.controls["u"].values, 0.5)
    assert found.success


def test_divergence_is_said():
    problem = dnl.ControlProblem(
        x0=np.ones(3),
        dynamics=dnl.ODE(lambda t, x, u: u.u * x**3),
        controls={"u": dnl.Control((), initial=1.0)},
        terminal=lambda x, c: x**4,
        regularisers=[dnl.L2("u", 1.0)],
    )
    with pytest.warns(
        dnl.ConvergenceWarning, match=r"diverged in epoch \d+ at the rate .*lower MiniBatches\.rate"
    ):
        found = dnl.solve(
            problem, 8, "adjoint", method="sgd", batches=dnl.MiniBatches(rate=1e6, epochs=9)
        )
    assert not found.success
    assert np.isfinite(found.value)


MEMORY = """
import resource, sys
import numpy as np, dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.stochastic import stochastic
from dnlcontrol.backends.options import Adam, MiniBatches

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

x0 = np.random.default_rng(0).standard_normal((int(sys.argv[1]), 8))
problem = dnl.ControlProblem(x0=x0, dynamics=dnl.Dense(8), terminal=lambda x, c: x[0] ** 2,
                             regularisers=[dnl.H1("W", 1e-3), dnl.H1("b", 1e-3)])
evaluator = Evaluator(dnl.discretise(problem, 32), chunk=64, stored=False)
w, before = np.full(evaluator.space.size, 0.01), peak()
batches = MiniBatches(size=256, epochs=1, polish=False)
stochastic(evaluator, w, Adam(batches), 1e-8, 1)
evaluator.hessian_product(w, w)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_does_not_grow_with_the_samples():
    """An epoch, a full gradient and a Hessian product: the memory of a chunk.

    In MB above the problem; the gradient is that after the epoch. All states of the 7680 samples
    more would be 7680 · 33 · 8 · 8 bytes = 16 MB, and the sweep keeps x, z, λ and z̄.
    """
    found = []
    for samples in (512, 8192):
        command = [sys.executable, "-c", MEMORY, str(samples)]
        done = subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(float(done.stdout))
    assert found[1] < found[0] + 10.0, found
