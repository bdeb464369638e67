"""Successive approximation by Pontryagin's principle.

A forward-backward sweep, then H is minimised along the path. With the states x and costates ψ of
the current controls held,

    h(v) = Σ_l τ [ℓ(t_l, x^l, v^l) + ψ^{l+1} · f(t_l, x^l, v^l)] + R(v)     (means over the samples)

is separable over the layers (but for a penalty on differences, which joins them), and its gradient
at the current controls is that of J. Two ways to go from its minimiser to new controls:

    msa     a line search along the straight line to the minimiser of h
    emsa    no line search, but the minimiser of
            h + (ρ/2) Σ_l τ [|f(t_l, x^l, v) - f(t_l, x^l, u)|² + |H_x(.., v) - H_x(.., u)|²],
            ρ raised until J falls and lowered when it does

Kernels with memory, the trapezoidal rule, outer maps and constants have the state equation x^l =
r^l(x, u) in the place of a step, and h(v) = cost(x, v) + Σ_l λ^l · r^l(x, v) + R(v) with x and the
multipliers λ held [derived]: its gradient at the current controls is again that of J, and r^l takes
the place of f in the extended form.

Source of the extended form: Li, Chen, Tai and E, Journal of Machine Learning Research 2018 (arXiv
1710.09513), where ρ is a constant. Both converge linearly at best. The minimiser of h is found by
Newton's method, whose every gradient and Hessian product is counted like one of J: it takes f and
its derivatives at every layer and sample.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.func import grad, jvp, vmap

from dnlcontrol import checks
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.objective import Objective
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor, Tensors
from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.files.turns import turn
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.minimise.faces import Face, complementarity, stationarity
from dnlcontrol.minimise.newton import newton
from dnlcontrol.minimise.outcome import NOT_FINITE, Iterate, Outcome, Progress
from dnlcontrol.minimise.quadratic_model import QuadraticModel, Step

# J(v) - J(u) over its slope times (v - u) is 1 - c/2 where J is c times as curved as h: 0.25 leaves
# |1 - c| <= 1/2 of the error, 0.45 is c = 1.1, where a lower ρ may pay
ENOUGH_FALL = 0.25
GOOD_FALL = 0.45
INNER_STEPS = 10  # Newton steps on h: most take two to five
# Of the minimiser of h, relative to the stationarity of J. On problems/width_pde.py (N = 6, L = 8,
# to 1e-6) msa takes 153, 151, 141, 148 steps with 0.3, 0.1, 1e-2, 1e-5, but 2.5 times the work at
# the end.
INNER_ACCURACY = 0.1
RHO_FACTOR = 4.0  # of ρ, down after a step that lowered J and up after one that did not
LARGEST_RHO = 1e12  # ρ beyond which steps are below rounding


class FrozenHamiltonian:
    """h, or its extended form, as a smooth function of the flat control vector.

    ``at`` is the trajectory at ``w``.
    """

    def __init__(self, evaluator: Evaluator, w: Flat, at: Trajectory, rho: float = 0.0) -> None:
        self.evaluator = evaluator
        self.rho = rho
        sweep = evaluator.sweep
        self.step, self.samples = sweep.grid.step, sweep.problem.samples
        self.stepwise = is_stepwise(evaluator)
        self._right = self._speed if self.stepwise else self._equations
        self.x = sweep.tensor(at.states)
        costates = self.step * at.integral_costates[1:] if self.stepwise else at.costates
        self.lam = sweep.tensor(costates)
        with torch.no_grad():
            u = evaluator.vectors.controls(w)
            self.right, self.slope = self._right(self.x, u), self._slope(u)

    @property
    def space(self) -> ControlSpace:
        return self.evaluator.space

    def value_and_gradient(self, w: Flat) -> tuple[float, Flat]:
        self.evaluator.watch.check()
        self.evaluator.counts.gradients += 1
        flat = self.evaluator.vectors.tensor(w)
        with torch.no_grad():
            value = float(self._value(flat))
        gradient = grad(self._value)(flat).double().cpu().numpy()
        return value + self.space.add_penalty_gradient(w, gradient), gradient

    def hessian_product(self, w: Flat, d: Flat) -> np.ndarray:
        self.evaluator.watch.check()
        self.evaluator.counts.hessians += 1
        flat, along = self.evaluator.vectors.tensor(w), self.evaluator.vectors.tensor(d)
        with turn():
            product = np.asarray(jvp(grad(self._value), (flat,), (along,))[1].double().cpu())
        self.space.add_penalty_gradient(d, product)
        return product

    def solve_model(
        self, w: Flat, g: Flat, face: Face, radius: float, accuracy: float, max_products: int
    ) -> Step:
        model = QuadraticModel(self.space, partial(self.hessian_product, w), w, g, face)
        return model.minimise(radius, accuracy, max_products)

    def _value(self, flat: Tensor) -> Tensor:
        u = self.evaluator.vectors.views(flat)
        value = self._energy(self.x, u)
        if self.rho:
            # the weights of x and λ hold τ and 1/N: per sample, τ/N |f|² and (N/τ) |their H_x|²
            change, slope = self._right(self.x, u) - self.right, self._slope(u) - self.slope
            share = self.step / self.samples
            value = value + 0.5 * self.rho * (share * (change**2).sum() + (slope**2).sum() / share)
        return value

    def _energy(self, x: Tensor, u: Tensors) -> Tensor:
        """The mean cost at held states, and ψ · τ f or λ · r."""
        e = self.evaluator
        cost = e.lagrangian.value(x, e.lagrangian.visible(u), e.sweep.everyone, None)
        return cost + (self.lam * self._right(x, u)).sum()

    def _slope(self, u: Tensors) -> Tensor:
        """Its derivative in x^l where the controls matter: l = 0..L-1, for r every l."""
        slope = grad(lambda x: self._energy(x, u))(self.x)
        return slope[:-1] if self.stepwise else slope

    def _speed(self, x: Tensor, u: Tensors) -> Tensor:
        """f(t_l, x^l, u^l), (L, N, *state), all layers at once."""
        sweep = self.evaluator.sweep
        read = {k: v for k, v in u.items() if k in sweep.problem.formulas.kernel.reads}

        def layer(t: Tensor, x: Tensor, shared: Tensors) -> Tensor:
            return sweep.formulas.kernel(t[None], t, x, {}, shared)[0]

        return vmap(layer)(sweep.nodes[:-1], x[:-1], read)

    def _equations(self, x: Tensor, u: Tensors) -> Tensor:
        """The right sides r^l(x, u) of the state equation, x in every kernel, (L+1, N, *state)."""
        sweep, L = self.evaluator.sweep, self.evaluator.discrete.depth
        z = x.new_zeros(L + 1, x.shape[1], *sweep.problem.integral_shape)
        for s in range(L):
            column = sweep.column(s, x[s], *sweep.inputs(u, s))
            if sweep.markov:  # once in every later z
                column = column.expand(L - s, *column.shape[1:])
            z = z + torch.cat([torch.zeros_like(z[: s + 1]), column])
        own = [
            sweep.grid.own[l] * sweep.diagonal(l, x[l], *sweep.inputs(u, l, own=True))
            if sweep.grid.own[l]
            else torch.zeros_like(z[l])
            for l in range(L + 1)
        ]
        z, outer = z + torch.stack(own), sweep.problem.formulas.outer
        shared = [sweep.shared(u, outer, l) if outer else {} for l in range(L + 1)]
        return torch.stack(
            [sweep.state(l, sweep.everyone.at(l), z[l], shared[l]) for l in range(L + 1)]
        )


def is_stepwise(evaluator: Evaluator) -> bool:
    """Whether x^{l+1} = x^l + τ f(t_l, x^l, u^l) with path controls alone.

    Then h is separable and all layers are one call.
    """
    f, problem = evaluator.discrete.problem.formulas, evaluator.discrete.problem
    plain = problem.dynamics.is_ode and problem.markov and not (f.outer or f.feature or f.free_term)
    return (
        plain
        and not evaluator.sweep.grid.at_nodes
        and all(b.layout.on == "t" for b in evaluator.space)
    )


def successive(
    objective: Objective,
    start: Flat,
    tolerance: float,
    max_iterations: int = 1000,
    progress: Progress | None = None,
    *,
    extended: bool = False,
    checkpoint: None = None,
) -> Outcome:
    """Minimise from ``start`` (size,) to stationarity ``tolerance``: msa or, ``extended``, emsa.

    The outcome has converged, or says that J or its gradient is not finite, that no step lowers J,
    or that ``max_iterations`` are spent. In its log θ or ρ is the radius. There is no
    ``checkpoint`` to go on from.
    """
    evaluator, space = objective.evaluator, objective.space
    w = np.clip(start, *space.bounds)
    log: list[Iterate] = []
    at = _trajectory(evaluator, w)
    rho = 1.0 if extended else 0.0
    size = 1.0
    inner = 0
    if not (np.isfinite(at.value) and np.all(np.isfinite(at.gradient))):
        log.append(Iterate(0, at.value, np.inf, size, 0))
        return _outcome(w, at, NOT_FINITE, log)
    message = (
        f"stopped after {max_iterations} iterations; raise max_iterations or use method='newton'"
    )
    for k in range(max_iterations + 1):
        norm = stationarity(space, w, at.gradient)
        log.append(Iterate(k, at.value, norm, rho if extended else size, inner))
        if progress:
            progress(log[-1])
        if norm <= tolerance and complementarity(space, w, at.gradient) <= tolerance:
            done = f"stationarity {norm:.1e} <= {tolerance:.0e}"
            return _outcome(w, at, done, log, converged=True)
        if k == max_iterations:
            break
        if extended:
            new, rho, inner = _extended_step(evaluator, w, at, rho, norm)
        else:
            new, size, inner = _searched_step(evaluator, w, at, norm)
        if new is None:
            other = "msa" if extended else "emsa"
            message = (
                f"no decrease of J found at stationarity {norm:.1e}; use method={other!r} "
                "or 'newton'"
            )
            break
        w, at = new, _trajectory(evaluator, new)
    return _outcome(w, at, message, log)


def _outcome(
    w: Flat, at: Trajectory, message: str, log: list[Iterate], converged: bool = False
) -> Outcome:
    """At w (size,), whose stationarity is that of the last line of the log."""
    return Outcome(
        w=w,
        value=at.value,
        gradient=at.gradient,
        stationarity=log[-1].stationarity,
        converged=converged,
        message=message,
        log=tuple(log),
    )


def _trajectory(evaluator: Evaluator, w: Flat) -> Trajectory:
    """A forward and a backward sweep: a value and gradient."""
    evaluator.counts.gradients += 1
    return evaluator.trajectory(w)


def _minimiser(evaluator: Evaluator, w: Flat, at: Trajectory, rho: float, norm: float) -> Outcome:
    return newton(FrozenHamiltonian(evaluator, w, at, rho), w, INNER_ACCURACY * norm, INNER_STEPS)


def _fall(evaluator: Evaluator, at: Trajectory, w: Flat, new: Flat) -> float:
    """The change of J over that of its linear part.

    0 where J rises, GOOD_FALL where both are lost in rounding.
    """
    slope, change = float(at.gradient @ (new - w)), evaluator.value(new) - at.value
    if not np.isfinite(change) or slope >= 0:
        return 0.0
    noise = 4e-15 * (1 + abs(at.value))
    return GOOD_FALL if -slope <= 100 * noise and change <= noise else max(change / slope, 0.0)


def _searched_step(
    evaluator: Evaluator, w: Flat, at: Trajectory, norm: float
) -> tuple[Flat | None, float, int]:
    """w + θ (minimiser of h - w) with the first θ = 1, ½, ... that lowers J enough."""
    found = _minimiser(evaluator, w, at, 0.0, norm)
    theta = 1.0
    while theta > 1e-12:
        new = w + theta * (found.w - w)
        if _fall(evaluator, at, w, new) >= ENOUGH_FALL:
            return new, theta, found.iterations
        theta *= 0.5
    return None, 0.0, found.iterations


def _extended_step(
    evaluator: Evaluator, w: Flat, at: Trajectory, rho: float, norm: float
) -> tuple[Flat | None, float, int]:
    """The minimiser of the extended h for the first ρ that lowers J enough.

    Then the ρ to begin with next time, and the Newton steps taken.
    """
    inner = 0
    while rho < LARGEST_RHO:
        found = _minimiser(evaluator, w, at, rho, norm)
        inner += found.iterations
        fall = _fall(evaluator, at, w, found.w)
        if fall >= ENOUGH_FALL:
            return found.w, rho / RHO_FACTOR if fall >= GOOD_FALL else rho, inner
        rho *= RHO_FACTOR
    return None, rho, inner


def refuse(evaluator: Evaluator, method: str) -> None:
    """Raise InputError for a problem with constraints: h is minimised over bounds alone."""
    if evaluator.rows.size:
        seen = f"{method!r} for a problem with constraints"
        checks.reject(
            "method",
            seen,
            "'newton' or 'lbfgs' where there are constraints other than control bounds",
        )
