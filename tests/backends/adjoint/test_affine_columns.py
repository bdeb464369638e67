"""Columns of σ(W y + b) written out: the numbers of torch.func.

They are the same whatever the chunks, pieces and threads.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.host import workspace
from dnlcontrol.backends.adjoint.sweep import affine_columns as module
from dnlcontrol.backends.adjoint.sweep.affine_columns import elements
from dnlcontrol.backends.adjoint.way import OnHost
from dnlcontrol.problem.activations import known
from dnlcontrol.problem.dynamics import Affine, Outer

ACTIVATIONS = {
    f.__name__: f
    for f in (dnl.tanh, dnl.relu, dnl.leaky_relu, dnl.sigmoid, dnl.softplus, dnl.identity)
}
D = 3
N = 7
L = 5
NETWORKS = {
    "A": lambda f: dnl.Dense(D, "A", f),
    "B": lambda f: dnl.Dense(D, "B", f),
    "C": lambda f: dnl.Dense(D, "C", f),
    "C, no bias": lambda f: dnl.Dense(D, "C", f, bias=False),
    "ResNet": lambda f: dnl.ResNet(D, f),
}
# Sums of at most L·N·D terms of order 1, L layers deep, in another order: a few hundred roundings.
TOLERANCE = {"float64": 1e-12, "float32": 1e-4}


def discrete(
    dynamics: dnl.Dynamics, rule: str = "left", depth: int = L, samples: int = N
) -> dnl.DiscreteProblem:
    rng = np.random.default_rng(3)
    problem = dnl.ControlProblem(
        x0=rng.standard_normal((samples, D)),
        dynamics=dynamics,
        horizon=1.3,
        terminal=dnl.losses.squared(rng.standard_normal((samples, D))),
        running=lambda t, x, u: (1.0 + t) * dnl.namespace(x).sum(x**2),
    )
    return dnl.discretise(problem, depth, rule)


def products(evaluator: Evaluator, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian product at one random control, along one random direction."""
    w, d = 0.7 * np.random.default_rng(seed).standard_normal((2, evaluator.space.size))
    value, gradient = evaluator.value_and_gradient(w)
    assert evaluator.value(w) == pytest.approx(value, rel=1e-6)
    return np.array(value), gradient, evaluator.hessian_product(w, d)


