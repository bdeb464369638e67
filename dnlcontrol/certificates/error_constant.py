"""The error constant of the optimal value: c in J_L = J* + c/L + O(L^-2), from one discrete solution.

At a minimiser the value moves to first order only through the quadrature errors, weighted with the costates
(envelope theorem). Let λ^l = dL/dx^l, L the Lagrangian with all multipliers, and z̄^l = (G_z)ᵀ λ^l be its
derivative in the integral z^l alone (λ^l itself when x = g + z), so that z̄^l = τ p(t_l) for l < L and
z̄^L = ∇Φ. Sums over samples; with N samples λ carries the factor 1/N. Then c = T c_1 and c_1 is the sum of

    running cost           -½ [ℓ]_0^T                                       (mean over the samples)
    path penalties         -½ [(α/2) |v|²]_0^T                              L2 and the mass of H1; not TvG
    integral constraints   -½ Σ μ [h]_0^T                                   τ Σ h(t_l, x^l, v^l) with multiplier μ
    memory                 -½ Σ_l z̄^l · [k(t_l, t_l, x(t_l), u) - k(t_l, 0, x(0), u)]
    placement              -½ Σ_{l,s} g^{l,s} · (∂_t w - ∂_s w)             g^{l,s} = τ Σ k_wᵀ z̄^l, w of H1 kind
    last row               ∫ [(α/4) |q|² + ½ q · G] ds                      G = Σ k_w(T, s)ᵀ z̄^L, q = ∂_t w(T, s)
    triangle penalties     L2 alone: -½ ∫ r(T, s) ds - ½ ∫ [r(t, t) - r(t, 0)] dt;  beside H1: +½ ∫ r(t, t) dt

with r = (α_2/2) |w|² for an L2 penalty of weight α_2 on a triangular control.

- For x' = f the memory and running terms are ½ ∫ ψ'·x' dt - ½ [H]_0^T, H = ℓ + ψ·f. The sum over l needs no
  density p, so that state bounds may make ψ a measure.
- Placement: the sample w^{l,s} sits half a cell from the nodes where the kernel reads t and s. Last row: the
  differences of an H1 penalty leave out the half cell next to t = T. Where w(T, s) is free α q = -G, which
  gives -|G|²/(4α); where it is held at a bound, the sample reaches the bound half a cell before T.
- A pure L2 penalty leaves the samples that only x^L reads at 0; values at T are then limits from l < L.
- A path control read by the outer map has its samples at the nodes: with a difference penalty its mass is
  +½ [(α/2) |v(0)|² + (α/2) |v(T)|²].
- A feature map belongs to the kernel, k(t, s, F(s, x, v), w).

Source: derived for this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discrete import DiscreteProblem, discretise
from dnlcontrol.engines import numpy_engine
from dnlcontrol.formula import Formula
from dnlcontrol.problem import ControlProblem
from dnlcontrol.regularisers import H1, L2, Regulariser
from dnlcontrol.solution import Solution
from dnlcontrol.space.control_space import Block
from dnlcontrol.space.faces import held_entries

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator, Trajectory

LEAST_DEPTH = 3  # limits at T are extrapolated from two layers l >= 1 below L
NEGLIGIBLE = 1e-6  # a load below this share of the others is rounding or an inactive constraint


@dataclass(frozen=True)
class ErrorConstant:
    """c in J_L = J* + c/L + O(L^-2), estimated at one depth.

    Attributes
    ----------
    constant : c, the sum of ``terms``; itself with an error O(1/L).
    value, depth : J_L and L.
    terms : contribution -> its share of c (named in the module's docstring, horizon T included).
    corrected : J_L - c/L, an estimate of J* with an error O(1/L²).
    """

    constant: float
    value: float
    depth: int
    terms: Mapping[str, float]

    @property
    def corrected(self) -> float:
        return self.value - self.constant / self.depth


def error_constant(solution: Solution) -> ErrorConstant:
    """Predict J_L - J* = c/L + O(L^-2) without solving any finer problem.

    Parameters
    ----------
    solution : a converged result of :func:`solve`, by any backend, left rule.

    Returns
    -------
    ErrorConstant. Its estimate of c from one depth is first-order accurate, so J_L - c/L is second-order accurate.
    The kernel must be differentiable in s up to s = t: near a weak singularity of order r^β (for example
    (t-s)^{β}, 0 < β < 1) c is right and the remainder is O(L^{-1-β}).

    Raises
    ------
    InputError where the expansion is not known: k(t, t) infinite or undefined; a triangular control without H1
    or L2; an L2 penalty alone where a terminal load acts on the last row (ill-posed); state bounds or path
    constraints that act on a triangular control through measures; a rule other than "left"; a solution that is
    not converged or has lost its problem.

    Source: derived for this project; the formulas are in the module's docstring.

    >>> import math, numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: 0.5 * x + u.u),
    ...     controls={"u": dnl.Control(())},
    ...     running=lambda t, x, u: u.u**2 + x * u.u + 1.25 * x**2,
    ... )
    >>> solution = dnl.solve(problem, depth=50, backend="adjoint")
    >>> found = dnl.error_constant(solution)  # J* = tanh 1, c = ½ tanh² 1
    >>> f"{solution.value - math.tanh(1):.0e}", f"{found.corrected - math.tanh(1):.0e}"
    ('6e-03', '3e-05')
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.backends.adjoint.lagrangian import Multipliers

    problem = _checked(solution)
    discrete = discretise(problem, solution.depth, solution.rule)
    w = discrete.space.assemble({name: control.values for name, control in solution.controls.items()})
    mu = np.zeros(discrete.rows.size)
    for block in discrete.rows.blocks:
        mu[block.part] = np.asarray(solution.multipliers[block.constraint.name]).ravel()
    evaluator = Evaluator(discrete)
    at = _Optimum(discrete, evaluator, evaluator.trajectory(w, Multipliers(mu)), w, mu)
    _check_loads(at)
    with np.errstate(all="ignore"):
        terms = {
            "running cost": _running_cost(at),
            "path penalties": _path_penalties(at),
            "integral constraints": _integral_constraints(at),
            "memory": _memory(at),
            "placement": sum(_placement(at, block) for block in at.triangular if block.metric.smooth),
            "last row": sum(_last_row(at, block) for block in at.triangular if block.metric.smooth),
            "triangle penalties": sum(_triangle_penalty(at, block) for block in at.triangular),
        }
    terms = {name: problem.horizon * float(value) + 0.0 for name, value in terms.items()}
    for name, value in terms.items():
        if not np.isfinite(value):
            checks.reject("error_constant", f"{name}: {value}", "formulas that are finite at t = 0 and t = T")
    return ErrorConstant(sum(terms.values()), solution.value, solution.depth, terms)


