"""Random problems over every dynamics, loss and regulariser, for tests that hold for all of them.

``CASES`` names the combinations; ``build(name, seed)`` draws sizes (N 1..4, d 1..3, L 1..5), data
and parameters. Every formula is smooth and O(1) at controls of size O(1), so that values, slopes
and curvatures are O(1) too and tolerances can be stated in units of rounding.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import dnlcontrol as dnl

Rng = np.random.Generator


@dataclass(frozen=True)
class RandomProblem:
    """A problem and the depth at which it is looked at."""

    problem: dnl.ControlProblem
    depth: int


@dataclass(frozen=True)
class System:
    """A dynamics with the state's shape, its controls, and whether one is named v on the path."""

    dynamics: dnl.Dynamics
    shape: tuple[int, ...]
    controls: Mapping[str, dnl.Control] = field(default_factory=dict)

    @property
    def path(self) -> bool:
        return "v" in self.controls


@dataclass(frozen=True)
class Case:
    """One row of the table: builders by name, and the penalties on each kind of control."""

    system: Callable[[Rng, int], System]
    terminal: str | None
    running: str | None
    penalties: Mapping[str, tuple[str, ...]]
    least: int = 1  # the smallest d


# -- dynamics: one builder each, (rng, d) -> System ----------------------------------------------
def volterra_scalar(rng: Rng, d: int) -> System:
    a = rng.uniform(0.5, 1.5)

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return u.w * xp.sin(y) + xp.exp(a * (s - t)) * u.v**2

    return System(dnl.Volterra(kernel), (), {"w": dnl.Control((), on="ts"), "v": dnl.Control(())})


def volterra_vector(rng: Rng, d: int) -> System:
    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.tanh(u.W @ y + u.c) * xp.cos(t - s) - 0.2 * y * u.v

    controls = {
        "W": dnl.Control((d, d), on="ts"),
        "c": dnl.Control((d,), on="const"),
        "v": dnl.Control(()),
    }
    return System(dnl.Volterra(kernel), (d,), controls)


def volterra_without_state(rng: Rng, d: int) -> System:
    """k does not read y: x is linear in the control."""
    dynamics = dnl.Volterra(lambda t, s, y, u: (1.0 + t * s) * u.w)
    return System(dynamics, (d,), {"w": dnl.Control((d,), on="ts")})


def attention(rng: Rng, d: int) -> System:
    """A state of rank 2: (tokens, channels) with scaled dot-product attention."""
    tokens = int(rng.integers(2, 4))

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.softmax(y @ u.Q @ y.T, axis=-1) @ y @ u.V.T

    controls = {"Q": dnl.Control((d, d), on="t"), "V": dnl.Control((d, d), on="ts")}
    return System(dnl.Volterra(kernel), (tokens, d), controls)


def volterra_free_term(rng: Rng, d: int) -> System:
    a = rng.standard_normal((d, d))

    def free_term(t, x0):
        xp = dnl.namespace(x0)
        return xp.cos(t) * x0 + t * (xp.asarray(a) @ xp.sin(x0))

    def kernel(t, s, y, u):
        return (t - s) * u.w * y**2 + dnl.namespace(y).tanh(u.v) * y

    controls = {"w": dnl.Control((d,), on="ts"), "v": dnl.Control(())}
    return System(dnl.Volterra(kernel, free_term=free_term), (d,), controls)


def volterra_feature(rng: Rng, d: int) -> System:
    """y = F(s, x, v) is longer than x."""

    def feature(s, x, u):
        xp = dnl.namespace(x)
        return xp.concat([xp.sin(x + s * u.v), u.c * x])

    def kernel(t, s, y, u):
        return u.W @ y * dnl.namespace(y).exp(s - t)

    controls = {
        "W": dnl.Control((d, 2 * d), on="ts"),
        "v": dnl.Control((d,)),
        "c": dnl.Control((), on="const"),
    }
    return System(dnl.Volterra(kernel, feature=feature), (d,), controls)


def volterra_outer(rng: Rng, d: int) -> System:
    """g, z and x differ in shape; v is read by the outer map, so it has L+1 samples."""

    def free_term(t, x0):
        return dnl.namespace(x0).sum(x0) * dnl.namespace(x0).cos(t)

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.concat([u.w * y, xp.stack([xp.sum(y) * t])])

    def outer(t, g, z, u):
        xp = dnl.namespace(z)
        return g + xp.tanh(z[:-1] * u.v + z[-1]) + u.c * t

    controls = {
        "w": dnl.Control((d,), on="ts"),
        "v": dnl.Control((d,)),
        "c": dnl.Control((d,), on="const"),
    }
    return System(dnl.Volterra(kernel, free_term=free_term, outer=outer), (d,), controls)


