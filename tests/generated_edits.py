"""Edits between kill and resume: python -m tests.generated_edits N prints what became of N of them.

A study, or a checkpoint, is left by one set of ingredients; one of them is edited; the run goes on.
Allowed are a refusal that names what changed, and the values of a fresh run. Edits that change
nothing that a result depends on must go on.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dnlcontrol as dnl

ACCURACY = 1e-6  # of values: the tolerance 1e-8 over curvatures of 1e-2 and more
LADDER = [1, 2, 3]
KILLS = {"study": (14, 1000), "checkpoint": (5,)}  # after so many iterates; 1000: never
EVERYWHERE: dict[str, tuple[Any, str]] = {  # ingredient -> (value, the part that names it)
    "x0": ([[1.0], [0.5]], "x0"),
    "horizon": (1.0, "horizon"),
    "label": ("edited", "name"),
    "gain": (1.0, "kernel"),
    "late": (0.0, "kernel"),  # a term that vanishes early, and so at the nodes of depth 1
    "free": (0.25, "free term"),
    "feature": (0.5, "feature map"),
    "outer": (1.0, "outer map"),
    "terminal": (1.0, "terminal cost"),
    "target": ([[2.0], [1.5]], "targets of the terminal cost"),
    "running": (0.5, "running cost"),
    "aim": ([[0.5], [1.0]], "targets of the running cost"),
    "weight": (0.1, "regularisers of control 'W'"),
    "second": (0.2, "regularisers of control 'b'"),
    "lower": (-3.0, "bounds of control 'W'"),
    "upper": (3.0, "bounds of control 'b'"),
    "guess": (0.1, "start of control 'W'"),
    "scale": (0.05, "start of control 'b'"),
    "tolerance": (1e-8, "tolerance"),
}
CONSTRAINED: dict[str, tuple[Any, str]] = {
    "cap": (9.0, "bounds of constraint 'cap'"),
    "slope": (1.0, "constraint 'cap'"),
    "rows": ((0, 1), "samples of constraint 'cap'"),
    "level": ([[0.0], [0.1]], "targets of constraint 'cap'"),
    "floor": (-9.0, "bounds of constraint 'floor'"),
}
STOCHASTIC: dict[str, tuple[Any, str]] = {
    "seed": (3, "batches"),
    "rate": (0.05, "batches"),
    "epochs": (3, "batches"),
}
FAMILIES = {
    "constrained": {**EVERYWHERE, **CONSTRAINED},
    "stochastic": {**EVERYWHERE, **STOCHASTIC},
}
WORDS: dict[str, tuple[str, Any, str]] = {  # options in words: (family, other value, named)
    "rule": ("constrained", "trapezoid", "rule"),
    "warm": ("constrained", "controls", "warm"),
    "method": ("constrained", "gauss-newton", "method"),
    "dtype": ("stochastic", "float32", "dtype"),
    "max_iterations": ("constrained", 150, "max_iterations"),
    "penalty": ("constrained", dnl.L2, "regularisers of control 'W'"),
}
NOTHING: dict[str, tuple[Any, ...]] = {  # that a result depends on
    "depths": ([1, 2], [2, 3], [1, 2, 4]),
    "max_seconds": (500.0,),
    "chunk": (1,),
}


@dataclass(frozen=True)
class Edit:
    """One ingredient of a family with another value; ``named``: what a refusal must say."""

    family: str
    key: str
    value: Any
    named: str


def drawn(rng: np.random.Generator) -> Edit:
    """A random edit: of any size from one bit of a number to its own size."""
    if rng.random() < 0.25:
        key = str(rng.choice(list(WORDS)))
        family, value, named = WORDS[key]
        return Edit(family, key, value, named)
    family = str(rng.choice(list(FAMILIES)))
    key = str(rng.choice(list(FAMILIES[family])))
    value, named = FAMILIES[family][key]
    return Edit(family, key, _moved(rng, value), named)


def _moved(rng: np.random.Generator, value: Any) -> Any:
    if isinstance(value, str):
        return f"{value}{rng.integers(10)}"
    if isinstance(value, int):
        return value + int(rng.integers(1, 9))
    if isinstance(value, tuple):
        return value[:1]
    array = np.array(value, dtype=float)
    at = tuple(int(rng.integers(n)) for n in array.shape)
    size = 10.0 ** rng.uniform(-12, 0)
    bit = np.nextafter(array[at], np.inf)
    array[at] = bit if rng.random() < 0.2 else array[at] + size * (abs(array[at]) or 1.0)
    return array.tolist()


def ingredients(edit: Edit | None, family: str) -> dict[str, Any]:
    """Those of a family, with the edit."""
    plain = {key: value for key, (value, _) in FAMILIES[family].items()}
    return plain if edit is None else {**plain, edit.key: edit.value}


def made(of: Mapping[str, Any]) -> dnl.ControlProblem:
    """The problem of the ingredients: every kind of part is there."""
    penalty = of.get("penalty", dnl.H1)
    rows = (
        []
        if "cap" not in of
        else [
            dnl.terminal_constraint(
                lambda x, c, y: of["slope"] * x[0] + y[0],
                upper=of["cap"],
                name="cap",
                samples=of["rows"],
                target=of["level"],
            ),
            dnl.state_bounds(lower=of["floor"], name="floor"),
        ]
    )
    return dnl.ControlProblem(
        name=of["label"],
        horizon=of["horizon"],
        x0=np.array(of["x0"]),
        dynamics=dnl.Volterra(
            lambda t, s, y, u: (
                of["gain"] * u.W * y + of["late"] * dnl.namespace(y).maximum(t - 0.5, 0.0) * y
            ),
            free_term=lambda t, x0: x0 + of["free"] * t,
            feature=lambda s, x, u: dnl.namespace(x).tanh(of["feature"] * x) + u.b,
            outer=lambda t, g, z, u: g + of["outer"] * z,
        ),
        controls={
            "W": dnl.Control((), on="ts", lower=of["lower"], initial=of["guess"]),
            "b": dnl.Control((), upper=of["upper"], initial=dnl.smooth_random(1, of["scale"])),
        },
        terminal=dnl.cost(lambda x, c, y: of["terminal"] * (x[0] - y[0]) ** 2, of["target"]),
        running=dnl.cost(lambda t, x, u, y: of["running"] * (x[0] - y[0]) ** 2, of["aim"]),
        regularisers=[penalty("W", of["weight"]), dnl.L2("b", of["second"])],
        constraints=rows,
    )


def options(of: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of the solves."""
    known = (
        "tolerance",
        "rule",
        "warm",
        "method",
        "dtype",
        "max_iterations",
        "max_seconds",
        "chunk",
    )
    given = {key: of[key] for key in known if key in of}
    if "seed" in of:
        batches = {key: of[key] for key in ("seed", "rate", "epochs")}
        given |= {"method": "adam", "batches": dnl.MiniBatches(size=1, **batches)}
    return given


