"""solve: one problem, one depth, either backend. simulate: the forward solve alone."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Literal, Unpack

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import BackendResult
from dnlcontrol.backends.options import Adjoint, Exact, Goal
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.assemble import assembled
from dnlcontrol.results.branches import branch_note
from dnlcontrol.results.solution import Solution
from dnlcontrol.solving.learnt import Learnt, recall, remember
from dnlcontrol.solving.nonsmooth import found_at_kinks
from dnlcontrol.solving.request import (
    Request,
    Shorthand,
    check_distributed,
    checkpoint_of,
    resolved,
)
from dnlcontrol.solving.starts import StartLike, in_words, origin_of, seeds, starting_point


def solve(
    problem: ControlProblem,
    depth: int,
    backend: str | Exact | Adjoint = "exact",
    *,
    rule: str = "left",
    start: StartLike = None,
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
    warm: Literal["duals", "controls"] = "duals",
    **shorthand: Unpack[Shorthand],
) -> Solution:
    """Minimise J_L over the controls.

    Parameters
    ----------
    problem, depth : the problem and the number of layers L; the step is τ = T/L.
    backend : "exact" (CasADi and IPOPT, every constraint, small depth), "adjoint" (PyTorch, large
        depth), or an object that carries its options, :class:`Exact` or :class:`Adjoint`.
    rule : "left" or "trapezoid".
    start : None (the controls' own guesses), a Solution of any depth (prolonged), several of one
        branch by increasing depth (extrapolated; the message says so where the minimiser is on
        another branch), a mapping name -> number, array or callable, or a flat vector (size,).
    tolerance : on stationarity, feasibility and complementarity; see :class:`Solution`.
    max_iterations : at most so many; None: the method's own.
    warm : what is taken over from a Solution given as ``start``: "duals", its controls and, if it
        converged, the multipliers of its constraints, prolonged too; "controls", its controls
        alone.
    shorthand : the fields of the object that ``backend`` names, as keywords. Exact: formulation,
        force, verbose. Adjoint: method, device, dtype, chunk, distributed, progress, checkpoint,
        every; a method's: batches. ``solve(p, L, "adjoint", method="lbfgs")`` is
        ``solve(p, L, dnl.Adjoint(method=dnl.LBFGS()))``.

    Returns
    -------
    Solution. A solve that does not converge returns its best iterate with ``success=False`` and a
    ConvergenceWarning. Its ``options`` are those of the backend that ran.

    Raises
    ------
    InputError : an argument that is not what it should be, or an option that the chosen backend or
        method does not use: it is named, with what was seen and what is allowed.

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
    goal = Goal(tolerance, max_iterations)
    request = Request(resolved(backend, shorthand), goal, rule, warm)
    solution, learnt = solve_level(problem, depth, request, start, recall(origin_of(start)))
    remember(solution, learnt)
    return solution


def solve_level(
    problem: ControlProblem, depth: int, request: Request, start: StartLike, learnt: Learnt
) -> tuple[Solution, Learnt]:
    """One solve of one depth: the solution, and what the next one can use.

    ``learnt`` is what the solve that ``start`` came from told of the Hessian.
    """
    check_distributed(request.options, problem)
    discrete = discretise(problem, depth, request.rule)
    checkpoint = checkpoint_of(request.options, discrete)
    begin = starting_point(discrete, start, request.warm, learnt)
    began = time.perf_counter()
    found = found_at_kinks(_found, discrete, begin, request, checkpoint)
    seconds = time.perf_counter() - began
    if checkpoint and checkpoint.resumed:
        seconds += checkpoint.earlier
        since = f"continued from a checkpoint after {checkpoint.since} iterations"
        found = replace(found, message=f"{found.message} ({since})")
    record = {**request.record(), "start": in_words(start), "seeds": seeds(problem, start)}
    solution = assembled(discrete, found, record, seconds)
    note = branch_note(solution, start) if isinstance(start, (list, tuple)) else ""
    if note:
        solution = replace(solution, message=f"{solution.message}; {note}")
    if checkpoint:
        checkpoint.close(solution.success)
    if not solution.success:
        text = f"{problem.name}, {request.options.name}, L={depth}: {solution.message}"
        warnings.warn(text, checks.ConvergenceWarning, stacklevel=3)
    return solution, Learnt(found.preconditioner)


def _found(
    discrete: DiscreteProblem, begin: StartingPoint, request: Request, checkpoint: Checkpoint | None
) -> BackendResult:
    """What the backend finds; its library is imported here."""
    if isinstance(request.options, Exact):
        from dnlcontrol.backends.exact import run as exact

        return exact.run(discrete, begin, request.options, request.goal)
    from dnlcontrol.backends.adjoint import run as adjoint

    return adjoint.run(discrete, begin, request.options, request.goal, checkpoint)


def simulate(
    problem: ControlProblem,
    depth: int,
    controls: StartLike = None,
    rule: str = "left",
    device: str = "cpu",
) -> np.ndarray:
    """The states (L+1, N, *state shape) of a forward solve.

    ``controls`` as ``start`` in :func:`solve`.

    >>> import numpy as np, dnlcontrol as dnl
    >>> growth = dnl.ControlProblem(x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: x))
    >>> dnl.simulate(growth, depth=2)[:, 0].tolist()
    [1.0, 1.5, 2.25]
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    discrete = discretise(problem, depth, rule)
    return Evaluator(discrete, device).states(starting_point(discrete, controls).w)