def agree(found: tuple, expected: tuple, tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_as_by_torch_func(network, activation, rule):
    found = discrete(NETWORKS[network](ACTIVATIONS[activation]), rule)
    expected = Evaluator(found, stored=False, batched=False)
    assert expected.sweep.columns is None
    expected = products(expected)
    for dtype, tolerance in TOLERANCE.items():
        evaluator = Evaluator(found, stored=False, dtype=dtype)
        assert isinstance(evaluator.way, OnHost)
        assert evaluator.sweep.columns is not None
        declared = evaluator.sweep.feature_map is not None, evaluator.sweep.outer_map is not None
        assert declared == (network == "A", True)
        agree(products(evaluator), expected, tolerance)
        evaluator.way = evaluator.way.swept  # as on other devices
        agree(products(evaluator), expected, tolerance)


@pytest.mark.parametrize("form", ["A", "B"])
def test_the_same_as_autograd_on_stacked_rows(form):
    """Value, gradient and Hessian product for two networks.

    x^l = x0 + W-mixed features + b (A), x0 + tanh of that sum (B).
    """
    rng, depth = np.random.default_rng(8), 6
    x0, target = rng.standard_normal((2, N, D))
    problem = dnl.ControlProblem(
        x0=x0, dynamics=dnl.Dense(D, form), terminal=dnl.losses.squared(target)
    )
    found = dnl.discretise(problem, depth)
    evaluator = Evaluator(found, stored=False)
    start, goal = torch.tensor(x0), torch.tensor(target)

    def cost(w):
        u = {b.name: w[b.part].view(b.layout.count, *b.control.shape) for b in found.space}
        columns, z = (
            u["W"].split([depth - s for s in range(depth)]),
            [torch.zeros(N, D)] * (depth + 1),
        )
        for l in range(depth + 1):
            inside = z[l] + u["b"][l]
            x = start + (inside if form == "A" else torch.tanh(inside))
            y = torch.tanh(x) if form == "A" else x
            z = [
                *z[: l + 1],
                *(
                    a + y @ W.T / depth
                    for a, W in zip(z[l + 1 :], columns[l] if l < depth else [], strict=True)
                ),
            ]
        return ((x - goal) ** 2).sum(1).mean()

    w, d = (
        torch.tensor(v)
        for v in 0.7 * np.random.default_rng(5).standard_normal((2, evaluator.space.size))
    )
    value, product = torch.autograd.functional.hvp(cost, w, d)
    gradient = torch.func.grad(cost)(w)
    agree(products(evaluator), (value.numpy(), gradient.numpy(), product.numpy()), 1e-12)


@pytest.mark.parametrize("network", ["A", "B", "C", "ResNet"])
def test_chunks_pieces_and_threads_do_not_matter(network, monkeypatch):
    found = discrete(NETWORKS[network](dnl.tanh))
    expected = products(Evaluator(found, stored=False))
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for chunk, piece in ((1, 1), (3, 200), (None, 300), (4, 1 << 20)):
                monkeypatch.setattr(module, "PIECE", piece)
                monkeypatch.setattr(workspace, "PIECE", piece // 8)
                evaluator = Evaluator(found, stored=False, chunk=chunk)
                agree(products(evaluator), expected, 1e-12)
                evaluator.way = evaluator.way.swept
                agree(products(evaluator), expected, 1e-12)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives_from_the_value(activation):
    """σ' and σ'' by torch.func, from σ(x) alone; also far out.

    At 0 the kinks have the derivative of the left.
    """
    function = ACTIVATIONS[activation]
    parts = elements(function)
    x = torch.tensor([-40.0, -3.0, -0.2, 0.0, 0.3, 2.0, 40.0], dtype=torch.float64)

    def first(x):
        return torch.func.jvp(function, (x,), (torch.ones_like(x),))[1]

    slope, second = torch.func.jvp(first, (x,), (torch.ones_like(x),))
    y = function(x)
    got = torch.empty_like(x)
    bent = torch.ones_like(x)
    parts.times_slope(torch.ones_like(x), y, out=got)
    torch.testing.assert_close(got, slope, rtol=0, atol=1e-15)
    parts.bent(bent, y, torch.ones_like(x), torch.zeros_like(x))
    torch.testing.assert_close(bent * slope, second, rtol=0, atol=1e-14)


def test_other_activations_take_the_general_path():
    """One without derivatives, and one that is not entry by entry.

    With derivatives given, the columns are used.
    """

    def cube(x):
        return x + 0.1 * x * x * x

    def shifted(x):
        return 1.0 + dnl.namespace(x).tanh(x)

    def softmax(x):
        return dnl.namespace(x).softmax(x)

    quick = known(slope=lambda y: 2.0 * y - y * y, curvature_ratio=lambda y: 2.0 - 2.0 * y)(shifted)
    for activation, written_out in ((cube, False), (softmax, False), (quick, True)):
        found = discrete(dnl.Dense(D, "C", activation))
        evaluator = Evaluator(found, stored=False)
        assert (evaluator.sweep.columns is not None) == written_out
        agree(products(evaluator), products(Evaluator(found, stored=False, batched=False)), 1e-12)


def mixing(affine: Affine, on: str = "t") -> dnl.Dynamics:
    class Own(dnl.Dynamics):
        own_controls = {"M": dnl.Control((D, D), on="ts"), "v": dnl.Control((D,), on=on)}

        def kernel(self, t, s, y, u):
            return u.M @ y

        def feature(self, s, x, u):
            return dnl.softplus(x)

        def outer(self, t, g, z, u):
            return g + dnl.sigmoid(z + u.v)

        def free_term(self, t, x0):
            return (1.0 + t) * x0

    Own.affine = affine
    return Own()


@pytest.mark.parametrize("on", ["t", "const"])
@pytest.mark.parametrize("outer", [None, Outer("v", dnl.sigmoid)])
@pytest.mark.parametrize("feature", [None, dnl.softplus])
def test_each_declaration_by_itself(feature, outer, on):
    found = discrete(mixing(Affine("M", None, None, feature, outer), on))
    evaluator = Evaluator(found, stored=False, chunk=3)
    assert (evaluator.sweep.feature_map is None) == (feature is None)
    assert (evaluator.sweep.outer_map is None) == (outer is None)
    agree(products(evaluator), products(Evaluator(found, stored=False, batched=False)), 1e-12)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("feature", {"feature": dnl.tanh}),
        ("outer", {"outer": Outer("v")}),
        ("outer", {"outer": Outer(None, dnl.sigmoid)}),
    ],
)
def test_a_wrong_map_is_seen(name, wrong):
    with pytest.raises(
        ValueError, match=rf"Own\.affine\.{name}: got values that differ from the formula"
    ):
        Evaluator(discrete(mixing(Affine("M", **wrong))))


