"""Does a residual network with smooth weights converge to its ODE, and at which rates?

The network and functional of Thorpe and van Gennip (arXiv 1810.11741) with all four penalties, on
few points, at growing depth; every identity of a stationary point is checked at every depth, and
the limit is computed on its own by a boundary-value solver. Then the same with penalties so large
that the weights vanish: rates are refused.

    python benchmarks/09_resnet_to_ode.py [--tiny] [--out DIR]

Without --tiny the picture goes to docs/images and the table into docs/resnet_to_ode.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import experiment
import numpy as np
import torch

import dnlcontrol as dnl
from dnlcontrol.results.extrapolation import extrapolate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import resnet_tvg

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
WEIGHTS = {"alpha": 0.1, "alpha_b": 0.2, "alpha_head": 0.05, "alpha_c": 0.3, "tau1": 0.7}
STEPS = {
    "value_step": "value",
    "K_TL2": "K, TL²",
    "b_TL2": "b, TL²",
    "states_sup": "states, sup",
    "head": "head",
}


def ladder(problem: dnl.ControlProblem, depths: tuple[int, ...]) -> list[dnl.Solution]:
    found: list[dnl.Solution] = []
    for depth in depths:
        found.append(
            dnl.solve(
                problem,
                depth,
                "adjoint",
                start=found[-1] if found else None,
                tolerance=1e-10,
                max_iterations=200,
            )
        )
    return found


def table(report: dnl.ResNetLimitReport) -> str:
    """Distances to the level before, checks passed, and rates."""
    names = (
        "value",
        *STEPS,
        "start_K",
        "end_K",
        "second_differences_K",
        "second_differences_b",
        "norm_K",
    )
    rows = [
        "| | " + " | ".join(f"L = {d}" for d in report.depths) + " | rate |",
        "|---" * (len(report.depths) + 2) + "|",
    ]
    for name in names:
        cells = [
            ""
            if np.isnan(row[name])
            else f"{row[name]:.7f}"
            if name == "value"
            else f"{row[name]:.3e}"
            for row in report.rows
        ]
        rate = f"{report.rates[name]:.2f}" if name in report.rates else ""
        rows.append(f"| {name} | " + " | ".join(cells) + f" | {rate} |")
    held = [f"{len(c.checks) - len(c.failed)} of {len(c.checks)}" for c in report.certificates]
    rows.append("| identities that hold | " + " | ".join(held) + " | |")
    return "\n".join(rows)


def against_the_limit(found: list[dnl.Solution], limit: dnl.ResNetContinuum) -> str:
    """The extrapolated discrete minimiser and the boundary-value problem."""
    depths = [s.depth for s in found]
    value, _ = extrapolate(depths, [s.value for s in found], (1, 2, 3, 4))
    t = np.linspace(0.1, 0.9, 9)
    rows = [
        "| | finest depth | extrapolated | boundary-value problem | gap of the extrapolated |",
        "|---|---|---|---|---|",
    ]
    rows.append(
        f"| value | {found[-1].value:.9f} | {value:.9f} | {limit.value:.9f} | "
        f"{abs(value - limit.value):.1e} |"
    )
    for name in ("K", "b"):
        a, b = found[-2].controls[name](t), found[-1].controls[name](t)
        exact = limit.controls[name](t)
        raw, mixed = np.abs(b - exact).max(), np.abs(2 * b - a - exact).max()
        rows.append(f"| {name}, largest gap on 9 points | {raw:.1e} | {mixed:.1e} | | |")
    rows.append(f"| mesh points, relative residual | | | {limit.mesh}, {limit.residual:.0e} | |")
    return "\n".join(rows)


def picture(
    found: list[dnl.Solution], report: dnl.ResNetLimitReport, limit: dnl.ResNetContinuum, path: Path
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    weights, values, steps, ends = figure.subplots(2, 2).ravel()
    t, depths = np.linspace(0, 1, 401), report.depths
    for entry, colour in zip(np.ndindex(2, 2), COLOURS, strict=False):
        label = f"K{entry[0] + 1}{entry[1] + 1}"
        weights.plot(
            t, limit.controls["K"](t)[(slice(None), *entry)], color=colour, label=f"{label}, ODE"
        )
        for s, marker in ((found[0], "o"), (found[1], ".")):
            weights.plot(
                s.controls["K"].positions[0],
                s.controls["K"].values[(slice(None), *entry)],
                marker,
                color=colour,
                markersize=5,
            )
    weights.set(
        title=f"weights: samples at L = {found[0].depth} (o), {found[1].depth} (.), and the limit",
        xlabel="t",
    )
    J = [s.value for s in found]
    values.plot(depths, J, "o-", color=COLOURS[0], label="J_L")
    values.axhline(limit.value, color="0.4", linestyle="--", label="boundary-value problem")
    values.set(title="optimal value", xlabel="depth L", xscale="log")
    for (name, label), colour in zip(STEPS.items(), COLOURS, strict=False):
        gaps = [row[name] for row in report.rows[1:]]
        rate = f", rate {report.rates[name]:.2f}" if name in report.rates else ""
        steps.plot(depths[1:], gaps, "o-", color=colour, label=label + rate)
    steps.set(title="distance to the level before", xlabel="depth L", xscale="log", yscale="log")
    for name, label, colour in (
        ("start_K", "|K'(0) - τ₁K(0)|", COLOURS[0]),
        ("end_K", "|K'(1)|", COLOURS[1]),
        ("second_differences_K", "n³Σ|Δ²K|²", COLOURS[2]),
        ("second_differences_b", "n³Σ|Δ²b|²", COLOURS[3]),
    ):
        ends.plot(depths, [row[name] for row in report.rows], "o-", color=colour, label=label)
    ends.set(
        title="boundary conditions and second differences",
        xlabel="depth L",
        xscale="log",
        yscale="log",
    )
    for axis in (weights, values, steps, ends):
        axis.legend(fontsize=8, frameon=False)
        if axis is not weights:
            axis.minorticks_off()
            axis.set_xticks(depths, [str(d) for d in depths])
    figure.suptitle("A residual network and its ODE (our experiment)")
    experiment.save(figure, path)


def main() -> None:
    given = experiment.parser().parse_args()
    torch.set_num_threads(1)
    depths, samples = ((4, 8), 2) if given.tiny else ((8, 16, 32, 64, 128, 256), 8)
    began = time.perf_counter()
    found = ladder(resnet_tvg.problem(samples=samples, **WEIGHTS), depths)
    report = dnl.resnet_limit_report(found)
    limit = dnl.resnet_continuum(found[min(2, len(found) - 1)])
    print(report, f"{time.perf_counter() - began:.0f} s", sep="\n", flush=True)
    large = resnet_tvg.problem(samples=samples, **{**WEIGHTS, "alpha": 1e4, "alpha_b": 1e4})
    refused = dnl.resnet_limit_report(ladder(large, depths[:2]))
    compared = against_the_limit(found, limit)
    print(compared, f"with weights 1e4: {refused.refused}", sep="\n\n")
    out = experiment.folder(given)
    if out:
        picture(found, report, limit, out / "resnet_to_ode.png")
    refusal = f'With α_1 = α_2 = 10⁴ the report refuses: "{refused.refused}".'
    told = [table(report), "Against the boundary-value problem of the limit:", compared, refusal]
    experiment.publish(given, __file__, "resnet_to_ode.md", told)


if __name__ == "__main__":
    main()
