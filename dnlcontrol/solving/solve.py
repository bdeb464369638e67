"""solve: one problem, one depth, either backend. simulate: the forward solve alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import BackendResult
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.assemble import assembled
from dnlcontrol.results.branches import branch_note
from dnlcontrol.results.solution import Solution
from dnlcontrol.solving.prolonged_multipliers import prolonged_multipliers
from dnlcontrol.solving.request import Request, check_distributed
from dnlcontrol.solving.starts import coarser, in_words, quadratic_rate_of, seeds, starting_point


def solve(
    problem: ControlProblem,
    depth: int,
    backend: str = "exact",
    rule: str = "left",
    start: Any = None,
    device: str = "cpu",
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
    method: str = "newton",
    formulation: str = "auto",
    force: bool = False,
    dtype: str = "float64",
    chunk: int | None = None,
    verbose: bool = False,
    warm: str = "duals",
    progress: Callable[[Any], None] | None = None,
    batches: Any = None,
    distributed: bool = False,
    checkpoint: Any = None,
    every: float = 60.0,
) -> Solution:
    """Minimise J_L over the controls.

    Parameters
    ----------
    problem, depth : the problem and the number of layers L; the step is τ = T/L.
    backend : "exact" (CasADi and IPOPT, every constraint, small depth) or "adjoint" (PyTorch, large
        depth).
    start : None (the controls' own guesses), a Solution of any depth (prolonged), several of one
        branch by increasing depth (extrapolated; the message says so where the minimiser is on
        another branch), or a mapping name -> number, array or callable.
    device : "cpu", "cuda" or "cuda:k" (adjoint).
    tolerance : on stationarity, feasibility and complementarity; see :class:`Solution`.
    method : "newton" (trust-region Newton-CG), "gauss-newton" (the same with the Gauss-Newton
        matrix, which is semidefinite for convex costs) or "lbfgs", all in the metric of the
        controls; for many samples "adam" or (in that metric) "sgd" on mini-batches, then Newton on
        all samples; "msa" or "emsa" (successive approximation by Pontryagin's principle, plain and
        extended), without constraints but control bounds (adjoint).
    batches : a :class:`MiniBatches` for "adam" and "sgd": size, epochs, rate, seed, polish.
    distributed : ``problem`` has this rank's share of the samples, and all ranks of
        torch.distributed solve together (adjoint, "newton" or "lbfgs", no constraints but control
        bounds); see docs/cluster.md.
    formulation : "lifted" (states are unknowns, IPOPT), "condensed" (states eliminated, dense exact
        Hessian) or "auto", which takes the cheaper by forecast (exact).
    force : build a program that the forecast calls too large (exact).
    dtype, chunk : precision and samples per chunk of the sweeps (adjoint); None: from the sizes.
    verbose : let IPOPT print (exact).
    warm : what is taken over from a Solution given as ``start``: "duals", its controls and, if it
        converged, the multipliers of its constraints, prolonged too; "controls", its controls
        alone.
    progress : called with each iterate (adjoint): iteration, value, stationarity, radius, inner,
        work, and after an epoch of mini-batches the flat controls.
    checkpoint : a directory for the minimiser's state, written at most ``every`` so many seconds
        between two iterations; a solve that was killed goes on from it when it is called again, to
        the same minimiser. Removed at convergence; a file of another problem, depth, rule or method
        is an error (adjoint).

    Returns
    -------
    Solution. A solve that does not converge returns its best iterate with ``success=False`` and a
    ConvergenceWarning.

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
    request = Request(
        backend=backend,
        rule=rule,
        device=device,
        tolerance=tolerance,
        max_iterations=max_iterations,
        method=method,
        formulation=formulation,
        force=force,
        dtype=dtype,
        chunk=chunk,
        verbose=verbose,
        warm=warm,
        progress=progress,
        batches=batches,
        distributed=distributed,
        checkpoint=checkpoint,
        every=every,
    )
    check_distributed(request, problem)
    discrete = discretise(problem, depth, rule)
    keeper = request.keeper(discrete)
    w, origin = starting_point(discrete, start)
    mu = None if origin is None or warm == "controls" else prolonged_multipliers(origin, discrete)
    began = time.perf_counter()
    if backend == "exact":
        found = _exact(request, discrete, w, origin, mu)
    else:
        found = _adjoint(request, discrete, w, start, origin, mu, keeper)
    earlier = 0.0
    if keeper and keeper.resumed:
        earlier = keeper.earlier
        found = replace(
            found,
            message=f"{found.message} (continued from a checkpoint after {keeper.since} "
            "iterations)",
        )
    options = {**request.record(), "start": in_words(start), "seeds": seeds(problem, start)}
    solution = assembled(discrete, found, options, earlier + time.perf_counter() - began)
    note = branch_note(solution, start) if isinstance(start, (list, tuple)) else ""
    if note:
        solution = replace(solution, message=f"{solution.message}; {note}")
    if keeper:
        keeper.close(solution.success)
    if not solution.success:
        warnings.warn(
            f"{problem.name}, {backend}, L={depth}: {solution.message}",
            checks.ConvergenceWarning,
            stacklevel=2,
        )
    return solution


def _exact(
    request: Request,
    discrete: DiscreteProblem,
    w: np.ndarray,
    origin: Solution | None,
    mu: np.ndarray | None,
) -> BackendResult:
    from dnlcontrol.backends.exact import run

    return run.run(
        discrete,
        w,
        request.tolerance,
        request.max_iterations,
        request.formulation,
        request.verbose,
        request.force,
        origin is None,
        mu,
    )


def _adjoint(
    request: Request,
    discrete: DiscreteProblem,
    w: np.ndarray,
    start: Any,
    origin: Solution | None,
    mu: np.ndarray | None,
    keeper: Checkpoint | None,
) -> BackendResult:
    from dnlcontrol.backends.adjoint import run

    settings = (
        request.tolerance,
        request.max_iterations,
        request.method,
        request.device,
        request.dtype,
        request.chunk,
        request.progress,
    )
    if request.distributed:
        return run.run_distributed(discrete, w, *settings, origin is None, keeper)
    levels = () if origin is None else coarser(discrete, start)
    return run.run(
        discrete,
        w,
        *settings,
        levels,
        quadratic_rate_of(origin),
        getattr(origin, "preconditioner", None),
        mu,
        request.batches,
        keeper,
    )


def simulate(
    problem: ControlProblem,
    depth: int,
    controls: Any = None,
    rule: str = "left",
    device: str = "cpu",
) -> np.ndarray:
    """The states (L+1, N, *state shape) of a forward solve; ``controls`` as ``start`` in
    :func:`solve`.

    >>> import numpy as np, dnlcontrol as dnl
    >>> growth = dnl.ControlProblem(x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: x))
    >>> dnl.simulate(growth, depth=2)[:, 0].tolist()
    [1.0, 1.5, 2.25]
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    discrete = discretise(problem, depth, rule)
    w, _ = starting_point(discrete, controls)
    return Evaluator(discrete, device).states(w)
