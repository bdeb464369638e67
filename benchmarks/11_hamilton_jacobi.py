"""Does the value function on a grid meet the open-loop optimum, and at which order in the grid?

For O1, O2, van der Pol and a residual network of one neuron in training on two samples: V(0, x_0)
on finer and finer grids against J_L of the same depth (Newton), and the cost of the closed loop.
The picture shows V at t = 0 with the closed-loop velocities and paths, away from the faces of the
box, the feedback law, and the errors.

    python benchmarks/11_hamilton_jacobi.py [--tiny] [--out DIR]

Without --tiny the picture goes to docs/images and the table into docs/hamilton_jacobi.md.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import experiment
import numpy as np

import dnlcontrol as dnl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import o1_hager, o2_dt_qp, o5b_van_der_pol

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Case:
    """A problem, its box and the bounds of its controls."""

    name: str
    problem: dnl.ControlProblem
    box: tuple[float, float]
    bounds: dict[str, tuple[float, float]]
    depth: int
    points: tuple[int, ...]
    starts: tuple[float, ...] = (0.1,)


@dataclass(frozen=True)
class Row:
    points: int
    spacing: float
    error: float
    loop: float
    seconds: float


def neuron() -> dnl.ControlProblem:
    """x' = tanh(K x + b), two samples that must both move up, the lower one by more."""
    x0 = np.array([[-0.3], [0.5]])
    return dnl.ControlProblem(
        name="neuron",
        x0=x0,
        dynamics=dnl.ResNet(1),
        terminal=dnl.losses.squared(np.array([[0.6], [0.8]])),
        regularisers=[dnl.L2("K", 0.05), dnl.L2("b", 0.05)],
    )


def cases(tiny: bool) -> list[Case]:
    line, plane = ((9, 17), (9, 17)) if tiny else ((17, 33, 65, 129, 257), (17, 33, 65, 129, 257))
    network = (9, 13) if tiny else (9, 17, 33, 65)
    depth = 4 if tiny else 16
    return [
        Case("O1", o1_hager.problem(), (-0.2, 1.4), {"u": (-4, 4)}, depth, line),
        Case("O2", o2_dt_qp.problem(), (-2, 12), {"u": (-15, 15)}, depth, line),
        Case(
            "O5b, van der Pol", o5b_van_der_pol.problem(), (-2.4, 2.4), {"u": (-2, 2)}, depth, plane
        ),
        Case(
            "one neuron, two samples",
            neuron(),
            (-0.8, 1.6),
            {"K": (-3, 3), "b": (-3, 3)},
            min(depth, 8),
            network,
            (-1.0, 0.1, 1.0),
        ),
    ]


def rows(case: Case) -> tuple[list[Row], dnl.ValueFunction]:
    """One row for each grid, and the value function on the finest."""
    names = case.problem.controls
    exact = min(
        dnl.solve(case.problem, case.depth, backend="adjoint", start=dict.fromkeys(names, a)).value
        for a in case.starts
    )
    found = []
    for n in case.points:
        began = time.perf_counter()
        V = dnl.hamilton_jacobi(case.problem, case.depth, *case.box, points=n, bounds=case.bounds)
        seconds, loop = time.perf_counter() - began, V.simulate()
        if not loop.inside:
            print(f"{case.name}, {n} points: the closed loop left the box", file=sys.stderr)
        spacing = (case.box[1] - case.box[0]) / (n - 1)
        found.append(
            Row(
                n,
                spacing,
                V.value(0.0, V.transition.flat_start[0]) - exact,
                loop.cost - exact,
                seconds,
            )
        )
    return found, V


