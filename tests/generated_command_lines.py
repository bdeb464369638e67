"""Command lines with drawn options, values and files, and what became of them.

    python -m tests.generated_command_lines 500 [SEED]

draws so many lines and prints those that broke the rules: the exit status is 0, 1 or 2; with 2
there is one line on standard error and nothing on standard output; no traceback; ``--json`` prints
exactly one JSON object, or nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import dnlcontrol as dnl
from dnlcontrol.shell.cli import main as command_line
from tests.bad_input import path, solve
from tests.generated_calls import TooLongError, within_bounds

SOUND = """
import numpy as np
import dnlcontrol as dnl

def problem(target=1.0, count=1):
    return dnl.ControlProblem(
        name="mine", x0=np.ones((count, 1)), dynamics=dnl.ODE(lambda t, x, u: RIGHT),
        controls={"u": dnl.Control((1,))}, TERMINAL,
        regularisers=[dnl.L2("u", 1.0)])
"""
TERMINAL = "terminal=lambda x, c: (x[0] - target) ** 2"


def _file(right: str = "u.u", terminal: str = TERMINAL, more: str = "") -> str:
    return SOUND.replace("RIGHT", right).replace("TERMINAL", terminal) + more


FILES: dict[str, str | bytes] = {
    "sound.py": _file(),
    "noisy.py": _file(more="print('a line\\nand another')"),
    "with_reference.py": _file(
        more="def reference(**p):\n    return dnl.Reference('exact', value=0.5, "
        "controls={'u': lambda t: np.zeros((*np.shape(t), 1))})"
    ),
    "not_a_number.py": _file("dnl.namespace(x).log(-x) + u.u"),
    "overflow.py": _file("dnl.namespace(x).exp(1000.0 * x) + u.u"),
    "not_a_number_at_the_end.py": _file(
        terminal="terminal=lambda x, c: dnl.namespace(x).log(-x[0])"
    ),
    "edge.py": _file(terminal="terminal=lambda x, c: dnl.namespace(x).sqrt(x[0] - 1.0)"),
    "constant.py": _file(terminal="terminal=lambda x, c: 1.0"),
    "boolean.py": _file(terminal="terminal=lambda x, c: x[0] > 0"),
    "text_cost.py": _file(terminal="terminal=lambda x, c: 'text'"),
    "no_cost.py": _file(terminal="terminal=None"),
    "fails_late.py": _file("u.u + (1.0 if x[0] > 0 else 0.0)"),
    "wrong_shape.py": _file("dnl.namespace(x).stack([x[0], x[0]])"),
    "unknown_name.py": _file("dnl.namespace(x).erf(x)"),
    "numpy_in_it.py": _file("np.tanh(x)"),
    "divides.py": _file("x / 0.0 + u.u"),
    "unread.py": _file("x"),
    "syntax.py": "def problem(:",
    "import.py": "import no_such_module",
    "exit.py": "import sys; sys.exit(0)",
    "exit_in_it.py": "def problem(): raise SystemExit(3)",
    "other.py": "def other(): ...",
    "returns.py": "def problem(): return 3",
    "returns_nothing.py": "def problem(): pass",
    "generator.py": "def problem(): yield 3",
    "coroutine.py": "async def problem(): return 3",
    "raises.py": "def problem(): raise RuntimeError('two\\nlines')",
    "raises_badly.py": "class E(Exception):\n    def __str__(self): raise KeyError('no')\n"
    "def problem(): raise E()",
    "base.py": "class E(BaseException): pass\ndef problem(): raise E('base')",
    "recursion.py": "def problem(): return problem()",
    "memory.py": "def problem(): raise MemoryError",
    "asks.py": "def problem(needed): return needed",
    "text.py": "problem = 'text'",
    "class.py": "class problem: pass",
    "empty.py": "",
    "binary.py": bytes(range(256)),
    "latin.py": "# \xe4\n".encode("latin-1"),
    "reference_raises.py": _file(more="def reference(**p): return 1 / 0"),
    "reference_returns.py": _file(more="def reference(**p): return 3"),
    "reference_bad_controls.py": _file(
        more="def reference(**p):\n    return dnl.Reference('x', controls={'u': lambda t: 1 / 0})"
    ),
    "reference_bad_shape.py": _file(
        more="def reference(**p):\n    return dnl.Reference('x', controls={'u': lambda t: [1, 2]})"
    ),
    "reference_of_text.py": _file(more="def reference(**p): return dnl.Reference('x', value='y')"),
    "reference_is_text.py": _file(more="reference = 'text'"),
}
PROBLEMS = (*FILES, "a_directory.py", "no_such.py", "no_such_problem", "", "a\0b", "n" * 5000, ".")
RUNS = ("run", "ladder", "cut", "no_arrays", "not_json", "empty", "file", "no_such", "", "a\0b")
DIRECTORIES = ("new", "new/below", "run", "ladder", "file", "file/below", "/proc/no/such", "", ".")
WHOLE = (
    "2",
    "3",
    "1",
    "0",
    "-1",
    "1.5",
    "abc",
    "",
    "nan",
    "1000000000",
    "9" * 40,
    " 2",
    "2,3",
    "[2]",
)
REAL = ("1e-8", "1e-3", "1", "0", "-1", "nan", "inf", "abc", "", "1e400", "1e-400", "1,5")
DEPTHS = ("1,2", "2", "2,4", "4,2", "2,2", "", ",", "2,", "a", "0,1", "2.5", "1000000000", "-1")
ORDERS = ("1", "0.5,1", "1,1", "", "a", "nan", "inf", "-1,1", "1," * 3)
PARAMETERS = (
    *("target=2.0", "count=2", "target", "=1", "target=", "target=nan", "target='x'", "other=1"),
    *(
        "count=0",
        "count=-1",
        "count=1e3",
        "target=[",
        "target=" + "[" * 3000,
        "a b=1",
        "target=None",
    ),
    *("target=" + "9" * 5000, "target=1e400", "count=2.5", "target=1+2j", "target=b'x'"),
)
OPTIONS: dict[str, tuple[str, ...]] = {
    "--depth": WHOLE,
    "--depths": DEPTHS,
    "--backend": ("exact", "adjoint", "auto", "both", ""),
    "--rule": ("left", "trapezoid", "simpson", ""),
    "--start": RUNS,
    "--out": DIRECTORIES,
    "--checkpoint": DIRECTORIES,
    "--orders": ORDERS,
    "--exact-to": WHOLE,
    "--formulation": ("auto", "lifted", "condensed", "dense"),
    "--method": ("newton", "gauss-newton", "lbfgs", "adam", "sgd", "msa", "emsa", "descent", ""),
    "--device": ("cpu", "cuda", "cuda:7", "tpu", ""),
    "--dtype": ("float64", "float32", "float16", ""),
    "--chunk": WHOLE,
    "--every": REAL,
    "--tolerance": REAL,
    "--max-iterations": WHOLE,
    "--max-seconds": REAL,
    "-p": PARAMETERS,
    "--fast": ("1",),
}
FLAGS = ("--force", "--json", "--help", "--version")
SHARED = ("--rule", "-p")
MINIMISE = ("--method", "--device", "--dtype", "--chunk", "--tolerance", "--max-iterations")
OWN: dict[str, tuple[str, ...]] = {
    "solve": (
        *(*SHARED, *MINIMISE, "--backend", "--start", "--out", "--checkpoint", "--formulation"),
        *("--every", "--max-seconds"),
    ),
    "study": (*SHARED, *MINIMISE, "--backend", "--out", "--orders", "--exact-to", "--every"),
    "check": SHARED,
    "compare": (),
    "certify": (),
    "problems": (),
    "dissolve": (),
    "": (),
}


def draw(rng: random.Random) -> tuple[str, ...]:
    """One command line: mostly the command's own options, mostly one value that may be wrong."""
    command = rng.choice([*OWN, "solve", "study", "check", "solve", "study"])
    line = [command] if command else []
    sound = rng.random() < 0.5
    if command in ("solve", "check", "study"):
        line.append("sound.py" if sound else rng.choice(PROBLEMS))
        size = "--depths" if command == "study" else "--depth"
        first = {"--depths": "1,2", "--depth": "2"}[size]
        line += [size, first if rng.random() < 0.7 else rng.choice(OPTIONS[size])]
    elif command in ("compare", "certify"):
        line += [rng.choice(RUNS) for _ in range(1 + (command == "compare"))]
    names = OWN[command] if rng.random() < 0.9 else tuple(OPTIONS)
    for name in rng.sample(names, min(len(names), rng.choice((0, 1, 1, 2)))):
        line += [name, rng.choice(OPTIONS[name])]
    if rng.random() < 0.5:
        line.append("--json" if rng.random() < 0.9 else rng.choice(FLAGS))
    if rng.random() < 0.03 and line:
        del line[rng.randrange(len(line))]
    return tuple(line)


