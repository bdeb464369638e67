"""Do optimal values and minimisers converge with the depth, and which penalty makes them?

One linear problem with a closed form and one dense network (form C, tanh, two rings of points),
each with three penalties of the same weight: H¹ on the triangle; L² alone, α/2 τ² Σ|w|²; weight
decay without the factor τ², α/2 Σ|w|² (at depth L that is L² with weight α/τ²). Then the two
inequalities of Γ-convergence, as executable checks on the minimiser: J_L along its cell averages,
and along cell averages plus an oscillation.

    python benchmarks/08_gamma_convergence.py [--tiny] [--out DIR]

Without --tiny the picture goes to docs/images and the table into docs/dense_networks.md.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import experiment
import numpy as np
import torch

import dnlcontrol as dnl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import t7_h1_triangle, two_class_toy

PENALTIES = ("H¹", "L² alone", "unscaled decay")
COLOURS = ("#0072B2", "#D55E00", "#009E73")
ALPHA = {"linear": 0.5, "two rings": 2e-2}


@dataclass(frozen=True)
class Sizes:
    linear: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    rings: tuple[int, ...] = (4, 8, 16, 32, 64)
    samples: int = 16


TINY = Sizes((4, 8), (2, 4), 4)


def problem(name: str, penalty: str, depth: int, samples: int) -> dnl.ControlProblem:
    """The problem with one penalty on every control."""
    base = t7_h1_triangle.problem() if name == "linear" else two_class_toy.problem(samples=samples)
    weight = ALPHA[name] * (depth**2 if penalty == "unscaled decay" else 1)
    kind = dnl.H1 if penalty == "H¹" else dnl.L2
    controls = dict(base.controls)
    return dnl.ControlProblem(
        name=name,
        x0=base.x0,
        dynamics=base.dynamics,
        controls=controls,
        terminal=base.terminal,
        regularisers=[kind(k, weight) for k in controls],
    )


@dataclass(frozen=True)
class Branch:
    """Minimisers of one problem under one penalty, each started from the level before."""

    name: str
    penalty: str
    solutions: tuple[dnl.Solution, ...]

    @property
    def depths(self) -> list[int]:
        return [s.depth for s in self.solutions]

    @property
    def values(self) -> np.ndarray:
        return np.array([s.value for s in self.solutions])

    def sizes(self) -> np.ndarray:
        """L² norm of all controls."""
        return np.array([dnl.distance(s, zero(s)) for s in self.solutions])

    def steps(self, norm: str) -> np.ndarray:
        pairs = zip(self.solutions, self.solutions[1:], strict=False)
        return np.array([dnl.distance(a, b, norm) for a, b in pairs])


def zero(solution: dnl.Solution) -> dnl.Solution:
    controls = {k: replace(c, values=np.zeros_like(c.values)) for k, c in solution.controls.items()}
    return replace(solution, controls=controls)


def branch(name: str, penalty: str, depths: tuple[int, ...], samples: int) -> Branch:
    found: list[dnl.Solution] = []
    for depth in depths:
        start = found[-1] if found else None
        # a level that does not converge is a row of the table that says so
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dnl.ConvergenceWarning)
            given = problem(name, penalty, depth, samples)
            found.append(dnl.solve(given, depth, "adjoint", start=start, tolerance=1e-7))
    return Branch(name, penalty, tuple(found))


def table(branches: list[Branch]) -> str:
    rows = [
        "| problem | penalty | L | J_L | solved | L² norm of the controls | L² step | sup step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for b in branches:
        steps = [("", "")] + [
            (f"{x:.2e}", f"{y:.2e}") for x, y in zip(b.steps("L2"), b.steps("sup"), strict=True)
        ]
        for s, size, (two, sup) in zip(b.solutions, b.sizes(), steps, strict=True):
            rows.append(
                f"| {b.name} | {b.penalty} | {s.depth} | {s.value:.7f} | "
                f"{'yes' if s.success else 'no'} "
                f"| {size:.3e} | {two} | {sup} |"
            )
    return "\n".join(rows)


def checks(
    branches: list[Branch],
) -> tuple[str, dict[str, tuple[dnl.RecoverySequence, dnl.LiminfCheck]]]:
    """Both inequalities for the H¹ minimisers: the closed form, and the network's finest one."""
    rows = ["| problem | check | coarsest | finest | rate | passed |", "|---|---|---|---|---|---|"]
    found = {}
    for b in (b for b in branches if b.penalty == "H¹"):
        exact = t7_h1_triangle.reference() if b.name == "linear" else None
        controls = exact.controls if exact else b.solutions[-1].controls
        value = exact.value if exact else None
        given = problem(b.name, "H¹", 1, len(b.solutions[0].states[0]))
        depths = b.depths
        recovery = dnl.recovery_sequence(given, controls, depths, value)
        liminf = dnl.liminf_check(given, controls, depths, value=value)
        found[b.name] = (recovery, liminf)
        gaps, passed = recovery.gaps, {True: "yes", False: "no"}
        rows.append(
            f"| {b.name} | recovery: gap of J_L at the cell averages | {gaps[0]:.2e} | "
            f"{gaps[-1]:.2e} "
            f"| {recovery.rate:.2f} | {passed[recovery.passed]} |"
        )
        rows.append(
            f"| {b.name} | liminf: J_L - J(w) along the oscillation | {liminf.excess[0]:.2e} "
            f"| {liminf.excess[-1]:.2e} | | {passed[liminf.passed]} |"
        )
        rows.append(
            f"| {b.name} | liminf: its slack | {liminf.slacks[0]:.2e} | {liminf.slacks[-1]:.2e} "
            "| | |"
        )
    return "\n".join(rows), found


