"""Hamilton-Jacobi-Bellman: the value function on a grid, for joint states of at most three entries.

V_t + min_v { ℓ(t, x, v) + D_x V · f(t, x, v) } = 0, V(T, .) = Φ, in its semi-Lagrangian form on the
grid t_l = lτ,

    V^l(x) = min_v  τ ℓ(t_l, x, v) + ½ q |v|² + I[V^{l+1}](x + τ f(t_l, x, v)),    V^L = Φ,

with I the multilinear interpolation on a uniform grid of the box, constant beyond its faces. The
scheme is monotone: a larger V^{l+1} gives a larger V^l. Without the interpolation it is dynamic
programming for the discrete problem of depth L itself, so that V^0(x_0) = J_L up to Σ_l max |I V^l
- V^l| <= (L/8) Σ_i h_i² max |∂_i² V| while the optimal path stays inside the box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.engines import torch_engine
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.problem import ControlProblem

if TYPE_CHECKING:
    from torch import Tensor

Bounds = Mapping[str, tuple[ArrayLike, ArrayLike]]  # control name -> (lower, upper)
DIMENSIONS = 3  # of the joint state: a grid of 41 points an axis has 69,000 of them
CHUNK = 200_000  # points times controls in one call: a few tens of MB
REFINEMENTS = 14  # halvings of the spacing of the candidates: 2^-14


@dataclass(frozen=True)
class ClosedLoop:
    """A path under the feedback law, and its cost J_L.

    States (L+1, N, *state), controls name -> (L, *shape). ``inside`` says whether the path stayed
    in the box of the value function.
    """

    states: np.ndarray
    controls: Mapping[str, np.ndarray]
    cost: float
    inside: bool


@dataclass(frozen=True)
class ValueFunction:
    """V on the grid of a box, its feedback law, and paths under it; see :func:`hamilton_jacobi`.

    ``axes`` are the grid's coordinates, one array per entry of the joint state; ``values`` is (L+1,
    *points).
    """

    transition: Transition
    axes: tuple[np.ndarray, ...]
    values: np.ndarray

    @property
    def depth(self) -> int:
        return len(self.values) - 1

    @in_turn
    def value(self, t: float, x: ArrayLike) -> Any:
        """V(t, x): linear between the nodes in t, multilinear in x.

        ``x``: one state or rows of states (P, D).
        """
        points, one = self._points("value.x", x)
        place = self._time("value.t", t) / self.transition.step
        l = min(int(place), self.depth - 1)
        ends = [self._interpolate(k, points) for k in (l, l + 1)]
        result = ends[0] + (place - l) * (ends[1] - ends[0])
        return float(result[0]) if one else result

    @in_turn
    def feedback(self, t: float, x: ArrayLike) -> dict[str, np.ndarray]:
        """The minimising control of the step that starts at the last node <= t.

        name -> shape (rows: (P, *shape)).
        """
        points, one = self._points("feedback.x", x)
        l = min(int(self._time("feedback.t", t) / self.transition.step + 1e-9), self.depth - 1)
        v, _ = self._best(l, points)
        named = self.transition.named(v)
        return {k: c[0] for k, c in named.items()} if one else named

    @in_turn
    def simulate(self, x0: ArrayLike | None = None) -> ClosedLoop:
        """The closed loop x^{l+1} = x^l + τ f(t_l, x^l, feedback) from ``x0``.

        The default of ``x0`` is the problem's.

        Raises
        ------
        InputError for several joint states.
        """
        model = self.transition
        x = model.flat_start if x0 is None else self._points("simulate.x0", x0)[0]
        if len(x) != 1:
            checks.reject("simulate.x0", f"{len(x)} states", "one joint state")
        path = [x]
        used = []
        cost = 0.0
        for l in range(self.depth):
            v, _ = self._best(l, x)
            added, x = model(l, x, v)
            cost += float(added[0])
            path.append(x)
            used.append(v)
        cost += float(model.terminal(x)[0])
        points = np.concatenate(path)
        lower = [a[0] for a in self.axes]
        upper = [a[-1] for a in self.axes]
        inside = bool(np.all((points >= lower) & (points <= upper)))
        p = model.discrete.problem
        states = points.reshape(self.depth + 1, p.samples, *p.state_shape)
        return ClosedLoop(states, model.named(np.concatenate(used)), cost, inside)

    # -- pieces
    def _points(self, argument: str, x: ArrayLike) -> tuple[np.ndarray, bool]:
        points, D = checks.numbers(argument, x), len(self.axes)
        if points.size == D and points.ndim < 2:
            return points.reshape(1, D), True
        p = self.transition.discrete.problem
        if points.shape == (p.samples, *p.state_shape):
            return points.reshape(1, D), True
        if points.ndim != 2 or points.shape[1] != D:
            checks.reject(argument, points, f"one state of {D} entries or rows (P, {D})")
        return points, False

    def _time(self, argument: str, t: float) -> float:
        time, T = checks.real(argument, t), self.transition.discrete.grid.horizon
        if not 0 <= time <= T:
            checks.reject(argument, t, f"a time in [0, {T:g}]")
        return time

    def _interpolate(self, l: int, points: np.ndarray) -> np.ndarray:
        """I[V^l] at points (P, D)."""
        from scipy.ndimage import map_coordinates

        origin = np.array([a[0] for a in self.axes])
        gap = np.array([a[1] - a[0] for a in self.axes])
        return np.asarray(
            map_coordinates(self.values[l], ((points - origin) / gap).T, order=1, mode="nearest")
        )

    def _best(self, l: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The control and the minimum of the right side at points (P, D).

        All candidates, then a pattern search.
        """
        grid, gap = self.transition.candidates
        parts = [
            self._best_of(l, x, grid, gap)
            for x in np.array_split(points, -(-len(points) * len(grid) // CHUNK))
        ]
        v, value = (np.concatenate(c) for c in zip(*parts, strict=True))
        return v, value

    def _best_of(
        self, l: int, x: np.ndarray, grid: np.ndarray, gap: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        P = len(x)
        lower = self.transition.lower
        upper = self.transition.upper

        def right(v: np.ndarray) -> np.ndarray:
            """v (P, C, m) -> (P, C)."""
            C = v.shape[1]
            cost, after = self.transition(l, np.repeat(x, C, axis=0), v.reshape(P * C, -1))
            return (cost + self._interpolate(l + 1, after)).reshape(P, C)

        rows = np.arange(P)
        value = right(np.broadcast_to(grid, (P, *grid.shape)))
        v = grid[np.argmin(value, axis=1)]
        best = value.min(axis=1)
        around = np.array([d for d in product((-1.0, 0.0, 1.0), repeat=grid.shape[1]) if any(d)])
        for k in range(1, REFINEMENTS + 1):
            tried = np.clip(v[:, None] + 0.5**k * gap * around, lower, upper)
            value = right(tried)
            winner = np.argmin(value, axis=1)
            better = value[rows, winner] < best
            v = np.where(better[:, None], tried[rows, winner], v)
            best = np.where(better, value[rows, winner], best)
        return v, best


class Transition:
    """One step of the discrete problem: cost and next state.

    For many joint states (P, D) and controls (P, m).
    """

    def __init__(self, discrete: DiscreteProblem, bounds: Bounds, candidates: int) -> None:
        import torch

        self.discrete = discrete
        self.step = discrete.grid.step
        problem = discrete.problem
        self.engine = torch_engine(torch.float64, torch.device("cpu"))
        self.shape = (problem.samples, *problem.state_shape)
        self.flat_start = problem.x0.reshape(1, -1)
        blocks = list(discrete.space)
        self.sizes = {b.name: (b.components, b.control.shape) for b in blocks}
        sides = [_sides(b.name, b.control, bounds) for b in blocks]
        self.lower, self.upper = (np.concatenate([s[i].ravel() for s in sides]) for i in (0, 1))
        L = discrete.depth
        diagonal = [np.zeros(L) if b.penalty is None else b.penalty.diagonal() for b in blocks]
        self.penalties = np.repeat(
            np.stack(diagonal, axis=1), [b.components for b in blocks], axis=1
        )
        lines = [np.linspace(a, b, candidates) for a, b in zip(self.lower, self.upper, strict=True)]
        self.candidates = (
            np.array(list(product(*lines))),
            (self.upper - self.lower) / (candidates - 1),
        )
        self._step, self._end = self._functions()

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The mean running cost with f, and the mean terminal cost.

        (t, x (P, N, *), v {name: (P, *)}) -> mean running cost (P,), f (P, N, *);  x (P, N, *) ->
        mean Φ (P,).
        """
        import torch
        from torch.func import vmap

        f = self.discrete.problem.formulas
        p = self.discrete.problem
        engine = self.engine

        def targets(cost: Cost | None) -> list[Tensor]:
            return [] if cost is None or cost.target is None else [torch.tensor(cost.target)]

        def one(t: Tensor, x: Tensor, v: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            speed = vmap(lambda y: f.kernel(engine, t, t, y, v))(x)
            if f.running is None:
                return x.new_zeros(()), speed
            running, extra = f.running, targets(p.running)
            return vmap(lambda x, *y: running(engine, t, x, v, *y))(x, *extra).mean(), speed

        def last(x: Tensor) -> Tensor:
            if f.terminal is None:
                return x.new_zeros(())
            terminal, extra = f.terminal, targets(p.terminal)
            return vmap(lambda x, *y: terminal(engine, x, {}, *y))(x, *extra).mean()

        return vmap(one, in_dims=(None, 0, 0)), vmap(last)

    def named(self, v: np.ndarray) -> dict[str, np.ndarray]:
        """(P, m) -> name -> (P, *shape)."""
        ends = np.cumsum([size for size, _ in self.sizes.values()])[:-1]
        parts = np.split(v, ends, axis=1)
        return {
            k: a.reshape(-1, *s) for (k, (_, s)), a in zip(self.sizes.items(), parts, strict=True)
        }

    def __call__(self, l: int, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        t = torch.as_tensor(self.discrete.grid.nodes[l])
        controls = {k: torch.tensor(c) for k, c in self.named(v).items()}
        with torch.no_grad():
            cost, speed = self._step(t, torch.tensor(x.reshape(-1, *self.shape)), controls)
        added = (
            self.discrete.grid.running_weights[l] * np.asarray(cost)
            + 0.5 * v**2 @ self.penalties[l]
        )
        return added, x + self.step * np.asarray(speed).reshape(len(x), -1)

    def terminal(self, x: np.ndarray) -> np.ndarray:
        """Φ, (P, D) -> (P,)."""
        import torch

        with torch.no_grad():
            return np.asarray(self._end(torch.tensor(x.reshape(-1, *self.shape))))


@in_turn
def hamilton_jacobi(
    problem: ControlProblem,
    depth: int,
    lower: ArrayLike,
    upper: ArrayLike,
    points: int | Sequence[int] = 41,
    candidates: int = 17,
    bounds: Bounds | None = None,
) -> ValueFunction:
    """The value function of an ODE problem with bounded path controls.

    The scheme is monotone and semi-Lagrangian. The samples share the controls: the state of V is
    that of all samples together, D = N·(entries of one) <= 3.

    Parameters
    ----------
    problem, depth : the problem and the number of steps; penalties L2 only, no constraints but
        control bounds.
    lower, upper : the box, numbers or D of them. Optimal paths should stay inside: see
        ``simulate().inside``.
    points : grid points along each axis, one number or D of them; the error in V is of second order
        in the spacing.
    candidates : controls tried along each of the m entries (candidates^m in all) before the local
        search.
    bounds : name -> (lower, upper) for the controls, in place of their own.

    Raises
    ------
    InputError for a problem with memory, constraints, coupled nodes or unbounded controls, for more
    than three entries, and for a bad box or grid.

    >>> import numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u),
    ...     controls={"u": dnl.Control((), lower=-2, upper=2)},
    ...     terminal=lambda x, c: 0.5 * x**2,
    ...     regularisers=[dnl.L2("u", 1.0)],
    ... )
    >>> V = dnl.hamilton_jacobi(problem, 4, lower=-0.5, upper=1.5, points=101)
    >>> round(V.value(0.0, 1.0), 3), round(float(V.feedback(0.0, 1.0)["u"]), 1)
    (0.25, -0.5)
    """
    discrete = discretise(problem, depth)
    _check(problem, discrete)
    D = int(problem.x0.size)
    if D > DIMENSIONS:
        checks.reject("problem.x0", f"a joint state of {D} entries", f"at most {DIMENSIONS}")
    low, high = (
        np.broadcast_to(checks.numbers(k, v), (D,)) for k, v in (("lower", lower), ("upper", upper))
    )
    if np.any(low >= high):
        checks.reject("lower, upper", f"{low.tolist()}, {high.tolist()}", "lower < upper")
    counts = [checks.whole("points", int(n), 2) for n in np.broadcast_to(points, (D,))]
    axes = tuple(np.linspace(a, b, n) for a, b, n in zip(low, high, counts, strict=True))
    transition = Transition(
        discrete, _bounds(problem, bounds), checks.whole("candidates", candidates, 2)
    )
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, D)
    values = np.empty((discrete.depth + 1, *counts))
    values[-1] = transition.terminal(nodes).reshape(counts)
    V = ValueFunction(transition, axes, values)
    for l in range(discrete.depth - 1, -1, -1):
        values[l] = V._best(l, nodes)[1].reshape(counts)
    return V


def _check(problem: ControlProblem, discrete: DiscreteProblem) -> None:
    """What dynamic programming needs: no memory, nothing that couples the nodes."""
    f = problem.formulas
    if not problem.dynamics.is_ode or any((f.outer, f.feature, f.free_term)):
        checks.reject(
            "problem.dynamics",
            type(problem.dynamics).__name__,
            "an ODE: with memory the state is not enough",
        )
    if problem.constraints:
        checks.reject(
            "problem.constraints", [c.name for c in problem.constraints], "none but control bounds"
        )
    for block in discrete.space:
        if block.layout.on != "t":
            checks.reject(
                "problem.controls",
                f"{block.name!r} on {block.layout.on!r}",
                "path controls (on='t')",
            )
        if block.metric.smooth:
            checks.reject(
                "problem.regularisers",
                f"differences of {block.name!r}",
                "L2: nodes must not be coupled",
            )


def _bounds(problem: ControlProblem, bounds: object) -> Bounds:
    if not isinstance(bounds, (Mapping, type(None))):
        checks.reject_type("bounds", bounds, "a mapping name -> (lower, upper)")
    for name, pair in (bounds or {}).items():
        if name not in problem.controls:
            checks.reject(
                "bounds", f"unknown control {name!r}", f"names among {sorted(problem.controls)}"
            )
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            checks.reject(f"bounds[{name!r}]", pair, "a pair (lower, upper)")
    return bounds or {}


def _sides(name: str, control: Control, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of one control, finite."""
    pair = bounds.get(name, (control.lower, control.upper))
    low, high = (
        np.array(np.broadcast_to(checks.array_of(f"bounds[{name!r}]", v), control.shape))
        for v in pair
    )
    if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high)) and np.all(low < high)):
        checks.reject(
            f"bounds of {name!r}",
            f"{low.tolist()}, {high.tolist()}",
            "finite bounds, lower < upper",
        )
    return low, high
