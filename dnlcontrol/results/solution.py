"""The result of a solve, and how far it can be trusted.

Value, controls as functions, states and costates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import NO_MINIMISER, SOLVED
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.space.distances import NORMS, control_distance, path_distance
from dnlcontrol.discretisation.space.extension import Extension, linear_weights
from dnlcontrol.problem.problem import ControlProblem

# fields of a solution by what they hold
NUMBERS = (
    "value",
    "stationarity",
    "feasibility",
    "complementarity",
    "seconds",
    "peak_memory_mb",
    "tolerance",
)
COUNTS = ("nit", "nfev", "njev", "nhev")
WORDS = ("name", "backend", "message", "formulation")
MAPPINGS = (
    "controls",
    "multipliers",
    "versions",
    "options",
    "environment",
    "multiplier_nodes",
    "source",
    "work",
    "scales",
)


@dataclass(frozen=True)
class Solution:
    """A minimiser of the discrete problem and what is known about it.

    Attributes
    ----------
    value (fun) : J_L, penalties included.
    stationarity : (rᵀ A_FF^{-1} r)^{1/2}, r the gradient of the Lagrangian in the controls, F the
        entries that are not held at a bound; comparable across depths.
    feasibility : the largest violation of a constraint or bound.
    complementarity : the largest distance of a held entry to its bound, or |μ_i| times the slack of
        row i.
    success, status, message : status 0 solved (first and second order hold), 1 iteration limit, 2
        infeasible, 3 no further progress, 4 stationary but no minimiser.
    states, costates : (L+1, N, *state shape). Costates per sample: ψ(t_l) for ODE dynamics, else
        the density p(t_l); ``terminal_gradient`` is ∇Φ, (N, *state shape).
    controls : name -> :class:`Extension`, callable, ``.at(l, s)``, ``.array()``.
    multipliers : constraint name -> (layers, samples, *shape); μ > 0 pushes against the upper side.
    formulation : "lifted" or "condensed" (exact backend).
    work : the adjoint solve's cost in gradients at this depth: "units" in all, "product_cost" of a
        Hessian product (measured, at least 2), "coarse" for preparing the coarse-grid correction,
        "gradient_seconds" of one unit.
    log : a line for each iteration. Newton and L-BFGS: (iteration, value, stationarity, radius,
        inner iterations); with constraints those of the last multipliers and of the steps on active
        rows. IPOPT: (iteration, value, dual infeasibility, barrier parameter, 0).
    multiplier_nodes : constraint name -> [layers, samples] of its rows; see :meth:`multiplier`.
    scales : {} where the user's units serve. Else those in which stationarity, feasibility and
        complementarity (and the log's) are measured, and to which the tolerance is relative: "cost"
        a number J0, "controls", "rows" and "states" by component. Every other figure is in the
        user's units.
    options, versions, environment : the keywords of the solve, seeds of random guesses among them;
        versions of the libraries; Python, platform and threads.
    nit, nfev, njev, nhev : iterations, values, gradients, Hessian products (exact backend: IPOPT's
        own counts).
    """

    name: str
    backend: str
    grid: Grid
    value: float
    stationarity: float
    feasibility: float
    complementarity: float
    status: int
    message: str
    states: np.ndarray
    costates: np.ndarray
    terminal_gradient: np.ndarray
    controls: Mapping[str, Extension]
    multipliers: Mapping[str, np.ndarray] = field(default_factory=dict)
    nit: int = 0
    nfev: int = 0
    njev: int = 0
    nhev: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    tolerance: float = 1e-8
    formulation: str = ""
    log: tuple[tuple[int, float, float, float, int], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    multiplier_nodes: Mapping[str, list[list[int]]] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    scales: Mapping[str, Any] = field(default_factory=dict)
    problem: ControlProblem | None = None

    def __post_init__(self) -> None:
        checks.instance("Solution.grid", self.grid, Grid, "a Grid")
        for name in NUMBERS:
            _number(f"Solution.{name}", getattr(self, name))
        for name in COUNTS:
            checks.whole(f"Solution.{name}", getattr(self, name), 0)
        checks.whole("Solution.status", self.status, SOLVED, NO_MINIMISER)
        for name in WORDS:
            checks.instance(f"Solution.{name}", getattr(self, name), str, "a string")
        for name in MAPPINGS:
            checks.mapping(f"Solution.{name}", getattr(self, name), "a mapping by names")
        for name, control in self.controls.items():
            checks.instance(f"Solution.controls[{name!r}]", control, Extension, "an Extension")
        checks.instance("Solution.log", self.log, tuple, "a tuple of lines")
        if self.problem is not None:
            allowed = "a ControlProblem or None"
            checks.instance("Solution.problem", self.problem, ControlProblem, allowed)
        self._check_paths()

    def _check_paths(self) -> None:
        """States and costates (L+1, N, *state shape), the terminal gradient (N, *state shape)."""
        for name in ("states", "costates", "terminal_gradient"):
            values = getattr(self, name)
            if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
                checks.reject_type(f"Solution.{name}", values, "a NumPy array of floats")
        nodes, rest = self.depth + 1, self.states.shape[1:]
        if not rest or self.states.shape[0] != nodes:
            allowed = f"shape ({nodes}, N, *state shape)"
            checks.reject("Solution.states", self.states, allowed)
        for name, shape in (("costates", (nodes, *rest)), ("terminal_gradient", rest)):
            if getattr(self, name).shape != shape:
                seen = getattr(self, name)
                checks.reject(f"Solution.{name}", seen, f"shape {shape}, as the states'")

    @property
    def success(self) -> bool:
        return self.status == SOLVED

    @property
    def fun(self) -> float:
        return self.value

    @property
    def depth(self) -> int:
        return self.grid.depth

    @property
    def rule(self) -> str:
        return self.grid.rule

    @property
    def samples(self) -> int:
        return int(self.states.shape[1])

    @property
    def size(self) -> int:
        """The number of control entries."""
        return sum(c.values.size for c in self.controls.values())

    @property
    def cg_per_step(self) -> float:
        """Conjugate gradient iterations per Newton step; NaN without a step."""
        return (
            sum(line[4] for line in self.log) / (len(self.log) - 1)
            if len(self.log) > 1
            else float("nan")
        )

    def control(self, name: str) -> Extension:
        """One control, callable on the continuum."""
        if not isinstance(name, str) or name not in self.controls:
            checks.reject("control", name, f"one of {sorted(self.controls)}")
        return self.controls[name]

    def multiplier(
        self, name: str, layer: int | None = None, sample: int | None = None
    ) -> np.ndarray:
        """Multipliers of one constraint, of the Lagrangian J + Σ μ c.

        The sign is the same on both backends. μ > 0 pushes against the upper side, μ < 0 against
        the lower one, 0 where neither is reached; of an equality μ is minus the derivative of the
        optimal value in its right side. Per node and for J, which is a mean over the samples: along
        the path τ times a density in t; N times larger per sample.

        Parameters
        ----------
        layer : state bounds 1..L, path constraints 0..L-1; integral and terminal constraints have
            the one row L.
        sample : the sample's number; a constraint that is imposed once stands at the first of its
            samples.

        Returns
        -------
        (layers, samples, *shape), without the axes that were chosen.
        """
        if not isinstance(name, str) or name not in self.multipliers:
            checks.reject("multiplier.name", name, f"one of {sorted(self.multipliers)}")
        values = np.asarray(self.multipliers[name])
        for axis, argument, chosen in ((1, "sample", sample), (0, "layer", layer)):
            if chosen is not None:
                if name not in self.multiplier_nodes:
                    seen = "a solution from an older file, without the nodes of its constraints"
                    checks.reject(
                        f"multiplier.{argument}", seen, f"entries of solution.multipliers[{name!r}]"
                    )
                nodes = list(self.multiplier_nodes[name][axis])
                if checks.whole(f"multiplier.{argument}", chosen, 0) not in nodes:
                    checks.reject(f"multiplier.{argument}", chosen, f"one of {nodes}")
                values = np.take(values, nodes.index(chosen), axis)
        return values

    def state(self, t: Any) -> np.ndarray:
        """x(t), piecewise linear between the nodes; (*t, N, *state shape)."""
        return self._path(self.states, t)

    def costate(self, t: Any) -> np.ndarray:
        """The costate, piecewise linear between the nodes; (*t, N, *state shape)."""
        return self._path(self.costates, t)

    def _path(self, values: np.ndarray, t: Any) -> np.ndarray:
        times = checks.numbers("t", t)
        slack = 1e-12 * self.grid.horizon  # a multiple of the step may round past T
        outside = times[(times < -slack) | (times > self.grid.horizon + slack)]
        if outside.size:
            checks.reject("t", float(outside[0]), f"times from 0 to {self.grid.horizon:g}")
        flat = linear_weights(self.grid.nodes, times.ravel()) @ values.reshape(len(values), -1)
        return np.asarray(flat).reshape(*times.shape, *values.shape[1:])

    def save(self, directory: Any) -> None:
        """Write arrays and JSON to a run directory; ``dnlcontrol.load`` reads it."""
        from dnlcontrol.results.solution_files import save_solution

        save_solution(self, directory)

    def to_module(self, head: bool = False, recompute: bool = False) -> Any:
        """The layers as a ``torch.nn.Module``, x0 (N, *state) -> x^L.

        The controls are its parameters. ``head``: the loss's head is applied too; ``recompute``:
        less memory for training. See :class:`dnlcontrol.interop.network.Network`.

        >>> import numpy as np, dnlcontrol as dnl, torch
        >>> problem = dnl.ControlProblem(
        ...     x0=np.array([[1.0], [2.0]]),
        ...     dynamics=dnl.ResNet(1),
        ...     terminal=dnl.losses.squared(np.array([[2.0], [3.0]])),
        ...     regularisers=[dnl.H1("K", 1e-2), dnl.H1("b", 1e-2)],
        ... )
        >>> solution = dnl.solve(problem, depth=4, backend="adjoint")
        >>> network = solution.to_module()
        >>> torch.dist(
        ...     network(torch.tensor(problem.x0)), torch.tensor(solution.states[-1])
        ... ).item() < 1e-14
        True
        """
        from dnlcontrol.discretisation.discrete import discretise
        from dnlcontrol.interop.network import Network

        if self.problem is None:
            checks.reject(
                "solution.problem",
                None,
                "a solution with its problem; dataclasses.replace(solution, problem=...) "
                "attaches the one it was solved for",
            )
        values = {name: control.values for name, control in self.controls.items()}
        return Network(discretise(self.problem, self.depth, self.rule), values, head, recompute)

    def __repr__(self) -> str:
        state = "solved" if self.success else f"not solved ({self.message})"
        return (
            f"Solution({self.name!r}, {self.backend}, L={self.depth}, value={self.value:.10g}, "
            f"stationarity={self.stationarity:.1e}, {state})"
        )


def _number(argument: str, value: object) -> None:
    """A real number; NaN and infinities are what a failed solve reports."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real:
        checks.reject_type(argument, value, "a number")
    if isinstance(value, int):
        checks.real(argument, value)  # an integer may be beyond every float


def distance(a: Solution, b: Solution, norm: str = "L2", of: str = "controls") -> float:
    """How far two solutions of one problem are apart, also at different depths.

    ``of="controls"``: all controls together (L2, H1 seminorm: root of the sum of squares; sup: the
    largest), between the piecewise-linear extensions; a control's name: that one; "states" or
    "costates": "sup" or "L2" over [0, T].
    """
    for argument, value in (("distance.a", a), ("distance.b", b)):
        if not isinstance(value, Solution):
            checks.reject_type(argument, value, "a Solution")
    if a.grid.horizon != b.grid.horizon:
        checks.reject(
            "distance",
            f"horizons {a.grid.horizon:g} and {b.grid.horizon:g}",
            "solutions of one problem",
        )
    if not isinstance(of, str):
        checks.reject_type(
            "distance.of", of, "'controls', 'states', 'costates' or the name of a control"
        )
    if of in ("states", "costates"):
        x, y = getattr(a, of), getattr(b, of)
        if x.shape[1:] != y.shape[1:]:
            checks.reject(
                "distance",
                f"{of} of shapes {x.shape[1:]} and {y.shape[1:]}",
                "solutions of one problem",
            )
        return path_distance(a.grid.nodes, x, b.grid.nodes, y, norm)
    checks.choice("distance.norm", norm, NORMS)
    names = sorted(a.controls) if of == "controls" else [of]
    if set(a.controls) != set(b.controls) or not set(names) <= set(a.controls):
        seen = f"controls {sorted(a.controls)} and {sorted(b.controls)} for {of!r}"
        checks.reject(
            "distance", seen, "'controls', 'states', 'costates' or the name of a common control"
        )
    parts = []
    for name in names:
        u, v = a.controls[name], b.controls[name]
        if u.values.shape[1:] != v.values.shape[1:] or u.layout.on != v.layout.on:
            checks.reject("distance", f"different controls {name!r}", "solutions of one problem")
        parts.append(control_distance(u.layout, u.values, v.layout, v.values, norm))
    return float(max(parts, default=0.0) if norm == "sup" else np.sqrt(np.sum(np.square(parts))))
