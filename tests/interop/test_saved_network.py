"""A network survives pickle, torch.save, copies and another process; data and costs stay behind."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.interop.network import Network
from tests.interop.built_in import MADE, network


def pickled(net: Network) -> Network:
    return pickle.loads(pickle.dumps(net))


def saved(net: Network) -> Network:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("trip", [pickled, saved, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("name", MADE)
def test_outputs_are_the_same_bits(name, trip):
    net, x0 = network(name)
    other = trip(net)
    assert torch.equal(other(x0), net(x0))
    assert list(other.state_dict()) == list(net.state_dict())


def test_implicit_layers():
    net, x0 = network("Dense C", "trapezoid")
    assert torch.equal(pickled(net)(x0), net(x0))


def classifier(rows: int = 40) -> Network:
    rng = np.random.default_rng(0)
    x0 = rng.standard_normal((rows, 2))
    problem = dnl.ControlProblem(
        x0=x0,
        dynamics=dnl.Dense(2),
        terminal=dnl.losses.cross_entropy((x0[:, 0] > 0).astype(int), head=dnl.head(2, 2)),
    )
    discrete = dnl.discretise(problem, 3)
    w = rng.standard_normal(discrete.space.size)
    return Network(discrete, discrete.space.split(w), head=True)


def test_a_loss_with_a_head():
    net = classifier()
    other, x0 = pickled(net), torch.tensor(net.problem.x0)
    assert torch.equal(other(x0), net(x0))
    assert other.head
    assert other.has_head
    other.head = False
    assert torch.equal(other(x0), net.states(x0)[-1])


def test_data_and_costs_stay_behind():
    """The file of 4,000 samples is as long as that of 40; a cost of the user's may be a lambda."""
    assert len(pickle.dumps(classifier(4000))) == len(pickle.dumps(classifier(40)))
    problem = dnl.ControlProblem(
        x0=np.ones((3, 2)),
        dynamics=dnl.ResNet(2),
        controls={"p": dnl.Control((2,), on="const"), "v": dnl.Control((), lower=-1.0)},
        terminal=lambda x, c: dnl.namespace(x).sum(c.p * x),
        running=lambda t, x, u: u.v**2,
    )
    discrete = dnl.discretise(problem, 2)
    net = Network(discrete, discrete.space.split(np.full(discrete.space.size, -3.0)))
    other, x0 = pickled(net), torch.tensor(problem.x0)
    assert torch.equal(other(x0), net(x0))
    assert set(other.guesses()) == {"K", "b", "p", "v"}
    other.project()  # bounds are kept
    assert other.guesses()["v"].tolist() == [-1.0, -1.0]
    assert other.guesses()["p"].tolist() == [[-3.0, -3.0]]


def test_state_of_training_and_precision():
    net, x0 = network("ResNet, tanh")
    net.controls["K"].requires_grad_(False)
    net.float().eval()
    other = saved(net)
    assert not other.training
    assert not other.controls["K"].requires_grad
    assert other.controls["b"].requires_grad
    assert torch.equal(other(x0.float()), net(x0.float()))


def test_a_formula_without_a_name():
    """pickle says in one line why not; cloudpickle, which keeps functions by value, takes it."""
    cloudpickle = pytest.importorskip("cloudpickle")
    problem = dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: u.u * x),
        controls={"u": dnl.Control((), initial=0.5)},
    )
    discrete = dnl.discretise(problem, 2)
    net = Network(discrete, {"u": np.array([0.5, 0.25])})
    with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
        pickle.dumps(net)
    said = str(caught.value)
    assert "network of ODE: got a formula without a name to import it by" in said
    assert "state_dict()" in said
    assert "\n" not in said
    x0 = torch.ones((1, 1), dtype=torch.float64)
    assert torch.equal(cloudpickle.loads(cloudpickle.dumps(net))(x0), net(x0))
    assert torch.equal(copy.copy(net)(x0), net(x0))


def _answer(net: Network, x0: torch.Tensor, queue: multiprocessing.Queue) -> None:
    queue.put(net(x0).detach().numpy())


@pytest.mark.slow
def test_another_process():
    net, x0 = network("Dense C")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_answer, args=(net, x0, queue))
    worker.start()
    found = queue.get(timeout=300)
    worker.join()
    np.testing.assert_array_equal(found, net(x0).detach().numpy())
