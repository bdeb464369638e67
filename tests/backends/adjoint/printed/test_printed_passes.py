"""Printed columns give what torch.func.vmap gives, in value, gradient, product and states."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint import way
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.printed import printed_formulas
from dnlcontrol.minimise.multipliers import Multipliers
from tests.random_problems import CASES, build

# both add up the same numbers in another order: rounding of sums of at most a few hundred O(1)
# terms (random_problems.py), and of the Newton steps of implicit layers, which stop at 4 units
AGREE = 1e-13


def network(t, s, y, u):
    xp = dnl.namespace(y)
    return xp.tanh(u.W @ y + u.b) * xp.exp(s - t) + xp.sin(y) / (1 + t) * u.c + u.v


def feature(s, x, u):
    xp = dnl.namespace(x)
    return xp.stack([x[0] * x[1] + u.v[0], xp.sin(x[1]) + s, x[0] ** 2 * u.c])


def through_feature(t, s, y, u):
    xp = dnl.namespace(y)
    return xp.stack([y[0] * u.w + t * y[2], xp.cos(y[1] * s) + u.w**2 * u.c, y[2] * u.v[1]])


def outer(t, g, z, u):
    xp = dnl.namespace(z)
    bent = g[1] * (1 + 0.1 * t) + xp.tanh(z[2]) * u.c
    return xp.stack([g[0] + z[0] * z[1] + u.v[0], bent])


def pendulum(t, x, u):
    xp = dnl.namespace(x)
    return xp.stack([x[1], (1 - x[0] ** 2) * x[1] - x[0] + u.v[0] * u.c])


def both(x, c):
    return dnl.namespace(x).stack([x[0] * x[1], c.c * x[0]])


SHARED = {"c": dnl.Control((), on="const"), "v": dnl.Control((2,), on="t")}
SYSTEMS = {
    "network": (
        dnl.Volterra(network),
        {"W": dnl.Control((2, 2), on="ts"), "b": dnl.Control((2,), on="ts"), **SHARED},
    ),
    "feature and outer map": (
        dnl.Volterra(through_feature, feature=feature, outer=outer),
        {"w": dnl.Control((), on="ts"), **SHARED},
    ),
    "one step": (dnl.ODE(pendulum), SHARED),
}
RULES = ("left", "trapezoid")


def problem(name: str) -> dnl.ControlProblem:
    """Five samples, both costs, and a row of every kind."""
    dynamics, controls = SYSTEMS[name]
    x0, target = np.random.default_rng(0).standard_normal((2, 5, 2))
    return dnl.ControlProblem(
        x0=x0,
        dynamics=dynamics,
        controls=controls,
        running=lambda t, x, u: (x[0] ** 2 + u.v[0] * u.v[1] * x[1]) * (1 + t),
        terminal=dnl.losses.squared(target),
        constraints=[
            dnl.state_bounds(-3, 3),
            dnl.terminal_constraint(both, -1, 1, name="end"),
            dnl.integral_constraint(lambda t, x, u: x[0] * u.v[1], -1, 2, name="total"),
            dnl.path_constraint(lambda t, x, u: u.v[0] ** 2 + x[1] * t, -1, 2, name="path"),
        ],
    )


def apart(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the largest entry."""
    return float(np.max(np.abs(got - expected), initial=0.0) / (1e-300 + np.abs(expected).max()))


def pair(discrete: dnl.DiscreteProblem, chunk: int | None = None) -> tuple[Evaluator, Evaluator]:
    """By printed columns, and by the formulas through vmap."""
    printed = Evaluator(discrete, chunk=chunk, stored=False)
    return printed, Evaluator(discrete, stored=False, batched=False)


def multipliers(kind: str, rows: int, rng: np.random.Generator) -> Multipliers | None:
    mu = rng.standard_normal(rows)
    return {
        "none": None,
        "plain": Multipliers(mu),
        "augmented": Multipliers(mu, rho=rng.uniform(1, 3, rows), cost=0.7),
    }[kind]


