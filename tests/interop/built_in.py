"""Networks of every built-in dynamics, with formulas that can be imported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import dnlcontrol as dnl
from dnlcontrol.interop.network import Network

ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "softplus", "identity")


def velocity(t, x, u):
    return u.u - x * dnl.namespace(x).sin(t)


def fading(t, s, y, u):
    return u.w @ y * dnl.namespace(y).exp(s - t)


def factors(t):
    return [t, -1.0]


def ramp(s, x, u):
    return [u.u, s * u.u * x]


def pulled(s, x, u):
    return u.u - x


PATH = {"u": dnl.Control((2,))}
TRIANGLE = {"w": dnl.Control((2, 2), on="ts")}
Parts = tuple[dnl.Dynamics, tuple[int, ...], dict[str, dnl.Control]]


def _attention() -> Parts:
    feature = dnl.Attention(3, 2)
    return dnl.Dense(6, "A", feature=feature, feature_controls=feature.controls), (6,), {}


def _convolution() -> Parts:
    feature = dnl.Convolution((3, 3), 1)
    return dnl.Dense(9, "A", feature=feature, feature_controls=feature.controls), (9,), {}


MADE: dict[str, Callable[[], Parts]] = {
    **{f"ResNet, {a}": lambda a=a: (dnl.ResNet(2, getattr(dnl, a)), (2,), {}) for a in ACTIVATIONS},
    **{f"Dense {form}": lambda form=form: (dnl.Dense(2, form), (2,), {}) for form in "ABC"},
    "Dense A of attention": _attention,
    "Dense A of convolutions": _convolution,
    "DenseNet B": lambda: (dnl.DenseNet((3, 3), 2), (9, 2), {}),
    "DenseNet C of signals": lambda: (dnl.DenseNet((4,), 2, form="C"), (4, 2), {}),
    "DenseTransformer": lambda: (
        dnl.DenseTransformer(3, 2, hidden=3, normalise=True, causal=True),
        (3, 2),
        {},
    ),
    "DenseTransformer without weights": lambda: (
        dnl.DenseTransformer(2, 4, heads=2, depth_weights=False),
        (2, 4),
        {},
    ),
    "WidthPDE": lambda: (dnl.WidthPDE(4), (4,), {}),
    "WidthPDE at Gauss's nodes": lambda: (dnl.WidthPDE(4, "gauss", dnl.relu), (4,), {}),
    "ODE": lambda: (dnl.ODE(velocity), (2,), PATH),
    "Volterra": lambda: (dnl.Volterra(fading), (2,), TRIANGLE),
    "Separable": lambda: (dnl.Separable(factors, ramp), (2,), PATH),
    "exponential memory": lambda: (dnl.exponential_memory([1.0, 4.0], pulled), (2,), PATH),
}


def network(name: str, rule: str = "left", depth: int = 2) -> tuple[Network, torch.Tensor]:
    """A network with random controls, and five inputs."""
    dynamics, shape, controls = MADE[name]()
    rng = np.random.default_rng(7)
    x0 = rng.standard_normal((5, *shape))
    problem = dnl.ControlProblem(x0=x0, dynamics=dynamics, controls=controls)
    discrete = dnl.discretise(problem, depth, rule)
    w = discrete.space.initial() + 0.3 * rng.standard_normal(discrete.space.size)
    return Network(discrete, discrete.space.split(w)), torch.tensor(x0)
