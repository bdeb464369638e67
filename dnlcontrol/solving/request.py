"""What a solve is asked for beside problem and start: checked once, kept with the solution."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict

from dnlcontrol import checks
from dnlcontrol.backends.options import SGD, Adam, Adjoint, Exact, Goal, MiniBatches, TorchOptimiser
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.fingerprint import fingerprint, same_problem
from dnlcontrol.files.checkpoint import Checkpoint
from dnlcontrol.minimise.outcome import Progress

BACKENDS: dict[str, type[Exact] | type[Adjoint]] = {"exact": Exact, "adjoint": Adjoint}
WARM = ("duals", "controls")


class LevelShorthand(TypedDict, total=False):
    """Fields of the backend and method objects as keywords of :func:`dnlcontrol.study`."""

    # Exact
    formulation: Literal["auto", "lifted", "condensed"]
    force: bool
    verbose: bool
    # Adjoint
    method: Any
    device: str
    dtype: Literal["float64", "float32"]
    chunk: int | None
    distributed: bool
    checkpoint: str | os.PathLike[str] | None
    every: float
    # Adam, SGD, TorchOptimiser
    batches: MiniBatches | None


class Shorthand(LevelShorthand, total=False):
    """The same as keywords of :func:`dnlcontrol.solve`; a study has a progress of its own."""

    progress: Progress | None


OWNER: dict[str, type[Exact] | type[Adjoint]] = {
    f.name: kind for kind in BACKENDS.values() for f in fields(kind)
}
DEFAULT: dict[str, object] = {
    **{f.name: f.default for kind in BACKENDS.values() for f in fields(kind)},
    "batches": None,
}


COMMON = (
    "rule",
    "start",
    "tolerance",
    "max_iterations",
    "max_seconds",
    "warm",
)  # keywords of their own


@dataclass(frozen=True)
class Request:
    """How to solve: the backend's object, when to stop, the rule, and what a start hands over.

    ``chosen``: why backend="auto" took this backend, "" where it was named.
    """

    options: Exact | Adjoint
    goal: Goal
    rule: str
    warm: Literal["duals", "controls"]
    chosen: str = ""

    def __post_init__(self) -> None:
        checks.choice("warm", self.warm, WARM)

    def record(self) -> dict[str, Any]:
        """What is kept with the solution: the options of what ran, and no others."""
        return {
            "backend": self.options.name,
            "rule": self.rule,
            "tolerance": self.goal.tolerance,
            "max_iterations": self.goal.max_iterations,
            "max_seconds": self.goal.max_seconds,
            "warm": self.warm,
            **({"chosen": self.chosen} if self.chosen else {}),
            **self.options.record(),
        }


def resolved(
    backend: object, shorthand: Mapping[str, Any], what: str = "solve option"
) -> Exact | Adjoint:
    """The backend's object, from its name or itself, with shorthands put where they belong.

    A shorthand at its default is allowed with either backend. ``what``: the words for an unknown
    name in the error.

    Raises
    ------
    InputError : an option that the backend or its method does not use, or a name that is no option.
    """
    for name in shorthand:
        if name not in DEFAULT:
            _refuse_unknown(what, name)
    given = {k: v for k, v in shorthand.items() if not is_default(k, v)}
    if isinstance(backend, (Exact, Adjoint)):
        for name, value in given.items():
            beside = f"{checks.describe(value)} beside backend=dnl.{type(backend).__name__}(...)"
            checks.reject(name, beside, "a field of the object, or a backend's name with keywords")
        return backend
    kind = BACKENDS[checks.choice("backend", backend, tuple(BACKENDS))]
    batches = given.pop("batches", None)
    for name, value in given.items():
        if OWNER[name] is not kind:
            _refuse_foreign(name, value, kind)
    options = kind(**given)
    return options if batches is None else _with_batches(options, batches)


def is_default(name: str, value: object) -> bool:
    """Whether an option has the value that it has where it is not given."""
    default = DEFAULT[name]
    return value is default or (type(value) is type(default) and value == default)


def _refuse_unknown(what: str, name: str) -> None:
    known = [*COMMON, *DEFAULT]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    checks.reject_type(what, name, f"{' or '.join(repr(k) for k in known)}{hint}")


def _refuse_foreign(name: str, value: object, kind: type[Exact] | type[Adjoint]) -> None:
    owner = OWNER[name].name
    needs = f"the option needs {owner!r}, as in backend={owner!r}"
    checks.reject(name, value, f"{DEFAULT[name]!r} for the {kind.name} backend; {needs}")


def _with_batches(options: Exact | Adjoint, batches: object) -> Adjoint:
    """Mini-batches belong to the methods that use them."""
    if not isinstance(batches, MiniBatches):
        allowed = "MiniBatches(size=..., epochs=..., ...) or None"
        checks.reject_type("batches", batches, allowed)
    if isinstance(options, Exact):
        chosen = "the exact backend"
    else:
        if isinstance(options.method, (Adam, SGD, TorchOptimiser)):
            return replace(options, method=replace(options.method, batches=batches))
        chosen = f"the method {options.method.name!r}"
    allowed = "None, or method='adam' or 'sgd' with backend='adjoint'"
    checks.reject("batches", f"{batches} for {chosen}", allowed)


def check_distributed(options: Exact | Adjoint, problem: object) -> None:
    """Sums over ranks are those of full gradients; multipliers belong to single samples.

    Raises
    ------
    InputError : a distributed solve of a problem with constraints beyond control bounds.
    """
    if isinstance(options, Adjoint) and options.distributed:
        names = [c.name for c in getattr(problem, "constraints", ())]
        if names:
            checks.reject("distributed", True, f"False for a problem with the constraints {names}")


def checkpoint_of(options: Exact | Adjoint, discrete: DiscreteProblem) -> Checkpoint | None:
    """The checkpoint, which serves the same discrete problem and method only."""
    if not isinstance(options, Adjoint) or options.checkpoint is None:
        return None
    about = {
        **fingerprint(discrete.problem, discrete.grid.rule),
        "depth": discrete.depth,
        "method": options.method.name,
        "size": discrete.space.size,
    }

    def same(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
        return all(theirs.get(k) == mine[k] for k in ("depth", "method", "size")) and same_problem(
            theirs, mine
        )

    first = not options.distributed or os.environ.get("RANK", "0") == "0"
    return Checkpoint(options.checkpoint, options.every, about, same, writes=first)
