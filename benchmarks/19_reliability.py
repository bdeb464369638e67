"""Is anything lost or silent? Every generator of bad input, damage and kills, in one table.

    calls           one wrong or odd argument of a public function
    command lines   wrong options, files and folders
    files           solutions and studies damaged, their checksums mended
    kills           a run killed at a random moment and resumed
    edits           a problem edited between kill and resume
    problems        random problems on three evaluators
    plants          a wrong solution given to the certificate, of both backends

Each is a module of tests/, and its trial (see trials.py) None or a line that says what went wrong.
A line with the word Traceback is counted as a traceback, one that begins with the name of an
exception as a foreign exception, any other as a stale or wrong result. The exit status is 1 where
there is one, or where a generator is missing.

    python benchmarks/19_reliability.py [--tiny] [--seed FIRST] [--processes K] [--list N]
                                        [--only KIND,KIND] [--calls N] ... [--plants N]
                                        [--write docs/reliability.md]

One trial again: --only KIND --seed SEED --KIND 1.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import trials

HERE = Path(__file__).resolve().parent
MARKS = ("<!-- begin: table of benchmarks/19 -->", "<!-- end: table of benchmarks/19 -->")
NAMED = re.compile(r"^(\w+\.)*\w*(Error|Exception|Exit|Interrupt|Warning)\b")
COLUMNS = ("foreign exceptions", "tracebacks", "stale or wrong")


@dataclass(frozen=True)
class Kind:
    """A generator: its module in tests/, how many trials a night asks of it, and a tiny run."""

    module: str
    count: int
    tiny: int
    otherwise: Callable[[ModuleType], trials.Trial] | None = (
        None  # where the module has no ``trial``
    )

    @property
    def here(self) -> bool:
        return (HERE.parent / "tests" / f"{self.module.replace('.', '/')}.py").is_file()

    def trial(self) -> trials.Trial:
        module = import_module(f"tests.{self.module}")
        if self.otherwise is not None and not hasattr(module, "trial"):
            return self.otherwise(module)
        found: trials.Trial = module.trial
        return found


KINDS = {
    "calls": Kind("generated_calls", 5000, 20, trials.calls),
    "command lines": Kind("generated_command_lines", 500, 4, trials.command_lines),
    "files": Kind("results.test_generated_damage", 2000, 6, trials.files),
    "kills": Kind("generated_kills", 100, 1, trials.kills),
    "edits": Kind("generated_edits", 100, 1, trials.edits),
    "problems": Kind("generated_evaluations", 10_000, 5),
    "plants": Kind("generated_plants", 332, 2, trials.plants),  # 83 kinds, both backends and rules
}


@dataclass
class Row:
    """What a kind's trials came to; ``lines`` are seeds and what they said."""

    kind: str
    count: int
    seconds: float = 0.0
    lines: list[tuple[int, str]] = field(default_factory=list)

    def numbers(self) -> list[int]:
        """How many lines belong to each of ``COLUMNS``."""
        kept = [column_of(said) for _, said in self.lines]
        return [kept.count(column) for column in COLUMNS]


def column_of(said: str) -> str:
    """Which of ``COLUMNS`` a line belongs to."""
    if "traceback" in said.lower():
        return COLUMNS[1]
    return COLUMNS[0] if NAMED.match(said) else COLUMNS[2]


@cache
def trial_of(kind: str) -> trials.Trial:
    return KINDS[kind].trial()


def tried(kind: str, seed: int) -> tuple[int, str | None]:
    """One trial; what it raises itself is a line, too."""
    torch.set_num_threads(1)
    try:
        return seed, trial_of(kind)(seed)
    except Exception as error:
        return seed, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def row(kind: str, seeds: range, processes: int) -> Row:
    """Every trial of a kind."""
    made, start = Row(kind, len(seeds)), time.perf_counter()
    made.lines = [(seed, said) for seed, said in _mapped(kind, seeds, processes) if said]
    made.seconds = time.perf_counter() - start
    return made


def _mapped(kind: str, seeds: range, processes: int) -> Iterator[tuple[int, str | None]]:
    if processes == 1:
        yield from (tried(kind, seed) for seed in seeds)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(partial(tried, kind), seeds, chunksize=4)


def table(rows: list[Row], missing: list[str]) -> list[str]:
    """The rows in Markdown."""
    lines = [f"| kind | count | {' | '.join(COLUMNS)} | seconds |", "|---|--:|--:|--:|--:|--:|"]
    for r in rows:
        numbers = " | ".join(map(str, r.numbers()))
        lines.append(f"| {r.kind} | {r.count:,} | {numbers} | {r.seconds:.0f} |")
    return [*lines, *(f"| {kind}: no generator | 0 | | | | |" for kind in missing)]


def write(page: Path, lines: list[str], arguments: list[str]) -> None:
    """Put the table between the marks of a page, below the command that made it."""
    text = page.read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        sys.exit(f"--write: got {page}; allowed: a page with the lines {MARKS[0]} and {MARKS[1]}")
    before, rest = text.split(MARKS[0])
    command = " ".join(["python benchmarks/19_reliability.py", *arguments])
    body = "\n".join([f"Made by `{command}`:", "", *lines])
    page.write_text(f"{before}{MARKS[0]}\n{body}\n{MARKS[1]}{rest.split(MARKS[1])[1]}", "utf-8")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="a few trials, to see that it runs")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of every kind")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--list", type=int, default=20, help="failures shown of each kind")
    parser.add_argument("--only", help=f"some of: {', '.join(KINDS)}")
    parser.add_argument("--write", type=Path, help="a page whose table is replaced")
    for name, kind in KINDS.items():
        parser.add_argument(f"--{name.replace(' ', '-')}", type=int, help=f"default {kind.count}")
    return parser


def main() -> int:
    parser = arguments()
    given = parser.parse_args()
    kinds = given.only.split(",") if given.only else list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--only: got {sorted(unknown)}; allowed: {', '.join(KINDS)}")
    rows, missing = [], [kind for kind in kinds if not KINDS[kind].here]
    for kind in (kind for kind in kinds if kind not in missing):
        asked = getattr(given, kind.replace(" ", "_"))
        usual = KINDS[kind].tiny if given.tiny else KINDS[kind].count
        count = usual if asked is None else asked
        made = row(kind, range(given.seed, given.seed + count), given.processes)
        rows.append(made)
        print(f"{kind}: {count} trials, {len(made.lines)} failed", file=sys.stderr, flush=True)
        for seed, said in made.lines[: given.list]:
            print(f"  seed {seed}: {said}", file=sys.stderr, flush=True)
    lines = table(rows, missing)
    print("\n".join(lines))
    if given.write:
        write(given.write, lines, sys.argv[1:])
    return int(bool(missing or any(r.lines for r in rows)))


if __name__ == "__main__":
    sys.exit(main())
