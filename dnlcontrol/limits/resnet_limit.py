"""Whether a ladder of residual networks converges to its ODE.

Identities at each depth, rates over the depths.

With data cost D, penalties α [τ^{-1} Σ|v_i - v_{i-1}|² + τ_1 |v_0|²] on v = K and v = b, and τ G_i
= ∂D/∂v_i:

    0 < i < n-1   2α (v_{i+1} - 2v_i + v_{i-1})/τ² = G_i              discrete form of  2α v'' = G
    i = 0         (v_1 - v_0)/τ = τ_1 v_0 + τ G_0/(2α)                          of  v'(0) = τ_1 v(0)
    i = n-1       (v_{n-1} - v_{n-2})/τ = -τ G_{n-1}/(2α)                       of  v'(T) = 0
    sum           τ_1 v_0 = -(1/2α) τ Σ_i G_i

G_i = (1/N) Σ_n (σ'(K_i X_i + b_i) ⊙ ψ_{i+1}) X_iᵀ (without X_i for b), note ψ_{i+1}. They are the
entries, and the sum over i, of the gradient r; a solution of stationarity s = (rᵀ A^{-1} r)^{1/2}
has |<r, δ>| <= s ‖δ‖_A with

    ‖e_i‖²_A = τ + 2/τ inside, τ + 1/τ at the ends,   ‖1‖²_A = T,   ‖A‖ <= τ + 4/τ

which gives every tolerance below. The second differences have τ Σ|Δ²v/τ²|² = τ Σ|G_i -
r_i/τ|²/(2α)², bounded as long as G is: v is in H² in the limit.

Source: the model and the limit are those of Thorpe and van Gennip, arXiv 1810.11741; identities and
tolerances are derived for this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.certificate import Certificate, Check, at_most
from dnlcontrol.certificates.point import problem_of
from dnlcontrol.discretisation.space.distances import control_distance
from dnlcontrol.discretisation.space.transport import tl2_distance
from dnlcontrol.files.turns import in_turn
from dnlcontrol.limits.resnet_parts import LimitModel, Parts, energy_terms, model_of, parts_of
from dnlcontrol.results.solution import Solution, distance

EPS = float(np.finfo(float).eps)
COLUMNS = (
    "value",
    "second_differences_K",
    "second_differences_b",
    "start_K",
    "end_K",
    "norm_K",
    "value_step",
    "K_TL2",
    "b_TL2",
    "K_L2",
    "b_L2",
    "states_sup",
    "head",
)
RATES = ("value_step", "K_TL2", "b_TL2", "K_L2", "b_L2", "states_sup", "head", "start_K", "end_K")


@dataclass(frozen=True)
class ResNetLimitReport:
    """What the solutions of one residual network say about the limit of infinite depth.

    Attributes
    ----------
    certificates : the identities at each depth, a :class:`Certificate` for each.
    rows : one dictionary for each depth: J, n³Σ|Δ²v|² (``second_differences_*``), how far the
        samples are from the boundary conditions (``start_K`` = |K'(0) - τ_1 K(0)|, ``end_K`` =
        |K'(T)|, by differences), ‖K‖ in L², and distances to the level before: value, K and b in
        TL² and in L², states in sup, constants of the head.
    rates : fitted exponents p of C L^{-p} by column; empty when ``refused``.
    refused : why no rates are given, or "".
    """

    problem: str
    certificates: tuple[Certificate, ...]
    rows: tuple[dict[str, float], ...]
    rates: dict[str, float]
    refused: str

    @property
    def depths(self) -> list[int]:
        return [c.depth for c in self.certificates]

    @property
    def passed(self) -> bool:
        """Every identity holds at every depth, and rates could be given."""
        return all(c.passed for c in self.certificates) and not self.refused

    def table(self) -> str:
        """The checks of every depth, the distances, the rates."""
        lines = [c.table() for c in self.certificates]
        names = [n for n in COLUMNS if n not in ("K_L2", "b_L2")]
        width = max(len(n) for n in names)
        lines.append(
            " " * width + "".join(f"{'L = ' + str(d):>12}" for d in self.depths) + f"{'rate':>8}"
        )
        for name in names:
            cells = "".join(f"{row[name]:12.3e}" for row in self.rows)
            lines.append(
                f"{name:{width}}{cells}"
                + (f"{self.rates[name]:8.2f}" if name in self.rates else "")
            )
        return "\n".join(lines + ([f"no rates: {self.refused}"] if self.refused else []))

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "problem": self.problem,
            "passed": self.passed,
            "refused": self.refused,
            "rates": dict(self.rates),
            "rows": [dict(row) for row in self.rows],
            "certificates": [certificate.to_dict() for certificate in self.certificates],
        }

    def __repr__(self) -> str:
        return self.table()


@in_turn
def resnet_limit_report(solutions: object, least: float = 1e-2) -> ResNetLimitReport:
    """Check the Euler-Lagrange identities at every depth and fit the rates over the depths.

    Parameters
    ----------
    solutions : a Study, or solutions of one problem at increasing depths >= 3 (left rule), each
        with its problem: ``ResNet`` dynamics, one ``TvG`` penalty on K and on b, a terminal cost,
        no constraints.
    least : rates are refused when T ‖K‖_{L²}/√T at the finest depth is below it: then the layers
        move no state by more than about that share, the network is close to the identity (labels
        that hardly vary, or large weights), and the distances are differences of numbers near 0.

    Raises
    ------
    InputError where the solutions are not of increasing depths >= 3, of the left rule, or of such a
    problem.
    """
    found = _ladder(solutions)
    least = checks.non_negative("resnet_limit_report.least", least)
    certificates, rows = [], []
    for k, solution in enumerate(found):
        model = model_of(problem_of(solution), "resnet_limit_report.solutions")
        parts = parts_of(model, solution)
        certificates.append(_certificate(model, solution, parts))
        rows.append(
            {
                **_measures(model, parts, solution),
                **_steps(model, found[k - 1] if k else None, solution),
            }
        )
    size, refused = rows[-1]["norm_K"] * np.sqrt(found[-1].grid.horizon), ""
    if not size >= least:
        refused = (
            f"K is close to 0 (T·|K| = {size:.1e}, least {least:g}): labels that hardly "
            "vary, or large weights"
        )
    elif not all(s.success for s in found):
        worst = next(s for s in found if not s.success)
        refused = f"the solution at L = {worst.depth} did not converge ({worst.message})"
    rates = {} if refused else _rates([s.depth for s in found], rows)
    return ResNetLimitReport(found[0].name, tuple(certificates), tuple(rows), rates, refused)


def _ladder(solutions: object) -> list[Solution]:
    argument = "resnet_limit_report.solutions"
    levels = getattr(solutions, "levels", None)
    found = [level.solution for level in levels] if levels is not None else solutions
    if not isinstance(found, (list, tuple)) or not all(isinstance(s, Solution) for s in found):
        checks.reject_type(argument, solutions, "a Study or a list of solutions")
    depths = [s.depth for s in found]
    if not depths or depths[0] < 3 or any(b <= a for a, b in pairwise(depths)):
        checks.reject(argument, f"depths {depths}", "increasing depths >= 3")
    if any(s.rule != "left" for s in found):
        checks.reject(argument, "solutions of another rule", "the left rule")
    return list(found)


def _certificate(model: LimitModel, solution: Solution, parts: Parts) -> Certificate:
    rows = [*_agreement(model, solution, parts)]
    for name, item in model.penalties.items():
        rows += _identities(name, parts, item.weight, item.tau, solution)
    return Certificate(
        problem=solution.name,
        backend=solution.backend,
        depth=solution.depth,
        rule=solution.rule,
        tolerance=solution.tolerance,
        seed=0,
        checks=tuple(rows),
    )


def _agreement(model: LimitModel, solution: Solution, parts: Parts) -> list[Check]:
    """States, costates and value of the solution against plain recursions.

    Within n steps of rounding each.
    """
    n = solution.depth
    energy = sum(energy_terms(model, parts).values())

    def gap(mine: np.ndarray, theirs: np.ndarray, name: str, what: str) -> Check:
        allowed = 50 * EPS * n * (1.0 + float(np.abs(mine).max()))
        return at_most(name, float(np.abs(mine - theirs).max()), allowed, what)

    terms = float(len(parts.states[0]) + n)
    return [
        gap(parts.states, solution.states, "states", "X_{i+1} = X_i + τ σ(K_i X_i + b_i)"),
        gap(
            parts.costates,
            solution.costates,
            "costates",
            "ψ_i = ψ_{i+1} + τ K_iᵀ(σ'_i ⊙ ψ_{i+1}), ψ_n = N ∂D/∂X_n",
        ),
        at_most(
            "energy",
            abs(energy - solution.value),
            50 * EPS * terms * (1.0 + abs(energy)),
            "D + the penalties of K, b and the head = J_L",
        ),
    ]


def _identities(
    name: str, parts: Parts, alpha: float, tau1: float, solution: Solution
) -> list[Check]:
    """The four lines of the module's docstring, and the bound on the second differences."""
    v = parts.samples[name]
    G = parts.gradients[name]
    tau = parts.step
    s = solution.stationarity
    n, T = len(v), solution.grid.horizon
    largest, slope = float(_norms(v).max()), float(_norms(G).max())
    # rounding of one entry of r: its largest terms, G after n steps of the adjoint recursion
    rho = 10 * EPS * (2 * alpha * (4 / tau + tau1) * largest + n * tau * slope)
    second = np.diff(v, 2, axis=0) / tau**2
    interior = _norms(2 * alpha * second - G[1:-1])
    start = _norm((v[1] - v[0]) / tau - tau1 * v[0] - tau * G[0] / (2 * alpha))
    end = _norm((v[-1] - v[-2]) / tau + tau * G[-1] / (2 * alpha))
    summed = _norm(tau1 * v[0] + tau * G.sum(0) / (2 * alpha))
    rough, bound = tau * float((second**2).sum()), np.sqrt(tau * float((G[1:-1] ** 2).sum()))
    edge = (s * np.sqrt(tau + 1 / tau) + rho) / (2 * alpha)
    solver = s * np.sqrt(1 + 4 / tau**2) + rho * np.sqrt(T) / tau
    return [
        at_most(
            f"Euler-Lagrange, {name}",
            float(interior.max()),
            (s * np.sqrt(tau + 2 / tau) + rho) / tau,
            f"2α Δ²{name}_i/τ² = G_i, 0 < i < n-1",
        ),
        at_most(
            f"summed identity, {name}",
            summed,
            (s * np.sqrt(T) + n * rho) / (2 * alpha),
            f"τ_1 {name}_0 = -(1/2α) τ Σ G_i",
        ),
        at_most(
            f"start, {name}", start, edge, f"{name}'(0) = τ_1 {name}(0), with its term τ G_0/(2α)"
        ),
        at_most(f"end, {name}", end, edge, f"{name}'(T) = 0, with its term τ G_(n-1)/(2α)"),
        at_most(
            f"second differences, {name}",
            rough,
            ((bound + solver) / (2 * alpha)) ** 2,
            f"τ Σ|Δ²{name}/τ²|², at most τ Σ|G|²/(2α)²",
        ),
    ]


def _measures(model: LimitModel, parts: Parts, solution: Solution) -> dict[str, float]:
    tau, K = parts.step, parts.samples["K"]
    out = {"value": solution.value}
    for name, v in parts.samples.items():
        out[f"second_differences_{name}"] = float((np.diff(v, 2, axis=0) ** 2).sum()) / tau**3
    out["start_K"] = _norm((K[1] - K[0]) / tau - model.penalties["K"].tau * K[0])
    out["end_K"] = _norm((K[-1] - K[-2]) / tau)
    layout = solution.controls["K"].layout
    out["norm_K"] = control_distance(layout, K, layout, np.zeros_like(K))
    return out


def _steps(model: LimitModel, before: Solution | None, solution: Solution) -> dict[str, float]:
    """Distances to the level before; NaN at the first."""
    names = ("value_step", "K_TL2", "b_TL2", "K_L2", "b_L2", "states_sup", "head")
    if before is None:
        return dict.fromkeys(names, float("nan"))
    out = {
        "value_step": abs(solution.value - before.value),
        "states_sup": distance(before, solution, "sup", "states"),
    }
    for name in ("K", "b"):
        a, c = before.controls[name], solution.controls[name]
        out[f"{name}_TL2"] = tl2_distance(a.layout.line, a.values, c.layout.line, c.values)
        out[f"{name}_L2"] = distance(before, solution, "L2", name)
    out["head"] = float(
        np.sqrt(sum(distance(before, solution, "L2", name) ** 2 for name in model.weights))
    )
    return out


def _rates(depths: Sequence[int], rows: Sequence[dict[str, float]]) -> dict[str, float]:
    from dnlcontrol.results.extrapolation import fitted_rate

    noise = 1e-9  # the solver's share in a distance; values are known to rounding
    return {
        name: fitted_rate(
            depths, [row[name] for row in rows], 1e-13 if name == "value_step" else noise
        )
        for name in RATES
    }


def _norms(v: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((v.reshape(len(v), -1) ** 2).sum(1)))


def _norm(v: np.ndarray) -> float:
    return float(np.linalg.norm(v))
