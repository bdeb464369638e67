"""A solve on several ranks is the solve on one: same minimiser and states.

Costates too; each rank has those of its samples.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.distributed import SharedEvaluator
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from tests.backends.adjoint.distributed_iris import problem
from tests.random_problems import CASES, build

ROOT = Path(__file__).parents[3]


def on_ranks(ranks: int, out: Path, *arguments: str) -> list[dict[str, np.ndarray]]:
    """What each rank found."""
    script = [str(Path(__file__).with_name("distributed_iris.py")), str(out), *arguments]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(ranks),
        *script,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [dict(np.load(out / f"{rank}.npz")) for rank in range(ranks)]


@pytest.mark.parametrize(
    ("ranks", "method", "tolerance", "apart"),
    [
        (2, "newton", 4e-12, 1e-9),
        pytest.param(4, "newton", 4e-12, 1e-9, marks=pytest.mark.slow),
        pytest.param(2, "lbfgs", 1e-10, 2e-8, marks=pytest.mark.slow),
    ],
)
def test_the_same_minimiser_on_every_number_of_ranks(ranks, method, tolerance, apart, tmp_path):
    """Two stationarities of ε allow 2ε/α between controls, α = 1e-2."""
    one = dnl.solve(problem(slice(0, 30)), 2, "adjoint", tolerance=tolerance)
    found = on_ranks(ranks, tmp_path, "2", method, str(tolerance))
    for rank in found:
        assert rank["success"]
        assert rank["stationarity"] <= tolerance
        assert f"({ranks} ranks, 30 samples)" in str(rank["message"])
        assert float(rank["value"]) == pytest.approx(one.value, abs=1e-13)
        for name, control in one.controls.items():
            np.testing.assert_array_equal(rank[name], found[0][name])
            np.testing.assert_allclose(rank[name], control.values, rtol=0, atol=apart)
    for name in ("states", "costates"):
        together = np.concatenate([rank[name] for rank in found], axis=1)
        np.testing.assert_allclose(together, getattr(one, name), rtol=0, atol=1e-7)


@pytest.fixture
def one_rank():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", CASES)
def test_products_on_one_rank(name, one_rank):
    """The sum over one rank is that rank's own."""
    case = build(name)
    discrete = dnl.discretise(case.problem, case.depth)
    w, d = 0.5 * np.random.default_rng(1).standard_normal((2, discrete.space.size))
    plain, shared = Evaluator(discrete), SharedEvaluator(discrete, "cpu", "float64", 128)
    assert shared.value(w) == plain.value(w)
    assert shared.value_and_gradient(w)[0] == plain.value_and_gradient(w)[0]
    np.testing.assert_array_equal(shared.value_and_gradient(w)[1], plain.value_and_gradient(w)[1])
    np.testing.assert_array_equal(shared.hessian_product(w, d), plain.hessian_product(w, d))
    np.testing.assert_array_equal(shared.trajectory(w).gradient, plain.trajectory(w).gradient)


def test_failures_are_said(one_rank, monkeypatch):
    def fails(iterate):
        raise ZeroDivisionError("from a progress function")

    with pytest.raises(ZeroDivisionError):
        dnl.solve(problem(slice(0, 30)), 1, "adjoint", distributed=True, progress=fails)

    def gathered(found, own):
        found[:] = [own, (("another problem",), 3)]

    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gathered)
    with pytest.raises(
        dnl.InputError, match=r"problem: got \('another problem',\) on rank 1 and \('iris_dense', "
    ):
        dnl.solve(problem(slice(0, 30)), 1, "adjoint", distributed=True)


def test_refusals():
    small = problem(slice(0, 30))
    for options, text in (
        ({}, "distributed: got True; allowed: processes started by torchrun"),
        (
            {"method": "adam"},
            "method: got 'adam'; allowed: 'newton' or 'lbfgs' for a distributed solve",
        ),
        ({"backend": "exact"}, "distributed: got True; allowed: False for the exact backend"),
    ):
        with pytest.raises(dnl.InputError, match=text):
            dnl.solve(small, 2, **{"backend": "adjoint", "distributed": True, **options})
    with pytest.raises(dnl.InputTypeError, match="distributed: got 2"):
        dnl.solve(small, 2, "adjoint", distributed=2)
    bounded = dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: u.u * x),
        controls={"u": dnl.Control(())},
        constraints=[dnl.state_bounds(lower=0.0)],
    )
    with pytest.raises(
        dnl.InputError, match=r"False for a problem with the constraints \['state bounds'\]"
    ):
        dnl.solve(bounded, 2, "adjoint", distributed=True)


def test_shares(monkeypatch):
    """Every sample once, sizes equal up to one."""
    rows = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "4")
        rows.append(list(range(10))[dnl.share(10)])
    assert [k for r in rows for k in r] == list(range(10))
    assert {len(r) for r in rows} == {2, 3}
    with pytest.raises(
        dnl.InputError, match="samples: got 3; allowed: at least one for each of the 4 ranks"
    ):
        dnl.share(3)
