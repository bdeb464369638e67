"""How much faster is the exact backend than what one writes by hand with CasADi, or with rockit?

Toy rows: the condensed formulation against a hand-written lifted CasADi + IPOPT script; the first
of them is the baseline. ODE rows: L = 200 against CasADi's Opti and rockit-meco (peers.py says how
each is written). Every time runs from the definition of the problem to its solution, after all
libraries were loaded; medians of three, ours and the peers' in turn. A peer that takes 50 times our
time is stopped once ("> ratio"). The problems are not convex: where values differ, the two stopped
at different minimisers; in the Bryson-Denham rows because IPOPT as the peers use it relaxes bounds
by 1e-8.

    python benchmarks/02_condensed.py [--tiny] [--rows baseline ode iris wide]
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue as queue_module
import statistics
import time
import warnings
from collections.abc import Callable

import peers

import dnlcontrol as dnl
from problems import iris_dense, o4_bryson_denham, two_class_toy

ALPHA = 2e-2  # the toy's own
PATIENCE = 50  # times our time, after which a peer is stopped
ROWS = ("baseline", "ode", "iris", "wide")  # the last, the toy at d = 4, takes longest
ROCKIT = "rockit-meco not installed (pip install rockit-meco)"


def timed(run: Callable[[], float]) -> tuple[float, float]:
    """Seconds and the value."""
    began = time.perf_counter()
    value = run()
    return time.perf_counter() - began, value


def _child(run: Callable[..., float], arguments: tuple, queue: multiprocessing.Queue) -> None:
    queue.put(timed(lambda: run(*arguments)))


def capped(run: Callable[..., float], arguments: tuple, limit: float) -> tuple[float, float | None]:
    """Seconds and value of one run in a process of its own, stopped at ``limit`` seconds."""
    queue: multiprocessing.Queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=_child, args=(run, arguments, queue))
    process.start()
    try:
        return queue.get(timeout=limit)
    except queue_module.Empty:
        process.kill()
        return limit, None
    finally:
        process.join()


def medians(
    repeats: int, *runs: Callable[[], tuple[float, float | None]]
) -> list[tuple[float, float | None]]:
    """Median seconds and last value of each, run in turn; what was stopped is not run again."""
    seconds: list[list[float]] = [[] for _ in runs]
    values: list[float | None] = [0.0] * len(runs)
    for _ in range(repeats):
        for k, run in enumerate(runs):
            if values[k] is not None:
                took, values[k] = run()
                seconds[k] = [*seconds[k], took] if values[k] is not None else [took]
    return [(statistics.median(s), v) for s, v in zip(seconds, values, strict=True)]


def row(name: str, ours: float, theirs: float, value: float | None, other: float | None) -> None:
    ratio = (
        f"{theirs / ours:10.1f}"
        if other is not None
        else f"{'> ' + format(theirs / ours, '.0f'):>10}"
    )
    told = f"{other:.9f}" if other is not None else "stopped"
    print(f"{name:48} {ours:8.3f} {theirs:8.3f} {ratio}  {value:.9f}  {told}", flush=True)


def toy(parameters: dict, L: int, repeats: int) -> float:
    """A row of the two-class toy; the peer's seconds."""

    def ours() -> float:
        return dnl.solve(
            two_class_toy.problem(alpha=ALPHA, **parameters), L, formulation="condensed"
        ).value

    limit = max(PATIENCE * max(timed(ours)[0] for _ in range(repeats)), 5.0)
    arguments = two_class_toy.problem(alpha=ALPHA, **parameters), L, ALPHA
    a, b = medians(repeats, lambda: timed(ours), lambda: capped(peers.lifted_toy, arguments, limit))
    row(f"toy {parameters or ''} L={L}", a[0], b[0], a[1], b[1])
    return b[0]


