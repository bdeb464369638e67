"""Summable initialisation and projection, and the experiment that uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D
from dnlcontrol.limits.init import project_matrix, project_vector

ROOT = Path(__file__).parents[2]
NORMS = (1, 2, np.inf)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("M", [None, 1, 2, 3])
def test_the_random_nets_lie_on_the_summable_set(norm, M):
    """The declared majorants hold for every layer, and are attained by p_n."""
    scheme = dnl.init.summable(0.5, scale=1.3, bias_scale=0.7, norm=norm)
    arrays = scheme.plain(5, 30, seed=1) if M is None else scheme.residual(5, 30, M, seed=1)
    stack = D.Stack(*arrays, residual=M is not None, tail=scheme.tail(M))
    tail = scheme.tail(M)
    for n in range(1, 31):
        layer = stack.layer(n)
        assert layer.perturbation(norm) == pytest.approx(tail.weights.at(n), rel=1e-9)
        assert layer.perturbation(norm) <= tail.weights.at(n)
        assert layer.bias(norm) <= tail.biases.at(n)
    report = D.certify(stack, np.ones(5), norm=norm)
    assert (report.condition, report.network) == ("satisfied", "converges")
    assert np.isfinite(report.bound)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("M", [1, 2, 3])
def test_increments_of_random_residual_nets(alpha, M):
    """The root mean square of ‖x^n - x^{n-1}‖ over 16 inputs decays like n^-(1+α).

    The fitted slope is right to ± 0.05.
    """
    width, depth = 16, 512
    weights, biases = dnl.init.summable(alpha).residual(width, depth, M)
    x = np.abs(np.random.default_rng(1).standard_normal((16, width)))
    increments = []
    stack = D.Stack(weights, biases, residual=True)
    for n in range(1, depth + 1):
        layer = stack.layer(n)
        after = stack.activation(layer.before(x, stack.activation))
        increments.append(np.sqrt(np.mean(np.sum((after - x) ** 2, 1))))
        x = after
    n = np.arange(1, depth + 1)
    tail = n >= 16
    slope = np.polyfit(np.log(n[tail]), np.log(np.array(increments)[tail]), 1)[0]
    assert abs(slope + 1 + alpha) <= 0.05


@pytest.mark.parametrize("norm", NORMS)
def test_projection_is_the_nearest_point(norm):
    """y is the projection of A onto a convex set iff <A - y, z - y> <= 0 for all members z."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        A, b = rng.standard_normal((4, 4)), rng.standard_normal(6)
        Y, y = project_matrix(A, 0.8, norm), project_vector(b, 0.8, norm)
        assert np.linalg.norm(Y, norm) <= 0.8
        assert np.linalg.norm(y, norm) <= 0.8
        np.testing.assert_array_equal(project_matrix(Y, 0.8, norm), Y)
        np.testing.assert_array_equal(project_vector(y, 0.8, norm), y)
        for _ in range(50):
            Z, z = rng.standard_normal((4, 4)), rng.standard_normal(6)
            Z *= 0.8 / np.linalg.norm(Z, norm)
            z *= 0.8 / np.linalg.norm(z, norm)
            assert np.sum((A - Y) * (Z - Y)) <= 1e-10  # the radius is lowered by 1e-12 of itself
            assert np.sum((b - y) * (z - y)) <= 1e-10
    small = np.full((2, 2), 0.1)
    assert project_matrix(small, 1.0, norm) is small
    assert not project_vector(np.ones(3), 0.0, norm).any()


@pytest.mark.parametrize("M", [None, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_projection_keeps_training_on_the_summable_set(M, norm):
    import torch
    from torch import nn

    torch.manual_seed(0)
    scheme = dnl.init.summable(0.5, scale=0.5, norm=norm)
    net = nn.Sequential(
        nn.Linear(3, 4), *(nn.Linear(4, 4) for _ in range(6)), nn.Linear(4, 2)
    ).double()
    first = net[0].weight.detach().clone()
    scheme.initialise(net, M)
    assert scheme.project(net, M) == 0
    torch.testing.assert_close(net[0].weight.detach(), first)
    for layer in net[1:-1]:
        with torch.no_grad():
            layer.weight += torch.randn(4, 4).double()
            layer.bias += torch.randn(4).double()
    assert scheme.project(net, M) == 6
    assert scheme.project(net, M) == 0
    W = [layer.weight.detach().numpy() for layer in net[1:-1]]
    b = [layer.bias.detach().numpy() for layer in net[1:-1]]
    if M is not None:
        W, b = ([v[i : i + M] for i in range(0, 6, M)] for v in (W, b))
    stack, tail = D.Stack(W, b, residual=M is not None), scheme.tail(M)
    for n in range(1, stack.depth + 1):
        assert stack.layer(n).perturbation(norm) <= tail.weights.at(n)
        assert stack.layer(n).bias(norm) <= tail.biases.at(n)


def test_bad_input_is_named():
    from torch import nn

    for call, message in (
        (lambda: dnl.init.summable(0), "alpha"),
        (lambda: dnl.init.summable(0.5, norm=3), "norm"),
        (lambda: dnl.init.summable(0.5).plain(0, 2), "width"),
        (lambda: dnl.init.summable(0.5).project(nn.Linear(2, 3)), "square Linear"),
        (lambda: dnl.init.summable(0.5).initialise(nn.Linear(2, 2), inner=2), "multiple of 2"),
    ):
        with pytest.raises(dnl.InputError, match=message):
            call()


def test_the_experiment_runs_at_a_tiny_size(tmp_path):
    command = [
        sys.executable,
        "benchmarks/06_depth_initialisation.py",
        "--tiny",
        "--out",
        str(tmp_path),
    ]
    cifar = tmp_path / "cifar.npz"
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), np.arange(40) % 10
    np.savez(cifar, x_train=images, y_train=labels, x_test=images, y_test=labels)
    told = subprocess.run(
        [*command, "--cifar", str(cifar)], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert told.count("| plain | 4 | He |") == 2
    assert (tmp_path / "depth_initialisation.png").exists()
    assert (tmp_path / "depth_initialisation_cifar.png").exists()
