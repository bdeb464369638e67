"""One-step networks with their layers written out: the sweep's numbers and the formula's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.sweep import affine_chain as module
from dnlcontrol.backends.adjoint.way import Chain, OnHost, TapedColumns
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.problem.dynamics import Affine

D = 3
N = 7
L = 6


class Layer(dnl.Dynamics):
    """x' = σ(M x + v) with M and v on the path or constant, or σ(M x)."""

    is_ode = True

    def __init__(self, on: str, activation: object, bias: bool = True) -> None:
        self.on = on
        self.activation = activation
        self.bias = bias
        self.affine = Affine("M", "v" if bias else None, activation)

    @property
    def own_controls(self):
        vector = {"v": dnl.Control((D,), on=self.on)} if self.bias else {}
        return {"M": dnl.Control((D, D), on=self.on), **vector}

    def kernel(self, t, s, y, u):
        return self.activation(u.M @ y + u.v if self.bias else u.M @ y)


NETWORKS = {
    "ResNet": lambda: dnl.ResNet(D),
    "relu": lambda: dnl.ResNet(D, dnl.relu),
    "softplus": lambda: dnl.ResNet(D, dnl.softplus),
    "linear": lambda: dnl.ResNet(D, dnl.identity),
    "no bias": lambda: Layer("t", dnl.tanh, bias=False),
    "constants": lambda: Layer("const", dnl.sigmoid),
    "constants, no bias": lambda: Layer("const", dnl.tanh, bias=False),
}


def discrete(dynamics: dnl.Dynamics, path: bool = True, samples: int = N) -> dnl.DiscreteProblem:
    """With ``path`` a running cost, a state bound and an integral constraint.

    The running cost reads states and controls.
    """
    rng = np.random.default_rng(4)
    name = "M" if isinstance(dynamics, Layer) else "K"
    more = {
        "running": lambda t, x, u: (1.0 + t) * dnl.namespace(x).sum(x**2 * (u[name] @ x)),
        "constraints": [
            dnl.state_bounds(-0.5, 0.6),
            dnl.integral_constraint(lambda t, x, u: t * x[0] ** 2, upper=0.1),
        ],
    }
    problem = dnl.ControlProblem(
        x0=rng.standard_normal((samples, D)),
        dynamics=dynamics,
        horizon=1.3,
        terminal=dnl.losses.squared(rng.standard_normal((samples, D))),
        **(more if path else {}),
    )
    return dnl.discretise(problem, L)


def answers(evaluator: Evaluator, at: Multipliers) -> list[np.ndarray]:
    w, d = 0.7 * np.random.default_rng(5).standard_normal((2, evaluator.space.size))
    value, gradient = evaluator.value_and_gradient(w, at)
    found = evaluator.trajectory(w, at)
    names = ("gradient", "states", "integrals", "costates", "integral_costates", "constraints")
    rest = [getattr(found, name) for name in names]
    return [
        np.array([value, found.value, evaluator.value(w, at)]),
        gradient,
        evaluator.hessian_product(w, d, at),
        *rest,
    ]


def agree(found: list, expected: list, tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max(initial=0.0)))
        )


@pytest.mark.parametrize("path", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_as_by_the_formula(network, path):
    """Sums of at most L·N·d terms of order 1 in another order: a few hundred roundings."""
    found = discrete(NETWORKS[network](), path)
    at = Multipliers(np.random.default_rng(6).standard_normal(found.rows.size), 2.0)
    by_formula = Evaluator(found, stored=False, batched=False)
    by_layer = Evaluator(found, stored=False, chunk=3)
    by_layer.sweep.chain = None
    by_layer.way = TapedColumns(by_layer.sweep, by_layer.lagrangian, by_layer.vectors)
    assert by_formula.sweep.chain is None
    assert by_layer.sweep.columns is not None
    expected = answers(by_formula, at)
    agree(answers(by_layer, at), expected, 1e-12)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-3)):
        evaluator = Evaluator(found, stored=False, dtype=dtype)
        assert evaluator.sweep.chain is not None
        assert isinstance(evaluator.way, OnHost)
        agree(answers(evaluator, at), expected, tolerance)
        evaluator.way = Chain(evaluator.sweep, evaluator.lagrangian, evaluator.vectors)
        agree(answers(evaluator, at), expected, tolerance)


def test_chunks_blocks_and_threads_do_not_matter(monkeypatch):
    found = discrete(dnl.ResNet(D))
    at = Multipliers(np.random.default_rng(6).standard_normal(found.rows.size), 2.0)
    expected = answers(Evaluator(found, stored=False), at)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for chunk, block in ((1, 1), (3, 200), (None, 300), (4, 1 << 20)):
                monkeypatch.setattr(module, "BLOCK", block)
                agree(answers(Evaluator(found, stored=False, chunk=chunk), at), expected, 1e-12)
    finally:
        torch.set_num_threads(threads)


def test_kept_memory_does_not_reach_results():
    """Room is used again by the next call, of another size and kind; what was returned stays."""
    found = discrete(dnl.ResNet(D), path=False)
    evaluator = Evaluator(found, stored=False, chunk=5)  # chunks of 5 and 2 samples
    first, second = 0.5 * np.random.default_rng(7).standard_normal((2, found.space.size))
    before = (
        evaluator.trajectory(first),
        evaluator.states(first),
        evaluator.hessian_product(first, second),
    )
    copies = [
        v.copy()
        for v in (before[0].states, before[0].costates, before[0].integral_costates, *before[1:])
    ]
    gradient = evaluator.value_and_gradient(first)[1]
    for w in (second, first):
        evaluator.hessian_product(w, first)
        evaluator.value(w)
        evaluator.trajectory(w)
        last = evaluator.value_and_gradient(w)[1]
    np.testing.assert_array_equal(last, gradient)
    for kept, copy in zip(
        (before[0].states, before[0].costates, before[0].integral_costates, *before[1:]),
        copies,
        strict=True,
    ):
        np.testing.assert_array_equal(kept, copy)


def test_other_problems_are_not_chains():
    def time_dependent(t, x0):
        return x0 * (1.0 + t)

    class Moved(dnl.ResNet):
        @property
        def free_term(self):
            return time_dependent

    class Wrapped(dnl.ResNet):
        @property
        def outer(self):
            return lambda t, g, z, u: g + z + 0.1 * z * z

    found = discrete(dnl.ResNet(D), path=False)
    others = [
        discrete(Moved(D), path=False),
        discrete(Wrapped(D), path=False),
        discrete(dnl.Dense(D, "C"), path=False),
    ]
    for other in (*others, dnl.discretise(found.problem, L, "trapezoid")):
        evaluator = Evaluator(other, stored=False)
        assert evaluator.sweep.chain is None
        assert evaluator.sweep.columns is not None
        at = Multipliers(np.zeros(0), 0.0)
        agree(
            answers(evaluator, at),
            answers(Evaluator(other, stored=False, batched=False), at),
            1e-12,
        )
