"""Does the work of a nested solve stay the same as the depth doubles?

Trust-region Newton-CG in the H1 metric, each level started from the ones before and preconditioned
by what they learnt of the Hessian, to stationarity 1e-8. One work unit is a value and gradient; a
Hessian product costs what it was measured to cost in the same solve, at least 2; making the
preconditioner costs its time. "units" are those of the level, with the gradients of the final
report. Levels are added up in units of the finest, by their measured time and by kernel evaluations
(L^2). A tiny solve before the first case pays what PyTorch does once.

    python benchmarks/05_mesh_independence.py [--tiny] [--case NAME ...] [--depths 8,16,32]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import dnlcontrol as dnl
from dnlcontrol.solving.learnt import forget
from dnlcontrol.studies.result import Level, Study

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import iris_dense, spirals


def bounded_spirals(
    samples: int = 64, alpha: float = 1e-2, limit: float = 0.4
) -> dnl.ControlProblem:
    """The spirals with every weight between -limit and limit.

    Without bounds the largest W is 0.45.
    """
    free = spirals.problem(samples=samples, alpha=alpha)
    controls = {
        name: dnl.Control(c.shape, on=c.on, lower=-limit, upper=limit, initial=c.initial)
        for name, c in free.controls.items()
    }
    return dnl.ControlProblem(
        name="spirals, bounded",
        x0=free.x0,
        dynamics=free.dynamics,
        controls=controls,
        terminal=free.terminal,
        regularisers=free.regularisers,
    )


# name -> problem of so many samples (None: all), finest depth, most units in all and at the finest
# level
CASES = {
    "spirals": (lambda n: spirals.problem(samples=n or 64), 512, (28, 20)),
    "spirals-hard": (
        lambda n: spirals.problem(samples=n or 64, alpha=2e-3, scale=1.0),
        512,
        (84, 60),
    ),
    "spirals-bounded": (lambda n: bounded_spirals(samples=n or 64), 512, None),
    "iris-A": (lambda n: iris_dense.problem(form="A", samples=n or 150), 512, None),
    "iris-C": (lambda n: iris_dense.problem(form="C", samples=n or 150), 512, None),
}


def table(
    name: str, problem: dnl.ControlProblem, depths: list[int], limits: tuple[int, int] | None
) -> None:
    print(f"\n{name}: {problem.samples} samples")
    print(
        f"{'L':>4} {'value':>13} {'stationarity':>12} {'Newton':>6} {'CG':>4} {'CG/step':>7} "
        f"{'gradients':>9} "
        f"{'product':>7} {'coarse':>6} {'units':>6} {'seconds':>8}"
    )
    levels: list[dnl.Solution] = []
    for depth in depths:
        s = dnl.solve(problem, depth, backend="adjoint", start=levels or None)
        w = s.work
        print(
            f"{depth:4d} {s.value:13.10f} {s.stationarity:12.1e} {s.nit:6d} {s.nhev:4d} "
            f"{s.cg_per_step:7.1f} "
            f"{s.njev + 1:9d} {w['product_cost']:7.2f} {w['coarse']:6.1f} {w['units']:6.1f} "
            f"{s.seconds:8.1f}"
            f"{'' if s.success else '  not converged'}"
            f"{'  branch lost' if 'branch lost' in s.message else ''}",
            flush=True,
        )
        if levels:
            forget(levels[-1])  # only the last level's is used
        levels.append(s)
    study = Study(problem.name, tuple(Level(s) for s in levels))
    finest = levels[-1].work["units"]
    by_size = sum(s.work["units"] * (s.depth / depths[-1]) ** 2 for s in levels)
    told = f", to be at most {limits[0]} in all and {limits[1]} at the finest" if limits else ""
    print(
        f"units of L={depths[-1]}: all levels {study.work:.1f} by time, {by_size:.1f} by kernel "
        "evaluations; "
        f"the finest {finest:.1f}{told}"
    )
    print(f"all levels together {sum(s.seconds for s in levels):.1f} s")
    if 32 in depths[:-1]:
        ratio = levels[-1].cg_per_step / levels[depths.index(32)].cg_per_step
        print(
            f"CG iterations per Newton step, L={depths[-1]} against L=32: {ratio:.2f}, to be at "
            "most 1.3"
        )
    for line in study.statements:
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--depths", help="doubling from 8 by default")
    given = parser.parse_args()
    dnl.solve(spirals.problem(samples=4, alpha=0.1), 4, backend="adjoint")
    for name in given.case:
        make, finest, limits = CASES[name]
        depths = [8 * 2**k for k in range(8) if 8 * 2**k <= finest]
        if given.depths:
            depths = [int(d) for d in given.depths.split(",")]
        elif given.tiny:
            depths = [4, 8, 16]
        table(name, make(12 if given.tiny else None), depths, limits)


if __name__ == "__main__":
    main()