def table(results: dict[str, tuple[Case, list[Row], dnl.ValueFunction]]) -> str:
    lines = [
        "| problem | L | points per axis | V(0, x_0) - J_L | order | closed loop - J_L | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (case, found, _) in results.items():
        for i, r in enumerate(found):
            before = found[i - 1]
            order = (
                np.log(abs(before.error / r.error)) / np.log(before.spacing / r.spacing)
                if i
                else np.nan
            )
            shown = f"{order:.2f}" if i else ""
            lines.append(
                f"| {name} | {case.depth} | {r.points} | {r.error:.1e} | {shown} | {r.loop:.1e} "
                f"| {r.seconds:.1f} |"
            )
    return "\n".join(lines)


def picture(results: dict[str, tuple[Case, list[Row], dnl.ValueFunction]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 9.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel()
    case, _, V = results["O5b, van der Pol"]
    _value_panel(figure, axes[0], V, [(1.0, 0.0), (-1.0, 0.8), (0.5, -1.2), (-0.6, -0.6)])
    axes[0].set(xlabel="x₁", ylabel="x₂", title="van der Pol: V(0, x), closed loop")
    _feedback_panel(figure, axes[1], V, case)
    _, _, W = results["one neuron, two samples"]
    _value_panel(figure, axes[2], W, [(-0.3, 0.5), (0.9, -0.4), (-0.3, -0.4), (1.2, 0.3)])
    axes[2].plot(0.6, 0.8, "*", color="white", markersize=13, markeredgecolor="black", zorder=5)
    axes[2].set(
        xlabel="state of sample 1",
        ylabel="state of sample 2",
        title="one neuron: V(0, x), closed loop, target ★",
    )
    for (name, (_, found, _)), colour in zip(results.items(), COLOURS, strict=True):
        h = np.array([r.spacing for r in found]) / found[0].spacing
        error = np.abs([r.error for r in found])
        axes[3].loglog(h, error / error[0], "o-", color=colour, label=name)
    axes[3].loglog(h, h**2, "k--", linewidth=1, label="second order")
    axes[3].set(
        xlabel="spacing, coarsest = 1",
        ylabel="|V(0, x₀) - J_L|, coarsest = 1",
        title="error of the grid",
    )
    axes[3].legend(fontsize=8)
    experiment.save(figure, path)


def _value_panel(figure, axis, V: dnl.ValueFunction, starts: list[tuple[float, float]]) -> None:
    a, b = V.axes
    drawn = axis.contourf(a, b, V.values[0].T, levels=24, cmap="viridis")
    figure.colorbar(drawn, ax=axis, shrink=0.85)
    seen = [_seen(c) for c in (a, b)]
    coarse = [np.linspace(*c, 15)[1:-1] for c in seen]
    x = np.stack(np.meshgrid(*coarse, indexing="ij"), axis=-1).reshape(-1, 2)
    v, _ = V._best(0, x)
    speed = (V.transition(0, x, v)[1] - x) / V.transition.step
    axis.quiver(*x.T, *speed.T, color="white", alpha=0.75, width=0.004)
    for start in starts:
        states = V.simulate(np.array(start)).states.reshape(-1, 2)
        axis.plot(*states.T, ".-", color=COLOURS[1], linewidth=1.4, markersize=4)
        axis.plot(*start, "o", color=COLOURS[1], markeredgecolor="white")
    axis.set(xlim=seen[0], ylim=seen[1])


def _seen(axis: np.ndarray) -> tuple[float, float]:
    """The middle three quarters.

    V is constant beyond the box, and states near its faces feel it.
    """
    margin = (axis[-1] - axis[0]) / 8
    return float(axis[0] + margin), float(axis[-1] - margin)


def _feedback_panel(figure, axis, V: dnl.ValueFunction, case: Case) -> None:
    lines = [np.linspace(*_seen(c), 61) for c in V.axes]
    x = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    u = V.feedback(0.0, x)["u"].reshape(61, 61)
    top = float(np.abs(u).max())
    drawn = axis.contourf(*lines, u.T, levels=np.linspace(-top, top, 25), cmap="RdBu_r")
    figure.colorbar(drawn, ax=axis, shrink=0.85)
    axis.set(
        xlabel="x₁",
        ylabel="x₂",
        title=f"van der Pol: feedback u(0, x), |u| <= {case.bounds['u'][1]}",
    )


def main() -> None:
    given = experiment.parser().parse_args()
    results = {case.name: (case, *rows(case)) for case in cases(given.tiny)}
    print(table(results))
    out = experiment.folder(given)
    if out:
        picture(results, out / "hjb.png")
    experiment.publish(given, __file__, "hamilton_jacobi.md", [table(results)])


if __name__ == "__main__":
    main()
