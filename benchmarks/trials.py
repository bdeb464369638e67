"""One trial of each generator in tests/: None, or a line that says what went wrong.

Each takes the generator's module and gives ``trial(seed)``; a module that has a ``trial`` of its
own needs none.
"""

from __future__ import annotations

import random
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

import dnlcontrol as dnl

Trial = Callable[[int], str | None]
MOMENTS = 8  # drawn for a kill before a run is taken to be too fast for one
BACKENDS = ("exact", "adjoint")


def calls(module: ModuleType) -> Trial:
    """A call works, or refuses in one line."""

    def trial(seed: int) -> str | None:
        call = module.draw(random.Random(seed))
        found: str = module.outcome(call)
        return None if found in (module.WORKED, module.REFUSED) else f"{found}: {call}"

    return trial


def command_lines(module: ModuleType) -> Trial:
    """A command line keeps every rule."""

    def trial(seed: int) -> str | None:
        line = module.draw(random.Random(seed))
        said: str = module.judged(line)[1]
        return f"{said}: {' '.join(line)}" if said else None

    return trial


def files(module: ModuleType) -> Trial:
    """A damaged run is refused in a line, or still true; every third one is a study."""

    @cache
    def runs() -> Path:
        folder = Path(tempfile.mkdtemp())
        for backend in BACKENDS:
            dnl.solve(module.PROBLEM, 3, backend, tolerance=1e-10).save(folder / backend)
        dnl.study(module.PROBLEM, [2, 3], exact_to=2, tolerance=1e-10, directory=folder / "study")
        return folder

    def trial(seed: int) -> str | None:
        rng = random.Random(seed)
        try:
            if seed % 3 == 2:
                module.check_study(runs(), rng)
            else:
                module.check_solution(runs(), BACKENDS[seed % 3], rng)
        except AssertionError as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return str(error) or f"wrong: {where.line}"
        return None

    return trial


def kills(module: ModuleType) -> Trial:
    """A run that was killed once ends as one that was left alone."""

    @cache
    def alone(number: int) -> object:
        return module.undisturbed(module.KINDS[number], Path(tempfile.mkdtemp()) / "alone")

    def trial(seed: int) -> str | None:
        right = alone(seed % len(module.KINDS))
        rng = np.random.default_rng(seed)
        for _ in range(MOMENTS):
            tally = module.Tally()
            with tempfile.TemporaryDirectory() as folder:
                made = module.killed(right, Path(folder) / "run", rng, 1, tally)
                module.left_to_end(right, Path(folder) / "run", tally)
            if tally.wrong:
                return "; ".join(tally.wrong)
            if made:
                return None
        return f"wrong: not killed at {MOMENTS} moments"

    return trial


def edits(module: ModuleType) -> Trial:
    """An edit is refused by its name, or the values are a fresh run's.

    Every tenth changes nothing that a result depends on, and goes on.
    """

    def trial(seed: int) -> str | None:
        rng = np.random.default_rng(seed)
        after, kind = int(rng.choice([0, 3, 8, 1000])), str(rng.choice(["study", "checkpoint"]))
        if seed % 10 == 9:
            edit, kind = module.unchanged(rng)
            allowed = ("right",)
        else:
            edit = module.drawn(rng)
            allowed = ("refused", "right")
        became: str = module.outcome(edit, kind, after)
        return None if became in allowed else f"{became}: {edit} of a {kind} killed after {after}"

    return trial


def plants(module: ModuleType) -> Trial:
    """What is planted in a solution is rejected; the kinds by turns, then the next solution."""

    def trial(seed: int) -> str | None:
        names, bases = list(module.PLANTS), module.BASES
        name, base = names[seed % len(names)], bases[seed // len(names) % len(bases)]
        sound = module.sound(*base)
        try:
            passed = dnl.certify(module.PLANTS[name](sound), seed=0).passed
        except dnl.InputError:
            return None
        return f"wrong: {name} in a solution of {base} passes" if passed else None

    return trial