def test_maps_of_the_user_take_the_general_path():
    """A feature with controls of its own, and an activation without known derivatives.

    The columns are written out.
    """

    def feature(s, x, u):
        return dnl.tanh(u.a * x)

    own = dnl.Dense(D, "A", feature=feature, feature_controls={"a": dnl.Control((D,), on="t")})
    other = [dnl.Dense(D, form, lambda x: x + 0.1 * x * x * x) for form in "AB"]
    for dynamics, outer in ((own, True), (other[0], True), (other[1], False)):
        found = discrete(dynamics)
        sweep = Evaluator(found, stored=False).sweep
        assert sweep.columns is not None
        assert sweep.feature_map is None
        assert (sweep.outer_map is not None) == outer
        agree(
            products(Evaluator(found, stored=False)),
            products(Evaluator(found, stored=False, batched=False)),
            1e-12,
        )


def declared(affine: Affine) -> dnl.Dynamics:
    class Own(dnl.Dynamics):
        own_controls = {"M": dnl.Control((D, D), on="ts"), "v": dnl.Control((D,), on="ts")}

        def kernel(self, t, s, y, u):
            return dnl.sigmoid(u.M @ y + u.v)

    Own.affine = affine
    return Own()


def test_a_network_of_the_user():
    found = discrete(declared(Affine("M", "v", dnl.sigmoid)))
    evaluator = Evaluator(found, stored=False)
    assert evaluator.sweep.columns is not None
    agree(products(evaluator), products(Evaluator(found, stored=False, batched=False)), 1e-12)


@pytest.mark.parametrize("affine", [Affine("M", "v", dnl.tanh), Affine("M", None, dnl.sigmoid)])
def test_a_wrong_declaration_is_seen(affine):
    with pytest.raises(ValueError, match=r"Own\.affine: got values that differ from the formula"):
        Evaluator(discrete(declared(affine)))


class Wide(dnl.Dynamics):
    """A kernel of more entries than are printed."""

    @property
    def own_controls(self):
        return {"W": dnl.Control((50, 50), on="const")}

    def kernel(self, t, s, y, u):
        return -y * dnl.namespace(y).sum(u.W)


def test_default_chunks():
    """Equal chunks of at most 512; the states of a chunk stay below 24 MB where 128 samples do."""
    assert [
        c.free.shape[1] for c in Evaluator(discrete(dnl.Dense(D), samples=1025)).sweep.chunks
    ] == [342, 342, 341]
    printed = discrete(dnl.Volterra(lambda t, s, y, u: -y), samples=130)
    assert [c.free.shape[1] for c in Evaluator(printed).sweep.chunks] == [130]
    mapped = discrete(Wide(), samples=130)
    assert [c.free.shape[1] for c in Evaluator(mapped).sweep.chunks] == [128, 2]
