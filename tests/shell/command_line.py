"""What a command printed, and the problems and keys that the tests of the command line share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

PROBLEMS = Path(__file__).parents[2] / "problems"
SOLVE_KEYS = {
    "problem",
    "backend",
    "rule",
    "depth",
    "value",
    "stationarity",
    "success",
    "status",
    "message",
    "iterations",
    "evaluations",
    "seconds",
    "peak_memory_mb",
    "samples",
    "controls",
}
STUDY_KEYS = {"problem", "levels", "rates", "extrapolated_value"}
TOY = ["two_class_toy", "-p", "samples=8"]
MINE = """
import numpy as np
import dnlcontrol as dnl

def problem(target=1.0):
    return dnl.ControlProblem(
        name="mine", x0=np.ones(1), dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control(())},
        terminal=lambda x, c: (x - target) ** 2, regularisers=[dnl.L2("u", 1.0)])
"""


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The only line on standard output, as strict JSON."""
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} in JSON")


def problem_file(folder: Path, text: str = MINE) -> Path:
    (folder / "mine.py").write_text(text)
    return folder / "mine.py"


def assert_bad_input(ran: Ran, told: str) -> None:
    assert ran.status == 2
    assert ran.out == ""
    assert (
        ran.err.startswith("dnlcontrol: ") and ran.err.endswith("\n") and ran.err.count("\n") == 1
    ), ran.err
    assert told in ran.err
