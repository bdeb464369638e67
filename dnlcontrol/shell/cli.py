"""The command line: solve, study, check, compare, certify, problems.

Exit status 0 when solved, 1 when not converged, 2 for bad input, 128 + n when signal n (Ctrl-C,
SIGTERM, SIGHUP) ended it. ``--json`` prints exactly one JSON
object on standard output; progress goes to standard error, only on a terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dnlcontrol
from dnlcontrol.checks import ConvergenceWarning, InputError, reject
from dnlcontrol.files.atomic import make_directory, write_atomic
from dnlcontrol.files.locks import held_or_none
from dnlcontrol.problem.from_file import ProblemFile, listed, load_problem, parse_parameters
from dnlcontrol.results.records import json_bytes, plain
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import save_solution, solution_directory
from dnlcontrol.shell.arguments import BAD_INPUT, Run, parser, shorthand
from dnlcontrol.shell.progress import ProgressLine
from dnlcontrol.shell.signals import answered
from dnlcontrol.studies.load import opened, read_run
from dnlcontrol.studies.result import Study, describe

SOLVED = 0
NOT_CONVERGED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return answered(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    given = parser(COMMANDS).parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the status and message say it
            given.stdout = sys.stdout
            with contextlib.redirect_stdout(sys.stderr):  # what a problem file prints is no result
                return int(given.run(given))
    except (InputError, ImportError, OSError) as error:
        print(f"dnlcontrol: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except MemoryError:
        text = "dnlcontrol: the memory ran out; take a smaller depth or fewer samples"
        print(text, file=sys.stderr)
        return BAD_INPUT


# -- commands ------------------------------------------------------------------------------------
def run_solve(given: argparse.Namespace) -> int:
    file = _problem(given)
    start = None if given.start is None else _solution(given.start)
    with held_or_none(given.out):
        solution = _solved(given, file, start)
        if given.out:
            save_solution(solution, given.out, file.source)
    _print(given, describe(solution), [repr(solution), f"message: {solution.message}"])
    return SOLVED if solution.success else NOT_CONVERGED


def _solved(given: argparse.Namespace, file: ProblemFile, start: Solution | None) -> Solution:
    with _progress(given.tolerance) as line:
        # only the adjoint backend tells its iterates
        follow = {"progress": line} if line and given.backend == "adjoint" else {}
        return dnlcontrol.solve(
            file.problem(),
            given.depth,
            given.backend,
            rule=given.rule,
            start=start,
            tolerance=given.tolerance,
            max_iterations=given.max_iterations,
            max_seconds=given.max_seconds,
            **shorthand(given),
            **follow,
        )


def run_study(given: argparse.Namespace) -> int:
    file = _problem(given)
    try:
        depths = [int(d) for d in given.depths.split(",")]
    except ValueError:
        reject("--depths", given.depths, "increasing integers separated by commas, such as 4,8,16")
    with held_or_none(given.out) as folder:
        result = _studied(given, file, depths)
        if folder:
            pictures = _pictures(result, folder)
            write_atomic(folder / "summary.json", json_bytes(result.summary()))
    lines = [
        _table(result.rows),
        f"extrapolated value {result.extrapolated_value:.12g}",
        "rates " + ", ".join(f"{k} {v:.2f}" for k, v in result.rates.items() if v == v),
        *result.statements,
    ]
    if given.out:
        kept = "table, solutions and pictures" if pictures else "table and solutions"
        lines.append(f"{kept} in {given.out}")
    _print(given, result.summary(), lines)
    return SOLVED if result.success else NOT_CONVERGED


def _studied(given: argparse.Namespace, file: ProblemFile, depths: list[int]) -> Study:
    with _progress(given.tolerance) as line:
        return dnlcontrol.study(
            file.problem(),
            depths,
            given.exact_to,
            backend=given.backend,
            orders=_orders(given.orders),
            directory=given.out,
            reference=file.reference(),
            rule=given.rule,
            tolerance=given.tolerance,
            max_iterations=given.max_iterations,
            max_seconds=given.max_seconds,
            source=file.source,
            progress=line and line.say,
            follow=line,
            **shorthand(given),
        )


def run_check(given: argparse.Namespace) -> int:
    from dnlcontrol.shell.check_report import check_report

    report = check_report(_problem(given).problem(), given.depth, given.rule)
    lines = [f"{key}: {value}" for key, value in report.items()]
    _print(given, report, lines)
    return SOLVED if report["passed"] else NOT_CONVERGED


def run_compare(given: argparse.Namespace) -> int:
    from dnlcontrol.studies.rates import DISTANCES

    a, b = (_solution(run) for run in given.runs)
    report: dict[str, Any] = {
        "runs": given.runs,
        "depths": [a.depth, b.depth],
        "values": [a.value, b.value],
        "value_difference": b.value - a.value,
    }
    report.update({name: dnlcontrol.distance(a, b, *how) for name, how in DISTANCES.items()})
    _print(given, report, [f"{key}: {value}" for key, value in report.items()])
    return SOLVED


def run_certify(given: argparse.Namespace) -> int:
    found, doubt = opened(given.run_directory, given.problem)
    solution = _of_finest(found)
    if solution.problem is None:
        seen = doubt or f"{given.run_directory}, a solution without its problem file"
        raise InputError(seen if doubt else f"run: got {seen}; allowed: --problem FILE")
    if doubt:
        print(f"dnlcontrol: {doubt}", file=sys.stderr)
    certificate = dnlcontrol.certify(solution, given.tolerance, seed=0)
    _print(given, certificate.to_dict(), [certificate.table()])
    return SOLVED if certificate.passed else NOT_CONVERGED


def run_problems(given: argparse.Namespace) -> int:
    entries = listed()
    width = max((len(name) for name, _ in entries), default=0)
    for name, line in entries:
        print(f"{name:{width}}  {line}", file=given.stdout)
    return SOLVED


COMMANDS: dict[str, Run] = {
    "solve": run_solve,
    "study": run_study,
    "check": run_check,
    "compare": run_compare,
    "certify": run_certify,
    "problems": run_problems,
}


# -- helpers -------------------------------------------------------------------------------------
def _problem(given: argparse.Namespace) -> ProblemFile:
    file = load_problem(given.problem, parse_parameters(given.p))
    if getattr(given, "out", None):
        solution_directory(given.out) if given.command == "solve" else make_directory(given.out)
    return file


def _pictures(result: Study, folder: Path) -> bool:
    """Draw them where matplotlib is installed; else say in one line that there are none."""
    if importlib.util.find_spec("matplotlib") is None:
        why = "no pictures: matplotlib is not installed (pip install 'dnlcontrol[study]')"
        print(f"dnlcontrol: {why}", file=sys.stderr)
        return False
    return bool(result.plots(folder))


def _orders(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(p) for p in text.split(",")]
    except ValueError:
        reject("--orders", text, "increasing exponents separated by commas, such as 0.5,1")


def _solution(run: str) -> Solution:
    """The solution of a run directory, of which no problem file runs."""
    return _of_finest(read_run(run))


def _of_finest(found: Solution | Study) -> Solution:
    """The solution; of a study that of its finest level."""
    return found if isinstance(found, Solution) else found.levels[-1].solution


@contextlib.contextmanager
def _progress(tolerance: float) -> Iterator[ProgressLine | None]:
    """A progress line on standard error if that is a terminal."""
    line = ProgressLine(sys.stderr, tolerance) if sys.stderr.isatty() else None
    try:
        yield line
    finally:
        if line:
            line.end()


def _print(given: argparse.Namespace, report: dict[str, Any], lines: list[str]) -> None:
    text = json.dumps(plain(report), allow_nan=False) if given.json else "\n".join(lines)
    print(text, file=given.stdout)


def _table(rows: list[dict[str, Any]]) -> str:
    """The columns that a reader wants first, aligned."""
    columns = {
        "depth": "L",
        "value": "J_L",
        "stationarity": "stationarity",
        "nit": "iterations",
        "nhev": "H products",
        "controls_L2_step": "controls L2 step",
        "states_sup_step": "states sup step",
        "value_gap": "|exact - adjoint|",
        "controls_L2_gap": "controls gap",
        "seconds": "seconds",
    }

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return (
                "-" if value != value else f"{value:.10g}" if abs(value) >= 1e-2 else f"{value:.1e}"
            )
        return str(value)

    body = [[cell(round(row[k], 2) if k == "seconds" else row[k]) for k in columns] for row in rows]
    table = [list(columns.values()), *body]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    return "\n".join(
        "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)) for line in table
    )
