"""The arguments of every command. Options of the backends stand here once, as keywords of solve."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import dnlcontrol
from dnlcontrol.solving.request import OWNER

BAD_INPUT = 2
Run = Callable[[argparse.Namespace], int]

# each a field of dnl.Exact or dnl.Adjoint; one that is not given keeps the field's default
OPTIONS: dict[str, dict[str, Any]] = {
    "formulation": {"help": "auto, lifted or condensed (exact); auto takes the cheaper one"},
    "force": {"action": "store_true", "help": "build what the forecast calls too large (exact)"},
    "method": {"help": "newton, gauss-newton, lbfgs, adam, sgd, msa or emsa (adjoint)"},
    "device": {"help": "cpu, cuda or cuda:k (adjoint)"},
    "dtype": {"help": "float64 or float32 (adjoint)"},
    "chunk": {"type": int, "metavar": "N", "help": "samples that a sweep takes at once (adjoint)"},
    "checkpoint": {"metavar": "DIR", "help": "keep the state there; go on from it after a kill"},
    "every": {"type": float, "metavar": "SECONDS", "help": "least time between checkpoints"},
    "restart": {
        "action": "store_true",
        "help": "begin anew: do not go on from the checkpoint, or the study in --out",
    },
}


class Parser(argparse.ArgumentParser):
    """Errors of usage are bad input: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        print(f"dnlcontrol: {message}; see dnlcontrol --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def parser(commands: dict[str, Run]) -> argparse.ArgumentParser:
    """The parser of the command line; ``commands`` are the functions that run them."""
    top = Parser(
        prog="dnlcontrol", description="Training as optimal control of Volterra equations."
    )
    top.add_argument("--version", action="version", version=f"dnlcontrol {dnlcontrol.__version__}")
    subs = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (text, add) in ARGUMENTS.items():
        sub = subs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=commands[name])
        add(sub)
    return top


def shorthand(given: argparse.Namespace) -> dict[str, Any]:
    """The options of the backends that were given, as keywords of solve and study."""
    return {name: value for name, value in vars(given).items() if name in OWNER}


def _problem(sub: argparse.ArgumentParser) -> None:
    text = "a .py file with problem(), or a name from `dnlcontrol problems`"
    sub.add_argument("problem", metavar="PROBLEM", help=text)
    text = "a parameter of problem()"
    sub.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help=text)
    sub.add_argument("--rule", default="left", help="left or trapezoid")
    _json(sub)


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _options(sub: argparse.ArgumentParser, *without: str) -> None:
    """Backend options: those that are not given are absent, so that their defaults stand once."""
    for name, how in OPTIONS.items():
        if name not in without:
            sub.add_argument(f"--{name}", default=argparse.SUPPRESS, **how)
    sub.add_argument("--tolerance", type=float, default=1e-8)
    sub.add_argument("--max-iterations", type=int)
    text = "stop after about so many seconds (a study: at each level), with the best iterate"
    sub.add_argument("--max-seconds", type=float, metavar="SECONDS", help=text)
    sub.add_argument("--out", metavar="DIR", help="save the run there")


def _solve(sub: argparse.ArgumentParser) -> None:
    _problem(sub)
    sub.add_argument("--depth", type=int, required=True, metavar="L")
    sub.add_argument(
        "--backend", default="exact", help="exact (CasADi), adjoint (PyTorch), or auto"
    )
    sub.add_argument("--start", metavar="RUN", help="a run directory to start from")
    _options(sub)


def _study(sub: argparse.ArgumentParser) -> None:
    _problem(sub)
    sub.add_argument("--depths", required=True, metavar="4,8,16")
    text = "the backend of every level: adjoint (PyTorch), exact (CasADi), or auto"
    sub.add_argument("--backend", default="adjoint", help=text)
    text = "exponents of 1/L to extrapolate the values with"
    sub.add_argument("--orders", metavar="0.5,1", help=text)
    text = "run the exact backend too up to this depth"
    sub.add_argument("--exact-to", type=int, default=0, metavar="L", help=text)
    _options(sub, "checkpoint", "formulation", "force")


def _check(sub: argparse.ArgumentParser) -> None:
    _problem(sub)
    sub.add_argument("--depth", type=int, required=True, metavar="L")


def _compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", nargs=2, metavar="RUN")
    _json(sub)


def _certify(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("run_directory", metavar="RUN")
    text = "the problem file to run: one that changed since, or lies in the run, runs only if named"
    sub.add_argument("--problem", metavar="FILE", help=text)
    text = "what is certified, whatever the run was solved to"
    sub.add_argument("--tolerance", type=float, default=1e-8, help=text)
    _json(sub)


def _nothing(sub: argparse.ArgumentParser) -> None:
    """No arguments."""


ARGUMENTS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "solve": ("solve one problem at one depth", _solve),
    "study": ("solve at increasing depths and compare", _study),
    "check": ("shapes, bounds, Taylor test, predicted size; no solve", _check),
    "compare": ("distances between two saved solutions", _compare),
    "certify": ("check a saved solution against the definition of a minimiser", _certify),
    "problems": ("list the problems that come with the library", _nothing),
}
