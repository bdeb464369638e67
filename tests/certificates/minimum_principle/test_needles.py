"""Other values at single nodes: where they are looked for; no success is said beside one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian
from dnlcontrol.certificates.minimum_principle.convexity import convex_hamiltonian
from dnlcontrol.certificates.minimum_principle.needles import lowered
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.minimise.multipliers import Multipliers
from tests.certificates.cases import two_wells

ROUTES = [
    ("exact", {"formulation": "lifted"}),
    ("exact", {"formulation": "condensed"}),
    ("adjoint", {}),
    ("adjoint", {"method": "lbfgs"}),
    ("adjoint", {"method": "msa"}),
]


def formed(point: StoredPoint) -> Hamiltonian:
    assert isinstance(point.evaluator, Evaluator)
    return Hamiltonian(point.evaluator, point.w, point.multipliers, point.at)


def at(problem: dnl.ControlProblem, w: np.ndarray, depth: int) -> StoredPoint:
    evaluator, none = Evaluator(dnl.discretise(problem, depth)), Multipliers(np.zeros(0))
    return StoredPoint(evaluator, w, none, evaluator.trajectory(w, none), 1e-8)


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize(("backend", "options"), ROUTES)
def test_the_higher_of_two_wells_is_left(backend: str, options: dict[str, Any], rule: str):
    """From u = 0.9 every node ends in the lower well, near u = -1, where the cost is -tilt."""
    tilt = 0.3
    found = dnl.solve(two_wells(tilt), 6, backend, rule=rule, **options)
    assert found.success, found.message
    assert found.value <= -tilt
    assert np.all(found.controls["u"].values < -0.9)
    assert dnl.certify(found, seed=0).passed
    assert dnl.certify(found, seed=1).passed


def test_a_well_on_some_nodes_alone_is_left():
    """The lower well is on the right for t < 1/2 and on the left beyond."""
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=0.9)},
        running=lambda t, x, u: (u.u**2 - 1) ** 2 + 0.2 * (t - 0.45) * u.u,
    )
    found = dnl.solve(problem, 8, "adjoint")
    assert found.success, found.message
    np.testing.assert_array_equal(np.sign(found.controls["u"].values), [1] * 4 + [-1] * 4)


def test_without_iterations_to_leave_it_success_is_not_said():
    """Newton's method takes 4 iterations to the higher well from 0.9; no more are allowed."""
    first = dnl.solve(two_wells(1e-12), 4, "adjoint").nit
    with pytest.warns(dnl.ConvergenceWarning):
        found = dnl.solve(two_wells(0.3), 4, "adjoint", max_iterations=first)
    assert not found.success
    assert found.status == 4
    assert "other values of a control at single nodes lower the cost" in found.message
    assert "the limit of iterations or time was reached before it could be left" in found.message


def problem_with(dynamics: Any, running: Any = None) -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=[1.0],
        dynamics=dnl.ODE(dynamics),
        controls={"u": dnl.Control(()), "v": dnl.Control((2,))},
        running=running,
    )


def squares(u: Any) -> Any:
    return u.u**2 + u.v[0] ** 2 - u.v[0] * u.v[1] + u.v[1] ** 2


# dynamics, running cost, and whether H is convex in u and in v
CONVEX = {
    "linear and quadratic": (
        lambda t, x, u: u.u + u.v[0] - x,
        lambda t, x, u: squares(u) + x * u.u,
        (True, True),
    ),
    "a product": (
        lambda t, x, u: u.u * u.v[0] + x**3 * u.u,
        lambda t, x, u: squares(u),
        (True,) * 2,
    ),
    "a sine": (lambda t, x, u: dnl.namespace(x).sin(u.u) + u.v[0], None, (False, True)),
    "a square in the dynamics": (lambda t, x, u: u.u + u.v[1] ** 2, None, (True, False)),
    "two wells": (
        lambda t, x, u: u.u,
        lambda t, x, u: (u.u**2 - 1) ** 2 + u.v[0] ** 2,
        (False, True),
    ),
    "a concave cost": (lambda t, x, u: u.u, lambda t, x, u: u.v[0] ** 2 - u.u**2, (False, True)),
    "a saddle": (lambda t, x, u: u.u, lambda t, x, u: u.u**2 + 3 * u.v[0] * u.v[1], (True, False)),
    "of either sign": (lambda t, x, u: u.v[0], lambda t, x, u: x * u.u**2, (False, True)),
    "a kink": (
        lambda t, x, u: u.u + u.v[0],
        lambda t, x, u: dnl.namespace(x).abs(u.u),
        (False, True),
    ),
}


@pytest.mark.parametrize("name", CONVEX)
def test_a_convex_hamiltonian_is_known_from_the_formulas(name: str):
    dynamics, running, expected = CONVEX[name]
    made = problem_with(dynamics, running)
    assert tuple(convex_hamiltonian(made, control) for control in ("u", "v")) == expected


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_small_term_beside_a_large_constant_is_seen(size: float):
    """(1 + 10⁻⁴ (u² - 1)²) times a unit is no quadratic in u."""
    made = problem_with(
        lambda t, x, u: u.u + u.v[0], lambda t, x, u: size * (1 + 1e-4 * (u.u**2 - 1) ** 2)
    )
    assert not convex_hamiltonian(made, "u")


def test_no_hamiltonian_is_formed_where_it_is_convex():
    def never(point: StoredPoint) -> Hamiltonian:
        raise AssertionError

    dynamics, running, _ = CONVEX["linear and quadratic"]
    assert lowered(at(problem_with(dynamics, running), np.zeros(12), 4), never) is None


def test_rows_are_left_alone():
    """A change at one node would break the row."""
    plain = two_wells(0.3)
    fixed = dnl.terminal_constraint(lambda x, c: x, 1.0, 1.0)
    made = dnl.ControlProblem(
        x0=[0.0],
        dynamics=plain.dynamics,
        controls=plain.controls,
        running=plain.running,
        constraints=[fixed],
    )
    evaluator, mu = Evaluator(dnl.discretise(made, 4)), Multipliers(np.zeros(1))
    w = np.ones(4)
    point = StoredPoint(evaluator, w, mu, evaluator.trajectory(w, mu), 1e-8)
    assert lowered(point, formed) is None
    assert lowered(at(plain, w, 4), formed) is not None
