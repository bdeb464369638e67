"""Prepared calls on the CPU: the numbers of the sweep in PyTorch, for drawn problems."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.host import memory, workspace
from dnlcontrol.backends.adjoint.way import OnHost
from dnlcontrol.discretisation.resources import kept
from dnlcontrol.discretisation.resources.counts import Structure
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.problem.dynamics import Affine

ACTIVATIONS = (dnl.tanh, dnl.relu, dnl.leaky_relu, dnl.sigmoid, dnl.softplus, dnl.identity)
Rng = np.random.Generator


class Layer(dnl.Dynamics):
    """x' = σ(M x + v), controls constant."""

    is_ode = True
    kernel = staticmethod(lambda t, s, y, u: dnl.sigmoid(u.M @ y + u.v))
    affine = Affine("M", "v", dnl.sigmoid)

    def __init__(self, d: int) -> None:
        self.own_controls = {"M": dnl.Control((d, d), on="const"), "v": dnl.Control((d,), "const")}

    own_controls: dict[str, dnl.Control] = {}


class Moving(dnl.Dense):
    """A free term that depends on time."""

    free_term = staticmethod(lambda t, x0: (1.0 + t) * x0)


def dynamics(rng: Rng, d: int) -> dnl.Dynamics:
    kind = ("A", "B", "C", "ResNet", "constant", "moving", "no bias")[rng.integers(7)]
    activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    if kind in "ABC":
        return dnl.Dense(d, kind, activation)
    return {
        "ResNet": lambda: dnl.ResNet(d, activation),
        "constant": lambda: Layer(d),
        "moving": lambda: Moving(d, "C", activation),
        "no bias": lambda: dnl.Dense(d, "C", activation, bias=False),
    }[kind]()


def terminal(rng: Rng, N: int, d: int) -> dnl.losses.Cost:
    kind = rng.integers(5)
    if kind == 0:
        return dnl.losses.logistic(rng.integers(2, size=N), dnl.losses.head(1, d))
    if kind == 1:
        return dnl.losses.cross_entropy(np.arange(N) % 3, dnl.losses.head(3, d), classes=3)
    if kind == 2:
        return dnl.losses.squared(rng.standard_normal((N, 2)), dnl.losses.head(2, d))
    if kind == 3:
        return dnl.cost(lambda x, c, y: dnl.namespace(x).sum((x - y) ** 4), np.ones((N, d)))
    return dnl.losses.squared(rng.standard_normal((N, d)))


def drawn(seed: int) -> tuple[dnl.DiscreteProblem, int | None, Rng]:
    """A problem, its chunks, and what is drawn further from."""
    rng = np.random.default_rng([31, seed])
    N, d, L = (int(rng.integers(1, most)) for most in (9, 5, 8))
    more = {}
    if rng.random() < 0.4:
        more["running"] = lambda t, x, u: (1.0 + t) * dnl.namespace(x).sum(x**2)
    if rng.random() < 0.4:
        more["constraints"] = [dnl.state_bounds(-0.5, 0.6)]
    problem = dnl.ControlProblem(
        x0=10.0 ** rng.integers(-8, 1) * rng.standard_normal((N, d)),
        dynamics=dynamics(rng, d),
        horizon=float(rng.uniform(0.5, 1.5)),
        terminal=terminal(rng, N, d),
        **more,
    )
    rule = ("left", "left", "left", "trapezoid")[rng.integers(4)]
    # implicit stages go through PyTorch one by one
    discrete = dnl.discretise(problem, L if rule == "left" else min(L, 3), rule)
    return discrete, (None, 1, 3)[rng.integers(3)], rng


def answers(evaluator: Evaluator, points: list[np.ndarray], at: Multipliers | None) -> list:
    """In an order in which what is known of one control must not reach another."""
    first, second, d = points
    found = [evaluator.hessian_product(first, d, at), evaluator.value(first, at)]
    found += [evaluator.states(second), *evaluator.value_and_gradient(second)]
    found += [evaluator.hessian_product(first, second, at), evaluator.constraint_values(first)]
    found += [*evaluator.value_and_gradient(first, at), evaluator.hessian_product(first, d)]
    return [*found, evaluator.hessian_product(first, d, at), *evaluator.value_and_gradient(first)]


