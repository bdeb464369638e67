"""Every phase of an exact solve stops at max_iterations and max_seconds, with the best iterate."""

from __future__ import annotations

import time

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.exact.budget import Budget
from dnlcontrol.backends.exact.clean_up import settle, worst
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.backends.exact.condensed.solver import newton_in_time, on_active
from dnlcontrol.backends.exact.lifted.active_newton import ActiveNewton
from dnlcontrol.backends.exact.lifted.interior_point import InteriorPoint, LiftedPoint
from dnlcontrol.backends.exact.lifted.node_program import NodeProgram
from dnlcontrol.backends.options import Goal
from dnlcontrol.backends.watch import Deadline
from problems import double_integrator_bang_bang, o4_bryson_denham
from tests.backends.exact.rockets import rocket

FORMULATIONS = ("lifted", "condensed")


def test_a_budget_is_shared():
    budget = Budget.of(Goal(max_iterations=5))
    budget.take(3)
    assert budget.left == 2
    assert not budget.over
    budget.take(4)
    assert budget.left == 0
    assert budget.over
    assert "5 iterations" in budget.words
    late = Budget(deadline=Deadline.after(0.0))
    assert late.over
    assert "max_seconds" in late.words


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("most", [1, 3, 8])
def test_iterations_of_all_phases_together(formulation, most):
    with pytest.warns(dnl.ConvergenceWarning, match="raise max_iterations"):
        solution = dnl.solve(
            o4_bryson_denham.problem(), 50, formulation=formulation, max_iterations=most
        )
    assert solution.status == 1
    assert solution.nit <= most
    assert not solution.success


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("seconds", [1e-6, 0.05])
def test_seconds_end_a_solve_with_a_finite_iterate(formulation, seconds):
    began = time.perf_counter()
    with pytest.warns(dnl.ConvergenceWarning, match="raise max_seconds"):
        solution = dnl.solve(rocket(rests=False), 100, formulation=formulation, max_seconds=seconds)
    assert solution.status == 1
    assert np.isfinite(solution.value)
    # building the program is not interrupted: two seconds on a busy machine are plenty for it
    assert time.perf_counter() - began < 20.0
    assert solution.options["max_seconds"] == seconds


def spent(seconds: float | None = None) -> Budget:
    """A budget that is over by its iterations, or by its time."""
    if seconds is not None:
        return Budget(deadline=Deadline.after(seconds))
    budget = Budget(1)
    budget.take()
    return budget


def interior(budget: Budget) -> tuple[InteriorPoint, ReducedEvaluator, LiftedPoint]:
    """Beside the minimiser of the bang-bang problem, with nothing left of the budget."""
    depth = 40
    evaluator = ReducedEvaluator(dnl.discretise(double_integrator_bang_bang.problem(), depth))
    solver = InteriorPoint(NodeProgram(evaluator.reduced), 1e-8, Budget())
    w = evaluator.space.initial()
    point = solver.solve(w, evaluator.states(w).reshape(depth + 1, 1, 2))
    solver.budget = budget
    return solver, evaluator, point


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_no_phase_after_ipopt_goes_on_without_a_budget(seconds):
    solver, evaluator, point = interior(spent(seconds))
    assert ActiveNewton(solver).refine(point, 1e-8) is None
    assert settle(solver, evaluator, point, 1e-8) is point
    assert on_active(evaluator, point.w, point.multipliers, 1e-8, spent(seconds)) is None


def test_newton_takes_no_more_than_is_left():
    _, evaluator, point = interior(Budget())
    budget = Budget(2)
    start = evaluator.space.initial()
    outcome = newton_in_time(evaluator, start, 1e-12, budget)
    assert outcome.iterations <= 2
    late = newton_in_time(evaluator, start, 1e-12, spent(0.0))
    np.testing.assert_array_equal(late.w, start)
    assert not late.converged
    # a deadline of the minimiser is none of what is asked for afterwards
    assert np.isfinite(worst(evaluator, point.w, point.multipliers))


def test_the_best_iterate_is_returned_not_the_last():
    """Where IPOPT stops short, no earlier feasible iterate has a lower value."""
    problem = o4_bryson_denham.problem()
    evaluator = ReducedEvaluator(dnl.discretise(problem, 50))
    solver = InteriorPoint(NodeProgram(evaluator.reduced), 1e-8, Budget(12))
    w = evaluator.space.initial()
    point = solver.solve(w, evaluator.states(w).reshape(51, 1, 2))
    assert point.at_limit
    reached = evaluator.value(point.w)
    later = [line[1] for line in point.log[6:]]
    assert reached <= min(later) + 1e-6 * abs(reached) or len(later) == 0
