"""solve: one problem, one depth, either backend. simulate: the forward solve alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import SOLVED, STALLED, Found
from dnlcontrol.discrete import DiscreteProblem, discretise
from dnlcontrol.problem import ControlProblem
from dnlcontrol.solution import Solution
from dnlcontrol.space.extension import Extension, prolong
from dnlcontrol.space.faces import complementarity, stationarity
from dnlcontrol.space.prolongation import Samples

METHODS = ("newton", "lbfgs")


def solve(problem: ControlProblem, depth: int, backend: str = "exact", rule: str = "left", start: Any = None,
          device: str = "cpu", tolerance: float = 1e-8, max_iterations: int | None = None, method: str = "newton",
          formulation: str = "auto", force: bool = False, dtype: str = "float64", chunk: int = 128,
          verbose: bool = False,
          progress: Callable[[Any], None] | None = None) -> Solution:  # fmt: skip
    """Minimise J_L over the controls.

    Parameters
    ----------
    problem, depth : the problem and the number of layers L; the step is τ = T/L.
    backend : "exact" (CasADi and IPOPT, every constraint, small depth) or "adjoint" (PyTorch, large depth).
    start : None (the controls' own guesses), a Solution of any depth (prolonged), several of one branch by increasing
        depth (extrapolated), or a mapping name -> number, array or callable.
    device : "cpu", "cuda" or "cuda:k" (adjoint).
    tolerance : on stationarity, feasibility and complementarity; see :class:`Solution`.
    method : "newton" (trust-region Newton-CG) or "lbfgs", both in the metric of the controls (adjoint).
    formulation : "lifted" (states are unknowns, IPOPT), "condensed" (states eliminated, dense exact Hessian) or "auto",
        which takes the cheaper by forecast (exact).
    force : build a program that the forecast calls too large (exact).
    dtype, chunk : precision and samples per chunk of the sweeps (adjoint).
    verbose : let IPOPT print (exact).
    progress : called with each iterate's log line (adjoint).

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
    checks.choice("backend", backend, ("exact", "adjoint"))
    checks.choice("method", method, METHODS)
    tolerance = checks.positive("tolerance", tolerance)
    limit = None if max_iterations is None else checks.whole("max_iterations", max_iterations)
    if progress is not None:
        checks.function("progress", progress)
    discrete = discretise(problem, depth, rule)
    w, origin = starting_point(discrete, start)
    began = time.perf_counter()
    if backend == "exact":
        if device != "cpu":
            checks.reject("device", device, "'cpu' for the exact backend")
        from dnlcontrol.backends.exact import run as exact

        checks.choice("formulation", formulation, exact.FORMULATIONS)
        found = exact.run(discrete, w, tolerance, limit, formulation, verbose, force, origin is None)
    else:
        from dnlcontrol.backends.adjoint import run as adjoint

        levels = () if origin is None else coarser(discrete, start)
        found = adjoint.run(discrete, w, tolerance, limit, method, device, dtype, chunk, progress,
                            levels, bend_of(origin), getattr(origin, "preconditioner", None))  # fmt: skip
    solution = _report(discrete, found, backend, tolerance, time.perf_counter() - began)
    if not solution.success:
        warnings.warn(
            f"{problem.name}, {backend}, L={depth}: {solution.message}",
            checks.ConvergenceWarning,
            stacklevel=2,
        )
    return solution


def simulate(
    problem: ControlProblem, depth: int, controls: Any = None, rule: str = "left", device: str = "cpu"
) -> np.ndarray:
    """The states (L+1, N, *state shape) of a forward solve; ``controls`` as ``start`` in :func:`solve`.

    >>> import numpy as np, dnlcontrol as dnl
    >>> growth = dnl.ControlProblem(x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: x))
    >>> dnl.simulate(growth, depth=2)[:, 0].tolist()
    [1.0, 1.5, 2.25]
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    discrete = discretise(problem, depth, rule)
    w, _ = starting_point(discrete, controls)
    return Evaluator(discrete, device).states(w)


def starting_point(discrete: DiscreteProblem, start: Any) -> tuple[np.ndarray, Solution | None]:
    """A flat control vector, and the solution it came from if there is one."""
    space = discrete.space
    if start is None:
        return space.initial(), None
    if isinstance(start, np.ndarray):
        if start.shape != (space.size,):
            checks.reject("start", start, f"a flat vector of {space.size} entries, a Solution or a mapping")
        return np.clip(checks.numbers("start", start), *space.bounds), None
    if isinstance(start, (list, tuple)) and start and all(isinstance(s, Solution) for s in start):
        check_ladder(start)
        for solution in start[:-1]:
            starting_point(discrete, solution)
        start = start[-1]
    if isinstance(start, Solution):
        if start.grid.horizon != discrete.grid.horizon:
            seen = f"a solution on [0, {start.grid.horizon:g}]"
            checks.reject("start", seen, f"a solution of the same problem, on [0, {discrete.grid.horizon:g}]")
        parts = {}
        for block in space:
            old = start.controls.get(block.name)
            if old is None or old.values.shape[1:] != block.control.shape or old.layout.on != block.layout.on:
                checks.reject("start", f"a solution without a control {block.name!r} of shape {block.control.shape} on "
                              f"{block.layout.on!r}", "a solution of the same problem")  # fmt: skip
            parts[block.name] = prolong(old.layout, old.values, block.layout)
        return np.clip(space.assemble(parts), *space.bounds), start
    if isinstance(start, Mapping):
        return space.initial(start), None
    checks.reject_type("start", start, "None, a Solution or several, a mapping name -> initial guess, or a flat vector")


def check_ladder(solutions: Sequence[Solution]) -> None:
    depths = [s.depth for s in solutions]
    if any(b <= a for a, b in pairwise(depths)):
        checks.reject("start", f"solutions of depths {depths}", "solutions by increasing depth")


def coarser(discrete: DiscreteProblem, start: Solution | Sequence[Solution]) -> list[Samples]:
    """The samples of the given solutions; the last alone unless it is coarser than the problem."""
    levels = [start] if isinstance(start, Solution) else list(start)
    if levels[-1].depth >= discrete.depth:
        levels = levels[-1:]
    return [Samples({k: c.layout for k, c in s.controls.items()}, {k: c.values for k, c in s.controls.items()})
            for s in levels]  # fmt: skip


def bend_of(origin: Solution | None) -> float:
    """The smallest ‖r_{k+1}‖ / ‖r_k‖² of the log: a bound of what one Newton step leaves, near the same minimiser."""
    if origin is None or origin.backend != "adjoint":
        return float("inf")
    pairs = [(a[2], b[2]) for a, b in pairwise(origin.log) if 0 < a[2] <= 1e-2]
    return min((b / a**2 for a, b in pairs), default=float("inf"))


def _report(discrete: DiscreteProblem, found: Found, backend: str, tolerance: float, seconds: float) -> Solution:
    """Recompute value, stationarity, feasibility and costates from the controls, for both backends."""
    from dnlcontrol.backends.multipliers import Multipliers

    problem, space, w = discrete.problem, discrete.space, found.w
    counts = found.evaluator.counts
    nfev, njev, nhev = counts.values + counts.gradients, counts.gradients, counts.hessians
    at = found.evaluator.trajectory(w, Multipliers(found.multipliers))
    value = at.value - (float(found.multipliers @ at.constraints) if found.multipliers.any() else 0.0)
    lower, upper = space.bounds
    outside = np.max(np.maximum(lower - w, w - upper), initial=0.0)
    slack = np.max(discrete.rows.slack(at.constraints, found.multipliers), initial=0.0)
    measures: dict[str, Any] = {
        "stationarity": stationarity(space, w, at.gradient),
        "feasibility": float(max(np.max(discrete.rows.violation(at.constraints), initial=0.0), outside)),
        "complementarity": float(max(complementarity(space, w, at.gradient), slack)),
    }
    solved = np.isfinite(value) and all(m <= tolerance for m in measures.values())
    status = SOLVED if solved else STALLED if found.status == SOLVED else found.status
    message = found.message
    if not solved:
        off = ", ".join(f"{k} {v:.1e}" for k, v in measures.items() if not v <= tolerance)
        worst = discrete.rows.worst(at.constraints) if measures["feasibility"] > tolerance else ""
        message = f"{message}; above the tolerance {tolerance:.0e}: {off}{f'; {worst}' if worst else ''}"
    costates, terminal = costates_of(found.evaluator, w, at, found.costates, found.one_step)
    return Solution(
        name=problem.name, backend=backend, grid=discrete.grid, value=float(value), status=status, message=message,
        states=at.states, costates=costates, terminal_gradient=terminal,
        controls={b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in space},
        multipliers=discrete.rows.by_name(found.multipliers), nit=found.nit,
        nfev=nfev if found.nfev is None else found.nfev, njev=njev, nhev=nhev, seconds=seconds,
        peak_memory_mb=peak_memory(), tolerance=tolerance, log=found.log,
        formulation=found.formulation, versions=versions(), problem=problem,
        work=counts.work(extra=1) if backend == "adjoint" else {}, preconditioner=found.preconditioner,
        **measures,
    )  # fmt: skip


def costates_of(evaluator: Any, w: np.ndarray, at: Any, own: np.ndarray | None = None,
                one_step: bool = False) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Costates per sample (ψ for ODE dynamics, p with p(T) else) and ∇Φ; see :class:`Solution`.

    Of the trajectory ``at`` at w, or of a backend's ``own`` costates: ψ where its rows are ``one_step``, else λ.
    """
    problem = evaluator.discrete.problem
    N = problem.samples
    lam, psi = at.costates, at.integral_costates if problem.dynamics.is_ode else None
    if own is not None:
        own = own.reshape(at.states.shape)
        if one_step:
            psi = own
            lam = own.copy()
            lam[:-1] -= own[1:]
        else:
            lam = own
    if problem.dynamics.is_ode and psi is not None:
        return N * psi, N * lam[-1]
    p = N * lam / evaluator.discrete.grid.step
    p[-1] = evaluator.final_costate(w, at.states[-1], N * at.integral_costates[-1])
    return p, N * lam[-1]


def peak_memory() -> float:
    """The largest resident size of this process so far, in MB."""
    import resource
    import sys

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1024**2 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """Versions of this library and of those it computes with."""
    found = {}
    for package in ("dnlcontrol", "numpy", "scipy", "torch", "casadi"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
