"""What a backend found, as a Solution: everything reported is computed again from the controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnlcontrol.backends.found import (
    NO_MINIMISER,
    SOLVED,
    STALLED,
    BackendEvaluator,
    BackendResult,
)
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.faces import complementarity, stationarity
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.results.environment import environment, peak_memory, versions
from dnlcontrol.results.solution import Solution

ABOVE = "above the tolerance"  # in the message of what is not solved


@dataclass(frozen=True)
class Measures:
    """How far a point is from the conditions of a minimiser; see :class:`Solution`."""

    stationarity: float
    feasibility: float
    complementarity: float

    @staticmethod
    def at(discrete: DiscreteProblem, w: Flat, mu: RowVector, at: Trajectory) -> Measures:
        """Of controls w and multipliers μ, from the trajectory there."""
        space, rows = discrete.space, discrete.rows
        lower, upper = space.bounds
        outside = np.max(np.maximum(lower - w, w - upper), initial=0.0)
        violation = np.max(rows.violation(at.constraints), initial=0.0)
        slack = np.max(rows.slack(at.constraints, mu), initial=0.0)
        return Measures(
            stationarity(space, w, at.gradient),
            float(max(violation, outside)),
            float(max(complementarity(space, w, at.gradient), slack)),
        )

    def above(self, tolerance: float) -> str:
        """Those above the tolerance (or not a number), in words."""
        return ", ".join(f"{k} {v:.1e}" for k, v in vars(self).items() if not v <= tolerance)


@np.errstate(all="ignore")  # what is not finite is told in words
def assembled(
    discrete: DiscreteProblem,
    found: BackendResult,
    options: Mapping[str, Any],
    seconds: float,
    at: Trajectory | None = None,
) -> Solution:
    """The solution at the controls that a backend found; ``options`` are kept with it.

    Value, stationarity, feasibility and costates are computed again, for both backends; ``at`` is
    the trajectory there, if it is known.
    """
    problem, w, mu = discrete.problem, found.w, found.multipliers
    at = at or found.evaluator.trajectory(w, Multipliers(mu))
    value = at.value - (float(mu @ at.constraints) if mu.any() else 0.0)
    at = generalised(discrete, w, at, options["tolerance"])
    measures = Measures.at(discrete, w, mu, at)
    above = measures.above(options["tolerance"]) or ("" if np.isfinite(value) else f"value {value}")
    worst = discrete.rows.worst(at.constraints) if "feasibility" in above else ""
    status, message = _verdict(found, above, worst, options["tolerance"])
    costates, terminal = costates_of(found.evaluator, w, at, found.costates, found.one_step)
    counts = found.evaluator.counts
    own = counts.values + counts.gradients
    return Solution(
        name=problem.name,
        backend=options["backend"],
        grid=discrete.grid,
        value=float(value),
        status=status,
        message=message,
        states=at.states,
        costates=costates,
        terminal_gradient=terminal,
        controls={b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in discrete.space},
        multipliers=discrete.rows.by_name(mu),
        nit=found.nit,
        nfev=own if found.nfev is None else found.nfev,
        njev=counts.gradients,
        nhev=counts.hessians,
        seconds=seconds,
        peak_memory_mb=peak_memory(),
        tolerance=options["tolerance"],
        log=found.log,
        formulation=found.formulation,
        versions=versions(),
        options=options,
        environment=environment(),
        multiplier_nodes={
            b.constraint.name: [b.layers.tolist(), b.samples.tolist()] for b in discrete.rows.blocks
        },
        problem=problem,
        work=counts.work(extra=1) if options["backend"] == "adjoint" else {},
        **vars(measures),
    )


def generalised(discrete: DiscreteProblem, w: Flat, at: Trajectory, tolerance: float) -> Trajectory:
    """The trajectory, on the sides of a gradient that is 0 where w is stationary at kinks only."""
    if not discrete.problem.kinks or stationarity(discrete.space, w, at.gradient) <= tolerance:
        return at
    from dnlcontrol.backends.kinks.clarke import kinked_point

    point = kinked_point(discrete, w, tolerance)
    if point is None or point.stationarity > tolerance:
        return at
    return point.trajectory(at)


def _verdict(found: BackendResult, above: str, worst: str, tolerance: float) -> tuple[int, str]:
    """Status and message: solved where nothing is ``above`` the tolerance."""
    if not above:
        refused = found.refused or found.status == NO_MINIMISER
        return (found.status if refused else SOLVED), found.message
    text = f"{found.message}; {ABOVE} {tolerance:.0e}: {above}"
    status = STALLED if found.status == SOLVED else found.status
    return status, f"{text}; {worst}" if worst else text


def costates_of(
    evaluator: BackendEvaluator,
    w: Flat,
    at: Trajectory,
    own: np.ndarray | None = None,
    one_step: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Costates per sample (ψ for ODE dynamics, p with p(T) else) and ∇Φ; see :class:`Solution`.

    Of the trajectory ``at`` at w, or of a backend's ``own`` costates: ψ where its rows are
    ``one_step``, else λ. For l < L p(t_l) = λ^l/ω_l. At T ∇Φ is what is left of λ^L without the
    layer's own running cost and source, and p(T) = ℓ_x + k_x(T,T)ᵀ∇Φ. With the trapezoidal rule all
    are second order but p(0), since x^0 has no own source.
    """
    problem, grid = evaluator.discrete.problem, evaluator.discrete.grid
    N, L = problem.samples, grid.depth
    lam = at.costates
    zbar = at.integral_costates[-1]
    psi = at.integral_costates if problem.dynamics.is_ode else None
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
        # row l is the step from t_{l-1} to t_l: at the nodes, the mean of both sides
        if grid.at_nodes:
            psi[1:L] = 0.5 * (psi[1:L] + psi[2:])
            psi[-1] = terminal
        return psi, terminal
    p = N * lam
    weights = np.where(grid.running_weights > 0, grid.running_weights, grid.step)
    p[:-1] /= weights[:-1].reshape(-1, *[1] * (p.ndim - 1))
    if grid.own[-1]:
        _, through = evaluator.final_parts(
            w, at.states[-1], evaluator.outer_pull(w, at.integrals[-1], terminal)
        )
    p[-1] = slope + through
    return p, terminal
