"""solve: one problem, one depth, either backend. simulate: the forward solve alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.fits import refuse_what_does_not_fit, room_for_states
from dnlcontrol.backends.found import STALLED, BackendResult
from dnlcontrol.backends.options import Adjoint, Exact, Goal
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.certificates.minimum_principle.needles import NodeHamiltonian
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.discretisation.discrete import (
    DiscreteProblem,
    discretise,
    discretised,
    grid_of,
)
from dnlcontrol.discretisation.resources.room import memory_in_words
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.assemble import assembled
from dnlcontrol.results.branches import branch_note
from dnlcontrol.results.concentration import concentration_note
from dnlcontrol.results.diagnosis import explained, untrusted
from dnlcontrol.results.rescaled import in_users_units
from dnlcontrol.results.solution import Solution
from dnlcontrol.solving.belonging import Belonging, belonging, checkpoint_of
from dnlcontrol.solving.choice import resolved_for, robust
from dnlcontrol.solving.gate import Gate
from dnlcontrol.solving.learnt import NOTHING, Learnt, recall, remember
from dnlcontrol.solving.nonsmooth import EXACT_ITERATIONS, found_at_kinks
from dnlcontrol.solving.request import (
    Request,
    Shorthand,
    check_distributed,
)
from dnlcontrol.solving.starts import StartLike, in_words, origin_of, seeds, starting_point
from dnlcontrol.solving.units import RESCALED, Scaled, handed_on, scaling_of, tighter

TOO_LOOSE = (
    "the cost or a control is far smaller there than at the start, to which the tolerance is "
    "relative; start closer"
)


def solve(
    problem: ControlProblem,
    depth: int,
    backend: str | Exact | Adjoint = "exact",
    *,
    rule: str = "left",
    start: StartLike = None,
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
    max_seconds: float | None = None,
    warm: Literal["duals", "controls"] = "duals",
    **shorthand: Unpack[Shorthand],
) -> Solution:
    """Minimise J_L over the controls.

    Parameters
    ----------
    problem, depth : the problem and the number of layers L; the step is τ = T/L.
    backend : "exact" (CasADi and IPOPT, every constraint, small depth), "adjoint" (PyTorch, large
        depth), "auto" (by a forecast of sizes: constrained problems and small differential
        equations exact, deep networks adjoint; an option that one backend alone has decides), or an
        object that carries its options, :class:`Exact` or :class:`Adjoint`.
    rule : "left" or "trapezoid".
    start : None (the controls' own guesses), a Solution of any depth (prolonged), several of one
        branch by increasing depth (extrapolated; the message says so where the minimiser is on
        another branch), a mapping name -> number, array or callable, or a flat vector (size,).
    tolerance : on stationarity, feasibility and complementarity; see :class:`Solution`.
    max_iterations : at most so many, of all phases together; None: the method's own.
    max_seconds : the solve stops after about so many seconds, with the best iterate seen and status
        1; None: no limit. Solves of several threads take turns; each has its seconds from its turn.
    warm : what is taken over from a Solution given as ``start``: "duals", its controls and, if it
        converged, the multipliers of its constraints, prolonged too; "controls", its controls
        alone.
    shorthand : the fields of the object that ``backend`` names, as keywords. Exact: formulation,
        force, verbose. Adjoint: method, device, dtype, chunk, distributed, progress, checkpoint,
        every, restart; a method's: batches. ``solve(p, L, "adjoint", method="lbfgs")`` is
        ``solve(p, L, dnl.Adjoint(method=dnl.LBFGS()))``.

    Returns
    -------
    Solution. A solve that does not converge returns its best iterate with ``success=False`` and a
    ConvergenceWarning. Its ``options`` are those of the backend that ran; with "auto" the message
    and ``options["chosen"]`` say why that one.

    Raises
    ------
    InputError : an argument that is not what it should be, or an option that the chosen backend or
        method does not use: it is named, with what was seen and what is allowed; a depth that the
        memory which is there is too small for, before anything is built.

    >>> import numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u),
    ...     controls={"u": dnl.Control(())},
    ...     terminal=lambda x, c: 0.5 * x**2,
    ...     regularisers=[dnl.L2("u", 1.0)],
    ... )
    >>> round(dnl.solve(problem, depth=4, backend="adjoint").value, 12)
    0.25
    """
    goal = Goal(tolerance, max_iterations, max_seconds)
    options, reason = resolved_for(problem, depth, rule, backend, shorthand)
    solution = solve_unwarned(problem, depth, Request(options, goal, rule, warm, reason), start)
    warn_unsolved(solution)
    return solution


def solve_unwarned(
    problem: ControlProblem, depth: int, request: Request, start: StartLike
) -> Solution:
    """:func:`solve` without its warning, which a caller's filter would hide for every thread."""
    solution, learnt = solve_level(problem, depth, request, start, recall(origin_of(start)))
    if request.chosen:
        why = f"backend={request.options.name!r} chosen: {request.chosen}"
        solution = replace(solution, message=f"{solution.message}; {why}")
    remember(solution, learnt)
    return solution