def volterra_everything(rng: Rng, d: int) -> System:
    """Rank 2 with free term, feature and outer map; v is read by all three of F, k and G."""
    rows = int(rng.integers(1, 4))

    def free_term(t, x0):
        return x0 * (1.0 + 0.5 * t)

    def feature(s, x, u):
        return dnl.namespace(x).reshape(x, (-1,)) * (1.0 + s * u.v)

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.tanh(u.W @ y + u.b * u.v) * xp.exp(s - t)

    def outer(t, g, z, u):
        xp = dnl.namespace(g)
        return g + xp.sin(xp.reshape(xp.concat([z, u.v * u.c]), (rows, -1)))[:, 1:]

    m = rows * (d + 1)
    controls = {
        "W": dnl.Control((m - 1, rows * d), on="ts"),
        "b": dnl.Control((m - 1,), on="ts"),
        "v": dnl.Control(()),
        "c": dnl.Control((1,), on="const"),
    }
    dynamics = dnl.Volterra(kernel, free_term=free_term, feature=feature, outer=outer)
    return System(dynamics, (rows, d), controls)


def volterra_batched(rng: Rng, d: int) -> System:
    """The kernel comes with its own version over all later layers and samples."""

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.sin(u.W @ y) * (t - s) + u.v

    def batched(t, s, y, u):
        mixed = y @ u.W.transpose(1, 2)
        return dnl.namespace(mixed).sin(mixed) * (t - s)[:, None, None] + u.v

    controls = {"W": dnl.Control((d, d), on="ts"), "v": dnl.Control((d,))}
    return System(dnl.Volterra(kernel, batched=batched), (d,), controls)


def markov_outer(rng: Rng, d: int) -> System:
    """An O(L) recursion in z with a feature, a free term and an outer map."""

    def outer(t, g, z, u):
        return g + dnl.namespace(z).tanh(z) * (1.0 + u.v)

    dynamics = dnl.Volterra(
        kernel=lambda t, s, y, u: u.K @ y + s * u.v,
        free_term=lambda t, x0: x0 + 0.3 * t,
        feature=lambda s, x, u: dnl.namespace(x).sin(x) * u.c,
        outer=outer,
    )
    controls = {
        "K": dnl.Control((d, d)),
        "v": dnl.Control((d,)),
        "c": dnl.Control((d,), on="const"),
    }
    return System(dynamics, (d,), controls)


def markov_free_term(rng: Rng, d: int) -> System:
    """An O(L) recursion whose free term moves: x^{l+1} = x^l + g(t_{l+1}) - g(t_l) + τ k."""
    dynamics = dnl.Volterra(
        kernel=lambda t, s, y, u: dnl.namespace(y).tanh(y * u.v) + u.c * s,
        free_term=lambda t, x0: x0 * dnl.namespace(x0).exp(-t),
    )
    return System(dynamics, (d,), {"v": dnl.Control((d,)), "c": dnl.Control((), on="const")})


def uncontrolled_kernel(rng: Rng, d: int) -> System:
    """The only control of the state equation is in the outer map."""

    def kernel(t, s, y, u):
        xp = dnl.namespace(y)
        return xp.cos(t) * xp.sin(y) + s

    def outer(t, g, z, u):
        return g + z * u.v

    return System(dnl.Volterra(kernel, outer=outer), (d,), {"v": dnl.Control(())})


def ode_scalar(rng: Rng, d: int) -> System:
    f = lambda t, x, u: dnl.namespace(x).sin(u.v * x) + u.v * t  # noqa: E731
    return System(dnl.ODE(f), (), {"v": dnl.Control(())})


def ode_vector(rng: Rng, d: int) -> System:
    def f(t, x, u):
        xp = dnl.namespace(x)
        first, *others = x
        return xp.stack(
            [first * u.v - first**3 / 3.0, *(first * y + u.c for y in others)]
        ) + xp.cos(t)

    return System(dnl.ODE(f), (d,), {"v": dnl.Control(()), "c": dnl.Control((), on="const")})


def ode_matrix(rng: Rng, d: int) -> System:
    def f(t, x, u):
        xp = dnl.namespace(x)
        return xp.tanh(u.A @ x) - 0.1 * x * xp.mean(x) + u.v

    return System(dnl.ODE(f), (2, d), {"A": dnl.Control((2, 2)), "v": dnl.Control((2, d))})


