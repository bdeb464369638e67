"""Networks trained here as stacks, and stacks whose blocks have no outer activation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.interop.network import Network
from dnlcontrol.limits.infinite_depth import (
    Decay,
    PowerLaw,
    Stack,
    Tail,
    Zero,
    affine_form,
    certify,
    from_module,
    from_rule,
)


def trained(dynamics: dnl.Dynamics, rule: str = "left", head: bool = False) -> Network:
    """A network of random controls; three inputs of its problem."""
    rng = np.random.default_rng(5)
    width = dynamics.nodes if isinstance(dynamics, dnl.WidthPDE) else 3
    x0 = rng.standard_normal((3, width))
    top = {"head": dnl.head(2, width)} if head else {}
    target = np.zeros((3, 2 if head else width))
    problem = dnl.ControlProblem(
        x0=x0, dynamics=dynamics, terminal=dnl.losses.squared(target, **top), horizon=1.5
    )
    discrete = dnl.discretise(problem, 4, rule)
    w = rng.standard_normal(discrete.space.size)
    return Network(discrete, discrete.space.split(w), head=head)


@pytest.mark.parametrize(
    "dynamics",
    [
        dnl.ResNet(3, dnl.relu),
        dnl.ResNet(3, dnl.leaky_relu),
        dnl.ResNet(3, dnl.identity),
        dnl.WidthPDE(4, activation=dnl.relu),
        dnl.WidthPDE(4, "gauss", dnl.relu),
    ],
)
def test_the_stack_is_the_network(dynamics):
    network = trained(dynamics)
    stack = from_module(network)
    x = np.random.default_rng(6).standard_normal((5, stack.width))
    states = network.states(torch.tensor(x)).detach().numpy()
    for depth in range(5):
        np.testing.assert_allclose(stack(x, depth), states[depth], rtol=0, atol=1e-12)
    assert stack.depth == 4


def test_of_a_solution():
    """Solved, in float32 and with a head: the stack is that of the states."""
    rng = np.random.default_rng(5)
    x0 = rng.normal(size=(12, 2))
    target = np.sign(x0[:, :1] * x0[:, 1:]) * 0.8
    problem = dnl.ControlProblem(
        x0=x0,
        dynamics=dnl.ResNet(2, activation=dnl.relu),
        terminal=dnl.losses.squared(x0 + target),
        regularisers=[dnl.H1("K", 1e-1), dnl.H1("b", 1e-1)],
    )
    start = {"K": dnl.smooth_random(1, 0.5), "b": dnl.smooth_random(10, 0.5)}
    solution = dnl.solve(problem, 4, "adjoint", start=start)
    np.testing.assert_allclose(
        from_module(solution.to_module())(x0), solution.states[-1], atol=1e-12
    )
    headed = trained(dnl.ResNet(3, dnl.relu), head=True)
    plain = headed.states(torch.tensor(headed.problem.x0))[-1].detach()
    np.testing.assert_allclose(from_module(headed)(headed.problem.x0), plain, atol=1e-12)
    single = solution.to_module().float()
    np.testing.assert_allclose(from_module(single)(x0), solution.states[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("dynamics", "rule", "said"),
    [
        (dnl.ResNet(3), "left", "ResNet with the activation tanh, which is not max"),
        (dnl.WidthPDE(4), "left", "WidthPDE with the activation tanh"),
        (dnl.Dense(3, "A"), "left", "layers of Dense, each of which reads all earlier ones"),
        (dnl.Dense(3, "B"), "left", "layers of Dense, each of which reads all earlier ones"),
        (dnl.Dense(3, "C", dnl.relu), "left", "layers of Dense, each of which reads all"),
        (dnl.ResNet(3, dnl.relu), "trapezoid", "implicit layers of the rule 'trapezoid'"),
        (dnl.ODE(lambda t, x, u: 1.0 - x), "left", "layers of ODE, whose formula may be anything"),
    ],
)
def test_what_the_theory_does_not_cover(dynamics, rule, said):
    with pytest.raises(dnl.InputError, match=said) as caught:
        from_module(trained(dynamics, rule))
    assert "\n" not in str(caught.value)


def decaying(n: int, slope: float = 1.0) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """x + n⁻² σ(K x + b): p_n = ‖K‖/n², β_n = ‖b‖/n²."""
    K, b = np.array([[0.3, -0.8], [0.5, 0.2]]), np.array([0.4, -0.6])
    return [K, slope * np.eye(2) / n**2], [b, None]


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("x", [[1.0, -2.0], [-2.0, -3.0]])
def test_the_bound_holds_without_outer_activations(slope, x):
    """Against the state 3,000 layers on, whose own distance from the limit is in the tail's sum."""
    K, b = (part[0] for part in decaying(1))
    tail = Tail(PowerLaw(float(np.linalg.norm(K, 2)), 2), PowerLaw(float(np.linalg.norm(b)), 2))
    stack = from_rule(decaying, residual=True, outer=False, slope=slope, tail=tail)
    far = stack(np.array(x), 3000)
    for depth in (1, 5, 40):
        report = certify(stack, np.array(x), depth=depth)
        gap = float(np.linalg.norm(far - stack(np.array(x), depth)))
        assert report.network == "converges"
        assert 0 < gap <= report.bound <= 60 * gap
    assert report.depth_for(1e-3) > 40


def test_negative_states_pass():
    """With the outer σ the same layers cut them."""
    x = np.array([-1.0, -2.0])
    pair = [[np.zeros((2, 2)), np.zeros((2, 2))]]
    assert Stack(pair, residual=True, outer=False)(x).tolist() == [-1.0, -2.0]
    assert Stack(pair, residual=True)(x).tolist() == [0.0, 0.0]
    report = certify(Stack(pair, residual=True, outer=False, tail=Tail(Zero(), Zero())), x)
    assert report.bound <= 1e-12


def test_the_affine_form():
    stack = from_module(trained(dnl.ResNet(3, dnl.relu)))
    x = np.random.default_rng(8).standard_normal(3)
    form = affine_form(stack, x)
    for y in (x, x + 1e-7):  # inside of the domain
        np.testing.assert_allclose(form(y), stack(y), rtol=0, atol=1e-12)
    assert all(pattern.all() for pattern in form.patterns[1::2])


def test_refusals():
    with pytest.raises(dnl.InputError, match="outer: got False; allowed: True for plain layers"):
        Stack([np.eye(2)], outer=False)
    with pytest.raises(dnl.InputError, match="a plain layer; allowed: residual blocks alone"):
        Stack([np.eye(2)], residual=True, outer=False)
    with pytest.raises(dnl.InputTypeError, match="outer"):
        Stack([[np.eye(2)]], residual=True, outer=1)
    stack = from_rule(decaying, residual=True, outer=False)
    with pytest.raises(dnl.InputError, match="hypotheses: got Decay for a stack without outer"):
        certify(stack, np.ones(2), depth=3, hypotheses=Decay(PowerLaw(0.1, 1)))
