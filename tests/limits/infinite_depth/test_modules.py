"""Stacks read from torch modules equal the modules."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D


def test_from_module():
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 5), nn.ReLU()), nn.Linear(5, 2)
    ).double()
    x = np.random.default_rng(0).standard_normal(3)
    stack = D.from_module(net, tail=D.Zero())
    np.testing.assert_allclose(stack(x), net[:3](torch.tensor(x)).detach().numpy(), rtol=1e-13)
    assert D.certify(stack, x).network == "converges"
    images = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(3, 3, (3, 5), padding="same", bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
    ).double()
    x = np.random.default_rng(1).standard_normal((2, 4, 5))
    expected = images(torch.tensor(x)[None]).detach().numpy()[0]
    np.testing.assert_allclose(
        D.from_module(images, input_size=(4, 5))(x.ravel()), expected, rtol=1e-12, atol=1e-13
    )
    with pytest.raises(dnl.InputError, match="input_size"):
        D.from_module(images)
    for bad in (
        nn.Sequential(nn.Linear(3, 3), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.LeakyReLU()),
        nn.Sequential(nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU()),
    ):
        with pytest.raises(dnl.InputError):
            D.from_module(bad, input_size=(4, 4))


def residual_nets():
    """Modules with residual blocks, their input's shape, and how many layers are blocks."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, first, *rest, act=torch.relu, out=None):
            super().__init__()
            self.layers = nn.ModuleList([first, *rest])
            self.act = act
            self.out = out or nn.Identity()

        def forward(self, x):
            z = x
            for layer in self.layers[:-1]:
                z = self.act(layer(z))
            return self.act(self.out(self.layers[-1](z)) + x)

    def linear(a, b):
        return nn.Linear(a, b).double()

    def conv(a, b, norm=True):
        layer = nn.Conv2d(a, b, 3, padding="same").double()
        return nn.Sequential(layer, nn.BatchNorm2d(b).double()) if norm else layer

    stem = nn.Sequential(linear(3, 4), nn.ReLU())
    dense = nn.Sequential(
        stem, Block(linear(4, 7), linear(7, 4)), Block(linear(4, 4)), linear(4, 2)
    )
    leaky = nn.Sequential(Block(linear(3, 2), linear(2, 5), linear(5, 3), act=nn.LeakyReLU(0.2)))
    images = nn.Sequential(
        conv(2, 3),
        nn.ReLU(),
        Block(conv(3, 4, False), conv(4, 3)),
        Block(conv(3, 3)),
        nn.Flatten(),
        linear(60, 2),
    )
    for norm in (m for m in images.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            values.copy_(torch.rand(norm.num_features) + 0.5)
    return [(dense, (3,), 2, 3), (leaky, (3,), 1, 1), (images.eval(), (2, 4, 5), 2, 3)]


@pytest.mark.parametrize("case", range(3))
def test_from_residual_modules(case):
    """The stack equals the recorded forward up to the read-out; blocks are found by the sums."""
    import torch

    torch.manual_seed(0)
    net, shape, blocks, depth = residual_nets()[case]
    stack = D.from_module(net, input_size=shape[1:] or None, tail=D.Zero())
    assert stack.residual
    assert stack.depth == depth
    assert sum(type(stack.layer(n)).__name__ == "Block" for n in range(1, depth + 1)) == blocks
    x = np.random.default_rng(3).standard_normal(shape)
    kept = net[:-1] if case != 1 else net
    expected = kept(torch.tensor(x)[None]).detach().numpy().ravel()
    np.testing.assert_allclose(stack(x.ravel()), expected, rtol=1e-12, atol=1e-12)
    form = D.affine_form(stack, x.ravel())
    np.testing.assert_allclose(form(x.ravel()), expected, rtol=1e-11, atol=1e-11)
    report = D.certify(stack, x.ravel())
    assert report.network == "converges"
    # Zero: only the negative part changes beyond
    error = np.linalg.norm(np.minimum(stack(x.ravel()), 0))
    assert abs(report.bound - error) <= 1e-12 * (1 + error)


def test_a_forward_is_read_as_it_is_not_as_it_was_written_down():
    """The order of use, one activation used twice; what is no residual block is refused by name."""
    import torch
    from torch import nn

    class Any(nn.Module):
        def __init__(self, forward):
            super().__init__()
            self.two = nn.Linear(3, 3)
            self.act = nn.ReLU()
            self.one = nn.Linear(3, 3)
            self.told = forward

        def forward(self, x):
            return self.told(self, x)

    net = Any(lambda m, x: m.act(m.two(m.act(m.one(x)))))
    x = np.array([0.3, -1.0, 2.0])
    expected = net(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(D.from_module(net)(x), expected, rtol=1e-5, atol=1e-6)
    for forward, message in (
        (lambda m, x: m.one(x) + x, "without an activation after it"),
        (lambda m, x: m.act(m.one(x) + m.two(x)), "a sum of"),
        (lambda m, x: m.act(m.act(m.one(x)) + x), "a sum of"),
        (lambda m, x: m.act(m.two(x + m.one(x))), "after a sum"),
        (lambda m, x: m.act(m.one(x)) * 2, "mul"),
        (lambda m, x: m.act(m.one(x)) if x.sum() > 0 else x, "cannot record"),
        (lambda m, x: m.act(m.one(x) + 1.0), "1.0"),
        (lambda m, x: torch.flatten(m.act(m.one(x))), "flatten"),
    ):
        with pytest.raises(dnl.InputError, match=message):
            D.from_module(Any(forward))
    with pytest.raises(dnl.InputError, match="eval mode"):
        D.from_module(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()))


def refused(forward) -> str:
    """What from_module says of a forward of one Linear layer, called l."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Linear(3, 3)

    torch.manual_seed(0)
    Net.forward = forward
    with pytest.raises(dnl.InputError) as error:
        D.from_module(Net())
    return str(error.value)


def test_sums_are_read_whole():
    import torch

    assert "alpha" in refused(lambda self, x: torch.relu(torch.add(x, self.l(x), alpha=2)))
    assert "alpha" in refused(lambda self, x: torch.relu(x.add(self.l(x), alpha=-1)))
    assert "2 inputs" in refused(lambda self, x, y: torch.relu(y + self.l(y)))
    assert "relu" in refused(lambda self, x: [torch.relu(self.l(x))])
    # x_ is no operation in place
    assert "without an activation after it" in refused(lambda self, x_: x_ + self.l(x_))


def test_operations_in_place_are_followed():
    """What was overwritten may not be used again.

    torch.fx records h += y as h + y, so that only trying it tells.
    """
    import torch
    from torch import nn

    def adds(self, x):
        h = torch.relu(self.l(x))
        h.add_(self.l(h))
        return torch.relu(h + self.l(h))

    def cuts(self, x):
        h = self.l(x)
        nn.functional.relu(h, inplace=True)
        return torch.relu(h)

    def views(self, x):
        h = torch.relu(self.l(x))
        view = torch.flatten(h, 1)
        h.add_(self.l(h))
        return torch.relu(view + self.l(view))

    def hidden(self, x):
        h = view = torch.relu(self.l(x))
        h += self.l(h)
        return torch.relu(view + self.l(view))

    for forward in (adds, cuts, views):
        assert "used again" in refused(forward)
    assert "differs from its recorded layers" in refused(hidden)
    net = nn.Sequential(
        nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 3), nn.LeakyReLU(0.0, True)
    ).double()
    for p in net.parameters():  # not representable in float32
        nn.init.normal_(p)
    x = torch.linspace(-1, 1, 3, dtype=torch.float64)
    np.testing.assert_allclose(
        D.from_module(net)(x.numpy()), net(x).detach(), rtol=1e-14, atol=1e-14
    )


def test_the_stack_is_tried_against_the_module():
    """A hook is not recorded; the module itself stays as it was.

    Rounding is no disagreement, also in deep nets.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).train()
    D.from_module(net)
    assert net.training
    assert net[0].weight.dtype == torch.float32
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.raises(dnl.InputError, match="differs from its recorded layers"):
        D.from_module(net)
    # about He's initialisation times the scale; the last overflows in float32
    for scale in (0.01, 1.0, 1000.0):
        layers = [nn.Linear(20, 20).double() for _ in range(20)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=scale * 0.3)
        deep = nn.Sequential(
            *(m for layer in layers for m in (layer, nn.BatchNorm1d(20).double(), nn.ReLU()))
        ).eval()
        for norm in deep[1::3]:  # W x + b - μ cancels
            norm.running_mean += 1e3
        for layer in layers:
            layer.bias.data += 1e3
        assert D.from_module(deep).depth == 20
