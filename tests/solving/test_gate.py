"""Saddles of the violation, several saddles in a row, and what is said where leaving one fails."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl

PRODUCT = dnl.ODE(lambda t, x, u: u.u * u.v)
SCALARS = {"u": dnl.Control(()), "v": dnl.Control(())}


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("exact", {"formulation": "lifted"}),
        ("exact", {"formulation": "condensed"}),
        ("adjoint", {}),
        ("adjoint", {"method": "lbfgs"}),
    ],
)
def test_a_row_whose_gradient_vanishes_at_the_start_can_be_met(backend, options):
    """x' = u v, x(1) = 1 from u = v = 0: |u v| <= ½ (u² + v²), so that the least energy is 1."""
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=PRODUCT,
        controls=SCALARS,
        regularisers=[dnl.L2("u", 1.0), dnl.L2("v", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x, 1.0, 1.0)],
    )
    found = dnl.solve(problem, 4, backend, **options)
    assert found.success, found.message
    assert found.value == pytest.approx(1.0, abs=1e-8)
    assert dnl.certify(found, seed=0).passed


@pytest.mark.parametrize("formulation", ["lifted", "condensed"])
def test_infeasible_is_said_from_several_starts(formulation):
    """x' = u², x(0) = 0, x(1) = -1 has no solution."""
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u**2),
        controls={"u": dnl.Control((), initial=0.5)},
        regularisers=[dnl.L2("u", 1.0)],
        constraints=[dnl.terminal_constraint(lambda x, c: x, -1.0, -1.0)],
    )
    with pytest.warns(dnl.ConvergenceWarning, match="so from 3 starts"):
        found = dnl.solve(problem, 4, "exact", formulation=formulation)
    assert found.status == 2
    assert found.feasibility == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("formulation", ["lifted", "condensed"])
def test_more_saddles_than_are_left_one_by_one(formulation):
    """-∫ u² with rows u² <= 1 from u = 0: each of 12 entries alone is a saddle's way out."""
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        running=lambda t, x, u: -(u.u**2),
        constraints=[dnl.path_constraint(lambda t, x, u: u.u**2, upper=1.0)],
    )
    found = dnl.solve(problem, 12, "exact", formulation=formulation)
    assert found.success, found.message
    assert found.value == pytest.approx(-1.0, abs=1e-8)


@pytest.mark.parametrize(
    ("backend", "options"),
    [("exact", {"formulation": "condensed"}), ("adjoint", {"method": "lbfgs"})],
)
def test_entries_on_weakly_active_bounds_all_leave(backend, options):
    """-∫ u² on 0 <= u <= 1 from u = 0, 24 entries: each may move inwards alone."""
    problem = dnl.ControlProblem(
        x0=np.zeros((1, 3)),
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((3,), lower=0.0, upper=1.0)},
        running=lambda t, x, u: -dnl.namespace(x).sum(u.u**2),
    )
    found = dnl.solve(problem, 8, backend, rule="trapezoid", max_iterations=100, **options)
    assert found.success, found.message
    assert found.value == pytest.approx(-3.0, abs=1e-8)


def test_a_round_cut_short_does_not_end_a_constrained_solve():
    """Gauss-Newton has three iterations a round of 30; no bound of the state is reached."""
    problem = dnl.ControlProblem(
        x0=[0.0],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((), initial=0.05)},
        terminal=lambda x, c: (x**2 - 1) ** 2,
        regularisers=[dnl.L2("u", 0.1)],
        constraints=[dnl.state_bounds(-3.0, 3.0)],
    )
    found = dnl.solve(problem, 6, "adjoint", method="gauss-newton", max_iterations=30)
    assert found.success, found.message
    assert found.value == pytest.approx(0.05 - 0.1**2 / 16, abs=1e-9)
    assert np.ptp(found.controls["u"].values) < 1e-6