def picture(branches: list[Branch], found: dict, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.4), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, name in zip(axes[0, :2], ALPHA, strict=True):
        for b in (b for b in branches if b.name == name):
            axis.plot(
                b.depths, b.values, "o-", color=COLOURS[PENALTIES.index(b.penalty)], label=b.penalty
            )
        axis.set(
            title=f"{name}: optimal values J_L", xscale="log", xlabel="depth L", ylim=(0, None)
        )
    reference = t7_h1_triangle.reference().value
    axes[0, 0].axhline(
        reference, color="0.4", linestyle="--", linewidth=1, label="J* (closed form, H¹)"
    )
    rings = [b for b in branches if b.name == "two rings"]
    for b in rings:
        colour = COLOURS[PENALTIES.index(b.penalty)]
        axes[0, 2].plot(b.depths, b.sizes(), "o-", color=colour, label=b.penalty)
        axes[1, 0].plot(b.depths[1:], b.steps("sup"), "o-", color=colour, label=b.penalty)
        for s, style in ((b.solutions[-2], ":"), (b.solutions[-1], "-")):
            t = np.linspace(0.25, 1.0, 400)
            w = np.linalg.norm(s.controls["W"](t, 0.25 + 0 * t), axis=(1, 2))
            axes[1, 1].plot(t, w, style, color=colour, label=f"{b.penalty}, L = {s.depth}")
    axes[0, 2].set(
        title="two rings: L² norm of the minimisers", xscale="log", yscale="log", xlabel="depth L"
    )
    axes[1, 0].set(
        title="two rings: sup distance to the level before",
        xscale="log",
        yscale="log",
        xlabel="depth L",
    )
    axes[1, 1].set(title="two rings: |W(t, 0.25)| at the two finest depths", xlabel="t")
    for name, marker in zip(found, "os", strict=True):
        recovery, liminf = found[name]
        depths = recovery.depths
        axes[1, 2].plot(
            depths[: len(recovery.gaps)],
            recovery.gaps,
            f"{marker}-",
            color="#0072B2",
            label=f"{name}: recovery gap",
        )
        axes[1, 2].plot(
            depths,
            liminf.excess,
            f"{marker}--",
            color="#CC79A7",
            label=f"{name}: excess, oscillation",
        )
        axes[1, 2].plot(depths, liminf.slacks, f"{marker}:", color="0.5", label=f"{name}: slack")
    axes[1, 2].set(title="H¹: the two inequalities", xscale="log", yscale="log", xlabel="depth L")
    axes[1, 2].set_ylim(bottom=axes[1, 2].get_ylim()[0] / 50)  # room for the legend
    for axis in axes.flat:
        axis.legend(fontsize=8, frameon=False)
        axis.minorticks_off()
        if axis.get_xscale() == "log":
            ticks = sorted(
                {d for b in branches for d in b.depths}
                if axis in (axes[0, 0], axes[1, 2])
                else set(rings[0].depths)
            )
            axis.set_xticks(ticks, [str(d) for d in ticks])
    figure.suptitle("Depth to infinity under three penalties (our experiment)")
    experiment.save(figure, path)


def main() -> None:
    given = experiment.parser().parse_args()
    torch.set_num_threads(1)
    sizes = TINY if given.tiny else Sizes()
    branches = []
    for name, depths in (("linear", sizes.linear), ("two rings", sizes.rings)):
        for penalty in PENALTIES:
            began = time.perf_counter()
            branches.append(branch(name, penalty, depths, sizes.samples))
            print(f"{name}, {penalty}: {time.perf_counter() - began:.0f} s", flush=True)
    values = table(branches)
    inequalities, found = checks(branches)
    print(values, inequalities, sep="\n\n")
    out = experiment.folder(given)
    if out:
        picture(branches, found, out / "gamma_convergence.png")
    told = [values, "The two inequalities for the H¹ minimisers:", inequalities]
    experiment.publish(given, __file__, "dense_networks.md", told)


if __name__ == "__main__":
    main()