def dense(form: str, activation: Any = dnl.tanh, **options: Any) -> Callable[[Rng, int], System]:
    return lambda rng, d: System(dnl.Dense(d, form, activation, **options), (d,))


def dense_feature(form: str) -> Callable[[Rng, int], System]:
    """A feature map of the user's, with its own path control."""

    def make(rng: Rng, d: int) -> System:
        def feature(s, x, u):
            return dnl.namespace(x).tanh(u.v * x) * (1.0 + s)

        dynamics = dnl.Dense(d, form, feature=feature, feature_controls={"v": dnl.Control((d,))})
        return System(dynamics, (d,), {"v": dynamics.own_controls["v"]})

    return make


def resnet(activation: Any = dnl.tanh) -> Callable[[Rng, int], System]:
    return lambda rng, d: System(dnl.ResNet(d, activation), (d,))


# -- costs ---------------------------------------------------------------------------------------
def terminal_cost(kind: str | None, rng: Rng, N: int, shape: tuple[int, ...]) -> Any:
    size = int(np.prod(shape, dtype=int))
    head = None if kind is None or "head" not in kind else (1 if "logistic" in kind else 3)
    top = None if head is None else dnl.head(head, size, initial=0.3)
    labels = rng.integers(0, 3 if head else max(size, 2), N)
    if kind is None:
        return None
    if kind.startswith("squared"):
        return dnl.losses.squared(rng.standard_normal((N, head) if head else (N, *shape)), head=top)
    if kind.startswith("logistic"):
        return dnl.losses.logistic(rng.choice([-1.0, 1.0], N), head=top)
    if kind.startswith("cross_entropy"):
        return dnl.losses.cross_entropy(labels, head=top, classes=3 if head else size)
    if kind == "user":
        return lambda x, c: dnl.namespace(x).sum(dnl.namespace(x).sin(x) ** 2)

    def distance(x, c, y):
        xp = dnl.namespace(x)
        return xp.log1p(xp.sum((x - y) ** 2))

    return dnl.cost(distance, target=rng.standard_normal((N, *shape)))


def running_cost(kind: str | None, rng: Rng, N: int, system: System) -> Any:
    if kind is None:
        return None

    def running(t, x, u, y=0.0):
        xp = dnl.namespace(x)
        value = xp.mean(xp.tanh(x - y) ** 2) * (1.0 + t)
        return value + xp.sum(u.v**2 * xp.cos(t)) if system.path else value

    if kind == "target":
        return dnl.cost(running, target=rng.standard_normal((N, *system.shape)))
    return lambda t, x, u: running(t, x, u)


def regulariser(kind: str, name: str, rng: Rng) -> dnl.H1 | dnl.L2 | dnl.TvG:
    weight = float(rng.uniform(0.05, 0.5))
    if kind == "TvG":
        return dnl.TvG(name, weight, float(rng.uniform(0.2, 2.0)))
    return {"H1": dnl.H1, "L2": dnl.L2}[kind](name, weight)


# -- the table -----------------------------------------------------------------------------------
H1 = {"ts": ("H1",), "t": ("H1",), "const": ("H1",)}
L2 = {"ts": ("L2",), "t": ("L2",), "const": ("L2",)}
TVG = {"ts": ("H1",), "t": ("TvG",), "const": ("L2",)}
BOTH = {"ts": ("H1", "L2"), "t": ("TvG", "H1", "L2"), "const": ("H1", "L2")}
NONE: dict[str, tuple[str, ...]] = {}

