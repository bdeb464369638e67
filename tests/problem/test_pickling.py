"""Problems and solutions of built-in parts pickle; one of local functions says which."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.fingerprint import fingerprint

X = np.linspace(-1, 1, 6).reshape(3, 2)
LABELS = np.array([0, 1, 1])


def decay(s, x, u):
    return u.u - x


def field(t, x, u):
    return u.u - x


def kernel(t, s, y, u):
    return dnl.namespace(y).exp(s - t) * (u.u - y)


def cost(x, c):
    return dnl.namespace(x).sum(x**2)


U = {"u": dnl.Control((2,))}
WIDTH = dnl.WidthPDE(4)
PROBLEMS = {
    "ODE": {"dynamics": dnl.ODE(field), "controls": U, "terminal": cost},
    "Volterra": {"dynamics": dnl.Volterra(kernel), "controls": U, "terminal": cost},
    "Separable": {
        "dynamics": dnl.exponential_memory([1.0, 2.0], decay),
        "controls": U,
        "terminal": cost,
    },
    "Dense A": {"dynamics": dnl.Dense(2, "A"), "terminal": dnl.losses.squared(X)},
    "Dense C": {
        "dynamics": dnl.Dense(2, "C", activation=dnl.softplus),
        "terminal": dnl.losses.logistic(LABELS, head=dnl.head(1, 2)),
    },
    "ResNet": {
        "dynamics": dnl.ResNet(2),
        "terminal": dnl.losses.cross_entropy(LABELS, head=dnl.head(2, 2)),
    },
    "WidthPDE": {
        "x0": np.ones((3, 4)),
        "dynamics": WIDTH,
        "terminal": WIDTH.squared(np.zeros((3, 4))),
    },
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_comes_back_as_it_was(name):
    given = {"x0": X, **PROBLEMS[name]}
    controls = dnl.ControlProblem(**given).controls
    problem = dnl.ControlProblem(**given, regularisers=[dnl.L2(k, 1.0) for k in controls])
    for again in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
        assert repr(again) == repr(problem)
        assert not again.x0.flags.writeable
        fingerprints = [fingerprint(p, "left") for p in (problem, again)]
        assert fingerprints[0] == fingerprints[1]


def test_a_solution_comes_back_and_goes_on():
    problem = dnl.ControlProblem(
        x0=X, controls=U, dynamics=dnl.ODE(field), terminal=cost, regularisers=[dnl.L2("u", 1.0)]
    )
    solution = dnl.solve(problem, 3)
    again = pickle.loads(pickle.dumps(solution))
    assert again.value == solution.value
    assert dnl.certify(again, seed=0).passed
    assert dnl.solve(again.problem, 6, start=again).success


def test_a_local_function_is_named_in_one_line():
    problem = dnl.ControlProblem(
        x0=X, dynamics=dnl.ODE(lambda t, x, u: u.u), controls=U, terminal=cost
    )
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda") as told:
        pickle.dumps(problem)
    assert "\n" not in str(told.value)
