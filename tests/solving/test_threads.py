"""From several threads at once every result is that of one thread alone, bit for bit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.files.turns import turn

THREADS = 2
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (4, 2))
Y = np.sign(X[:, :1] * X[:, 1:])


def dense() -> dnl.ControlProblem:
    """Affine columns: Hessian products by tangents."""
    return dnl.ControlProblem(
        name="dense",
        x0=X,
        dynamics=dnl.Dense(2, "C"),
        controls={"W": dnl.Control((2, 2), on="ts", initial=dnl.smooth_random(1, 0.3))},
        terminal=dnl.losses.squared(Y, head=dnl.head(1, 2, initial=0.3)),
        regularisers=[dnl.H1(k, 0.05) for k in "Wb"]
        + [dnl.L2(k, 0.05) for k in ("head_W", "head_c")],
    )


def memory() -> dnl.ControlProblem:
    """A kernel of no known form: dual numbers, stored derivatives, and forward mode in formulas."""
    return dnl.ControlProblem(
        name="memory",
        x0=np.ones((2, 1)),
        dynamics=dnl.Volterra(
            lambda t, s, y, u: dnl.namespace(y).exp(s - t) * (u.u - dnl.namespace(y).tanh(y))
        ),
        controls={"u": dnl.Control((1,), on="t")},
        terminal=lambda x, c: dnl.namespace(x).sum((x - 2.0) ** 2),
        regularisers=[dnl.H1("u", 1e-2)],
    )


def bits(solution: dnl.Solution) -> tuple[Any, ...]:
    arrays = {k: c.values.tobytes() for k, c in sorted(solution.controls.items())}
    return solution.value, solution.nit, solution.status, solution.nhev, arrays


def solved(problem: Callable[[], dnl.ControlProblem], *how: Any, **options: Any) -> Any:
    return lambda: bits(dnl.solve(problem(), 3, *how, **options))


def studied() -> Any:
    study = dnl.study(dense(), [2, 3], exact_to=3)
    return study.extrapolated_value, [bits(s) for level in study.levels for s in level.solutions]


def gradients() -> Any:
    """One evaluator for each call, as its ways store what they computed last."""
    found = []
    for stored in (True, False):
        evaluator = Evaluator(dnl.discretise(memory(), 6), stored=stored)
        w = np.linspace(-1, 1, evaluator.space.size)
        for _ in range(4):
            value, g = evaluator.value_and_gradient(w)
            found.append((value, g.tobytes(), evaluator.hessian_product(w, g).tobytes()))
            w = w - 0.1 * g
    return found


def certified() -> Any:
    return [
        (r.name, r.measured, r.passed) for r in dnl.certify(dnl.solve(memory(), 3), seed=0).checks
    ]


def taylor() -> Any:
    test = dnl.taylor_test(dense(), 3, seed=1)
    return test.gradient_remainders.tobytes(), test.hessian_remainders.tobytes()


def started_often() -> Any:
    found = dnl.multistart(dense(), 2, 2, seed=5)
    return [(a.value, a.nit, a.cluster) for a in found.starts]


TRAINED = dnl.solve(dense(), 4)


def trained() -> Any:
    """Plain training of a network, which takes no turn."""
    network = TRAINED.to_module()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = ((network(torch.from_numpy(X)) - torch.from_numpy(Y)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def simulated() -> Any:
    return dnl.simulate(memory(), 8, {"u": 0.3}).tobytes()


WORK = {
    "newton": solved(dense, "adjoint"),
    "dual numbers": solved(memory, "adjoint"),
    "gauss-newton": solved(dense, "adjoint", method="gauss-newton"),
    "mini-batches": solved(
        dense, "adjoint", method=dnl.Adam(dnl.MiniBatches(size=3, seed=2, epochs=3))
    ),
    "exact": solved(memory, "exact"),
    "condensed": solved(dense, "exact", formulation="condensed"),
    "study": studied,
    "gradients": gradients,
    "certify": certified,
    "taylor_test": taylor,
    "multistart": started_often,
    "training": trained,
    "simulate": simulated,
}
QUICK = ("dual numbers", "condensed", "gradients", "certify", "training", "simulate")


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Every result, one after the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        return {name: work() for name, work in WORK.items()}


@pytest.fixture
def seen_beside() -> Callable[[list[str]], list[tuple[str, Any]]]:
    """What threads found that did these works at the same time, errors in the place of results."""

    def run(names: list[str], rounds: int = 1) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        begin = threading.Barrier(len(names))

        def work(name: str) -> None:
            begin.wait()
            for _ in range(rounds):
                try:
                    found.append((name, WORK[name]()))
                except Exception as error:
                    found.append((name, error))

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return found

    return run


@pytest.mark.filterwarnings("ignore::dnlcontrol.ConvergenceWarning")
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in WORK]
)
def test_each_beside_itself(name, alone, seen_beside):
    found = seen_beside([name] * THREADS, rounds=3)
    assert found == [(name, alone[name])] * (3 * THREADS)


@pytest.mark.filterwarnings("ignore::dnlcontrol.ConvergenceWarning")
def test_all_beside_each_other(alone, seen_beside):
    found = seen_beside(list(WORK))
    assert len(found) == len(WORK)
    assert [n for n, result in found if result != alone[n]] == []


def test_a_warning_is_of_its_own_thread_and_filters_stay():
    """Nothing in a solve swaps the process's filters, which other threads see, too."""
    before = list(warnings.filters)
    seen: list[list[Any]] = []

    def follow(_iterate: Any) -> None:
        seen.append(list(warnings.filters))

    dnl.solve(dense(), 4, "adjoint", progress=follow)
    dnl.multistart(dense(), 2, 1, backend="adjoint", progress=follow)
    assert seen
    assert all(filters == before for filters in seen)


def test_the_limit_of_time_begins_with_the_turn():
    """A solve that waited for another thread still has all its seconds."""
    found: list[dnl.Solution] = []
    solve = threading.Thread(
        target=lambda: found.append(dnl.solve(dense(), 4, "adjoint", max_seconds=60.0))
    )
    with turn():
        solve.start()
        solve.join(1.0)
        assert not found
    solve.join(60)
    assert found[0].success
    assert found[0].seconds < 60.0