# -- what is known at the optimum ----------------------------------------------------------------------------
@dataclass(frozen=True)
class _Optimum:
    """A discrete optimum with its costates, and the limits of states and controls at the nodes.

    w, mu : flat controls and multipliers.
    """

    discrete: DiscreteProblem
    evaluator: Evaluator
    trajectory: Trajectory
    w: np.ndarray
    mu: np.ndarray

    @property
    def problem(self) -> ControlProblem:
        return self.discrete.problem

    @property
    def depth(self) -> int:
        return self.discrete.depth

    @property
    def step(self) -> float:
        return self.discrete.grid.step

    @property
    def triangular(self) -> list[Block]:
        return [b for b in self.discrete.space if b.layout.on == "ts"]

    @property
    def on_last_layer(self) -> list[Block]:
        """Controls without a difference penalty whose last samples only x^L reads."""
        return [b for b in self.discrete.space if not b.metric.smooth and (b.layout.on == "ts" or b.layout.at_nodes)]

    @cached_property
    def loads(self) -> np.ndarray:
        """z̄^l, the derivative of the Lagrangian in z^l alone, (L+1, N, *integral shape)."""
        zbar = self.trajectory.integral_costates
        if not self.problem.markov:
            return zbar
        own = zbar.copy()  # z^{l+1} = z^l + τ k carries z̄^{l+1} into z̄^l
        own[:-1] -= zbar[1:]
        return own

    @cached_property
    def data_gradient(self) -> np.ndarray:
        """dL/dw without the penalties, flat."""
        return self.trajectory.gradient - self.discrete.space.penalty_gradient(self.w)

    @cached_property
    def held(self) -> np.ndarray:
        """The entries held at a bound, flat."""
        return held_entries(self.discrete.space, self.w, self.trajectory.gradient)

    @cached_property
    def states(self) -> np.ndarray:
        """x at the nodes, (L+1, N, *state shape); x(T) is the limit from l < L where the discrete x^L jumps."""
        x = self.trajectory.states
        return np.concatenate([x[:-1], _ahead(x[:-1])]) if self.on_last_layer else x

    @cached_property
    def at_nodes(self) -> dict[str, np.ndarray]:
        """Path controls and constants at the nodes, (L+1, *shape) by name."""
        return {b.name: self._at_nodes(b) for b in self.discrete.space if b.layout.on != "ts"}

    def _at_nodes(self, block: Block) -> np.ndarray:
        v = block.values(self.w)
        if block.layout.on == "const":
            return np.repeat(v, self.depth + 1, axis=0)
        if block.layout.at_nodes:
            return v if block.metric.smooth else np.concatenate([v[:-1], _ahead(v[:-1])])
        inside = 0.5 * (v[1:] + v[:-1])  # from the cell centres
        nodes = np.concatenate([_ahead(v[::-1], 0.5), inside, _ahead(v, 0.5)])
        return np.clip(nodes, block.control.lower, block.control.upper)

    def read(self, formula: Formula, node: int) -> dict[str, np.ndarray]:
        """The path controls and constants at a node that a formula reads."""
        return {name: values[node] for name, values in self.at_nodes.items() if name in formula.reads}

    def rise(self, formula: Formula, sample: int, *extra: np.ndarray) -> np.ndarray:
        """[fn(t, x, u)]_0^T of one sample, of the formula's shape."""
        ends = [
            np.asarray(
                formula(numpy_engine(), t, self.states[node, sample], self.read(formula, node), *extra), dtype=float
            )
            for t, node in ((0.0, 0), (self.problem.horizon, self.depth))
        ]
        return ends[1] - ends[0]


