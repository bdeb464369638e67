"""solve: one problem, one depth, either backend. simulate: the forward solve alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import SOLVED, STALLED, Found
from dnlcontrol.branches import branch_note
from dnlcontrol.checkpoints import Checkpoint
from dnlcontrol.controls import SmoothRandom
from dnlcontrol.discrete import DiscreteProblem, discretise
from dnlcontrol.duals import prolonged_multipliers
from dnlcontrol.environment import environment, peak_memory, versions
from dnlcontrol.fingerprints import fingerprint, same_problem
from dnlcontrol.problem import ControlProblem
from dnlcontrol.solution import Solution
from dnlcontrol.space.extension import Extension, prolong
from dnlcontrol.space.faces import complementarity, stationarity
from dnlcontrol.space.prolongation import Samples

METHODS = ("newton", "gauss-newton", "lbfgs", "adam", "sgd", "msa", "emsa")
BATCHED, SUCCESSIVE = METHODS[3:5], METHODS[5:]
FORMULATIONS = ("auto", "lifted", "condensed")
WARM = ("duals", "controls")


def solve(problem: ControlProblem, depth: int, backend: str = "exact", rule: str = "left", start: Any = None,
          device: str = "cpu", tolerance: float = 1e-8, max_iterations: int | None = None, method: str = "newton",
          formulation: str = "auto", force: bool = False, dtype: str = "float64", chunk: int | None = None,
          verbose: bool = False, warm: str = "duals",
          progress: Callable[[Any], None] | None = None, batches: Any = None,
          distributed: bool = False, checkpoint: Any = None, every: float = 60.0) -> Solution:  # fmt: skip
    """Minimise J_L over the controls.

    Parameters
    ----------
    problem, depth : the problem and the number of layers L; the step is τ = T/L.
    backend : "exact" (CasADi and IPOPT, every constraint, small depth) or "adjoint" (PyTorch, large depth).
    start : None (the controls' own guesses), a Solution of any depth (prolonged), several of one branch by increasing
        depth (extrapolated; the message says so where the minimiser is on another branch), or a mapping
        name -> number, array or callable.
    device : "cpu", "cuda" or "cuda:k" (adjoint).
    tolerance : on stationarity, feasibility and complementarity; see :class:`Solution`.
    method : "newton" (trust-region Newton-CG), "gauss-newton" (the same with the Gauss-Newton matrix, which is
        semidefinite for convex costs) or "lbfgs", all in the metric of the controls; for many samples "adam" or (in
        that metric) "sgd" on mini-batches, then Newton on all samples; "msa" or "emsa" (successive approximation by
        Pontryagin's principle, plain and extended) for path controls of an ODE (adjoint).
    batches : a :class:`MiniBatches` for "adam" and "sgd": size, epochs, rate, seed, polish.
    distributed : ``problem`` has this rank's share of the samples, and all ranks of torch.distributed solve together
        (adjoint, "newton" or "lbfgs", no constraints but control bounds); see docs/cluster.md.
    formulation : "lifted" (states are unknowns, IPOPT), "condensed" (states eliminated, dense exact Hessian) or "auto",
        which takes the cheaper by forecast (exact).
    force : build a program that the forecast calls too large (exact).
    dtype, chunk : precision and samples per chunk of the sweeps (adjoint); None: from the sizes.
    verbose : let IPOPT print (exact).
    warm : what is taken over from a Solution given as ``start``: "duals", its controls and, if it converged, the
        multipliers of its constraints, prolonged too; "controls", its controls alone.
    progress : called with each iterate (adjoint): iteration, value, stationarity, radius, inner, work.
    checkpoint : a directory for the minimiser's state, written at most ``every`` so many seconds between two
        iterations; a solve that was killed goes on from it when it is called again, to the same minimiser. Removed at
        convergence; a file of another problem, depth, rule or method is an error (adjoint).

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
    checks.choice("warm", warm, WARM)
    checks.choice("formulation", formulation, FORMULATIONS)
    tolerance = checks.positive("tolerance", tolerance)
    limit = None if max_iterations is None else checks.whole("max_iterations", max_iterations)
    if progress is not None:
        checks.function("progress", progress)
    _check_batches(backend, method, batches)
    _check_distributed(distributed, backend, method, problem)
    discrete = discretise(problem, depth, rule)
    keeper = None if checkpoint is None else _checkpoint(checkpoint, every, discrete, backend, method)
    w, origin = starting_point(discrete, start)
    mu = None if origin is None or warm == "controls" else prolonged_multipliers(origin, discrete)
    began = time.perf_counter()
    if backend == "exact":
        if device != "cpu":
            checks.reject("device", device, "'cpu' for the exact backend")
        from dnlcontrol.backends.exact import run as exact

        found = exact.run(discrete, w, tolerance, limit, formulation, verbose, force, origin is None, mu)
    else:
        if formulation != "auto":
            checks.reject("formulation", formulation, "'auto' for the adjoint backend")
        from dnlcontrol.backends.adjoint import run as adjoint

        settings = (tolerance, limit, method, device, dtype, chunk, progress)
        if distributed:
            found = adjoint.run_distributed(discrete, w, *settings, origin is None, keeper)
        else:
            levels = () if origin is None else coarser(discrete, start)
            found = adjoint.run(discrete, w, *settings, levels, bend_of(origin),
                                getattr(origin, "preconditioner", None), mu, batches, keeper)  # fmt: skip
    options = {
        "backend": backend, "rule": rule, "start": _words(start), "device": device, "tolerance": tolerance,
        "max_iterations": limit, "method": method, "formulation": formulation, "force": force, "dtype": dtype,
        "chunk": chunk, "verbose": verbose, "warm": warm, "batches": None if batches is None else asdict(batches),
        "distributed": distributed, "seeds": _seeds(problem, start),
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }  # fmt: skip
    earlier = 0.0
    if keeper and keeper.resumed:
        earlier = keeper.earlier
        found = replace(found, message=f"{found.message} (continued from a checkpoint after {keeper.since} iterations)")
    solution = _report(discrete, found, options, earlier + time.perf_counter() - began)
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


def _check_batches(backend: str, method: str, batches: Any) -> None:
    """Mini-batches belong to the adjoint backend and to the methods that use them."""
    if method in BATCHED and backend != "adjoint":
        checks.reject("method", method, "'newton' for the exact backend; mini-batches need backend='adjoint'")
    if method in SUCCESSIVE and backend != "adjoint":
        checks.reject("method", method, "'newton' for the exact backend; successive approximation needs 'adjoint'")
    if batches is None:
        return
    from dnlcontrol.backends.adjoint.stochastic import MiniBatches

    if not isinstance(batches, MiniBatches):
        checks.reject_type("batches", batches, "MiniBatches(size=..., epochs=..., ...) or None")
    if method not in BATCHED:
        checks.reject("batches", f"{batches} for the method {method!r}", "None, or method='adam' or 'sgd'")


def _checkpoint(directory: Any, every: float, discrete: DiscreteProblem, backend: str, method: str) -> Checkpoint:
    """The checkpoint of a solve, which serves the same discrete problem and method only."""
    if backend != "adjoint":
        checks.reject("checkpoint", directory, "None for the exact backend; use backend='adjoint'")
    if method in SUCCESSIVE:
        checks.reject("checkpoint", directory, f"None for method={method!r}; its steps cannot be continued")
    about = {**fingerprint(discrete.problem, discrete.grid.rule), "depth": discrete.depth, "method": method,
             "size": discrete.space.size}  # fmt: skip

    def same(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
        return all(theirs.get(k) == mine[k] for k in ("depth", "method", "size")) and same_problem(theirs, mine)

    return Checkpoint(directory, every, about, same)


def _check_distributed(distributed: Any, backend: str, method: str, problem: Any) -> None:
    """Sums over ranks are those of the adjoint backend's full gradients; multipliers belong to single samples."""
    if not isinstance(distributed, bool):
        checks.reject_type("distributed", distributed, "True or False")
    if not distributed:
        return
    if backend != "adjoint":
        checks.reject("distributed", True, "False for the exact backend; use backend='adjoint'")
    if method not in ("newton", "lbfgs"):
        checks.reject("method", method, "'newton' or 'lbfgs' for a distributed solve")
    names = [c.name for c in getattr(problem, "constraints", ())]
    if names:
        checks.reject("distributed", True, f"False for a problem with the constraints {names}")


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


def _words(start: Any) -> str:
    """Where a solve started, for its record."""
    if start is None:
        return "initial guesses"
    if isinstance(start, Solution):
        return f"a solution of depth {start.depth}, {start.backend}, value {start.value!r}"
    if isinstance(start, Sequence):
        return "; ".join(_words(s) for s in start)
    return "a vector" if isinstance(start, np.ndarray) else "guesses for " + ", ".join(sorted(start))


def _seeds(problem: ControlProblem, start: Any) -> dict[str, int]:
    """The seeds of random initial guesses by control."""
    if start is not None and not isinstance(start, Mapping):
        return {}
    guesses = {name: control.initial for name, control in problem.controls.items()} | dict(start or {})
    return {name: guess.seed for name, guess in guesses.items() if isinstance(guess, SmoothRandom)}


def _report(discrete: DiscreteProblem, found: Found, options: Mapping[str, Any], seconds: float) -> Solution:
    """Recompute value, stationarity, feasibility and costates from the controls, for both backends."""
    from dnlcontrol.backends.multipliers import Multipliers

    problem, space, w, tolerance = discrete.problem, discrete.space, found.w, options["tolerance"]
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
        name=problem.name, backend=options["backend"], grid=discrete.grid, value=float(value), status=status,
        message=message,
        states=at.states, costates=costates, terminal_gradient=terminal,
        controls={b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in space},
        multipliers=discrete.rows.by_name(found.multipliers), nit=found.nit,
        nfev=nfev if found.nfev is None else found.nfev, njev=njev, nhev=nhev, seconds=seconds,
        peak_memory_mb=peak_memory(), tolerance=tolerance, log=found.log,
        formulation=found.formulation, versions=versions(), options=options, environment=environment(),
        multiplier_nodes={b.constraint.name: [b.layers.tolist(), b.samples.tolist()] for b in discrete.rows.blocks},
        problem=problem,
        work=counts.work(extra=1) if options["backend"] == "adjoint" else {}, preconditioner=found.preconditioner,
        **measures,
    )  # fmt: skip


def costates_of(evaluator: Any, w: np.ndarray, at: Any, own: np.ndarray | None = None,
                one_step: bool = False) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Costates per sample (ψ for ODE dynamics, p with p(T) else) and ∇Φ; see :class:`Solution`.

    Of the trajectory ``at`` at w, or of a backend's ``own`` costates: ψ where its rows are ``one_step``, else λ.
    For l < L p(t_l) = λ^l/ω_l. At T ∇Φ is what is left of λ^L without the layer's own running cost and source, and
    p(T) = ℓ_x + k_x(T,T)ᵀ∇Φ. With the trapezoidal rule all are second order but p(0), since x^0 has no own source.
    """
    problem, grid = evaluator.discrete.problem, evaluator.discrete.grid
    N, L = problem.samples, grid.depth
    lam, zbar, psi = at.costates, at.integral_costates[-1], at.integral_costates if problem.dynamics.is_ode else None
    if own is not None:
        own = own.reshape(at.states.shape)
        if one_step:
            psi = own
            lam = own.copy()
            lam[:-1] -= own[1:]
        else:
            lam = own
    slope, through = evaluator.final_parts(w, at.states[-1], N * zbar)
    terminal = N * lam[-1] - grid.running_weights[-1] * slope - grid.own[-1] * through
    if problem.dynamics.is_ode and psi is not None:
        psi = N * psi
        if grid.at_nodes:  # row l is the step from t_{l-1} to t_l: at the nodes, the mean of both sides
            psi[1:L] = 0.5 * (psi[1:L] + psi[2:])
            psi[-1] = terminal
        return psi, terminal
    p = N * lam
    weights = np.where(grid.running_weights > 0, grid.running_weights, grid.step)
    p[:-1] /= weights[:-1].reshape(-1, *[1] * (p.ndim - 1))
    if grid.own[-1]:
        _, through = evaluator.final_parts(w, at.states[-1], evaluator.outer_pull(w, at.integrals[-1], terminal))
    p[-1] = slope + through
    return p, terminal
