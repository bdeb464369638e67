"""The width-and-depth equation: orders, minimisers, Newton against successive approximation.

1. Errors of ∫ e^y f(y, 1) dy for smooth w and b: in the nodes N (midpoint, against Gauss) and in
  the depth L.
2. A learned w(y, z, t): L2 penalty (rank at most the number of data) and H1 penalty in y, z and t.
3. Work to stationarity 1e-6, for this problem and others: 1 = a value and gradient of J, ½ = a
   value, 2 = a Hessian product; those of the frozen Hamiltonian in msa and emsa count alike. A
   failure is a row.

    python benchmarks/12_width_pde.py [--tiny] [--out DIR]

Without --tiny the picture goes to docs/images and the tables into docs/width_pde.md.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import experiment
import numpy as np

import dnlcontrol as dnl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import o1_hager, o2_dt_qp, o5b_van_der_pol, t3b_h1_path, width_pde

METHODS = ("newton", "lbfgs", "msa", "emsa")
LIMIT = 200  # iterations


def forward(nodes: int, rule: str, depth: int) -> float:
    """∫ e^y f(y, 1) dy for f(y, 0) = 1 + y²."""
    pde = dnl.WidthPDE(nodes, rule)
    problem = dnl.ControlProblem(x0=(1.0 + pde.y**2)[None], dynamics=pde)
    controls = pde.controls(
        lambda y, z, t: np.cos(2 * y - z + t) * (1 + y * z), lambda y, t: 0.5 * np.sin(3 * y + t)
    )
    return float(pde.q @ (np.exp(pde.y) * dnl.simulate(problem, depth, controls)[-1, 0]))


def orders(tiny: bool) -> dict[str, list[tuple[int, float]]]:
    """Errors in N at one depth; errors in L at one N.

    Those in L are against Richardson's limit of the two finest.
    """
    nodes = (8, 16, 32) if tiny else (8, 16, 32, 64, 128)
    depths = (8, 16, 32) if tiny else (8, 16, 32, 64, 128)
    exact = forward(32, "gauss", 8)
    values = {L: forward(16, "gauss", L) for L in (*depths, 2 * depths[-1], 4 * depths[-1])}
    limit = 2 * values[4 * depths[-1]] - values[2 * depths[-1]]
    return {
        "N": [(n, abs(forward(n, "midpoint", 8) - exact)) for n in nodes],
        "L": [(L, abs(values[L] - limit)) for L in depths],
    }


def order_table(found: dict[str, list[tuple[int, float]]]) -> str:
    lines = ["| in | | error | order |", "|---|---|---|---|"]
    for name, pairs in found.items():
        for i, (n, error) in enumerate(pairs):
            order = (
                f"{np.log(pairs[i - 1][1] / error) / np.log(n / pairs[i - 1][0]):.2f}" if i else ""
            )
            lines.append(f"| {name} | {n} | {error:.1e} | {order} |")
    return "\n".join(lines)


def learned(tiny: bool) -> dict[str, dnl.Solution]:
    """The plain and the smooth problem."""
    nodes, depth = (6, 4) if tiny else (24, 16)
    tolerance = 1e-6 if tiny else 1e-9
    return {
        name: dnl.solve(
            width_pde.problem(nodes=nodes, smooth=smooth),
            depth,
            backend="adjoint",
            tolerance=tolerance,
        )
        for name, smooth in (("L2", False), ("H1", True))
    }


def learned_table(found: dict[str, dnl.Solution]) -> str:
    lines = [
        "| penalty | J_L | stationarity | largest singular values of w(t), max over t |",
        "|---|---|---|---|",
    ]
    for name, s in found.items():
        singular = np.linalg.svd(s.controls["w"].values, compute_uv=False).max(0)[:5]
        lines.append(
            f"| {name} | {s.value:.8f} | {s.stationarity:.0e} | "
            f"{', '.join(f'{v:.1e}' for v in singular)} |"
        )
    return "\n".join(lines)


def work(tiny: bool) -> list[tuple[str, str, dnl.Solution]]:
    """One solve for each problem and method, from one start."""
    depth = 4 if tiny else 16
    problems = {
        "O1": o1_hager.problem(),
        "O2": o2_dt_qp.problem(),
        "O5b": o5b_van_der_pol.problem(),
        "T3b (H1 path)": t3b_h1_path.problem(),
        "width PDE": width_pde.problem(nodes=3, samples=1) if tiny else width_pde.problem(nodes=12),
    }
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        for name, problem in problems.items():
            for method in METHODS:
                start = dict.fromkeys(problem.controls, 0.1)
                limit = 20 if tiny else LIMIT
                rows.append(
                    (
                        name,
                        method,
                        dnl.solve(
                            problem,
                            depth,
                            backend="adjoint",
                            method=method,
                            start=start,
                            tolerance=1e-6,
                            max_iterations=limit,
                        ),
                    )
                )
    return rows


def units(s: dnl.Solution) -> float:
    return 0.5 * (s.nfev - s.njev) + s.njev + 2 * s.nhev


def work_table(rows: list[tuple[str, str, dnl.Solution]]) -> str:
    lines = [
        "| problem | method | steps | gradients | Hessian products | work | over Newton | "
        "stationarity | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for i, (name, method, s) in enumerate(rows):
        ratio = units(s) / units(rows[i - i % len(METHODS)][2])
        end = f"{s.stationarity:.0e}" + ("" if s.success else ", not solved")
        lines.append(
            f"| {name} | {method} | {s.nit} | {s.njev} | {s.nhev} | {units(s):.0f} | {ratio:.1f} "
            f"| {end} "
            f"| {s.seconds:.1f} |"
        )
    return "\n".join(lines)


def picture(
    found: dict[str, list[tuple[int, float]]], solved: dict[str, dnl.Solution], path: Path
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for (name, pairs), order, colour in zip(
        found.items(), (2, 1), ("#0072B2", "#D55E00"), strict=True
    ):
        n, error = np.array(pairs).T
        axes[0, 0].loglog(n, error, "o-", color=colour, label=f"in {name}")
        axes[0, 0].loglog(
            n,
            error[0] * (n[0] / n) ** order,
            "--",
            color=colour,
            linewidth=0.8,
            label=f"order {order}",
        )
    axes[0, 0].set(
        xlabel="N or L", ylabel="error of ∫ e^y f(y, 1) dy", title="orders in width and depth"
    )
    axes[0, 0].legend(fontsize=8)
    plain = solved["L2"]
    y, target = (
        width_pde.problem(nodes=plain.states.shape[2]).dynamics.y,
        plain.problem.terminal.target,
    )
    for s, colour in enumerate(("#0072B2", "#D55E00", "#009E73")):
        axes[1, 0].plot(
            y, plain.states[0, s], ":", color=colour, label="f(y, 0)" if not s else None
        )
        axes[1, 0].plot(y, plain.states[-1, s], color=colour, label="f(y, 1)" if not s else None)
        axes[1, 0].plot(
            y, target[s], "x", color=colour, markersize=4, label="target" if not s else None
        )
    axes[1, 0].set(xlabel="y", title="three functions carried onto their targets (L2)")
    axes[1, 0].legend(fontsize=8)
    for row, (name, s) in enumerate(solved.items()):
        w, _ = s.problem.dynamics.functions(s.controls["w"].values)
        for column, l in ((1, 0), (2, s.depth - 1)):
            axis, top = axes[row, column], float(np.abs(w).max())
            drawn = axis.imshow(
                w[l].T, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-top, vmax=top
            )
            figure.colorbar(drawn, ax=axis, shrink=0.85)
            axis.set(xlabel="y", ylabel="z", title=f"w(y, z, t), {name} penalty, layer {l}")
    experiment.save(figure, path)


def main() -> None:
    given = experiment.parser().parse_args()
    found, solved = orders(given.tiny), learned(given.tiny)
    tables = [order_table(found), learned_table(solved), work_table(work(given.tiny))]
    print("\n\n".join(tables))
    out = experiment.folder(given)
    if out:
        picture(found, solved, out / "width_pde.png")
    experiment.publish(given, __file__, "width_pde.md", tables)


if __name__ == "__main__":
    main()
