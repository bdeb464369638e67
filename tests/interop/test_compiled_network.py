"""torch.compile takes a network whole: one graph, the same numbers and gradients."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.interop.built_in import MADE, network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own
QUICK = ("ResNet, relu", "Dense A of convolutions", "exponential memory")


@pytest.fixture(autouse=True)
def forgotten():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_same(name: str, backend: str, tolerance: float) -> None:
    """States and gradients; a graph is one whole, for another number of samples too."""
    net, x0 = network(name)
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x0), net(x0), rtol=0, atol=tolerance)
    parameters = list(net.parameters())
    ours, theirs = (
        torch.autograd.grad((run(x0) ** 2).sum(), parameters, allow_unused=True)
        for run in (compiled, net)
    )
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=tolerance)
    torch.testing.assert_close(compiled(x0[:3]), net(x0[:3]), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", QUICK)
def test_graphs_of_some(name):
    assert_same(name, "aot_eager", 1e-14)  # the same operations; sums may be fused


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MADE if name not in QUICK])
def test_graphs_of_all(name):
    assert_same(name, "aot_eager", 1e-14)


@pytest.mark.parametrize("name", MADE)
def test_one_graph(name):
    net, x0 = network(name)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x0), net(x0))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["ResNet, relu", "Dense C"])
def test_compiled_code(name):
    assert_same(name, "inductor", 1e-12)  # O(10) sums of O(1) terms in another order


def test_parameters_and_precision_are_read_anew():
    net, x0 = network("Dense C")
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    compiled(x0)
    with torch.no_grad():
        net.controls["W"].mul_(2.0)
    assert torch.equal(compiled(x0), net(x0))
    net.float()
    assert torch.equal(compiled(x0.float()), net(x0.float()))


def test_implicit_layers_are_refused():
    """A graph cannot hold a loop that ends when it has converged."""
    net, x0 = network("ResNet, tanh", "trapezoid")
    with pytest.raises(Exception, match="rule 'trapezoid', which are implicit"):
        torch.compile(net, fullgraph=True, backend="eager")(x0)
