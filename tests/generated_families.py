"""Families of small problems on which success is easily said where there is none.

Products, even and odd structures, symmetric data, ReLU, leaky ReLU and abs, with and without
constraints, each from a saddle, a maximiser or a kink, in natural units. Where a constant control
is a global minimiser (mostly by Jensen's inequality), the family says which and its value.
``tests.generated_problems`` draws from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import dnlcontrol as dnl
from tests.generated_kinks import KINKS
from tests.plain_problem import Plain, Rng, Row, energy, path, total, velocity, well, zeros


# -- even and odd structures ---------------------------------------------------------------------
def wells(rng: Rng, rows: tuple[Row, ...] = ()) -> Plain:
    """x' = u, (x(1)² - 1)² + (β/2) ∫ u² from the maximiser u = 0.

    u is constant by Jensen, u² = 1 - β/4: the value is β/2 - β²/16 an entry.
    """
    d, controls = path(rng, "u")
    beta = rng.uniform(0.01, 0.2)
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": 0.0},
        terminal=well,
        weights=energy(beta, "u"),
        rows=rows,
        minimiser={"u": np.sqrt(1 - beta / 4)},
        minimum=d * (beta / 2 - beta**2 / 16),
    )


def wells_far_from_bounds(rng: Rng) -> Plain:
    """The same inside of state bounds that nothing reaches."""
    return wells(rng, (Row("state", -3.0, 3.0),))


def odd(rng: Rng) -> Plain:
    """x' = sin(u) - a x: odd, under an even cost; u = 0 is a saddle."""
    d, controls = path(rng, "u")
    rate = rng.uniform(0.1, 1.0)

    def right(t: Any, x: Any, u: Any) -> Any:
        return dnl.namespace(x).sin(u.u) - rate * x

    beta = rng.uniform(0.01, 0.1)
    x0 = zeros(rng, d)
    return Plain(
        right,
        controls,
        x0,
        {"u": 0.0},
        terminal=lambda x, c: total((4 * x * x - 1.0) ** 2),
        weights=energy(beta, "u"),
        depths=(4,),
    )


def constants(rng: Rng) -> Plain:
    """Σ (c² - 1)² of constants, from the maximiser c = 0: the value is 0."""
    d = int(rng.integers(1, 4))
    return Plain(
        lambda t, x, u: u.c - x,
        {"c": dnl.Control((d,), on="const")},
        zeros(rng, d),
        {"c": 0.0},
        terminal=lambda x, c: total((c.c * c.c - 1.0) ** 2 + 0.0 * x),
        minimiser={"c": 1.0},
        minimum=0.0,
    )


def even_kernel(rng: Rng) -> Plain:
    """A kernel w² on the triangle: w = 0 is a saddle of (x(1) - 1)² with a small H¹ term."""
    return Plain(
        lambda t, s, y, u: u.w * u.w,
        {"w": dnl.Control((1,), on="ts")},
        zeros(rng, 1),
        {"w": 0.0},
        terminal=lambda x, c: total((x - 1.0) ** 2),
        weights=(dnl.H1("w", rng.uniform(0.02, 0.08)),),
        memory=True,
    )


# -- products ------------------------------------------------------------------------------------
def signed(rng: Rng, d: int) -> np.ndarray:
    """Targets of size 0.5 to 1.5, of either sign."""
    return rng.uniform(0.5, 1.5, d) * rng.choice([-1.0, 1.0], d)


def halves(product: np.ndarray) -> dict[str, np.ndarray]:
    """u and v of equal size with u v = ``product``."""
    root = np.sqrt(np.abs(product))
    return {"u": root, "v": root * np.sign(product)}


def product_of(t: Any, x: Any, u: Any) -> Any:
    """x' = u v."""
    return u.u * u.v


def products(rng: Rng) -> Plain:
    """x' = u v, Σ (x(1) - a)² + (β/2) ∫ u² + v² from the saddle u = v = 0.

    |u| = |v| is constant, with u v = q: (q - a)² + β q, so that q = a - β/2.
    """
    d, controls = path(rng, "u", "v")
    beta, a = rng.uniform(0.01, 0.2), signed(rng, d)
    return Plain(
        product_of,
        controls,
        zeros(rng, d),
        {"u": 0.0, "v": 0.0},
        terminal=lambda x, c: total((x - dnl.namespace(x).asarray(a)) ** 2),
        weights=energy(beta, "u", "v"),
        minimiser=halves(a - np.sign(a) * beta / 2),
        minimum=float(np.sum(beta * np.abs(a) - beta**2 / 4)),
    )


def product_to_a_point(rng: Rng) -> Plain:
    """x' = u v with x(1) = a asked, ½ ∫ u² + v² from 0, where the row's gradient vanishes.

    |u v| <= ½ (u² + v²): the value is Σ |a|.
    """
    d, controls = path(rng, "u", "v")
    a = signed(rng, d)
    return Plain(
        product_of,
        controls,
        np.zeros((1, d)),
        {"u": 0.0, "v": 0.0},
        weights=energy(1.0, "u", "v"),
        rows=(Row("terminal", 0.0, 0.0, lambda x, c: x - dnl.namespace(x).asarray(a)),),
        minimiser=halves(a),
        minimum=float(np.sum(np.abs(a))),
    )