def _ahead(values: np.ndarray, cells: float = 1.0) -> np.ndarray:
    """The linear extrapolation (1, *shape) by some cells past the last of the samples (n, *shape)."""
    return values[-1:] + cells * (values[-1:] - values[-2:-1])


# -- the contributions to c_1 ----------------------------------------------------------------------------------
def _running_cost(at: _Optimum) -> float:
    formula, cost = at.problem.formulas.running, at.problem.running
    if formula is None or cost is None:
        return 0.0
    extra = [() if cost.target is None else (cost.target[n],) for n in range(at.problem.samples)]
    return -0.5 * float(np.mean([at.rise(formula, n, *extra[n]) for n in range(at.problem.samples)]))


def _path_penalties(at: _Optimum) -> float:
    total = 0.0
    for block in at.discrete.space:
        if block.layout.on != "t":
            continue
        v = at.at_nodes[block.name]
        start, end = (0.5 * _mass(at.problem, block, L2, H1) * float(np.sum(v[node] ** 2)) for node in (0, -1))
        total += 0.5 * (start + end) if block.layout.at_nodes and block.metric.smooth else -0.5 * (end - start)
    return total


def _integral_constraints(at: _Optimum) -> float:
    total = 0.0
    for block in at.discrete.rows.blocks:
        if block.constraint.kind == "integral" and block.formula is not None:
            (mu,) = at.mu[block.part].reshape(block.full_shape)
            total += sum(float(np.sum(mu[j] * at.rise(block.formula, n))) for j, n in enumerate(block.samples))
    return -0.5 * total


def _memory(at: _Optimum) -> float:
    total = 0.0
    for l in range(1, at.depth + 1):
        defect = _kernel(at, l, l) - _kernel(at, l, 0)
        if not np.all(np.isfinite(defect)):
            t = at.discrete.grid.nodes[l]
            seen = f"k(t, t) or k(t, 0) infinite or undefined at t = {t:g}"
            checks.reject("error_constant", seen, "a kernel that is finite up to s = t (else the rate is not 1)")
        total += float(np.vdot(at.loads[l], defect))
    return -0.5 * total


def _kernel(at: _Optimum, l: int, s: int) -> np.ndarray:
    """k(t_l, t_s, F(t_s, x(t_s), v(t_s)), w(t_l, t_s)) per sample for s <= l, (N, *integral shape)."""
    import torch

    formulas, mapped, tensor = at.problem.formulas, at.evaluator.vectorised, at.evaluator.sweep.tensor
    nodes = tensor(at.discrete.grid.nodes)

    def shared(formula: Formula) -> dict[str, Any]:
        return {name: tensor(value) for name, value in at.read(formula, s).items()}

    triangular = {}
    for block in at.triangular:
        site = block.layout.index(l, min(s, l - 1))  # the diagonal's samples are w^{l, l-1}
        if block.name in formulas.kernel.reads:
            triangular[block.name] = tensor(block.values(at.w)[site])[None]
    with torch.no_grad():
        y = tensor(at.states[s])
        if formulas.feature is not None and mapped.feature is not None:
            y = mapped.feature(nodes[s], y, shared(formulas.feature))
        values = mapped.kernel(nodes[l : l + 1], nodes[s], y, triangular, shared(formulas.kernel))
    return np.asarray(values[0].cpu())


def _placement(at: _Optimum, block: Block) -> float:
    slope_t, slope_s = _slopes(at, block)
    slope_t[-1] = _slope_at_the_end(at, block)
    along = (slope_t - slope_s)[block.layout.layers - 1, block.layout.sources]
    return -0.5 * float(np.vdot(block.view(at.data_gradient), along))


