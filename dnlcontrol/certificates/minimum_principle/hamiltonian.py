"""The Hamiltonian along the path of a solution, sample by sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.point import problem_of, stored_point
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.files.turns import in_turn
from dnlcontrol.results.solution import Solution

if TYPE_CHECKING:
    from torch import Tensor


@in_turn
def hamiltonian(solution: Solution) -> np.ndarray:
    """H at the nodes l = 0..L-1 for every sample, (L, N).

    H is per sample like the costates (docs/theory.md):

        ODE        H^s = ℓ(t_s, x^s, u^s) + ψ^{s+1} · f(t_s, x^s, u^s)
        Volterra   H^s = ℓ(t_s, x^s, u^s) + N Σ_{l>s} z̄^l · k(t_l, t_s, y^s, u^{l,s}),
                   z̄ = dJ/dz, λ where G = g + z

    In the limit the sum is k(T, s) · ∇Φ + ∫_s^T p · k(t, s) dt; ψ^{s+1} is the costate that
    multiplies the step from s, so that H minimised over u^s is the discrete stationarity. ℓ takes
    no regulariser in: add (α/2)|u|² for the L2 penalty of a path control. Where ℓ and f do not
    depend on t, H + (α/2)|u|² is constant up to O(1/L).

    The trapezoidal rule has the nodes l = 0..L, (L+1, N), and with its weights c, d and ω of
    docs/theory.md

        H^s = ℓ(t_s, x^s, u^s) + (N/ω_s) [Σ_{l>s} c_s z̄^l · k(t_l, t_s, y^s, u^{l,s})
                                          + d_s z̄^s · k(t_s, t_s, y^s, u^{s,s})],

    which for an ODE is ℓ + ψ(t_s) · f with the mean ψ of the steps on both sides. Stationarity is
    again H minimised over u^s, and H is constant up to O(L^-2), but for s = 0 and s = L, which have
    the costate of half a step away: O(1/L) there.

    Raises
    ------
    InputError where the solution holds no problem (read from files that name no problem file) or
    belongs to another.

    >>> import numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u),
    ...     controls={"u": dnl.Control(())},
    ...     running=lambda t, x, u: 0.5 * u.u**2,
    ...     terminal=lambda x, c: 0.5 * x**2,
    ... )
    >>> solution = dnl.solve(problem, depth=4, backend="adjoint")
    >>> dnl.hamiltonian(solution)[:, 0].round(9).tolist()
    [-0.125, -0.125, -0.125, -0.125]
    """
    if not isinstance(solution, Solution):
        checks.reject_type("hamiltonian.solution", solution, "a Solution")
    discrete = discretise(problem_of(solution), solution.depth, solution.rule)
    w, mu = stored_point(solution, discrete, "hamiltonian.solution")
    return path_hamiltonian(discrete, w, mu)


def path_hamiltonian(discrete: DiscreteProblem, w: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """H^s, (sources, N), at the controls w, with the costates of the Lagrangian J + μᵀc."""
    import torch

    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.minimise.multipliers import Multipliers

    evaluator = Evaluator(discrete)
    sweep = evaluator.sweep
    lagrangian = evaluator.lagrangian
    problem = discrete.problem
    grid = discrete.grid
    at = evaluator.trajectory(w, Multipliers(mu))
    u = {k: sweep.tensor(v) for k, v in discrete.space.split(w).items()}
    x, zbar = sweep.tensor(at.states), sweep.tensor(problem.samples * at.integral_costates)
    own = zbar.clone()  # of z^l alone: in the Markov case z̄^l also carries the later layers
    if sweep.markov:
        own[:-1] -= zbar[1:]
    total = torch.zeros(grid.side, problem.samples, dtype=x.dtype)
    with torch.no_grad():
        for s in range(grid.side):
            if s < discrete.depth:
                column = sweep.column(s, x[s], *sweep.inputs(u, s))
                total[s] += _paired(column, zbar[s + 1 : s + 1 + len(column)])
            if grid.own[s]:
                diagonal = sweep.diagonal(s, x[s], *sweep.inputs(u, s, own=True))
                total[s] += grid.own[s] * _paired(diagonal[None], own[s : s + 1])
        total /= sweep.tensor(grid.running_weights[: grid.side])[:, None]
        running = problem.formulas.running
        if lagrangian.running is not None and running is not None:
            target = lagrangian.targets["running"]
            extra = [] if target is None else [target]
            total += lagrangian.over_path(
                lagrangian.running, running, x, lagrangian.visible(u), extra
            )
    return np.asarray(total)


def _paired(values: Tensor, cotangents: Tensor) -> Tensor:
    """Σ_l values^l · cotangents^l per sample, for (layers, N, *shape)."""
    product = values * cotangents
    return product.reshape(*product.shape[:2], -1).sum((0, 2))