CASES: dict[str, Case] = {
    "scalar Volterra, user": Case(volterra_scalar, "user", "plain", H1),
    "scalar Volterra, logistic": Case(volterra_scalar, "logistic", None, TVG),
    "scalar Volterra, running only": Case(volterra_scalar, None, "target", L2),
    "vector Volterra, squared": Case(volterra_vector, "squared", "plain", H1),
    "vector Volterra, cross-entropy": Case(volterra_vector, "cross_entropy", None, BOTH, least=2),
    "Volterra without state, squared": Case(volterra_without_state, "squared", None, H1),
    "attention, squared head": Case(attention, "squared head", None, H1),
    "attention, target": Case(attention, "target", "target", L2),
    "free term, user": Case(volterra_free_term, "user", "plain", TVG),
    "feature, cross-entropy head": Case(volterra_feature, "cross_entropy head", None, H1),
    "feature, target": Case(volterra_feature, "target", "plain", TVG),
    "outer, squared": Case(volterra_outer, "squared", "plain", L2),
    "outer, target": Case(volterra_outer, "target", None, BOTH),
    "free term, feature and outer, squared": Case(volterra_everything, "squared", "target", H1),
    "batched Volterra, logistic head": Case(volterra_batched, "logistic head", "plain", H1),
    "Markov with outer, target": Case(markov_outer, "target", "plain", TVG),
    "Markov with free term, squared": Case(markov_free_term, "squared", "target", L2),
    "uncontrolled kernel, user": Case(uncontrolled_kernel, "user", "plain", H1),
    "uncontrolled kernel, squared head": Case(uncontrolled_kernel, "squared head", None, NONE),
    "scalar ODE, logistic": Case(ode_scalar, "logistic", "plain", TVG),
    "vector ODE, target": Case(ode_vector, "target", "target", H1, least=2),
    "matrix ODE, cross-entropy head": Case(ode_matrix, "cross_entropy head", None, L2),
    "Dense A, squared": Case(dense("A"), "squared", None, H1),
    "Dense A without bias, logistic": Case(
        dense("A", dnl.sigmoid, bias=False), "logistic head", None, L2
    ),
    "Dense A with feature, user": Case(dense_feature("A"), "user", "plain", TVG),
    "Dense B, cross-entropy": Case(dense("B"), "cross_entropy", "target", H1, least=2),
    "Dense B without bias, target": Case(dense("B", dnl.softplus, bias=False), "target", None, H1),
    "Dense B with feature, squared": Case(dense_feature("B"), "squared", "plain", L2),
    "Dense C, cross-entropy head": Case(dense("C"), "cross_entropy head", None, H1),
    "Dense C without bias, squared": Case(
        dense("C", dnl.sigmoid, bias=False), "squared", "plain", NONE
    ),
    "Dense C with feature, target": Case(dense_feature("C"), "target", None, BOTH),
    "ResNet, squared head": Case(resnet(), "squared head", None, TVG),
    "ResNet, user": Case(resnet(dnl.softplus), "user", "target", H1),
}


def build(name: str, seed: int = 0) -> RandomProblem:
    """The problem of one case; the same for the same seed."""
    case, rng = CASES[name], np.random.default_rng([seed, zlib.crc32(name.encode())])
    N = int(rng.integers(1, 5))
    d = int(rng.integers(case.least, 4))
    L = int(rng.integers(1, 6))
    system = case.system(rng, d)
    controls = {**system.dynamics.own_controls, **system.controls}
    places = [(k, c.on) for k, c in controls.items()]
    problem = dnl.ControlProblem(
        name=name,
        horizon=float(rng.uniform(0.5, 1.5)),
        x0=0.7 * rng.standard_normal((N, *system.shape)),
        dynamics=system.dynamics,
        controls=dict(system.controls),
        terminal=terminal_cost(case.terminal, rng, N, system.shape),
        running=running_cost(case.running, rng, N, system),
        regularisers=[
            regulariser(kind, k, rng) for k, on in places for kind in case.penalties.get(on, ())
        ],
    )
    return RandomProblem(problem, L)


def constrained_network() -> dnl.ControlProblem:
    """A network with bounds on its control and a constraint of every kind.

    An equality on one sample, an inequality on the path, an integral, a state bound.
    """
    rng = np.random.default_rng(3)
    return dnl.ControlProblem(
        name="constrained",
        x0=rng.uniform(-0.5, 0.5, (3, 2)),
        dynamics=dnl.Dense(2, "C"),
        controls={
            "W": dnl.Control((2, 2), on="ts", lower=-2, upper=2, initial=0.2),
            "v": dnl.Control((), on="t", initial=0.1),
        },
        terminal=lambda x, c: x[0] ** 2 + x[1] ** 2,
        running=lambda t, x, u: u.v * x[0] + u.v**2,
        regularisers=[dnl.H1("W", 0.1), dnl.H1("b", 0.1)],
        constraints=[
            dnl.terminal_constraint(lambda x, c: x[0] - 0.3, 0, 0, name="reach", samples=[1]),
            dnl.path_constraint(lambda t, x, u: u.v + 0.2 * x[1], -0.15, np.inf, name="push"),
            dnl.integral_constraint(lambda t, x, u: u.v, 0.05, 0.05, name="budget"),
            dnl.state_bounds(lower=-0.4, name="floor", samples=[0, 2]),
        ],
    )