def warn_unsolved(solution: Solution, stacklevel: int = 2) -> None:
    """The ConvergenceWarning of a solve that did not converge, where its caller was called."""
    if not solution.success:
        text = f"{solution.name}, {solution.backend}, L={solution.depth}: {solution.message}"
        warnings.warn(text, checks.ConvergenceWarning, stacklevel=stacklevel + 1)


@in_turn
def solve_level(
    problem: ControlProblem, depth: int, request: Request, start: StartLike, learnt: Learnt
) -> tuple[Solution, Learnt]:
    """One solve of one depth: the solution, and what the next one can use.

    ``learnt`` is what the solve that ``start`` came from told of the Hessian.
    """
    check_distributed(request.options, problem)
    need = refuse_what_does_not_fit(problem, depth, request.rule, request.options)
    with memory_in_words(depth, need):
        return _level(problem, depth, request, start, learnt)


def _level(
    problem: ControlProblem, depth: int, request: Request, start: StartLike, learnt: Learnt
) -> tuple[Solution, Learnt]:
    """One solve of one depth, which fits."""
    discrete = discretised(problem, grid_of(problem, depth, request.rule))
    begin = starting_point(discrete, start, request.warm, learnt)
    record = {**request.record(), "start": in_words(start), "seeds": seeds(problem, start)}
    kept = getattr(request.options, "checkpoint", None) is not None
    owner = belonging(request, discrete, begin) if kept else None
    began = time.perf_counter()
    origin = origin_of(start)
    with np.errstate(all="ignore"):  # what is not finite is told in words
        scaling = handed_on(problem, origin) or scaling_of(discrete, begin.w, request.options)
        level = OneSolve(Scaled(scaling, discrete), request, record, owner)
        solution, learnt = level.solved(begin, origin, learnt, began)
        solution, learnt = in_tighter_units(level, solution, learnt)
    note = branch_note(solution, start) if isinstance(start, (list, tuple)) else ""
    if note:
        solution = replace(solution, message=f"{solution.message}; {note}")
    doubt = concentration_note(solution) if solution.success else ""
    if doubt:
        solution = replace(solution, message=f"{solution.message}; {doubt}")
    if problem.idle:
        solution = replace(solution, message=f"{solution.message}; {problem.idle}")
    return solution, learnt


@dataclass(frozen=True)
class OneSolve:
    """A discrete problem in the units that it is solved in, and what is kept with its solution.

    ``owner``: what a checkpoint of it belongs to; None without one.
    """

    scaled: Scaled
    request: Request
    record: Mapping[str, Any]
    owner: Belonging | None = None

    def solved(
        self, start: StartingPoint, origin: Solution | None, learnt: Learnt, began: float
    ) -> tuple[Solution, Learnt]:
        """The solution in the user's units; ``began``: since when its seconds are counted.

        ``learnt`` from ``origin``, which is forgotten where that had other units.
        """
        request = replace(self.request, options=self.scaled.told(self.request.options))
        discrete = self.scaled.discrete
        units = self.scaled.scaling.record()
        alone = request.alone
        checkpoint = checkpoint_of(request.options, discrete, self.owner, units, alone)
        begin = self.scaled.begin(start, origin)

        def again(start: StartingPoint, spent: int, trial: int) -> BackendResult | None:
            goal = request.goal.left(spent, time.perf_counter() - began)
            if goal is None:
                return None
            if trial == 0:
                most = EXACT_ITERATIONS if isinstance(request.options, Exact) else None
                share = replace(request, goal=goal.half(most))
            else:
                options = robust(discrete, request.options)
                share = replace(request, options=options, goal=goal)
            return found_at_kinks(_found, discrete, start, share)

        known = learnt.lowest if self.scaled.same_units(origin) else None
        gate = Gate(
            discrete,
            again,
            request.goal.tolerance,
            known,
            hamiltonian=_hamiltonian_of(request.options),
            warm=origin is not None and origin.success,
        )
        with checkpoint.alone() if checkpoint else nullcontext():
            first = found_at_kinks(_found, discrete, begin, request, checkpoint)
            found, at, lowest = gate.passed(first)
            seconds = time.perf_counter() - began
            if checkpoint and checkpoint.resumed:
                seconds += checkpoint.earlier
                since = f"continued from a checkpoint after {checkpoint.since} iterations"
                found = replace(found, message=f"{found.message} ({since})")
            solution = assembled(discrete, found, self.record, seconds, at)
            solution = explained(solution, discrete, found, begin.w)
            if checkpoint:
                checkpoint.close(solution.success)
        users = self.scaled.users.problem
        moved = in_users_units(solution, self.scaled.scaling, users)
        return moved, Learnt(found.preconditioner, lowest)


