"""Families with kinks: ReLU, leaky ReLU and abs, in networks, costs and tracking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dnlcontrol as dnl
from tests.plain_problem import Formula, Plain, Rng, Row, energy, path, total, velocity, zeros


def size(x: Any) -> Any:
    """|x| of each entry."""
    return dnl.namespace(x).abs(x)


def network(rng: Rng, activation: Formula) -> Plain:
    """A ResNet or a dense network of form C, from 0, where every unit is at its kink."""
    d = int(rng.integers(1, 3))
    dense = rng.random() < 0.5
    names = ("W", "b") if dense else ("K", "b")
    x0 = rng.uniform(-1.0, 1.0, (int(rng.integers(2, 5)), d))
    return Plain(
        dnl.Dense(d, "C", activation) if dense else dnl.ResNet(d, activation),
        {},
        x0,
        {name: 0.0 for name in names},
        terminal=lambda x, c, y: total((x - y) ** 2),
        target=np.sin(2.0 * x0) + 0.5,
        weights=tuple(dnl.H1(name, 0.02) for name in names),
        depths=(4,),
    )


def relu_network(rng: Rng) -> Plain:
    """ReLU."""
    return network(rng, dnl.relu)


def leaky_network(rng: Rng) -> Plain:
    """Leaky ReLU."""
    return network(rng, dnl.leaky_relu)


def abs_network(rng: Rng) -> Plain:
    """|x| as the activation."""
    return network(rng, size)


def fuel(rng: Rng) -> Plain:
    """x' = u, ∫ |u| + (γ/2) (x(1) - a)² + (β/2) ∫ u² from the kink u = 0.

    u is constant: (γ a - 1)/(γ + β) where γ a > 1, else 0, at the kink.
    """
    d, controls = path(rng, "u")
    beta, gamma, a = rng.uniform(0.1, 0.5), rng.uniform(0.7, 3.0), rng.uniform(0.5, 1.5)
    u = max(gamma * a - 1.0, 0.0) / (gamma + beta)
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": 0.0},
        terminal=lambda x, c: 0.5 * gamma * total((x - a) ** 2),
        running=lambda t, x, u: total(size(u.u)),
        weights=energy(beta, "u"),
        minimiser={"u": u},
        minimum=d * (u + 0.5 * gamma * (u - a) ** 2 + 0.5 * beta * u**2),
    )


def fuel_to_a_point(rng: Rng) -> Plain:
    """x' = u with x(1) = a asked, ∫ |u| + (β/2) ∫ u² from the kink u = 0: u = a."""
    d, controls = path(rng, "u")
    beta, a = rng.uniform(0.1, 0.5), rng.uniform(0.5, 1.5)
    return Plain(
        velocity,
        controls,
        np.zeros((1, d)),
        {"u": 0.0},
        running=lambda t, x, u: total(size(u.u)),
        weights=energy(beta, "u"),
        rows=(Row("terminal", a, a, lambda x, c: x),),
        minimiser={"u": a},
        minimum=d * (a + 0.5 * beta * a**2),
    )


def kink_at_the_end(rng: Rng) -> Plain:
    """x' = u, |x(1) - a|, max(a - x(1), 0) or a leaky one, + (β/2) ∫ u², from u = 0.

    With β a < 1 the minimiser lies on the kink x(1) = a: β a²/2; else u = 1/β: a - 1/(2β).
    """
    d, controls = path(rng, "u")
    a, beta = rng.uniform(0.5, 1.5), rng.uniform(0.2, 1.2)
    kinds: list[Formula] = [size, dnl.relu, lambda r: dnl.namespace(r).maximum(r, -0.5 * r)]
    kind = kinds[int(rng.integers(3))]
    u = min(a, 1.0 / beta)
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": 0.0},
        terminal=lambda x, c: total(kind(a - x)),
        weights=energy(beta, "u"),
        minimiser={"u": u},
        minimum=d * (a - u + 0.5 * beta * u**2),
    )


def abs_tracking(rng: Rng) -> Plain:
    """x' = u, ∫ |x - a| + (β/2) ∫ u² from u = 0: x climbs to a and stays on the kink."""
    d, controls = path(rng, "u")
    a, beta = rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.2)
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": 0.0},
        running=lambda t, x, u: total(size(x - a)),
        weights=energy(beta, "u"),
    )


KINKS: tuple[Callable[[Rng], Plain], ...] = (
    *(relu_network, leaky_network, abs_network),
    *(fuel, fuel_to_a_point, kink_at_the_end, abs_tracking),
)
