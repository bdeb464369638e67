"""The adjoint backend: one discrete problem to a minimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.gauss_newton import GaussNewtonObjective
from dnlcontrol.backends.adjoint.lifted import run as lifted
from dnlcontrol.backends.adjoint.nested import Nested
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.backends.adjoint.stochastic import refuse_constraints, stochastic
from dnlcontrol.backends.adjoint.successive import refuse, successive
from dnlcontrol.backends.found import INFEASIBLE, LIMIT, SOLVED, STALLED, BackendResult
from dnlcontrol.backends.options import (
    LBFGS,
    MSA,
    SGD,
    Adam,
    Adjoint,
    GaussNewton,
    Goal,
    Method,
    Newton,
    TorchOptimiser,
)
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.backends.watch import TIME_LIMIT, Deadline, OutOfTime, Watch
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.minimise.augmented_lagrangian import Minimiser, augmented_lagrangian
from dnlcontrol.minimise.barrier.restored_runs import LiftedGoal
from dnlcontrol.minimise.lbfgs import VALUE_ROUNDING, lbfgs
from dnlcontrol.minimise.newton import newton
from dnlcontrol.minimise.outcome import Iterate, Outcome, Progress, lines
from dnlcontrol.minimise.preconditioner import Preconditioner, learner

CONSTRAINED_LIMIT = 1000  # iterations over all multiplier updates together


def run(
    discrete: DiscreteProblem,
    start: StartingPoint,
    options: Adjoint,
    goal: Goal,
    checkpoint: Checkpoint | None = None,
) -> BackendResult:
    """Minimise from the starting point, or from what the coarser levels of its branch tell.

    A cold start may lie on a symmetry, so that saddles are looked for; any other is near a
    minimiser, so that Newton's method is preconditioned by the Hessian of a coarse level there.
    ``checkpoint``: the solve goes on from it if it holds one.

    Returns
    -------
    BackendResult with the status SOLVED, LIMIT (of iterations or time), INFEASIBLE (with rows, as
    far as the method of multipliers sees) or STALLED.
    """
    if options.distributed:
        return _distributed(discrete, start, options, goal, checkpoint)
    evaluator = Evaluator(discrete, options.device, options.dtype, options.chunk)
    if checkpoint:
        checkpoint.open(evaluator.counts)
    progress = _with_work(options.progress, evaluator)
    if goal.max_seconds is None:
        task = Task(evaluator, start, replace(options, progress=progress), goal, checkpoint)
        return MINIMISE[type(options.method)](task)
    evaluator.watch = watch = Watch(Deadline.after(goal.max_seconds))
    told = replace(options, progress=_watched(progress, watch))
    task = Task(evaluator, start, told, goal, checkpoint)
    try:
        with watch.armed():
            return MINIMISE[type(options.method)](task)
    except OutOfTime:
        return task.out_of_time(watch)


@dataclass(frozen=True)
class Task:
    """What every method is given: the evaluator, the start, the options, the goal."""

    evaluator: Evaluator
    start: StartingPoint
    options: Adjoint
    goal: Goal
    checkpoint: Checkpoint | None

    @property
    def method(self) -> Method:
        return self.options.method

    @property
    def max_iterations(self) -> int:
        """The goal's, else the method's own."""
        return self.goal.max_iterations or self.method.iterations

    def result(
        self, outcome: Outcome, most: int, preconditioner: Preconditioner | None = None
    ) -> BackendResult:
        """Of a minimiser without constraint rows that may have made ``most`` iterations."""
        late = TIME_LIMIT in outcome.message
        stopped = LIMIT if late or outcome.iterations >= most else STALLED
        return BackendResult(
            self.evaluator,
            outcome.w,
            np.zeros(0),
            outcome.message,
            SOLVED if outcome.converged else stopped,
            outcome.iterations,
            log=lines(outcome.log),
            preconditioner=preconditioner,
            ends=outcome.ends,
        )

    def out_of_time(self, watch: Watch) -> BackendResult:
        """The last iterate before the deadline."""
        outcome = watch.outcome(self.start.w)
        mu = watch.current.mu if watch.current is not None else None
        return BackendResult(
            self.evaluator,
            outcome.w,
            np.zeros(self.evaluator.rows.size) if mu is None else mu,
            outcome.message,
            LIMIT,
            outcome.iterations,
            log=lines(outcome.log),
        )


def _nested(task: Task) -> BackendResult:
    """Newton, Gauss-Newton, L-BFGS and successive approximation, from what coarser levels tell."""
    evaluator, start = task.evaluator, task.start
    discrete = evaluator.discrete
    kind = GaussNewtonObjective if isinstance(task.method, GaussNewton) else Objective
    minimiser = _minimiser(task)
    nested = Nested(discrete, task.options.device, task.options.dtype, task.options.chunk)
    w = start.w
    # carried multipliers belong to prolonged controls
    if start.levels and (start.mu is None or not discrete.rows.size):
        w = nested.start(start.levels, evaluator)
    if lifted.takes(evaluator, start, isinstance(task.method, Newton) and not task.checkpoint):
        most = task.goal.max_iterations or CONSTRAINED_LIMIT
        goal = LiftedGoal(task.goal.tolerance, most)
        return lifted.run(evaluator, start, w, goal, task.options.progress)
    known = (
        learner(discrete.space) if start.cold else nested.preconditioner(w, start.preconditioner)
    )
    if discrete.rows.size:
        return _constrained(task, minimiser, kind, w, known)
    outcome = minimiser(
        kind(evaluator, None, known),
        w,
        task.goal.tolerance,
        task.max_iterations,
        task.options.progress,
        checkpoint=task.checkpoint,
    )
    return task.result(outcome, task.max_iterations, known)


def _minimiser(task: Task) -> Minimiser:
    """The method's function of an objective in a box; inside the method of multipliers, too."""
    if isinstance(task.method, LBFGS):
        return _lbfgs(task.options.dtype)
    if isinstance(task.method, MSA):
        refuse(task.evaluator, task.method.name)
        return partial(successive, extended=task.method.extended)
    if task.evaluator.rows.size:
        return newton
    return partial(newton, cold=task.start.cold, quadratic_rate=task.start.quadratic_rate)


