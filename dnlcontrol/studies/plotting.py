"""Pictures of a study: convergence, controls on the triangle and on the path, states, costates."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.files.atomic import make_directory, write_atomic
from dnlcontrol.results.solution import Solution
from dnlcontrol.studies.result import Study

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "controls_L2": "controls, L²",
    "controls_H1": "controls, H¹ seminorm",
    "controls_sup": "controls, sup",
    "states_sup": "states, sup",
    "costates_sup": "costates, sup",
}
PANELS = 4  # depths, components or samples shown side by side
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)  # distinguishable without red and green


def _pyplot() -> Callable[[float, float], Figure]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib; install dnlcontrol[study]") from error

    def figure(width: float, height: float) -> Figure:
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        return made

    return figure


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format=target.suffix[1:] or None)
    make_directory(target.parent)
    write_atomic(target, picture.getvalue())
    return target


def plot_convergence(study: Study, path: str | os.PathLike[str]) -> Path:
    """J_L beside the distances of its levels.

    Left: J_L and its extrapolated limit. Right: distances of consecutive levels with fitted rates.
    """
    figure = _pyplot()(11.0, 4.2)
    left, right = figure.subplots(1, 2)
    rows = study.rows
    depths = [r["depth"] for r in rows]
    left.plot(
        depths,
        [r["value"] for r in rows],
        "o-",
        color=COLOURS[0],
        label=study.levels[-1].solution.backend,
    )
    beside = [(level.adjoint, level.exact) for level in study.levels]
    exact = [(e.depth, e.value) for a, e in beside if a is not None and e is not None]
    if exact:
        left.plot(*zip(*exact, strict=True), "x", color=COLOURS[1], markersize=10, label="exact")
    if len(depths) > 1:
        left.axhline(
            study.extrapolated_value,
            color="0.4",
            linestyle="--",
            linewidth=1,
            label="extrapolated limit",
        )
    left.set(xlabel="depth L", ylabel="optimal value $J_L$", title=f"{study.name}: optimal value")
    _depth_axis(left, depths)
    left.legend(fontsize=8)
    steps = {"value": [np.nan, *np.abs(np.diff([r["value"] for r in rows]))]}
    steps.update({k: [r[f"{k}_step"] for r in rows] for k in LABELS})
    for colour, (key, values) in zip(COLOURS, steps.items(), strict=True):
        shown = [(d, v) for d, v in zip(depths, values, strict=True) if np.isfinite(v) and v > 0]
        if shown:
            rate = study.rates.get(key, np.nan)
            label = LABELS.get(key, "value") + (f": rate {rate:.2f}" if np.isfinite(rate) else "")
            right.plot(*zip(*shown, strict=True), "o-", color=colour, markersize=4, label=label)
    right.set(
        xlabel="depth L",
        ylabel="change from the level before",
        title="distance of consecutive levels",
        yscale="log",
    )
    _depth_axis(right, depths)
    right.grid(True, which="major", alpha=0.3)
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, path)


def _depth_axis(axes: Axes, depths: list[int]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xticks(depths, [str(d) for d in depths])
    axes.xaxis.set_minor_locator(NullLocator())


def plot_all(study: Study, folder: Path) -> list[Path]:
    """Every picture of a study, into one folder."""
    paths = [plot_convergence(study, folder / "convergence.png")]
    solutions = [level.solution for level in study.levels][-PANELS:]
    for name, control in solutions[-1].controls.items():
        target = folder / f"control_{name}.png"
        if control.layout.on == "ts":
            paths.append(plot_triangle([s.controls[name] for s in solutions], target))
        elif control.layout.on == "t":
            paths.append(plot_lines([s.controls[name] for s in solutions], target))
    paths += [
        plot_paths(solutions, what, folder / f"{what}.png") for what in ("states", "costates")
    ]
    return paths


def plot_triangle(controls: list[Extension], path: str | os.PathLike[str]) -> Path:
    """A control on the triangle.

    One row for each depth, one column for each of the first components.
    """
    components = list(np.ndindex(controls[-1].values.shape[1:]))[:PANELS]
    figure = _pyplot()(2.5 * len(components) + 0.6, 2.5 * len(controls) + 0.9)
    grid = figure.subplots(len(controls), len(components), squeeze=False, sharex=True, sharey=True)
    for j, component in enumerate(components):
        index = (slice(None), *component)
        low, high = np.min(controls[-1].values[index]), np.max(controls[-1].values[index])
        pad = 1e-12 + 0.02 * (high - low)
        for i, control in enumerate(controls):
            T, L = control.layout.grid.horizon, control.layout.grid.depth
            values = control.array()[(slice(None), slice(None), *component)]
            edges = np.linspace(0.0, T, L + 1)
            mesh = grid[i, j].pcolormesh(
                edges,
                edges,
                values,
                cmap="viridis",
                vmin=low - pad,
                vmax=high + pad,
                rasterized=True,
            )
            label = f"[{','.join(map(str, component))}]" if component else ""
            grid[i, j].set_title(f"{control.name}{label}(t, s), L = {L}", fontsize=9)
            grid[i, j].set_aspect("equal")
            grid[i, j].label_outer()
            grid[-1, j].set_xlabel("s")
        figure.colorbar(mesh, ax=list(grid[:, j]), location="bottom", shrink=0.85, aspect=25)
    for row in grid:
        row[0].set_ylabel("t")
    return _save(figure, path)


def plot_lines(controls: list[Extension], path: str | os.PathLike[str]) -> Path:
    """A path control: its piecewise-linear extensions.

    One line for each depth, one panel for each component.
    """
    components = list(np.ndindex(controls[-1].values.shape[1:]))[:PANELS]
    figure = _pyplot()(4.0 * len(components) + 0.5, 3.2)
    panels = figure.subplots(1, len(components), squeeze=False)[0]
    times = np.linspace(0.0, controls[-1].layout.grid.horizon, 401)
    for axes, component in zip(panels, components, strict=True):
        for colour, control in zip(COLOURS, controls, strict=False):
            values = control(times)[(slice(None), *component)]
            axes.plot(times, values, color=colour, label=f"L = {control.layout.grid.depth}")
        label = f"[{','.join(map(str, component))}]" if component else ""
        axes.set(xlabel="t", title=f"{controls[-1].name}{label}(t)")
        axes.grid(True, alpha=0.3)
    panels[0].legend()
    return _save(figure, path)


def plot_paths(solutions: list[Solution], what: str, path: str | os.PathLike[str]) -> Path:
    """States or costates against t.

    One panel for each component, a few samples, the last depths.
    """
    finest = getattr(solutions[-1], what)
    components = list(np.ndindex(finest.shape[2:]))[:PANELS]
    figure = _pyplot()(4.0 * len(components) + 0.5, 3.4)
    panels = figure.subplots(1, len(components), squeeze=False)[0]
    shown = np.unique(np.linspace(0, finest.shape[1] - 1, PANELS).astype(int))
    for axes, component in zip(panels, components, strict=True):
        for width, solution in enumerate(solutions):
            values = getattr(solution, what)[(slice(None), slice(None), *component)]
            for k, n in enumerate(shown):
                label = f"L = {solution.depth}" if k == 0 else None
                style = {
                    "color": COLOURS[k],
                    "alpha": 0.35 + 0.65 * (width + 1) / len(solutions),
                    "linewidth": 0.6 + 0.5 * width,
                }
                axes.plot(solution.grid.nodes, values[:, n], label=label, **style)
        label = f"[{','.join(map(str, component))}]" if component else ""
        axes.set(xlabel="t", title=f"{what[:-1]}{label}, {len(shown)} of {finest.shape[1]} samples")
        axes.grid(True, alpha=0.3)
    panels[0].legend(fontsize=8)
    return _save(figure, path)
