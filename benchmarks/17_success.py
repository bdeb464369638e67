"""Is success said only where it is proved? Generated problems on every route.

Each problem of tests/generated_problems.py (products, even and odd structures, symmetric data,
kinks, constraints and bounds active, inactive and weakly active, starts at saddles, maximisers and
kinks, units from 1e-6 to 1e6) is solved by both formulations of the exact backend and by every
minimiser of the adjoint one, cold and from the solution at half the depth. Asked:

    no success whose certificate fails
    at least 95% of the solves end with success
    no value above the best other route's by more than 1e-6 of the cost's unit,
        unless a certificate says that it is a local minimiser

The exit status is 1 where one is missed.

    python benchmarks/17_success.py [--tiny] [--seeds A:B[:STEP]] [--processes K]
                                    [--routes NAME,NAME] [--log FILE] [--list N]

Each offender is listed with its seed; one of them again: --seeds SEED --routes NAME. With --log
every solve is kept in a file of JSON lines as soon as its case is done, and what is there already
is not solved again: an interrupted run goes on, and slices add up.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.generated_problems import generated
from tests.generated_routes import ROUTES, Attempt, above_others, attempts

CASES = 400
SUCCESS = 0.95  # the least share of the solves
TINY_ROUTES = ("exact lifted", "newton")
Results = list[list[Attempt]]  # a list for each case
Task = tuple[int, list[str]]  # a seed and its routes


def results(seeds: range, routes: list[str], processes: int, log: Path | None) -> Results:
    """Every case on its routes; a line of progress for each on standard error."""
    kept = recorded(log)
    tasks = [(seed, [r for r in routes if (seed, r) not in kept]) for seed in seeds]
    found = []
    for (seed, _), new in zip(tasks, _mapped(tasks, processes), strict=True):
        record(log, new)
        kept.update({(a.seed, a.route): a for a in new})
        found.append([kept[seed, r] for r in routes if (seed, r) in kept])
        _progress(found[-1], len(found), len(tasks))
    return found


def recorded(log: Path | None) -> dict[tuple[int, str], Attempt]:
    """What a log holds, the last of each seed and route."""
    if log is None or not log.exists():
        return {}
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    every = [Attempt(**{**line, "failed": tuple(line["failed"])}) for line in lines]
    return {(a.seed, a.route): a for a in every}


def record(log: Path | None, made: list[Attempt]) -> None:
    """Add solves to a log, a line for each."""
    if log is None or not made:
        return
    with log.open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(asdict(a)) + "\n" for a in made)


def _mapped(tasks: list[Task], processes: int) -> Iterator[list[Attempt]]:
    if processes == 1:
        yield from map(one_case, tasks)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(one_case, tasks)


def one_case(task: Task) -> list[Attempt]:
    """One seed on its routes."""
    torch.set_num_threads(1)
    seed, routes = task
    return attempts(generated(seed), routes) if routes else []


def _progress(made: list[Attempt], k: int, of: int) -> None:
    """One line for a case, with the routes that broke a rule."""
    if not made:
        return
    kinds = {
        "unproved": [a for a in made if a.unproved],
        "above": above_others(made),
        "no success": [a for a in made if not a.success],
    }
    told = [
        f"{kind}: {', '.join(a.route for a in group)}" for kind, group in kinds.items() if group
    ]
    seconds = sum(a.seconds for a in made)
    about = f"{k}/{of} {made[0].name} (seed {made[0].seed}, {made[0].setting}), {seconds:.1f} s"
    print("; ".join([about, *(told or ["sound"])]), file=sys.stderr, flush=True)


def table(found: Results, key: Callable[[Attempt], str], title: str) -> None:
    """One line for each value of ``key``."""
    groups: dict[str, list[Attempt]] = defaultdict(list)
    above = {id(a) for made in found for a in above_others(made)}
    for made in found:
        for a in made:
            groups[key(a)].append(a)
            groups["all"].append(a)
    groups["all"] = groups.pop("all", [])
    print(f"\n{title:>24} {'solves':>7} {'success':>8} {'unproved':>9} {'above':>6} {'mean s':>7}")
    for name, group in groups.items():
        n = len(group)
        success, unproved = sum(a.success for a in group), sum(a.unproved for a in group)
        over = sum(id(a) in above for a in group)
        seconds = sum(a.seconds for a in group) / max(n, 1)
        print(f"{name:>24} {n:7d} {success:8d} {unproved:9d} {over:6d} {seconds:7.2f}")


def offenders(found: Results, most: int) -> None:
    """Those that break a rule, then the failed solves, each kind with at most ``most`` lines."""
    every = [a for made in found for a in made]
    kinds = {
        "success with a failed certificate": [a for a in every if a.unproved],
        "above the best other route, uncertified": [
            a for made in found for a in above_others(made)
        ],
        "below the known minimum": [a for a in every if a.below],
        "no success": [a for a in every if not a.success],
    }
    for kind, group in kinds.items():
        print(f"\n{kind}: {len(group)}")
        for a in group[:most]:
            print(
                f"  {a}\n    python benchmarks/17_success.py --seeds {a.seed} --routes '{a.route}'"
            )
        if len(group) > most:
            print(f"  and {len(group) - most} more; --list {len(group)} shows all")


def missed(found: Results) -> list[str]:
    """Which of the limits are missed, in words."""
    every = [a for made in found for a in made]
    unproved, above = sum(a.unproved for a in every), sum(len(above_others(m)) for m in found)
    share = sum(a.success for a in every) / max(len(every), 1)
    said = {
        f"{unproved} successes with a failed certificate, asked: 0": unproved > 0,
        f"{share:.1%} end with success, asked: at least {SUCCESS:.0%}": share < SUCCESS,
        f"{above} values above the best other route's without a certificate, asked: 0": above > 0,
    }
    return [words for words, wrong in said.items() if wrong]


def seeds_of(text: str) -> range:
    """A:B or A:B:STEP (B excluded), or one seed."""
    numbers = [int(part) for part in text.split(":")]
    return range(*numbers) if len(numbers) > 1 else range(numbers[0], numbers[0] + 1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="few cases, to see that it runs")
    parser.add_argument(
        "--seeds", type=seeds_of, default=range(CASES), help="A:B[:STEP], or one seed"
    )
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--routes", help=f"some of: {', '.join(ROUTES)}")
    parser.add_argument("--log", type=Path, help="JSON lines: what is there is not solved again")
    parser.add_argument("--list", type=int, default=20, help="offenders shown of each kind")
    given = parser.parse_args()
    seeds, routes = given.seeds, given.routes.split(",") if given.routes else list(ROUTES)
    if given.tiny:
        seeds, routes = range(3), list(TINY_ROUTES)
    if unknown := set(routes) - set(ROUTES):
        parser.error(f"--routes: got {sorted(unknown)}; allowed: {', '.join(ROUTES)}")
    found = results(seeds, routes, given.processes, given.log)
    table(found, lambda a: a.name, "family")
    table(found, lambda a: a.route, "route")
    table(found, lambda a: "natural units" if a.natural else "drawn units", "units")
    offenders(found, given.list)
    failed = missed(found)
    print("\nmissed: " + "; ".join(failed) if failed else "\nall limits kept")
    return 0 if given.tiny else bool(failed)


if __name__ == "__main__":
    sys.exit(main())
