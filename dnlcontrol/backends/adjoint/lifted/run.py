"""One-step problems with constraint rows or bounded controls, by states as unknowns."""

from __future__ import annotations

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.lifted.one_step_program import OneStepProgram, applies
from dnlcontrol.backends.adjoint.lifted.products import NearbyProducts
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, SOLVED, STALLED, BackendResult
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.active_set import PATIENT, KKTPoint, Patience, newton_on_active
from dnlcontrol.minimise.barrier.restored_runs import LiftedGoal, LiftedOutcome, solve_lifted
from dnlcontrol.minimise.barrier.system import BarrierPoint
from dnlcontrol.minimise.outcome import Iterate, Progress, lines

# Multipliers of another depth: Newton steps on the rows that they hold active come first.
BRIEF = Patience(steps=10, growth=2.0)
# Beside an interior point: where the active sides are told wrongly, the stationarity jumps at once.
QUICK = Patience(steps=15, growth=30.0)
FINISHING = 0.1  # of the tolerance, in the measures of the controls

STATUS = {"converged": SOLVED, "iterations": LIMIT, "stuck": STALLED, "infeasible": INFEASIBLE}


def takes(evaluator: Evaluator, start: StartingPoint, plain: bool) -> bool:
    """Whether this way is taken: rows, or a cold start with bounded controls, and it applies.

    ``plain``: Newton's method without a checkpoint to go on from.
    """
    bounded = start.cold and evaluator.space.bounded
    return bool(plain and (evaluator.rows.size or bounded) and applies(evaluator))


def run(
    evaluator: Evaluator,
    start: StartingPoint,
    w: Flat,
    goal: LiftedGoal,
    progress: Progress | None = None,
) -> BackendResult:
    """To a minimiser: the interior-point method, then Newton steps on what is active there."""
    program, tolerance = OneStepProgram(evaluator), goal.tolerance
    log: list[Iterate] = []

    def told(at: BarrierPoint, error: float, barrier: float) -> None:
        log.append(Iterate(len(log), at.values.cost, error, barrier, 1))
        if progress is not None:
            progress(log[-1])

    if start.mu is not None and evaluator.rows.size:
        near = NearbyProducts(program, program.states(w))
        carried = LiftedOutcome(w, near.states(w), start.mu, "", 0)
        exact = _on_active(near, carried, 0.0, tolerance, BRIEF)
        if exact is not None:
            return _result(evaluator, exact, log, tolerance)

    def finish(found: LiftedOutcome, patient: bool) -> KKTPoint | None:
        near = NearbyProducts(program, found.x)
        return _on_active(near, found, 1.0, tolerance, PATIENT if patient else QUICK)

    found = solve_lifted(program, w, goal, finish, told)
    if found.exact is not None:
        return _result(evaluator, found.exact, log, tolerance, found.iterations)
    return BackendResult(
        evaluator,
        found.w,
        found.mu,
        _words(evaluator, found),
        STATUS[found.why],
        found.iterations,
        log=lines(log),
        elsewhere=True,
    )


def _on_active(
    near: NearbyProducts, at: LiftedOutcome, rho: float, tolerance: float, patience: Patience
) -> KKTPoint | None:
    """Newton steps on what is active at a point."""
    return newton_on_active(
        near, at.w, at.mu, rho, FINISHING * tolerance, patience=patience, dense=near.at_states
    )


def _result(
    evaluator: Evaluator, exact: KKTPoint, log: list[Iterate], tolerance: float, spent: int = 0
) -> BackendResult:
    """The solution; its Newton steps follow the ``spent`` iterations in the log."""
    steps = [
        Iterate(len(log) + k, value, norm, 0.0, used)
        for k, (value, norm, used) in enumerate(exact.log)
    ]
    violation = f", violation {exact.residual:.1e}" if evaluator.rows.size else ""
    message = f"stationarity {exact.stationarity:.1e}{violation} <= {tolerance:.0e}"
    return BackendResult(
        evaluator, exact.w, exact.mu, message, SOLVED, spent, log=lines([*log, *steps])
    )


def _words(evaluator: Evaluator, found: LiftedOutcome) -> str:
    """Why there is no solution, and what to do."""
    if found.why == "infeasible":
        worst = evaluator.rows.worst(evaluator.constraint_values(found.w))
        return (
            f"locally infeasible: the violation is stationary at {found.certificates} points, at "
            f"least {found.violation:.1e} ({worst}); loosen that constraint or start elsewhere"
        )
    if found.why == "iterations":
        return "stopped after the iterations allowed; raise max_iterations or start closer"
    return (
        "no further progress could be made in float64; loosen the tolerance, rescale the cost or "
        "start elsewhere"
    )
