"""The command line: solve, study, check, compare, certify, problems.

Exit status 0 when solved, 1 when not converged, 2 for bad input. ``--json`` prints exactly one JSON
object on standard output; progress goes to standard error, only on a terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import dnlcontrol
from dnlcontrol.checks import ConvergenceWarning, InputError, reject
from dnlcontrol.files.atomic import make_directory
from dnlcontrol.problem.from_file import ProblemFile, listed, load_problem, parse_parameters
from dnlcontrol.results.records import plain
from dnlcontrol.results.solution_files import solution_directory
from dnlcontrol.shell.progress import ProgressLine
from dnlcontrol.studies.load import load

SOLVED = 0
NOT_CONVERGED = 1
BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """Errors of usage are bad input: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        print(f"dnlcontrol: {message}; see dnlcontrol --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="dnlcontrol", description="Training as optimal control of Volterra equations."
    )
    top.add_argument("--version", action="version", version=f"dnlcontrol {dnlcontrol.__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )

    def command(
        name: str, text: str, run: Callable[[argparse.Namespace], int], problem: bool = False
    ) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if problem:
            sub.add_argument(
                "problem",
                metavar="PROBLEM",
                help="a .py file with problem(), or a name from `dnlcontrol problems`",
            )
            sub.add_argument(
                "-p",
                action="append",
                default=[],
                metavar="NAME=VALUE",
                help="a parameter of problem()",
            )
            sub.add_argument("--rule", default="left", help="left or trapezoid")
            sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    one = command("solve", "solve one problem at one depth", run_solve, problem=True)
    one.add_argument("--depth", type=int, required=True, metavar="L")
    one.add_argument("--backend", default="exact", help="exact (CasADi) or adjoint (PyTorch)")
    one.add_argument(
        "--formulation",
        default="auto",
        help="auto, lifted or condensed (exact backend); auto takes the cheaper one",
    )
    one.add_argument("--start", metavar="RUN", help="a run directory to start from")
    one.add_argument(
        "--checkpoint",
        metavar="DIR",
        help="keep the state there; go on from it after a kill (adjoint)",
    )
    ladder = command("study", "solve at increasing depths and compare", run_study, problem=True)
    ladder.add_argument("--depths", required=True, metavar="4,8,16")
    ladder.add_argument(
        "--exact-to",
        type=int,
        default=0,
        metavar="L",
        help="run the exact backend too up to this depth",
    )
    for sub in (one, ladder):
        sub.add_argument("--device", default="cpu", help="cpu or cuda (adjoint backend)")
        sub.add_argument(
            "--method", default="newton", help="newton, gauss-newton, lbfgs, adam or sgd (adjoint)"
        )
        sub.add_argument(
            "--every",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="least time between checkpoints",
        )
        sub.add_argument("--tolerance", type=float, default=1e-8)
        sub.add_argument("--max-iterations", type=int)
        sub.add_argument("--out", metavar="DIR", help="save the run there")
    test = command(
        "check", "shapes, bounds, Taylor test, predicted size; no solve", run_check, problem=True
    )
    test.add_argument("--depth", type=int, required=True, metavar="L")
    two = command("compare", "distances between two saved solutions", run_compare)
    two.add_argument("runs", nargs=2, metavar="RUN")
    proof = command(
        "certify", "check a saved solution against the definition of a minimiser", run_certify
    )
    proof.add_argument("run_directory", metavar="RUN")
    for sub in (two, proof):
        sub.add_argument("--json", action="store_true", help="print one JSON object")
    command("problems", "list the problems that come with the library", run_problems)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the status and message say it
            given.stdout = sys.stdout
            with contextlib.redirect_stdout(sys.stderr):  # what a problem file prints is no result
                return int(given.run(given))
    except (InputError, ImportError, OSError) as error:
        print(f"dnlcontrol: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(
            "dnlcontrol: interrupted; --checkpoint and a study's --out keep what was done",
            file=sys.stderr,
        )
        return 130


# -- commands
# --------------------------------------------------------------------------------------------------
def run_solve(given: argparse.Namespace) -> int:
    file = _problem(given)
    start = None if given.start is None else _solution(given.start)
    with _progress(given.tolerance) as line:
        solution = dnlcontrol.solve(
            file.problem(),
            given.depth,
            given.backend,
            given.rule,
            start,
            given.device,
            given.tolerance,
            given.max_iterations,
            given.method,
            given.formulation,
            progress=line,
            checkpoint=given.checkpoint,
            every=given.every,
        )
    from dnlcontrol.results.solution_files import save_solution
    from dnlcontrol.studies.result import describe

    if given.out:
        save_solution(solution, given.out, file.source)
    _print(given, describe(solution), [repr(solution), f"message: {solution.message}"])
    return SOLVED if solution.success else NOT_CONVERGED


def run_study(given: argparse.Namespace) -> int:
    file = _problem(given)
    try:
        depths = [int(d) for d in given.depths.split(",")]
    except ValueError:
        reject("--depths", given.depths, "increasing integers separated by commas, such as 4,8,16")
    options = {} if given.max_iterations is None else {"max_iterations": given.max_iterations}
    with _progress(given.tolerance) as line:
        result = dnlcontrol.study(
            file.problem(),
            depths,
            given.exact_to,
            given.out,
            file.reference(),
            None,
            given.rule,
            given.tolerance,
            given.device,
            file.source,
            line and line.say,
            line,
            every=given.every,
            method=given.method,
            **options,
        )
    if given.out:
        result.plots(given.out)
        print_to = Path(given.out) / "summary.json"
        print_to.write_text(json.dumps(plain(result.summary()), indent=1) + "\n")
    lines = [
        _table(result.rows),
        f"extrapolated value {result.extrapolated_value:.12g}",
        "rates " + ", ".join(f"{k} {v:.2f}" for k, v in result.rates.items() if v == v),
        *result.statements,
    ]
    if given.out:
        lines.append(f"table, solutions and pictures in {given.out}")
    _print(given, result.summary(), lines)
    return SOLVED if result.success else NOT_CONVERGED


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
    certificate = dnlcontrol.certify(_solution(given.run_directory), seed=0)
    _print(given, certificate.to_dict(), [certificate.table()])
    return SOLVED if certificate.passed else NOT_CONVERGED


def run_problems(given: argparse.Namespace) -> int:
    entries = listed()
    width = max((len(name) for name, _ in entries), default=0)
    for name, line in entries:
        print(f"{name:{width}}  {line}", file=given.stdout)
    return SOLVED


# -- helpers
# --------------------------------------------------------------------------------------------------
def _problem(given: argparse.Namespace) -> ProblemFile:
    file = load_problem(given.problem, parse_parameters(given.p))
    if getattr(given, "out", None):
        solution_directory(given.out) if given.command == "solve" else make_directory(given.out)
    return file


def _solution(run: str) -> Any:
    """The solution of a run directory; of a study the finest adjoint one."""
    found = load(run)
    return found.levels[-1].adjoint if isinstance(found, dnlcontrol.Study) else found


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