def symmetric_data(rng: Rng) -> Plain:
    """x' = V tanh(W x) on points ±p with targets ±q, from V = W = 0: a saddle."""
    p, q = rng.uniform(0.5, 1.0, (2, 2)), rng.uniform(-1.0, 1.0, (2, 2))

    def right(t: Any, x: Any, u: Any) -> Any:
        return u.V @ dnl.namespace(x).tanh(u.W @ x)

    return Plain(
        right,
        {"V": dnl.Control((2, 2)), "W": dnl.Control((2, 2))},
        np.concatenate([p, -p]),
        {"V": 0.0, "W": 0.0},
        terminal=lambda x, c, y: total((x - y) ** 2),
        target=np.concatenate([q, -q]),
        weights=(dnl.H1("V", 0.02), dnl.H1("W", 0.02)),
        depths=(4,),
    )


def exclusive_or(rng: Rng) -> Plain:
    """The labels of ±p are 1, of ±q -1, a network with a read-out, all 0: stationary by symmetry.

    0 is a local minimiser, as every term that tells the labels apart is of fourth order.
    """
    p, q = rng.uniform(0.5, 1.0, 2) * [1, 1], rng.uniform(0.5, 1.0, 2) * [1, -1]
    return Plain(
        dnl.ResNet(2),
        {"h": dnl.Control((2,), on="const")},
        np.array([p, -p, q, -q]),
        {"K": 0.0, "b": 0.0, "h": 0.0},
        terminal=lambda x, c, y: dnl.softplus(-y * (c.h @ x)),
        target=np.array([1.0, 1.0, -1.0, -1.0]),
        weights=tuple(dnl.H1(name, 1e-2) for name in ("K", "b", "h")),
        depths=(4,),
    )


# -- bounds and rows -----------------------------------------------------------------------------
def concave_in_a_corridor(rng: Rng) -> Plain:
    """-x(1)² + β ∫ u² with |x| <= 1 from the maximiser u = 0: u = ±1 gives β - 1."""
    d, controls = path(rng, "u")
    beta = rng.uniform(0.05, 0.3)
    return Plain(
        velocity,
        controls,
        np.zeros((1, d)),
        {"u": 0.0},
        terminal=lambda x, c: -total(x * x),
        running=lambda t, x, u: beta * total(u.u * u.u),
        rows=(Row("state", -1.0, 1.0),),
        minimiser={"u": 1.0},
        minimum=d * (beta - 1.0),
    )


def unit_energy(rng: Rng) -> Plain:
    """∫ u² = e, min x(1) from its maximiser u = √e: u = -√e."""
    root = rng.uniform(0.5, 2.0)
    return Plain(
        velocity,
        {"u": dnl.Control((1,))},
        zeros(rng, 1),
        {"u": root},
        terminal=lambda x, c: total(x),
        rows=(Row("integral", root**2, root**2, lambda t, x, u: total(u.u * u.u)),),
        minimiser={"u": -root},
        minimum=-root,
    )


def concave_over_a_bound(rng: Rng) -> Plain:
    """0 <= u <= 1, -∫ u² from u = 0, where the bound is weakly active: u = 1."""
    d, controls = path(rng, "u", lower=0.0, upper=1.0)
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": 0.0},
        running=lambda t, x, u: -total(u.u * u.u),
        minimiser={"u": 1.0},
        minimum=-float(d),
    )


def concave_over_rows(rng: Rng) -> Plain:
    """-∫ u² with u² <= 1 as rows along the path, from the maximiser u = 0: u = ±1."""
    d, controls = path(rng, "u")
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": 0.0},
        running=lambda t, x, u: -total(u.u * u.u),
        rows=(Row("path", upper=1.0, fn=lambda t, x, u: u.u * u.u),),
        minimiser={"u": 1.0},
        minimum=-float(d),
        rules=("left",),  # no row stands at t = T, where the trapezoidal rule has a sample of u
    )


def bound_weakly_active(rng: Rng) -> Plain:
    """½ ∫ (u - a)² with u >= a: at the minimiser u = a the bound is met and does not push."""
    a = rng.uniform(-1.0, 1.0)
    d, controls = path(rng, "u", lower=a, upper=a + 3.0)
    return Plain(
        velocity,
        controls,
        zeros(rng, d),
        {"u": a + 1.0},
        running=lambda t, x, u: 0.5 * total((u.u - a) ** 2),
        minimiser={"u": a},
        minimum=0.0,
    )


def row_weakly_active(rng: Rng) -> Plain:
    """½ ∫ (u - a)² with x(1) <= a: at the minimiser u = a the row is met and does not push."""
    d, controls = path(rng, "u")
    a = rng.uniform(0.5, 1.5)
    return Plain(
        velocity,
        controls,
        np.zeros((1, d)),
        {"u": 0.0},
        running=lambda t, x, u: 0.5 * total((u.u - a) ** 2),
        rows=(Row("terminal", upper=a, fn=lambda x, c: x),),
        minimiser={"u": a},
        minimum=0.0,
    )


FAMILIES: dict[str, Callable[[Rng], Plain]] = {
    family.__name__.replace("_", " "): family
    for family in (
        *(wells, wells_far_from_bounds, odd, constants, even_kernel),
        *(products, product_to_a_point, symmetric_data, exclusive_or),
        *KINKS,
        *(concave_in_a_corridor, unit_energy, concave_over_a_bound, concave_over_rows),
        *(bound_weakly_active, row_weakly_active),
    )
}