KEPT = tempfile.TemporaryDirectory()


@cache
def _prepared() -> Path:
    """A folder with problem files and runs, sound and broken; it is copied for every line."""
    folder = Path(KEPT.name)
    for name, content in FILES.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)
    solution = solve(path())
    for name in ("run", "cut", "no_arrays", "not_json"):
        solution.save(folder / name)
    dnl.study(path(), [1, 2], directory=folder / "ladder")
    arrays = folder / "cut" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:100])
    (folder / "no_arrays" / "arrays.npz").unlink()
    (folder / "not_json" / "solution.json").write_text("{")
    for name in ("empty", "a_directory.py"):
        (folder / name).mkdir()
    return folder


@dataclass(frozen=True)
class Printed:
    status: int
    out: str
    err: str


def run(line: tuple[str, ...]) -> Printed:
    """The command in this process, in a folder of its own."""
    prepared = _prepared()
    out, err = io.StringIO(), io.StringIO()
    with within_bounds():
        shutil.copytree(prepared, ".", dirs_exist_ok=True)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = command_line(list(line))
            except SystemExit as stop:
                status = 0 if stop.code is None else int(stop.code)
    return Printed(status, out.getvalue(), err.getvalue())


def judged(line: tuple[str, ...]) -> tuple[int, str]:
    """The exit status, and which rule the command line broke; '' where none."""
    try:
        ran = run(line)
    except (Exception, TooLongError) as error:
        return -1, f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    said = next((said for said, holds in RULES.items() if not holds(line, ran)), "")
    return ran.status, said and f"{said}: status {ran.status}, {ran.err[:150]!r}"


