"""Calls of the public interface with one wrong or odd argument, and what became of them.

    python -m tests.generated_calls 5000 [SEED]

draws so many calls and prints those that leaked: a call works, or refuses in one line of InputError
that says what was got and what is allowed, in bounded time and memory. What the caller's own
function raises may pass.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import dnlcontrol as dnl
from tests.call_examples import METHODS_OF
from tests.public_calls import methods, public
from tests.used_results import USED
from tests.valid_arguments import VALID

SECONDS = 60.0  # of one call: the slowest, an ONNX file, takes five of a core of its own
MEMORY = 2 << 30  # bytes that a call may map beyond what the process holds
WORKED, REFUSED = "worked", "refused"


class OwnError(Exception):
    """What a caller's function raises."""


class OwnType:
    """A type whose making fails."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise OwnError("a type of the caller's own")


class TooLongError(BaseException):
    """The call took more than ``SECONDS``."""


def _raises(*_: Any, **__: Any) -> Any:
    raise OwnError("of the caller's own")


def _torch(**options: Any) -> Any:
    import torch

    return torch.ones(2, 1, dtype=torch.float64, **options)


def _frame() -> Any:
    import pandas as pd

    return pd.DataFrame({"a": [1.0, 2.0]})


def _series() -> Any:
    import pandas as pd

    return pd.Series([1.0, None], dtype=object)


def _unwritable() -> str:
    return "/proc/nothing/here"


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "NaN": lambda: np.nan,
    "inf": lambda: np.inf,
    "-inf": lambda: -np.inf,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "1.5": lambda: 1.5,
    "1e308": lambda: 1e308,
    "10^9": lambda: 10**9,
    "10^30": lambda: 10**30,
    "-10^400": lambda: -(10**400),
    "True": lambda: True,
    "False": lambda: False,
    "NumPy True": lambda: np.True_,
    "complex": lambda: 1 + 2j,
    "text": lambda: "text",
    "empty text": lambda: "",
    "text with NUL": lambda: "a\0b",
    "bytes": lambda: b"bytes",
    "()": tuple,
    "[]": list,
    "{}": dict,
    "set": lambda: {1, 2},
    "ragged": lambda: [[1.0], [1.0, 2.0]],
    "list of text": lambda: ["a", "b"],
    "list of None": lambda: [None],
    "deep list": lambda: [[[[[1.0]]]]],
    "recursive list": lambda: (made := [], made.append(made))[0],
    "mapping of a number": lambda: {"u": 1.0},
    "mapping of text": lambda: {"u": "text"},
    "mapping by numbers": lambda: {1: 2},
    "generator": lambda: (i for i in range(2)),
    "endless": lambda: iter(int, 1),
    "range": lambda: range(3),
    "slice": lambda: slice(None),
    "Ellipsis": lambda: ...,
    "object": object,
    "type": lambda: OwnType,
    "module": lambda: os,
    "exception": lambda: OwnError("a value"),
    "array of NaN": lambda: np.full((2, 1), np.nan),
    "empty array": lambda: np.zeros((0, 1)),
    "object array": lambda: np.array([object(), None], dtype=object),
    "numbers as objects": lambda: np.array([1.0, 2.0], dtype=object),
    "text array": lambda: np.array(["a", "b"]),
    "complex array": lambda: np.ones((2, 1), dtype=complex),
    "boolean array": lambda: np.array([True, False]),
    "dates": lambda: np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
    "record array": lambda: np.zeros(2, dtype=[("a", float)]),
    "0-d array": lambda: np.array(1.0),
    "huge view": lambda: np.broadcast_to(1.0, (10**6, 10**6)),
    "rank 5": lambda: np.ones((1, 1, 1, 1, 1)),
    "masked": lambda: np.ma.array([[1.0], [2.0]], mask=[[False], [True]]),
    "masked number": lambda: np.ma.masked,
    "tensor": _torch,
    "tensor with a gradient": lambda: _torch(requires_grad=True),
    "meta tensor": lambda: _torch(device="meta"),
    "DataFrame": _frame,
    "Series": _series,
    "no arguments": lambda: lambda: 1.0,
    "nine arguments": lambda: lambda a, b, c, d, e, f, g, h, i: 1.0,
    "raises": lambda: _raises,
    "returns None": lambda: lambda *_, **__: None,
    "returns text": lambda: lambda *_, **__: "text",
    "returns NaN": lambda: lambda *_, **__: np.nan,
    "returns rank 4": lambda: lambda *_, **__: np.ones((2, 2, 2, 2)),
    "returns a ragged list": lambda: lambda *_, **__: [[1.0], [1.0, 2.0]],
    "returns True": lambda: lambda *_, **__: True,
    "returns a mapping": lambda: lambda *_, **__: {"u": "text"},
    "a directory": lambda: Path("."),
    "a file": lambda: "file",
    "below a file": lambda: "file/below",
    "unwritable": _unwritable,
    "a name too long": lambda: "n" * 5000,
    "a Control": lambda: dnl.Control(()),
    "a loss": lambda: dnl.losses.squared([[1.0]]),
    "a problem": lambda: METHODS_OF["ControlProblem"](),
    "a solution": lambda: METHODS_OF["Solution"](),
    "a list of a solution and None": lambda: [METHODS_OF["Solution"](), None],
}


# -1 starts one process a core, which takes seconds
EXCLUDED = {("multistart", "workers", "-1")}


@dataclass(frozen=True)
class Call:
    """A public callable, one of its parameters, and the wrong value there."""

    name: str
    parameter: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.name}({self.parameter}={self.wrong})"

    def __call__(self) -> Any:
        fn = callables()[self.name]()
        made = called(fn, {**VALID[self.name](), self.parameter: WRONG[self.wrong]()})
        return USED.get(self.name, _nothing)(made)


def called(fn: Callable[..., Any], given: dict[str, Any]) -> Any:
    """By keywords, and by position where there are any number of positions."""
    if any(p.kind is p.VAR_POSITIONAL for p in _signature(fn)):
        return fn(*given.values())
    return fn(**given)


def _nothing(made: Any) -> Any:
    return made


@cache
def callables() -> dict[str, Callable[[], Callable[..., Any]]]:
    made = {name: (lambda fn=fn: fn) for name, fn in public().items()}
    return {**made, **methods()}


@cache
def parameters() -> tuple[tuple[str, str], ...]:
    """Every callable with every parameter that its example gives."""
    return tuple((name, key) for name in callables() for key in VALID[name]())


def without_example() -> list[str]:
    return [name for name in callables() if name not in VALID]


def not_covered() -> list[str]:
    """Parameters of public callables that their examples do not give."""
    missing = []
    for name, make in callables().items():
        for p in _signature(make()):
            if p.kind is not p.VAR_KEYWORD and p.name not in VALID[name]():
                missing.append(f"{name}.{p.name}")
    return missing


def _signature(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except ValueError:  # exceptions
        return []


@contextlib.contextmanager
def within_bounds() -> Iterator[None]:
    """At most so many seconds and so much more memory; in a folder of its own, silent."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    alarm = threading.current_thread() is threading.main_thread()

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("file").write_text("a file")
        earlier = signal.signal(signal.SIGALRM, stop) if alarm else None
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, before[1]))
        try:
            if alarm:
                signal.setitimer(signal.ITIMER_REAL, SECONDS)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                yield
        finally:
            if alarm:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, earlier)
            resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(call: Callable[[], Any]) -> str:
    """ "worked", "refused", or what leaked."""
    try:
        with within_bounds():
            call()
    except dnl.InputError as error:
        said = str(error)
        return REFUSED if _in_one_line(said) else f"not in one line with a colon: {said!r}"
    except OwnError:
        return REFUSED
    except (Exception, TooLongError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return WORKED


def _in_one_line(said: str) -> bool:
    return "\n" not in said and ":" in said and len(said) < 1000


def draw(rng: random.Random) -> Call:
    drawn = Call(*rng.choice(parameters()), rng.choice(tuple(WRONG)))
    return draw(rng) if (drawn.name, drawn.parameter, drawn.wrong) in EXCLUDED else drawn


def main(count: int, seed: int = 0) -> int:
    rng = random.Random(seed)
    calls = [draw(rng) for _ in range(count)]
    leaks = 0
    tally = {WORKED: 0, REFUSED: 0}
    for call in calls:
        found = outcome(call)
        if found in tally:
            tally[found] += 1
        else:
            leaks += 1
            print(f"{call}: {found}", flush=True)
    said = f"{tally[WORKED]} worked, {tally[REFUSED]} refused, {leaks} leaked"
    print(f"{count} calls, seed {seed}: {said}")
    return int(leaks > 0)


if __name__ == "__main__":
    sys.exit(main(*(int(a) for a in sys.argv[1:])))
