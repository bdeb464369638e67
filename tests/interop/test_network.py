"""The network of a solution.

The discrete problem's states, the sweep's gradient, in any precision, in ONNX.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.interop.network import Network
from problems import iris_dense
from tests.random_problems import CASES, build

RULES = ("left", "trapezoid")


def drawn(name: str, rule: str = "left", **options):
    """A random problem, its evaluator (the sweep), a random control and the network that has it."""
    case = build(name)
    discrete = dnl.discretise(case.problem, case.depth, rule)
    w = 0.5 * np.random.default_rng(3).standard_normal(discrete.space.size)
    evaluator = Evaluator(discrete, stored=False, chunk=2)
    return discrete, evaluator, w, Network(discrete, discrete.space.split(w), **options)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CASES)
def test_states_are_those_of_the_discrete_problem(name, rule):
    """Against the loops of the reference evaluator and the sweep.

    Both sum a few O(1) terms in another order.
    """
    discrete, evaluator, w, network = drawn(name, rule)
    states = network.states(torch.tensor(discrete.problem.x0))
    np.testing.assert_allclose(states.detach(), discrete.states(w), rtol=0, atol=1e-12)
    np.testing.assert_allclose(states.detach(), evaluator.states(w), rtol=0, atol=1e-12)
    assert torch.equal(network(torch.tensor(discrete.problem.x0)), states[-1])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_the_sweep(name, recompute, rule):
    """d/dw of Σ c·x for a random c over all states, by autograd and by the backward sweep.

    Controls that only the cost reads do not move the states: no gradient, zeros in the sweep.
    """
    discrete, evaluator, w, network = drawn(name, rule, recompute=recompute)
    sweep, data = evaluator.sweep, evaluator.sweep.everyone
    c = torch.tensor(
        np.random.default_rng(4).standard_normal((discrete.depth + 1, *discrete.problem.x0.shape))
    )
    (network.states(torch.tensor(discrete.problem.x0)) * c).sum().backward()
    found = {k: network.controls[k].grad for k in network.controls}
    u, out = evaluator.vectors.controls(w), evaluator.vectors.views(evaluator.vectors.zeros())
    with torch.no_grad():
        sweep.pull_back(u, data, *sweep.states(u, data), c, out)
    for key, expected in out.items():
        grad = torch.zeros_like(expected) if found[key] is None else found[key]
        np.testing.assert_allclose(
            grad, expected, rtol=0, atol=1e-12 * (1 + float(expected.abs().max()))
        )


@pytest.mark.parametrize("rule", RULES)
def test_second_derivatives(rule):
    """Double backward against differences of the gradient, and forward over backward against it."""
    problem = dnl.ControlProblem(
        x0=np.random.default_rng(1).standard_normal((2, 2)),
        dynamics=dnl.ODE(lambda t, x, u: u.v - x * dnl.namespace(x).sin(2 * x)),
        controls={"v": dnl.Control((2,), initial=0.3)},
        terminal=lambda x, c: dnl.namespace(x).sum(x**2),
    )
    discrete = dnl.discretise(problem, 3, rule)
    network, x0 = (
        Network(discrete, discrete.space.split(discrete.space.initial())),
        torch.tensor(problem.x0),
    )
    assert torch.autograd.gradgradcheck(network, (x0.requires_grad_(),))
    twice = torch.func.jacrev(torch.func.jacrev(lambda x: network(x).sum()))(x0.detach())
    mixed = torch.func.hessian(lambda x: network(x).sum())(x0.detach())
    np.testing.assert_allclose(mixed.detach(), twice.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_no_samples(rule):
    discrete, _, _, network = drawn("vector Volterra, squared", rule)
    nothing = torch.tensor(discrete.problem.x0[:0])
    assert network(nothing).shape == nothing.shape


def test_recomputing_keeps_less():
    """What the graph keeps for the triangle.

    It grows like L² for autograd, like L with columns formed again.
    """
    kept = {}
    for L in (16, 32):
        for recompute in (False, True):
            discrete = dnl.discretise(iris_dense.problem(samples=30), L)
            network = Network(
                discrete, discrete.space.split(np.zeros(discrete.space.size)), recompute=recompute
            )
            own = {p.untyped_storage().data_ptr() for p in network.parameters()}
            stores: dict[int, int] = {}

            def pack(t, own=own, stores=stores):
                store = t.untyped_storage()
                if store.data_ptr() not in own:
                    stores[store.data_ptr()] = store.nbytes()
                return t

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                x = network(torch.tensor(discrete.problem.x0))
            kept[L, recompute] = sum(stores.values())
            del x
    assert kept[32, False] / kept[16, False] > 3.5 and kept[32, True] / kept[16, True] < 2.5, kept


@pytest.fixture(scope="module")
def iris() -> dnl.Solution:
    return dnl.solve(iris_dense.problem(samples=30), 3, "adjoint")


def test_training_further_with_torch_stands_still_at_the_minimiser(iris):
    """The gradient of cost plus penalty vanishes there.

    Away from it the whole gradient is the evaluator's.
    """
    problem = iris.problem
    network = iris.to_module(head=True)
    labels = torch.tensor(problem.terminal.target).argmax(1)
    discrete = dnl.discretise(problem, 3)
    for shift in (0.0, 0.3):
        with torch.no_grad():
            for p in network.parameters():
                p += shift
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(torch.tensor(problem.x0)), labels).backward()
        w = discrete.space.assemble(network.guesses())
        g = discrete.space.assemble({k: network.controls[k].grad for k in network.controls})
        discrete.space.add_penalty_gradient(w, g)
        expected = Evaluator(discrete).value_and_gradient(w)[1]
        np.testing.assert_allclose(g, expected, rtol=0, atol=1e-12 * (1 + np.abs(expected).max()))
        assert shift or np.sqrt(g @ discrete.space.riesz(g)) <= iris.tolerance


def test_a_torch_optimiser_lowers_the_loss_and_the_result_is_a_start(iris):
    problem = iris_dense.problem(samples=30)
    start = dnl.discretise(problem, 3).space
    network = Network(dnl.discretise(problem, 3), start.split(start.initial()), head=True)
    x0, labels = torch.tensor(problem.x0), torch.tensor(problem.terminal.target).argmax(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x0), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    polished = dnl.solve(problem, 3, "adjoint", start=network.guesses())
    assert polished.success
    assert polished.value == pytest.approx(iris.value, abs=1e-10)


def test_head(iris):
    x0 = torch.tensor(iris.problem.x0)
    plain, headed = iris.to_module(), iris.to_module(head=True)
    expected = (
        iris.states[-1] @ iris.controls["head_W"].values[0].T + iris.controls["head_c"].values[0]
    )
    np.testing.assert_allclose(headed(x0).detach(), expected, rtol=0, atol=1e-12)
    assert torch.equal(plain.predict(x0), headed(x0))
    np.testing.assert_allclose(plain(x0).detach(), iris.states[-1], rtol=0, atol=1e-12)


def test_state_dict_round_trip(iris, tmp_path):
    x0 = torch.tensor(iris.problem.x0)
    network = iris.to_module()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = Network(
        network.discrete, network.discrete.space.split(np.zeros(network.discrete.space.size))
    )
    assert not torch.allclose(other(x0), network(x0))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x0), network(x0))
    assert set(network.state_dict()) == {f"controls.{k}" for k in iris.controls}
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.controls["W"].zero_()
    assert torch.equal(other(x0), network(x0))
    assert not torch.allclose(copied(x0), network(x0))


def test_precision(iris):
    """.to(float32) converts controls, nodes and formulas.

    The result is within the new precision of the old one.
    """
    x0 = torch.tensor(iris.problem.x0)
    network = iris.to_module().to(torch.float32)
    x = network(x0.float())
    assert x.dtype == torch.float32
    # three layers of O(10) sums
    np.testing.assert_allclose(x.detach(), iris.states[-1], rtol=0, atol=1e-4)
    with pytest.raises(dnl.InputError, match=r"x0: got torch\.float64"):
        network(x0)
    network.double()
    np.testing.assert_allclose(network(x0).detach(), iris.states[-1], rtol=0, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "name",
    ["attention, target", "free term, feature and outer, squared", "Dense C without bias, squared"],
)
def test_device(name):
    discrete, _, w, network = drawn(name)
    states = network.to("cuda").states(torch.tensor(discrete.problem.x0, device="cuda"))
    np.testing.assert_allclose(states.detach().cpu(), discrete.states(w), rtol=0, atol=1e-12)


def test_names_that_a_module_has_for_itself():
    """A control may be called ``type`` or ``double``."""
    problem = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: u["type"] * x + u["double"]),
        controls={"type": dnl.Control(()), "double": dnl.Control((), on="const")},
    )
    discrete = dnl.discretise(problem, 2)
    network = Network(discrete, {"type": np.ones(2), "double": np.ones(1)})
    assert network(torch.ones(1, 1, dtype=torch.float64)).item() == 3.5  # x -> x + (x + 1)/2 twice
    assert sorted(k for k, _ in network.named_parameters()) == ["controls.double", "controls.type"]


def test_project():
    problem = dnl.ControlProblem(
        x0=np.ones((1, 2)),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((2,), lower=-1.0, upper=[0.5, np.inf])},
    )
    network = Network(dnl.discretise(problem, 2), {"u": np.array([[3.0, 3.0], [-3.0, -3.0]])})
    network.project()
    assert network.guesses()["u"].tolist() == [[0.5, 3.0], [-1.0, -1.0]]


def test_refusals(iris, tmp_path):
    with pytest.raises(
        dnl.InputError, match=r"solution\.problem: got None; allowed: a solution with its problem"
    ):
        replace(iris, problem=None).to_module()
    network = iris.to_module()
    with pytest.raises(dnl.InputTypeError, match=r"x0: got .*; allowed: a torch\.Tensor"):
        network(iris.problem.x0)
    with pytest.raises(
        dnl.InputError, match=r"x0: got shape \(4,\); allowed: shape \(N, \*\(4,\)\)"
    ):
        network(torch.ones(4, dtype=torch.float64))
    plain = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ResNet(1),
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.H1("K", 1.0), dnl.H1("b", 1.0)],
    )
    with pytest.raises(dnl.InputError, match="x0: got a tensor on meta; allowed: a tensor on cpu"):
        iris.to_module()(torch.zeros(2, 4, dtype=torch.float64, device="meta"))
    with pytest.raises(dnl.InputError, match="head: got True; allowed: False for a terminal loss"):
        dnl.solve(plain, 2, "adjoint").to_module(head=True)
    implicit = dnl.solve(plain, 3, "adjoint", rule="trapezoid")
    x0 = torch.ones((2, 1), dtype=torch.float64)
    assert implicit.to_module()(x0).shape == (2, 1)
    for call in (
        implicit.to_module().export,
        lambda: dnl.export_onnx(implicit, tmp_path / "a.onnx"),
    ):
        with pytest.raises(
            dnl.InputError, match="export: got layers of the rule 'trapezoid', which are implicit"
        ):
            call()


# in the quick run: joined arrays, constants, a rank-2 state, a batched kernel, a dense network, an
# ODE
QUICK = {
    "outer, squared",
    "free term, user",
    "attention, target",
    "batched Volterra, logistic head",
    "Dense A, squared",
    "ResNet, user",
}
EXPORTED = [pytest.param(k, marks=[] if k in QUICK else [pytest.mark.slow]) for k in CASES]


@pytest.mark.parametrize("name", EXPORTED)
def test_export(name):
    """The exported program, for another number of samples."""
    discrete, _, _, network = drawn(name)
    x0 = torch.tensor(np.random.default_rng(0).standard_normal((5, *discrete.problem.state_shape)))
    found = network.export().module()(x0)
    np.testing.assert_allclose(found.detach(), network(x0).detach(), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_onnx(name, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    discrete, _, _, network = drawn(name)
    network.to_onnx(tmp_path / "network.onnx")
    x0 = np.random.default_rng(0).standard_normal((5, *discrete.problem.state_shape))
    (found,) = runtime.InferenceSession(str(tmp_path / "network.onnx")).run(None, {"x0": x0})
    np.testing.assert_allclose(found, network(torch.tensor(x0)).detach(), rtol=0, atol=1e-12)


def test_export_onnx_takes_the_head(iris, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    for head, shape in ((True, (30, 3)), (False, (30, 4))):
        dnl.export_onnx(iris, tmp_path / "iris.onnx", head=head)
        (found,) = runtime.InferenceSession(str(tmp_path / "iris.onnx")).run(
            None, {"x0": iris.problem.x0}
        )
        assert found.shape == shape
    iris.to_module().to(torch.float32).to_onnx(tmp_path / "iris.onnx")
    session = runtime.InferenceSession(str(tmp_path / "iris.onnx"))
    (found,) = session.run(None, {"x0": iris.problem.x0.astype(np.float32)})
    np.testing.assert_allclose(found, iris.states[-1], rtol=0, atol=1e-4)


def test_onnx_missing(iris, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'dnlcontrol\[onnx\]'"):
        dnl.export_onnx(iris, tmp_path / "iris.onnx")