def _last_row(at: _Optimum, block: Block) -> float:
    q, G = _slope_at_the_end(at, block), _end_load(at, block)
    return at.step * float(np.sum(0.25 * _mass(at.problem, block, H1) * q**2 + 0.5 * q * G))


def _slope_at_the_end(at: _Optimum, block: Block) -> np.ndarray:
    """q = ∂_t w(T, s), (L, components): -G/α where w(T, s) is free."""
    held = block.view(at.held)[_end_sites(at, block)]
    return np.where(held, _slopes(at, block)[0][-1], -_end_load(at, block) / _mass(at.problem, block, H1))


def _end_load(at: _Optimum, block: Block) -> np.ndarray:
    """G(s) = Σ k_w(T, s)ᵀ z̄^L, (L, components)."""
    return block.view(at.data_gradient)[_end_sites(at, block)] / at.step


def _end_sites(at: _Optimum, block: Block) -> np.ndarray:
    """The sites w^{L, 0..L-1}."""
    return np.array([block.layout.index(at.depth, s) for s in range(at.depth)])


def _slopes(at: _Optimum, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """∂_t w and ∂_s w at the cell centres by differences of the mirrored array, (L, L, components) each."""
    square = block.layout.mirrored(block.view(at.w))
    return np.gradient(square, at.step, axis=0), np.gradient(square, at.step, axis=1)


def _triangle_penalty(at: _Optimum, block: Block) -> float:
    layout, L = block.layout, at.depth
    r = 0.5 * _mass(at.problem, block, L2) * np.sum(block.view(at.w) ** 2, axis=1)
    layers = range(1, L + 1)
    diagonal = r[[layout.index(l, l - 1) for l in layers]]
    if block.metric.smooth:  # the L2 mass counts the half cells beyond the diagonal in full
        return 0.5 * at.step * float(np.sum(diagonal))
    left = r[[layout.index(l, 0) for l in layers]]
    row = at.step * np.bincount(layout.layers, r)  # ∫ r(t_l, s) ds
    return -0.5 * float(_ahead(row[:L])[0]) - 0.5 * at.step * float(np.sum((diagonal - left)[:-1]))


def _mass(problem: ControlProblem, block: Block, *kinds: type[Regulariser]) -> float:
    """The weights of a control's penalties of these kinds together."""
    return sum(item.weight for item in problem.regularisers_of(block.name) if isinstance(item, kinds))


# -- what is not covered -----------------------------------------------------------------------------------------
def _checked(solution: Any) -> ControlProblem:
    """The problem of a solution that the expansion may hold for."""
    if not isinstance(solution, Solution):
        checks.reject_type("error_constant", solution, "a Solution")
    problem = solution.problem
    if problem is None:
        seen = "a solution without its problem (as loaded from a run)"
        checks.reject("error_constant", seen, "a result of solve(...), or replace(solution, problem=problem)")
    if solution.rule != "left":
        checks.reject("error_constant", f"rule {solution.rule!r}", "rule 'left'")
    if solution.depth < LEAST_DEPTH:
        checks.reject("error_constant", f"depth {solution.depth}", f"depth >= {LEAST_DEPTH}")
    if not solution.success:
        checks.reject("error_constant", f"a solve that did not converge ({solution.message})", "a converged solution")
    for name, control in problem.controls.items():
        if control.on == "ts" and not any(r.weight > 0 for r in problem.regularisers_of(name)):
            seen = f"triangular control {name!r} without a penalty"
            checks.reject("error_constant", seen, "triangular controls with an H1 or L2 penalty")
    return problem


def _check_loads(at: _Optimum) -> None:
    """Refuse what the loads z̄ show: an ill-posed L2 problem, and measures on a triangular control."""
    sizes = np.array([np.max(np.abs(load), initial=0.0) for load in at.loads])
    if at.on_last_layer and sizes[-1] > NEGLIGIBLE * sizes.max():
        seen = f"a terminal load on control {at.on_last_layer[0].name!r}, which has an L2 penalty alone or none"
        checks.reject("error_constant", seen, "H1 there (else the limit is ill-posed), or no terminal load")
    if not at.triangular:
        return
    for block in at.discrete.rows.blocks:
        on_state = block.formula is None or (block.constraint.kind == "path" and "x" in block.formula.reads)
        pressure = np.abs(at.mu[block.part].reshape(block.full_shape))[block.layers < at.depth]
        if on_state and np.sum(pressure) > NEGLIGIBLE * np.sum(np.abs(at.trajectory.costates)):
            seen = f"{block.constraint.name!r} active before T with triangular controls"
            checks.reject("error_constant", seen, "state bounds and path constraints on x with path controls only")
