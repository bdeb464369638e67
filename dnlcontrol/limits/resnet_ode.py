"""The residual network of infinite depth.

Its functional, and its stationary points by a boundary-value problem:

    E(K, b, c) = D(x(T), c) + α_1 [∫|K'|² + τ_1 |K(0)|²] + α_2 [∫|b'|² + τ_1 |b(0)|²] + ½ Σ α_c |c|²

    x_n' = σ(K x_n + b)                    x_n(0) = the n-th input
    ψ_n' = -Kᵀ (σ'(K x_n + b) ⊙ ψ_n)       ψ_n(T) = N ∂D/∂x_n
    2α_1 K'' = (1/N) Σ_n (σ' ⊙ ψ_n) x_nᵀ   K'(0) = τ_1 K(0),  K'(T) = 0
    2α_2 b'' = (1/N) Σ_n σ' ⊙ ψ_n          b'(0) = τ_1 b(0),  b'(T) = 0
    ∂D/∂c + α_c c = 0                      for the constants of the head

Source: the functional is the limit in Thorpe, van Gennip, arXiv 1810.11741; its optimality system
is derived for this project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.certificates.point import problem_of
from dnlcontrol.files.turns import in_turn
from dnlcontrol.limits.resnet_parts import LimitModel, model_of
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.solution import Solution

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

UNKNOWNS = 400  # functions in the boundary-value problem; its Jacobian at each mesh point is dense


@dataclass(frozen=True)
class ResNetContinuum:
    """A stationary point of E.

    ``controls``: K(t) and b(t) as functions of an array of times, ``slopes`` their derivatives;
    ``state`` and ``costate``: x(t), ψ(t), (*t, N, d); ``constants`` by name; ``terms``: the data
    cost and every penalty, ``value`` their sum; ``residual``: the largest relative residual of the
    differential equations; ``mesh``: points used.
    """

    controls: Mapping[str, Callable[[ArrayLike], np.ndarray]]
    slopes: Mapping[str, Callable[[ArrayLike], np.ndarray]]
    state: Callable[[ArrayLike], np.ndarray]
    costate: Callable[[ArrayLike], np.ndarray]
    constants: Mapping[str, np.ndarray]
    terms: Mapping[str, float]
    residual: float
    mesh: int

    @property
    def value(self) -> float:
        return float(sum(self.terms.values()))


@dataclass(frozen=True)
class _Unknowns:
    """How K, b, their slopes, x and ψ lie in the columns (size, m) of the unknowns.

    They are those of the boundary-value problem.
    """

    d: int
    samples: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        d, N = self.d, self.samples
        return {
            "K": (d, d),
            "b": (d,),
            "slope K": (d, d),
            "slope b": (d,),
            "x": (N, d),
            "psi": (N, d),
        }

    @property
    def size(self) -> int:
        return sum(int(np.prod(s)) for s in self.shapes.values())

    def split(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """(size, m) -> name -> (m, *shape)."""
        out, at = {}, 0
        for name, shape in self.shapes.items():
            count = int(np.prod(shape))
            out[name] = y[at : at + count].T.reshape(-1, *shape)
            at += count
        return out

    def join(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        m = len(parts["x"])
        return np.concatenate(
            [np.asarray(parts[name]).reshape(m, -1) for name in self.shapes], axis=1
        ).T


@in_turn
def resnet_continuum(
    start: Solution, tolerance: float = 1e-8, max_nodes: int = 5000
) -> ResNetContinuum:
    """The stationary point of E next to a discrete solution, by scipy's ``solve_bvp``.

    Meant for small data.

    Parameters
    ----------
    start : a solution of the problem at some depth, from which Newton's method starts.
    tolerance : of the relative residual of the differential equations and of the boundary
        conditions.
    max_nodes : mesh points at most.

    Raises
    ------
    InputError for a problem of another form or too large (d² and d for K and b and their slopes, 2
    N d for x and ψ, at most 400 functions), RuntimeError when the solver does not converge.
    """
    from scipy.integrate import solve_bvp

    if not isinstance(start, Solution):
        checks.reject_type("resnet_continuum.start", start, "a Solution")
    model = model_of(problem_of(start), "resnet_continuum.start")
    unknowns = _Unknowns(model.width, model.problem.samples)
    if unknowns.size > UNKNOWNS:
        checks.reject(
            "resnet_continuum.start",
            f"{unknowns.size} unknown functions",
            f"at most {UNKNOWNS}: small data",
        )
    fun, ends = _equations(model, unknowns), _boundary(model, unknowns)
    mesh, guess = _guess(unknowns, start)
    constants = _flat({k: start.controls[k].values[0] for k in model.weights})
    tol = checks.positive("resnet_continuum.tolerance", tolerance)
    if constants.size:
        found = solve_bvp(
            fun, ends, mesh, guess, p=constants, tol=tol, bc_tol=tol, max_nodes=max_nodes
        )
    else:
        empty = np.zeros(0)
        found = solve_bvp(
            lambda t, y: fun(t, y, empty),
            lambda a, b: ends(a, b, empty),
            mesh,
            guess,
            tol=tol,
            bc_tol=tol,
            max_nodes=max_nodes,
        )
    if not found.success:
        raise RuntimeError(
            f"solve_bvp did not converge ({found.message}); try a deeper start or a larger "
            "tolerance"
        )
    return _result(model, unknowns, found)


@in_turn
def continuum_energy(
    problem: ControlProblem,
    controls: Mapping[str, Callable[[float], ArrayLike]],
    constants: Mapping[str, ArrayLike] | None = None,
    cells: int = 4096,
) -> dict[str, float]:
    """The terms of E at given functions K(t), b(t) and constants.

    Data cost, and penalties by control.

    x' = σ(Kx + b) by an adaptive method of order 8 to 1e-11. ∫|K'|² by differences over ``cells``
    cells: an error of O(cells^-2) for smooth K, and exact for a piecewise-linear K whose corners
    are among the cells' ends.

    Raises
    ------
    InputError for a problem of another form, and where functions or constants are missing.
    """
    from scipy.integrate import solve_ivp

    model = model_of(problem, "continuum_energy.problem")
    if not isinstance(controls, Mapping) or set(controls) != {"K", "b"}:
        checks.reject_type(
            "continuum_energy.controls", controls, "a mapping with functions K and b"
        )
    given = {} if constants is None else dict(constants)
    if set(given) != set(model.weights):
        checks.reject(
            "continuum_energy.constants", sorted(given), f"values for {sorted(model.weights)}"
        )
    K, b = (checks.function(f"continuum_energy.controls[{k!r}]", controls[k]) for k in ("K", "b"))
    T, x0 = problem.horizon, problem.x0

    def rhs(t: float, x: np.ndarray) -> np.ndarray:
        return np.ravel(
            model.activation(x.reshape(x0.shape) @ np.asarray(K(t)).T + np.asarray(b(t)))[0]
        )

    final = solve_ivp(rhs, (0.0, T), x0.ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    values = {k: checks.numbers(f"continuum_energy.constants[{k!r}]", v) for k, v in given.items()}
    terms = {"data": model.data_cost(final.reshape(x0.shape), values)}
    t = np.linspace(0.0, T, checks.whole("continuum_energy.cells", cells) + 1)
    for name, item in model.penalties.items():
        v = np.array([np.asarray(controls[name](time), dtype=float) for time in t])
        rough = float((np.diff(v, axis=0) ** 2).sum()) / (T / cells)
        terms[name] = item.weight * (rough + item.tau * float((v[0] ** 2).sum()))
    return terms | {k: 0.5 * model.weights[k] * float(np.sum(v**2)) for k, v in values.items()}


def _equations(model: LimitModel, unknowns: _Unknowns) -> Callable[..., np.ndarray]:
    alpha = {name: item.weight for name, item in model.penalties.items()}

    def fun(t: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        at = unknowns.split(y)
        value, slope = model.activation(
            np.einsum("mij,mnj->mni", at["K"], at["x"]) + at["b"][:, None]
        )
        pulled = slope * at["psi"]
        G = np.einsum("mni,mnj->mij", pulled, at["x"]) / unknowns.samples
        return unknowns.join(
            {
                "K": at["slope K"],
                "b": at["slope b"],
                "slope K": G / (2 * alpha["K"]),
                "slope b": pulled.mean(1) / (2 * alpha["b"]),
                "x": value,
                "psi": -np.einsum("mij,mni->mnj", at["K"], pulled),
            }
        )

    return fun


def _boundary(model: LimitModel, unknowns: _Unknowns) -> Callable[..., np.ndarray]:
    gradients = model.terminal_gradients()
    shapes = {k: model.problem.controls[k].shape for k in model.weights}

    def ends(ya: np.ndarray, yb: np.ndarray, p: np.ndarray) -> np.ndarray:
        first, last = ({k: v[0] for k, v in unknowns.split(y[:, None]).items()} for y in (ya, yb))
        constants = _named(p, shapes)
        dx, dc = gradients(last["x"], constants)
        residuals = [
            first["x"] - model.problem.x0,
            last["psi"] - dx,
            last["slope K"],
            last["slope b"],
        ]
        residuals += [
            first[f"slope {k}"] - item.tau * first[k] for k, item in model.penalties.items()
        ]
        residuals += [dc[k] + model.weights[k] * constants[k] for k in shapes]
        return np.concatenate([np.ravel(r) for r in residuals])

    return ends


def _guess(unknowns: _Unknowns, start: Solution) -> tuple[np.ndarray, np.ndarray]:
    """The nodes of the discrete solution and its functions there."""
    t = start.grid.nodes
    K, b = (start.controls[k](t) for k in ("K", "b"))
    slopes = {f"slope {k}": np.gradient(v, t, axis=0) for k, v in (("K", K), ("b", b))}
    return t, unknowns.join({"K": K, "b": b, **slopes, "x": start.states, "psi": start.costates})


def _result(model: LimitModel, unknowns: _Unknowns, found: OptimizeResult) -> ResNetContinuum:
    def part(name: str) -> Callable[[ArrayLike], np.ndarray]:
        def function(t: ArrayLike) -> np.ndarray:
            times = checks.numbers("t", t)
            values = unknowns.split(found.sol(times.ravel()))[name]
            return values.reshape(*times.shape, *values.shape[1:])

        return function

    shapes = {k: model.problem.controls[k].shape for k in model.weights}
    constants = _named(np.zeros(0) if found.p is None else found.p, shapes)
    state = part("x")
    terms = {"data": model.data_cost(state(model.problem.horizon), constants)}
    # the slopes are cubic on each interval: exact
    nodes, weights = np.polynomial.legendre.leggauss(4)
    centre, half = 0.5 * (found.x[1:] + found.x[:-1]), 0.5 * np.diff(found.x)
    points, measure = (
        (centre[:, None] + half[:, None] * nodes).ravel(),
        np.outer(half, weights).ravel(),
    )
    for name, item in model.penalties.items():
        square = (part(f"slope {name}")(points) ** 2).reshape(len(points), -1).sum(1)
        start = float((part(name)(0.0) ** 2).sum())
        terms[name] = item.weight * (float(measure @ square) + item.tau * start)
    terms |= {k: 0.5 * model.weights[k] * float((v**2).sum()) for k, v in constants.items()}
    return ResNetContinuum(
        controls={k: part(k) for k in model.penalties},
        slopes={k: part(f"slope {k}") for k in model.penalties},
        state=state,
        costate=part("psi"),
        constants=constants,
        terms=terms,
        residual=float(np.max(found.rms_residuals)),
        mesh=len(found.x),
    )


def _flat(constants: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(np.ravel(v) for v in constants.values())])


def _named(p: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    out, at = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape, dtype=int))
        out[name] = np.asarray(p[at : at + count]).reshape(shape)
        at += count
    return out
