"""When does carrying the duals pay?

Each depth starts from the solution of the depth before: its prolonged controls alone ("cold"
duals), or with the prolonged multipliers of its constraints too ("carried"). The columns count
iterations, gradients and Hessian products of the last depth and its seconds, cold / carried; the
ratio is of seconds. Adjoint: 0 iterations are Newton steps on the active set that the carried
multipliers name, and nothing else. Both must end at the same minimiser.

    python benchmarks/03_warm_start.py [--tiny]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np

import dnlcontrol as dnl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from problems import o4_bryson_denham, o5b_van_der_pol, v2_transient_impact

SOLVERS = {
    "adjoint": {"backend": "adjoint"},
    "lifted": {"backend": "exact", "formulation": "lifted"},
    "condensed": {"backend": "exact", "formulation": "condensed"},
}
SAME = 1e-8  # of the values, relative to 1 + |J|, and of the controls in L2


def van_der_pol(arrive: bool) -> dnl.ControlProblem:
    """Bounds on the control and on the speed, and an end point where ``arrive``."""
    plain = o5b_van_der_pol.problem()
    end = [dnl.terminal_constraint(lambda x, c: x[0], 0.3, 0.3, name="end")] if arrive else []
    speed = dnl.state_bounds(lower=[-np.inf, -0.5 if arrive else -0.4], name="speed")
    return dnl.ControlProblem(
        name="van der Pol",
        horizon=plain.horizon,
        x0=plain.x0,
        dynamics=plain.dynamics,
        running=plain.running,
        controls={"u": dnl.Control((), lower=-0.3, upper=1.0)},
        constraints=[speed, *end],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    tiny = parser.parse_args().tiny
    repeats = 1 if tiny else 3
    cases = {
        "Bryson-Denham": (o4_bryson_denham.problem(), (12, 24) if tiny else (12, 24, 48, 96)),
        "V2, integral constraint": (
            v2_transient_impact.problem(),
            (8, 16) if tiny else (8, 16, 32, 64),
        ),
        "van der Pol, bounds": (van_der_pol(False), (10, 20) if tiny else (10, 20, 40, 80)),
        "van der Pol, bounds and end": (van_der_pol(True), (10, 20) if tiny else (10, 20, 40, 80)),
    }
    print(
        f"{'problem':28} {'solver':9} {'L':>4} {'iterations':>11} {'gradients':>11} "
        f"{'H products':>11} "
        f"{'seconds':>13} {'ratio':>6}  {'controls':>8}"
    )
    for name, (problem, depths) in cases.items():
        for solver, how in SOLVERS.items():
            previous = dnl.solve(problem, depths[0], **how)
            for L in depths[1:]:
                cold, carried = (
                    _solved(problem, L, previous, w, how, repeats) for w in ("controls", "duals")
                )
                _row(f"{name:28} {solver:9} {L:4}", cold, carried)
                previous = carried[0]


def _solved(
    problem: dnl.ControlProblem,
    L: int,
    start: dnl.Solution,
    warm: str,
    how: dict[str, str],
    repeats: int,
) -> tuple[dnl.Solution, float]:
    runs = [
        dnl.solve(problem, L, start=start, warm=warm, tolerance=1e-9, **how) for _ in range(repeats)
    ]
    return runs[0], statistics.median(s.seconds for s in runs)


def _row(head: str, cold: tuple[dnl.Solution, float], carried: tuple[dnl.Solution, float]) -> None:
    (a, ta), (b, tb) = cold, carried
    counts = " ".join(f"{f'{getattr(a, k)}/{getattr(b, k)}':>11}" for k in ("nit", "njev", "nhev"))
    gap = dnl.distance(a, b)
    print(f"{head} {counts} {f'{ta:.2f}/{tb:.2f}':>13} {ta / tb:6.1f}  {gap:8.0e}", flush=True)
    assert a.success and b.success, f"not solved: {a.message}; {b.message}"
    assert abs(a.value - b.value) <= SAME * (1 + abs(a.value)), "different values"
    assert gap <= SAME, "different minimisers"


if __name__ == "__main__":
    main()