def in_tighter_units(
    level: OneSolve, solution: Solution, learnt: Learnt
) -> tuple[Solution, Learnt]:
    """Gone on with where the units of its start make the tolerance too loose at the solution."""
    users, options = level.scaled.users, level.request.options
    for _ in range(RESCALED):
        scaling = tighter(users, solution, options)
        if scaling is None:
            return solution, learnt
        again = replace(level, scaled=Scaled(scaling, users))
        began = time.perf_counter() - solution.seconds
        before = solution.nit
        solution, learnt = again.solved(starting_point(users, solution), solution, NOTHING, began)
        solution = replace(solution, nit=before + solution.nit)
    if tighter(users, solution, options) is None:
        return solution, learnt
    text = f"{solution.message}; {TOO_LOOSE}"
    return replace(solution, status=STALLED, message=text), learnt


@np.errstate(all="ignore")  # what is not finite is told in words
def _found(
    discrete: DiscreteProblem, begin: StartingPoint, request: Request, checkpoint: Checkpoint | None
) -> BackendResult:
    """What the backend finds; its library is imported here."""
    if isinstance(request.options, Exact):
        from dnlcontrol.backends.exact import run as exact

        return exact.run(discrete, begin, request.options, request.goal)
    from dnlcontrol.backends.adjoint import run as adjoint

    return adjoint.run(discrete, begin, request.options, request.goal, checkpoint)


def _hamiltonian_of(options: Exact | Adjoint) -> Callable[[StoredPoint], NodeHamiltonian] | None:
    """The discrete Hamiltonian by the backend's own means; None where samples are shared out."""
    if isinstance(options, Exact):
        return _of_exact
    return None if options.distributed else _of_adjoint


def _of_exact(point: StoredPoint) -> NodeHamiltonian:
    from dnlcontrol.backends.exact.condensed.candidate_values import CandidateValues
    from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator

    assert isinstance(point.evaluator, ReducedEvaluator)
    return CandidateValues(point.evaluator, point.w, point.multipliers)


def _of_adjoint(point: StoredPoint) -> NodeHamiltonian:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian

    assert isinstance(point.evaluator, Evaluator)
    return Hamiltonian(point.evaluator, point.w, point.multipliers, point.at)


def simulate(
    problem: ControlProblem,
    depth: int,
    controls: StartLike = None,
    rule: str = "left",
    device: str = "cpu",
) -> np.ndarray:
    """The states (L+1, N, *state shape) of a forward solve.

    ``controls`` as ``start`` in :func:`solve`. A ConvergenceWarning says where states are not
    finite (a formula, or a step that has no root) or grow because the steps are too long.

    >>> import numpy as np, dnlcontrol as dnl
    >>> growth = dnl.ControlProblem(x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: x))
    >>> dnl.simulate(growth, depth=2)[:, 0].tolist()
    [1.0, 1.5, 2.25]
    """
    with room_for_states(problem, depth, rule):
        discrete = discretise(problem, depth, rule)
        x, doubt = _simulated(discrete, starting_point(discrete, controls).w, device)
    if doubt:
        text = f"{problem.name}, simulate, L={depth}: {doubt}"
        warnings.warn(text, checks.ConvergenceWarning, stacklevel=2)
    return x


@in_turn
def _simulated(discrete: DiscreteProblem, w: Flat, device: str) -> tuple[np.ndarray, str]:
    """The states, and why they are not to be trusted."""
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    with np.errstate(all="ignore"):
        x = Evaluator(discrete, device).states(w)
        return x, untrusted(discrete, w, x)