class Stopped(Exception):
    """A kill that the process survives: nothing after the iterate runs, as with SIGKILL."""


def _stop_after(iterates: int) -> Any:
    seen: list[object] = []

    def tell(at: object) -> None:
        seen.append(at)
        if len(seen) > iterates:
            raise Stopped

    return tell


@cache
def left(family: str, kind: str, after: int) -> Path:
    """What a run of the plain ingredients leaves when it is killed: a study or a checkpoint."""
    folder, of = Path(tempfile.mkdtemp(prefix="edits")), ingredients(None, family)
    stop = _stop_after(after)
    try:
        if kind == "study":
            told = {"every": 0, "follow": stop}
            dnl.study(made(of), LADDER, directory=folder, **told, **options(of))
        else:
            dnl.solve(
                made(of), 3, "adjoint", checkpoint=folder, every=0, progress=stop, **options(of)
            )
    except Stopped:
        pass
    return folder


def values(of: Mapping[str, Any], kind: str, folder: Path | None) -> list[float]:
    """Those of the run with these ingredients, gone on with from what is in the folder."""
    if kind == "study":
        depths = of.get("depths", LADDER)
        found = dnl.study(made(of), depths, directory=folder, **options(of))
        return [level.adjoint.value for level in found.levels if level.adjoint]
    given = {} if folder is None else {"checkpoint": folder}
    return [dnl.solve(made(of), 3, "adjoint", **given, **options(of)).value]


@cache
def _plain(family: str, kind: str) -> tuple[float, ...]:
    return tuple(values(ingredients(None, family), kind, None))


def outcome(edit: Edit, kind: str, after: int) -> str:
    """'refused' or 'right'; else what went wrong, in words."""
    of = ingredients(edit, edit.family)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", dnl.ConvergenceWarning)
        folder = Path(place) / "run"
        shutil.copytree(left(edit.family, kind, after), folder)
        try:
            found = values(of, kind, folder)
        except dnl.InputError as error:
            return "refused" if edit.named and edit.named in str(error) else f"refused: {error}"
        fresh = values(of, kind, None)
    right = len(found) == len(fresh) and np.allclose(found, fresh, rtol=0, atol=ACCURACY)
    return "right" if right else f"stale: {found} for {fresh}"


def unchanged(rng: np.random.Generator) -> tuple[Edit, str]:
    """An edit of what no result depends on, and the kind of run."""
    key = str(rng.choice(list(NOTHING)))
    choices = NOTHING[key]
    family = str(rng.choice(list(FAMILIES)))
    kind = "study" if key == "depths" else str(rng.choice(["study", "checkpoint"]))
    return Edit(family, key, choices[int(rng.integers(len(choices)))], ""), kind


def report(count: int, seed: int = 0) -> Counter[str]:
    """What became of so many edits; every fifteenth changes nothing."""
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for k in range(count):
        if k % 15 == 14:
            (edit, kind), allowed = unchanged(rng), "right"
        else:
            edit, kind, allowed = drawn(rng), str(rng.choice(list(KILLS))), "refused"
        after = int(rng.choice(KILLS[kind]))
        became = outcome(edit, kind, after)
        fine = became in (allowed, "right")
        found[became if fine else f"WRONG {edit} of a {kind} killed after {after}: {became}"] += 1
    return found


if __name__ == "__main__":
    found = report(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    for words, times in sorted(found.items()):
        print(f"{times:7}  {words}")
    sys.exit(any(words not in ("refused", "right") for words in found))