def _one_line(line: tuple[str, ...], ran: Printed) -> bool:
    told = ran.err.startswith("dnlcontrol: ") and ran.err.endswith("\n") and len(ran.err) < 2000
    return ran.status != 2 or _silent(line) or (told and ran.err.count("\n") == 1)


def _silent(line: tuple[str, ...]) -> bool:
    """Whether the problem file prints lines of its own."""
    return "noisy.py" in line


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _json(line: tuple[str, ...], ran: Printed) -> bool:
    asked = "--json" in line and ran.status != 2 and not {"--help", "--version"} & set(line)
    if not asked:
        return True
    try:
        found = json.loads(ran.out, parse_constant=_refuse)
    except ValueError:
        return False
    return isinstance(found, dict) and ran.out.count("\n") == 1


RULES: dict[str, Callable[[tuple[str, ...], Printed], bool]] = {
    "a status other than 0, 1, 2": lambda line, ran: ran.status in (0, 1, 2),
    "a traceback": lambda line, ran: "Traceback" not in ran.out + ran.err,
    "bad input, and something on standard output": lambda line, ran: ran.status != 2 or not ran.out,
    "bad input, and not one line on standard error": _one_line,
    "--json, and not exactly one JSON object": _json,
}


def main(count: int, seed: int = 0) -> int:
    rng = random.Random(seed)
    tally: dict[int, int] = {}
    bad = 0
    for _ in range(count):
        line = draw(rng)
        status, said = judged(line)
        tally[status] = tally.get(status, 0) + 1
        if said:
            bad += 1
            print(f"{[word[:60] for word in line]}: {said}", flush=True)
    statuses = dict(sorted(tally.items()))
    print(f"{count} command lines, seed {seed}: exit status {statuses}, {bad} broken")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(*(int(a) for a in sys.argv[1:])))
