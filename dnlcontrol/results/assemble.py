"""What a backend found, as a Solution: everything reported is recomputed from the controls, for
both backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dnlcontrol.backends.found import SOLVED, STALLED, BackendResult
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.minimise.faces import complementarity, stationarity
from dnlcontrol.results.environment import environment, peak_memory, versions
from dnlcontrol.results.solution import Solution


def assembled(
    discrete: DiscreteProblem, found: BackendResult, options: Mapping[str, Any], seconds: float
) -> Solution:
    """Recompute value, stationarity, feasibility and costates from the controls, for both
    backends.
    """
    from dnlcontrol.minimise.multipliers import Multipliers

    problem = discrete.problem
    space = discrete.space
    w = found.w
    tolerance = options["tolerance"]
    counts = found.evaluator.counts
    nfev = counts.values + counts.gradients
    njev = counts.gradients
    nhev = counts.hessians
    at = found.evaluator.trajectory(w, Multipliers(found.multipliers))
    value = at.value - (
        float(found.multipliers @ at.constraints) if found.multipliers.any() else 0.0
    )
    lower, upper = space.bounds
    outside = np.max(np.maximum(lower - w, w - upper), initial=0.0)
    slack = np.max(discrete.rows.slack(at.constraints, found.multipliers), initial=0.0)
    measures: dict[str, Any] = {
        "stationarity": stationarity(space, w, at.gradient),
        "feasibility": float(
            max(np.max(discrete.rows.violation(at.constraints), initial=0.0), outside)
        ),
        "complementarity": float(max(complementarity(space, w, at.gradient), slack)),
    }
    solved = np.isfinite(value) and all(m <= tolerance for m in measures.values())
    status = SOLVED if solved else STALLED if found.status == SOLVED else found.status
    message = found.message
    if not solved:
        off = ", ".join(f"{k} {v:.1e}" for k, v in measures.items() if not v <= tolerance)
        worst = discrete.rows.worst(at.constraints) if measures["feasibility"] > tolerance else ""
        message = (
            f"{message}; above the tolerance {tolerance:.0e}: {off}{f'; {worst}' if worst else ''}"
        )
    costates, terminal = costates_of(found.evaluator, w, at, found.costates, found.one_step)
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
        controls={b.name: Extension(b.name, b.layout, b.values(w).copy()) for b in space},
        multipliers=discrete.rows.by_name(found.multipliers),
        nit=found.nit,
        nfev=nfev if found.nfev is None else found.nfev,
        njev=njev,
        nhev=nhev,
        seconds=seconds,
        peak_memory_mb=peak_memory(),
        tolerance=tolerance,
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
        **measures,
    )


def costates_of(
    evaluator: Any, w: np.ndarray, at: Any, own: np.ndarray | None = None, one_step: bool = False
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