def agree(found: list, expected: list, tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        scale = float(np.abs(b).max(initial=0.0))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("seed", range(27))
def test_the_same_as_in_pytorch(seed, monkeypatch):
    """Relative to the largest entry of each answer: sums in another order, 1e-13.

    Whatever is kept: all activations, those of some columns, nothing from call to call.
    """
    monkeypatch.setattr(kept, "KEPT_BYTES", (256 << 20, 5000, 0)[seed % 3])
    discrete, chunk, rng = drawn(seed)
    points = list(0.7 * rng.standard_normal((3, discrete.space.size)))
    at = Multipliers(rng.standard_normal(discrete.rows.size), 2.0)
    ours = Evaluator(discrete, stored=False, chunk=chunk)
    theirs = Evaluator(discrete, stored=False, chunk=chunk)
    assert isinstance(ours.way, OnHost)
    theirs.way = theirs.way.swept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = answers(ours, points, at)
    agree(found, answers(theirs, points, at), 1e-13)


@pytest.mark.parametrize("seed", range(8))
def test_single_precision(seed):
    """As in PyTorch: tangents of implicit stages lose three digits of seven."""
    discrete, chunk, rng = drawn(seed)
    points = list(0.7 * rng.standard_normal((3, discrete.space.size)))
    at = Multipliers(rng.standard_normal(discrete.rows.size), 2.0)
    ours = Evaluator(discrete, stored=False, chunk=chunk, dtype="float32")
    assert isinstance(ours.way, OnHost)
    exact = Evaluator(discrete, stored=False, chunk=chunk)
    agree(answers(ours, points, at), answers(exact, points, at), 1e-3)


def test_calls_that_are_made_anew_each_time(monkeypatch):
    """Where the pieces of columns are too many to keep their calls."""
    discrete, chunk, rng = drawn(3)
    points = list(0.7 * rng.standard_normal((3, discrete.space.size)))
    at = Multipliers(rng.standard_normal(discrete.rows.size), 2.0)
    expected = answers(Evaluator(discrete, stored=False, chunk=chunk), points, at)
    monkeypatch.setattr(workspace, "MOST_PIECES", 0)
    monkeypatch.setattr(workspace, "PIECE", 8)
    monkeypatch.setattr(memory, "LARGE", 1)
    agree(answers(Evaluator(discrete, stored=False, chunk=chunk), points, at), expected, 1e-13)


def test_what_was_returned_stays():
    discrete, _, rng = drawn(5)
    evaluator = Evaluator(discrete, stored=False)
    first, second, d = 0.7 * rng.standard_normal((3, discrete.space.size))
    found = [evaluator.value_and_gradient(first)[1], evaluator.hessian_product(first, d)]
    found.append(evaluator.states(first))
    copies = [array.copy() for array in found]
    answers(evaluator, [second, first, d], None)
    for array, copy in zip(found, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_control_that_is_changed_in_place_is_another_control():
    discrete, _, rng = drawn(5)
    w, d = 0.7 * rng.standard_normal((2, discrete.space.size))
    evaluator = Evaluator(discrete, stored=False)
    evaluator.value_and_gradient(w)
    w += d
    expected = Evaluator(discrete, stored=False).hessian_product(w, d)
    np.testing.assert_array_equal(evaluator.hessian_product(w, d), expected)


def test_no_more_is_kept_than_stated():
    """Activations of dense form C at L = 20, d = 2, N = 8: 210 pairs, 26,880 bytes."""
    problem = dnl.ControlProblem(
        x0=np.ones((8, 2)), dynamics=dnl.Dense(2), terminal=dnl.losses.squared(np.zeros((8, 2)))
    )
    discrete = dnl.discretise(problem, 20)
    assert kept.activation_bytes(Structure(discrete.problem, discrete.grid)) == 210 * 2 * 8 * 8
    evaluator = Evaluator(discrete)
    evaluator.value_and_gradient(np.zeros(discrete.space.size))
    ((_, held),) = evaluator.way.passes.states(np.zeros(discrete.space.size))
    assert held.kept.array.nbytes == kept.kept_bytes(Structure(discrete.problem, discrete.grid))