@pytest.mark.parametrize("kind", ["none", "plain", "augmented"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_everything_agrees_with_vmap(name, rule, kind):
    discrete = dnl.discretise(problem(name), 6, rule)
    printed, mapped = pair(discrete, chunk=3)
    assert type(printed.way) is way.Printed
    assert type(mapped.way) is not way.Printed
    rng = np.random.default_rng(1)
    w, d = 0.3 * rng.standard_normal((2, discrete.space.size))
    m = multipliers(kind, discrete.rows.size, rng)
    (value, gradient), (other, expected) = (e.value_and_gradient(w, m) for e in (printed, mapped))
    assert abs(value - other) <= AGREE * abs(other)
    assert apart(gradient, expected) < AGREE
    products = [e.hessian_product(w, d, m) for e in (printed, mapped)]
    assert apart(*products) < AGREE
    assert abs(printed.value(w, m) - other) <= AGREE * abs(other)
    one, two = (e.trajectory(w, m) for e in (printed, mapped))
    for field in ("states", "integrals", "costates", "integral_costates", "constraints"):
        assert apart(getattr(one, field), getattr(two, field)) < AGREE, field


@pytest.mark.parametrize("name", CASES)
def test_random_problems_agree(name):
    """Formulas are printed unless the dynamics brings its own columns."""
    drawn = build(name, 3)
    discrete = dnl.discretise(drawn.problem, drawn.depth)
    printed, mapped = pair(discrete)
    dynamics = drawn.problem.dynamics
    own = printed.sweep.columns is not None or dynamics.batched is not None
    assert isinstance(printed.way, way.Printed) == (not own)
    rng = np.random.default_rng(2)
    w, d = 0.5 * rng.standard_normal((2, discrete.space.size))
    assert apart(printed.value_and_gradient(w)[1], mapped.value_and_gradient(w)[1]) < AGREE
    assert apart(printed.hessian_product(w, d), mapped.hessian_product(w, d)) < AGREE


def test_a_product_belongs_to_its_control_and_multipliers():
    """What passed is kept for one control; another control, or other multipliers, pass again."""
    discrete = dnl.discretise(problem("network"), 4)
    printed, mapped = pair(discrete)
    rng = np.random.default_rng(3)
    w, v, d = 0.3 * rng.standard_normal((3, discrete.space.size))
    m = multipliers("plain", discrete.rows.size, rng)
    printed.value_and_gradient(w)
    for at, held in ((v, None), (w, m), (w, None)):
        product = printed.hessian_product(at, d, held)
        assert apart(product, mapped.hessian_product(at, d, held)) < AGREE
    w += 0.1  # in place: the control that was kept is a copy
    assert apart(printed.hessian_product(w, d), mapped.hessian_product(w, d)) < AGREE


def test_formulas_are_traced_once_for_a_problem():
    """A second simulation, at another depth, calls no formula of the user's."""
    calls = []

    def kernel(t, s, y, u):
        calls.append(1)
        return dnl.namespace(y).sin(y) * (1 + t - s)

    problem = dnl.ControlProblem(x0=np.ones((2, 1)), dynamics=dnl.Volterra(kernel))
    dnl.simulate(problem, 4)
    before = len(calls)
    dnl.simulate(problem, 9)
    assert len(calls) == before


def test_long_formulas_keep_their_matrix_products(monkeypatch):
    discrete = dnl.discretise(problem("network"), 3)
    monkeypatch.setattr(printed_formulas, "MOST_PRINTED", 20)
    assert type(Evaluator(dnl.discretise(problem("network"), 3), stored=False).way) is way.Dual
    assert type(Evaluator(discrete, dtype="float32", stored=False).way) is way.Dual


def test_an_implicit_step_without_a_root_is_not_a_number():
    """x = 1 + (τ/2)(1 + x²) + ...: no real root for a long step."""
    problem = dnl.ControlProblem(
        x0=np.ones(1), horizon=8.0, dynamics=dnl.ODE(lambda t, x, u: 1 + x * x)
    )
    discrete = dnl.discretise(problem, 2, "trapezoid")
    states = [e.states(np.zeros(0)) for e in pair(discrete)]
    assert np.isnan(states[0][1:]).all()
    assert np.array_equal(*states, equal_nan=True)
