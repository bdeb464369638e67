"""What a kept state or solution belongs to: problem, options and start, compared part by part."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from dnlcontrol import checks
from dnlcontrol.backends.options import Adjoint, Exact
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.fingerprint import (
    Parts,
    changed,
    digest_of_words,
    fingerprint,
    in_words,
)
from dnlcontrol.discretisation.formula_graph import digest_of_numbers
from dnlcontrol.files.checkpoint import Checkpoint, Use
from dnlcontrol.results.schema import checkpoint_tables
from dnlcontrol.solving.request import Request

REMEDY = "the same problem and options; restart=True (--restart) begins anew"


@dataclass(frozen=True)
class Belonging:
    """The parts of problem, options and start, each name -> digest or words."""

    problem: Parts
    options: Parts
    start: Parts = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        """Plain values for a file."""
        return {k: dict(v) for k, v in vars(self).items()}

    def changes(self, record: object) -> list[str]:
        """What is not as a file's record says, in words; of options both values."""
        theirs = record if isinstance(record, Mapping) else {}
        found = []
        for kind, mine in vars(self).items():
            before = theirs.get(kind)
            before = before if isinstance(before, Mapping) else {}
            names = changed(before, mine)
            if kind == "options":
                names = [f"{k} ({before.get(k)} then, {mine.get(k)} now)" for k in names]
            found += names
        return found


def options_of(request: Request) -> Parts:
    """The options that a result depends on; how many iterations or seconds is not among them."""
    return {
        **request.options.decisive(),
        "tolerance": repr(request.goal.tolerance),
        "warm": repr(request.warm),
    }


def start_of(discrete: DiscreteProblem, begin: StartingPoint) -> Parts:
    """Where a solve starts, every bit: the controls by name, and what a solution brings besides."""
    own = {
        f"start of control {b.name!r}": digest_of_numbers(b.values(begin.w)) for b in discrete.space
    }
    brought = [digest_of_numbers(v) for s in begin.levels for v in s.values.values()]
    if begin.mu is not None:
        brought.append(digest_of_numbers(begin.mu))
    return {**own, "solutions of the start": digest_of_words(brought)}


def belonging(request: Request, discrete: DiscreteProblem, begin: StartingPoint) -> Belonging:
    """Of one solve."""
    problem = fingerprint(discrete.problem, request.rule)
    return Belonging(problem, options_of(request), start_of(discrete, begin))


def checkpoint_of(
    options: Exact | Adjoint,
    discrete: DiscreteProblem,
    owner: Belonging | None,
    units: Mapping[str, object],
    alone: bool,
) -> Checkpoint | None:
    """The checkpoint, which serves the same solve only, in the same units.

    ``owner``: the user's problem with options and start; ``discrete``: that problem in ``units``.
    The state of another solve is refused where the solve is ``alone``; a study, which has compared
    its directory before, begins the level anew.

    Raises
    ------
    InputError : what changed since the file was written, by name.
    """
    if not isinstance(options, Adjoint) or options.checkpoint is None or owner is None:
        return None
    about = {
        "name": discrete.problem.name,
        "depth": discrete.depth,
        "method": options.method.name,
        "size": discrete.space.size,
        "units": dict(units),
        **owner.record(),
    }

    def same(theirs: Mapping[str, object], mine: Mapping[str, object]) -> bool:
        depths = theirs.get("depth"), mine["depth"]
        other = [f"depth ({depths[0]} then, {depths[1]} now)"] if depths[0] != depths[1] else []
        names = other or owner.changes(theirs)
        if names and alone:
            seen = f"{options.checkpoint}: {in_words(names)} changed since its state was written"
            allowed = f"a new directory, {REMEDY}"
            raise checks.InputError(f"checkpoint: got {seen}; allowed: {allowed}")
        return not names and theirs.get("units") == mine["units"]

    first = not options.distributed or os.environ.get("RANK", "0") == "0"
    tables = checkpoint_tables(discrete.space.size, discrete.rows.size)
    use = Use(same, anew=options.restart, writes=first, tables=tables)
    return Checkpoint(options.checkpoint, options.every, about, use)