def against_the_baseline(tiny: bool, repeats: int, baseline: float) -> None:
    """Rows that are measured in the baseline's time: set-up at its depth, twice its depth."""

    def first_iteration(L: int) -> float:
        """From the definition to the end of the first iteration, report included.

        It is more than the set-up.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dnl.ConvergenceWarning)
            return dnl.solve(
                two_class_toy.problem(), L, formulation="condensed", max_iterations=1
            ).value

    L = 3 if tiny else 16
    (seconds, _), (deeper, _) = medians(
        repeats,
        lambda: timed(lambda: first_iteration(L)),
        lambda: timed(
            lambda: dnl.solve(two_class_toy.problem(), 2 * L, formulation="condensed").value
        ),
    )
    what = f"toy L={L}: set-up and first iteration"
    print(
        f"{what:48} {seconds:8.3f} {baseline:8.3f} {100 * seconds / baseline:9.2f}%  of the "
        "baseline's time"
    )
    print(
        f"{f'toy L={2 * L} against the peer at L={L}':48} {deeper:8.3f} {baseline:8.3f} "
        f"{baseline / deeper:10.1f}"
    )


def iris(tiny: bool, repeats: int, baseline: float) -> None:
    """Iris to L = 16, every control free: a study with both backends at each depth."""
    depths, samples = ([2, 4], 9) if tiny else ([4, 8, 16], 150)

    def ours() -> float:
        study = dnl.study(iris_dense.problem(samples=samples), depths, exact_to=depths[-1])
        return study.levels[-1].exact.value

    ((seconds, value),) = medians(repeats, lambda: timed(ours))
    name = f"iris, N={samples}, L={', '.join(map(str, depths))}, both backends"
    against = f"{baseline:8.3f} {baseline / seconds:10.2f}" if baseline else f"{'':8} {'':10}"
    print(f"{name:48} {seconds:8.3f} {against}  {value:.9f}  the peer: the baseline", flush=True)


def same_minimiser(L: int, samples: int) -> None:
    """From beside our minimiser the peer ends at ours.

    From the cold start the two may end at different minimisers.
    """
    problem = two_class_toy.problem(alpha=ALPHA, samples=samples, width=4)
    ours = dnl.solve(problem, L, formulation="condensed", tolerance=1e-10)
    gap = peers.lifted_toy_near(problem, L, ALPHA, ours, 1e-3)
    print(
        f"toy, d=4, N={samples}, L={L}: the peer, started 1e-3 beside our minimiser, ends "
        f"{gap:.1e} from it"
    )


def odes(tiny: bool, repeats: int) -> None:
    L = 20 if tiny else 200
    cases = (
        (peers.VAN_DER_POL, peers.bounded_van_der_pol),
        (peers.BRYSON_DENHAM, o4_bryson_denham.problem),
    )
    found = {"Opti, a constraint a step": peers.opti_loop, "Opti, one array": peers.opti_array}
    if peers.rockit_is_here():
        found["rockit-meco"] = peers.rockit_euler
    for name, problem in cases:
        runs = [
            lambda p=problem: dnl.solve(p(), L).value,
            *(lambda f=f, n=name: f(n, L) for f in found.values()),
        ]
        for run in runs:
            run()  # loads what a first call loads
        ours, *others = medians(repeats, *(lambda r=r: timed(r) for r in runs))
        for peer, (seconds, value) in zip(found, others, strict=True):
            row(f"{name} L={L}, {peer}", ours[0], seconds, ours[1], value)
    if not peers.rockit_is_here():
        print(f"{f'ODE rows L={L}, rockit-meco':48} {ROCKIT}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    arguments = parser.parse_args()
    tiny = arguments.tiny
    repeats = 1 if arguments.tiny else 3
    rows = arguments.rows
    dnl.solve(two_class_toy.problem(samples=4), 2)  # loads every library
    print(
        f"{'problem':48} {'ours/s':>8} {'peer/s':>8} {'peer/ours':>10}  {'our value':11}  peer's "
        "value"
    )
    baseline = 0.0
    if "baseline" in rows:
        baseline = toy({"samples": 4}, 3, repeats) if tiny else toy({}, 16, repeats)
        against_the_baseline(tiny, repeats, baseline)
    if "ode" in rows:
        odes(tiny, repeats)
    if "iris" in rows:
        iris(tiny, repeats, baseline)
    if "wide" in rows and not tiny:
        for samples in (20, 150):
            toy({"samples": samples, "width": 4}, 8, repeats)
    if "wide" in rows:
        same_minimiser(3 if tiny else 8, 4 if tiny else 20)


if __name__ == "__main__":
    main()
