"""The residual network of Thorpe and van Gennip.

Which problems are of that form, and its parts in NumPy:

    X_{i+1} = X_i + τ σ(K_i X_i + b_i),
    E = D(X_n, c) + α_1 [τ^{-1} Σ|K_i - K_{i-1}|² + τ_1 |K_0|²]
                  + α_2 [τ^{-1} Σ|b_i - b_{i-1}|² + τ_1 |b_0|²] + ½ Σ α_c |c|²

with the constants c of the head (W and c there: α_3 |W|² is ½ (2α_3) |W|²). Source of the model:
arXiv 1810.11741.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.dynamics import ResNet
from dnlcontrol.problem.engines import numpy_engine
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.regularisers import TvG
from dnlcontrol.results.solution import Solution

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LimitModel:
    """A problem of the form above.

    ``penalties``: the TvG term of K and of b; ``weights``: ½ Σ weight |c|².
    """

    problem: ControlProblem
    penalties: Mapping[str, TvG]
    weights: Mapping[str, float]

    @property
    def width(self) -> int:
        return self.problem.state_shape[0]

    def activation(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """σ(z) and σ'(z), entry by entry."""
        import torch

        assert isinstance(self.problem.dynamics, ResNet)
        at = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        value = self.problem.dynamics.activation(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
        return value.detach().numpy(), slope.numpy()

    def data_cost(self, x: np.ndarray, constants: Arrays) -> float:
        """D: the mean over the samples of the terminal loss at x (N, d)."""
        p = self.problem
        f = p.formulas.terminal
        assert f is not None and p.terminal is not None
        targets = [()] * len(x) if p.terminal.target is None else [(y,) for y in p.terminal.target]
        visible = f.only(constants)
        return float(
            np.mean(
                [f(numpy_engine(), row, visible, *y) for row, y in zip(x, targets, strict=True)]
            )
        )

    def terminal_gradients(self) -> Callable[..., tuple[np.ndarray, Arrays]]:
        """(x (N, d), constants) -> N ∂D/∂x, one row per sample, and ∂D/∂c by name."""
        import torch

        from dnlcontrol.backends.adjoint.sweep.vectorised import Vectorised
        from dnlcontrol.discretisation.discrete import discretise

        p = self.problem
        f = p.formulas.terminal
        assert f is not None and p.terminal is not None
        loss = Vectorised(discretise(p, 1), torch.device("cpu"), torch.float64).over_samples(f)
        extra = (
            []
            if p.terminal.target is None
            else [torch.as_tensor(p.terminal.target, dtype=torch.float64)]
        )
        slopes = torch.func.grad(lambda x, c: loss(x, c, *extra).mean(), argnums=(0, 1))

        def gradients(x: np.ndarray, constants: Arrays) -> tuple[np.ndarray, Arrays]:
            visible = {
                k: torch.tensor(v, dtype=torch.float64) for k, v in f.only(constants).items()
            }
            dx, dc = slopes(torch.tensor(x, dtype=torch.float64), visible)
            return len(x) * dx.numpy(), {k: v.numpy() for k, v in dc.items()}

        return gradients


def model_of(problem: object, argument: str) -> LimitModel:
    """The problem's parts, or an error that says what is not of this form.

    Raises
    ------
    InputError that names the first part that does not fit.
    """
    if not isinstance(problem, ControlProblem):
        checks.reject_type(argument, problem, "a ControlProblem")

    def need(holds: bool, seen: object, allowed: str) -> None:
        if not holds:
            checks.reject(argument, seen, allowed)

    need(
        isinstance(problem.dynamics, ResNet),
        f"dynamics {type(problem.dynamics).__name__}",
        "ResNet dynamics",
    )
    need(
        problem.terminal is not None and problem.running is None,
        "another cost",
        "a terminal cost and no running cost",
    )
    need(
        not problem.constraints,
        f"constraints {[c.name for c in problem.constraints]}",
        "a problem without any",
    )
    bounded = sorted(k for k, c in problem.controls.items() if c.bounded)
    need(not bounded, f"bounds on {bounded}", "controls without bounds")
    penalties: dict[str, TvG] = {}
    weights: dict[str, float] = {}
    for name, control in problem.controls.items():
        items = problem.regularisers_of(name)
        if control.on == "const":
            weights[name] = float(sum(item.weight for item in items))
            continue
        need(
            name in ("K", "b"),
            f"a control {name!r} on {control.on!r}",
            "the path controls K and b and constants",
        )
        only = items[0] if len(items) == 1 else None
        if not isinstance(only, TvG) or not only.weight > 0:
            checks.reject(
                argument, f"penalties {items} on {name!r}", f"one TvG({name!r}, weight > 0)"
            )
        penalties[name] = only
    return LimitModel(problem, penalties, weights)


@dataclass(frozen=True)
class Parts:
    """Everything that the checks compare, recomputed from the controls of one solution.

    By plain recursions, ψ_i = ψ_{i+1} + τ K_iᵀ (σ'_i ⊙ ψ_{i+1}), ψ_n = N ∂D/∂X_n. ``gradients``:
    G_i = (1/N) Σ_n (σ'(K_i X_i + b_i) ⊙ ψ_{i+1}) X_iᵀ for K, without X_i for b; the data cost's
    derivative in the sample i is τ G_i.
    """

    step: float
    samples: Arrays
    states: np.ndarray
    costates: np.ndarray
    gradients: Arrays
    constants: Arrays


def parts_of(model: LimitModel, solution: Solution) -> Parts:
    tau, n = solution.grid.step, solution.depth
    K, b = (solution.controls[k].values for k in ("K", "b"))
    constants = {k: solution.controls[k].values[0] for k in model.weights}
    X, slopes = [np.asarray(model.problem.x0)], []
    for i in range(n):
        value, slope = model.activation(X[-1] @ K[i].T + b[i])
        slopes.append(slope)
        X.append(X[-1] + tau * value)
    psi = [np.asarray(model.terminal_gradients()(X[-1], constants)[0])]
    GK: list[np.ndarray] = []
    Gb: list[np.ndarray] = []
    for i in reversed(range(n)):
        pulled = slopes[i] * psi[0]
        GK.insert(0, pulled.T @ X[i] / len(pulled))
        Gb.insert(0, pulled.mean(0))
        psi.insert(0, psi[0] + tau * pulled @ K[i])
    gradients = {"K": np.array(GK), "b": np.array(Gb)}
    return Parts(tau, {"K": K, "b": b}, np.array(X), np.array(psi), gradients, constants)


def energy_terms(model: LimitModel, parts: Parts) -> dict[str, float]:
    """The data cost and every penalty of E, by control."""
    terms = {"data": model.data_cost(parts.states[-1], parts.constants)}
    for name, item in model.penalties.items():
        v = parts.samples[name]
        rough = float(np.sum(np.diff(v, axis=0) ** 2)) / parts.step
        terms[name] = item.weight * (rough + item.tau * float(np.sum(v[0] ** 2)))
    for name, weight in model.weights.items():
        terms[name] = 0.5 * weight * float(np.sum(parts.constants[name] ** 2))
    return terms