def _lbfgs(dtype: str) -> Minimiser:
    """L-BFGS on values of one precision."""
    units = np.finfo(dtype).eps / np.finfo(float).eps
    return partial(lbfgs, rounding=VALUE_ROUNDING * units)


def _constrained(
    task: Task,
    minimiser: Minimiser,
    kind: type[Objective],
    w: Flat,
    preconditioner: Preconditioner | None,
) -> BackendResult:
    """With constraint rows: the method of multipliers around the minimiser."""
    result = augmented_lagrangian(
        task.evaluator,
        minimiser,
        w,
        task.start.mu,
        task.goal.tolerance,
        task.goal.max_iterations or CONSTRAINED_LIMIT,
        kind=kind,
        progress=task.options.progress,
        checkpoint=task.checkpoint,
        preconditioner=preconditioner,
    )
    failed = INFEASIBLE if "infeasible" in result.message else LIMIT
    return BackendResult(
        task.evaluator,
        result.outcome.w,
        result.mu,
        result.message,
        SOLVED if result.feasibility <= task.goal.tolerance else failed,
        result.iterations,
        log=lines(result.outcome.log),
        preconditioner=preconditioner,
    )


def _batched(task: Task) -> BackendResult:
    """Mini-batches, then Newton's method on all samples."""
    method = task.method
    assert isinstance(method, (Adam, SGD, TorchOptimiser))
    refuse_constraints(task.evaluator, method.name)
    outcome = stochastic(
        task.evaluator,
        task.start.w,
        method,
        task.goal.tolerance,
        task.max_iterations,
        progress=task.options.progress,
        cold=task.start.cold,
        checkpoint=task.checkpoint,
    )
    polish = task.max_iterations if method.batches.polish else 0
    return task.result(outcome, method.batches.epochs + polish)


# a method -> how it is run; the one table that a new method is entered in
MINIMISE: dict[type[Method], Callable[[Task], BackendResult]] = {
    Newton: _nested,
    GaussNewton: _nested,
    LBFGS: _nested,
    MSA: _nested,
    Adam: _batched,
    SGD: _batched,
    TorchOptimiser: _batched,
}


def _distributed(
    discrete: DiscreteProblem,
    start: StartingPoint,
    options: Adjoint,
    goal: Goal,
    checkpoint: Checkpoint | None,
) -> BackendResult:
    """:func:`run` with a share of the samples on every rank.

    ``progress`` and ``checkpoint`` belong to rank 0.
    """
    from dnlcontrol.backends.adjoint import distributed

    distributed.join()
    evaluator = distributed.SharedEvaluator(discrete, options.device, options.dtype, options.chunk)
    task = Task(evaluator, start, options, goal, checkpoint)
    by_newton = isinstance(options.method, Newton)
    minimiser = partial(newton, cold=start.cold) if by_newton else _lbfgs(options.dtype)
    evaluator.watch = watch = Watch(Deadline.after(goal.max_seconds))
    progress = _watched(_with_work(options.progress, evaluator), watch)

    def minimise_here(objective: Objective) -> Outcome:
        here = checkpoint.open(evaluator.counts) if checkpoint else None
        try:
            with watch.armed():
                return minimiser(
                    objective,
                    start.w,
                    goal.tolerance,
                    task.max_iterations,
                    progress,
                    checkpoint=here,
                )
        except OutOfTime:
            return watch.outcome(start.w)

    return task.result(distributed.minimise(evaluator, minimise_here), task.max_iterations)


def _watched(progress: Progress | None, watch: Watch) -> Progress:
    """The caller's progress, and then the watch's, which may raise OutOfTime."""

    def tell(iterate: Iterate) -> None:
        if progress is not None:
            progress(iterate)
        watch.told(iterate)

    return tell


def _with_work(progress: Progress | None, evaluator: Evaluator) -> Progress | None:
    """The caller's progress, told the work so far too."""
    if progress is None:
        return None
    call = progress
    return lambda i: call(replace(i, work=evaluator.counts.work().get("units", np.nan)))
