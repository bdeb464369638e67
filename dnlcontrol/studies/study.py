"""study: the same problem over a ladder of depths, one backend or both, rates and limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Unpack

from dnlcontrol import checks
from dnlcontrol.backends.fits import refuse_what_does_not_fit
from dnlcontrol.backends.options import MSA, Adjoint, Exact, Goal, method_of
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.discretisation.fingerprint import Parts, fingerprint
from dnlcontrol.discretisation.grid import MOST_LAYERS
from dnlcontrol.files.interrupts import interrupts
from dnlcontrol.files.locks import held_or_none
from dnlcontrol.minimise.outcome import Progress
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.reference import Reference, increasing_exponents
from dnlcontrol.results.records import plain
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.solution_files import load_learnt, save_learnt, save_solution
from dnlcontrol.solving.belonging import options_of, start_of
from dnlcontrol.solving.choice import AUTO, chosen
from dnlcontrol.solving.learnt import Learnt, recall
from dnlcontrol.solving.request import BACKENDS, OWNER, LevelShorthand, Request, resolved
from dnlcontrol.solving.solve import solve_level, warn_unsolved
from dnlcontrol.solving.starts import StartLike, origin_of, starting_point
from dnlcontrol.studies.rates import refuse_broken
from dnlcontrol.studies.result import Level, Study, save_table
from dnlcontrol.studies.study_files import Owner, finished, place, prepare

Say = Callable[[str], None]
STUDY = "study option"
ONE_SOLVE = ("checkpoint", "distributed", "restart")  # options that belong to one solve alone


def study(
    problem: ControlProblem,
    depths: Sequence[int],
    exact_to: int = 0,
    *,
    backend: str | Exact | Adjoint = "adjoint",
    directory: str | os.PathLike[str] | None = None,
    reference: Reference | None = None,
    start: StartLike = None,
    rule: str = "left",
    tolerance: float = 1e-8,
    max_iterations: int | None = None,
    max_seconds: float | None = None,
    warm: Literal["duals", "controls"] = "duals",
    source: Mapping[str, Any] | None = None,
    progress: Say | None = None,
    follow: Progress | None = None,
    orders: Sequence[float] | None = None,
    restart: bool = False,
    **shorthand: Unpack[LevelShorthand],
) -> Study:
    """Solve at every depth, each level started from the ones before.

    Adjoint levels are extrapolated where that foretold the last level, and preconditioned by a
    coarse level; exact levels are prolonged.

    Parameters
    ----------
    depths : increasing depths, e.g. [4, 8, 16, 32].
    exact_to : beside adjoint levels the exact backend runs too where depth <= exact_to; it follows
        its own chain of prolongations, so neither backend is started from the other's solution.
    backend : "adjoint", "exact", "auto" (one for the whole ladder, by the forecast of its deepest
        level; the statements say which and why), or an :class:`Adjoint` or :class:`Exact` with its
        options.
    directory : finished levels are kept there, and the checkpoint of an adjoint level, at most
        ``every`` so many seconds; a study that was killed continues from them. A level is taken
        where a gradient proves it again. Depths, backend, max_seconds, device and chunk may change.
    restart : remove the levels in the directory and solve them anew.
    reference : the closed form that levels are measured against, else the finest level.
    start : the first level's start, as in :func:`solve`.
    rule, tolerance, max_iterations, max_seconds, warm : of every level, as in :func:`solve`.
    progress, follow : called with a line for each level, and with each iterate of the adjoint
        levels.
    orders : increasing exponents of 1/L that the values are extrapolated with, such as (0.5, 1);
        None: the reference's or the rule's, or the fitted one where that is far from them.
    shorthand : options of the adjoint levels, as in :func:`solve`, and of the exact ones
        (formulation, force, verbose) where they run.

    Raises
    ------
    InputError : an argument that is not what it should be, an option that no level uses, or a
        directory that another run writes to or that holds something else, or levels of a problem,
        options or a start that changed: what did is named.
    """
    ladder = check_depths(depths)
    exact_to = checks.whole("exact_to", exact_to, 0)
    exponents = None if orders is None else increasing_exponents("orders", orders)
    _check_arguments(problem, reference, progress, follow)
    goal = Goal(tolerance, max_iterations, max_seconds)
    own = {k: v for k, v in shorthand.items() if not (exact_to and OWNER.get(k) is Exact)}
    name, reason = _primary(problem, ladder[-1], rule, backend, own)
    both = _options(name, shorthand, bool(exact_to), directory is not None, follow)
    if exact_to and len(both) == 1 and not reason:
        checks.reject("exact_to", f"{exact_to} beside backend='exact'", "0; every level is exact")
    requests = [Request(options, goal, rule, warm, reason, alone=False) for options in both]
    for options, deepest in zip(both, (ladder[-1], exact_to), strict=False):
        for depth in _not_kept(directory, options.name, [d for d in ladder if d <= deepest]):
            refuse_what_does_not_fit(problem, depth, rule, options)
    first = discretise(problem, ladder[0], rule)
    starting_point(first, start)  # refuses what is no start
    refuse_broken(reference, first.space)
    if checks.flag("restart", restart) and directory is None:
        checks.reject("restart", "True without a directory", "False, or directory=")
    recorded = _recorded(source)
    owner = _owner(problem, requests if exact_to else requests[:1], start)
    with held_or_none(directory) as held:
        folder = None if held is None else prepare(held, owner, ladder, restart)
        kept = Directory(folder, recorded, owner, ladder[0])
        chains = [Ladder(problem, request, start, kept, progress) for request in requests]
        levels = [_level(chains, depth, exact_to, depth == ladder[-1]) for depth in ladder]
        said = f"backend={both[0].name!r} chosen: {reason}" if reason else ""
        result = Study(
            problem.name,
            tuple(levels),
            reference,
            recorded,
            orders_given=exponents,
            choice=said,
        )
        if folder is not None:
            save_table(result, folder)
    return result


def _not_kept(
    directory: str | os.PathLike[str] | None, backend: str, ladder: Sequence[int]
) -> list[int]:
    """The depths whose levels are not in the directory."""
    if directory is None:
        return list(ladder)
    folder = checks.path("directory", directory)
    return [depth for depth in ladder if not place(folder, depth, backend).exists()]


def _owner(problem: ControlProblem, requests: Sequence[Request], start: StartLike) -> Owner:
    """What levels on disk must belong to."""
    rule, warm = requests[0].rule, requests[0].warm

    @cache
    def started(depth: int) -> Parts:
        discrete = discretise(problem, depth, rule)
        return start_of(discrete, starting_point(discrete, start, warm))

    options = {
        r.options.name: {**options_of(r), "max_iterations": repr(r.goal.max_iterations)}
        for r in requests
    }
    return Owner(problem.name, rule, fingerprint(problem, rule), options, started)


def _level(chains: Sequence[Ladder], depth: int, exact_to: int, last: bool) -> Level:
    """One depth, by the chains that reach so far."""
    found = chains[0].level(depth, last)
    if isinstance(chains[0].request.options, Exact):
        return Level(None, found)
    return Level(found, chains[1].level(depth, last) if depth <= exact_to else None)


class Ladder:
    """The levels of one backend, each started from those before it."""

    def __init__(
        self,
        problem: ControlProblem,
        request: Request,
        start: StartLike,
        directory: Directory,
        say: Say | None,
    ) -> None:
        self.problem = problem
        self.request = request
        self.start = start
        self.directory = directory
        self.say = say
        self.found: list[Solution] = []
        # of the last level; None: an earlier run left it in a file
        self.learnt: Learnt | None = recall(origin_of(start))

    def level(self, depth: int, last: bool) -> Solution:
        """The solution at one more depth, kept from an earlier run or found now.

        What the minimiser learnt is for the next level; of the ``last`` it is not kept on disk.
        """
        name, kept_in = self.request.options.name, self._place(depth)
        solution, why = None, ""
        if kept_in is not None:
            solution, why = finished(kept_in, self.problem, depth, self.request.rule)
        if solution is not None:
            self._tell(f"L={depth} {name}: kept from {kept_in}")
            self.learnt = None
        else:
            self._tell(f"L={depth} {name}: {why}; solved anew" if why else f"L={depth} {name} ...")
            solution = self._solved(depth, kept_in)
            if "branch lost" in solution.message:
                self._tell(f"L={depth} {name}: {solution.message}")
            if kept_in is not None:
                self._keep(solution, kept_in, last)
        self.found.append(solution)
        return solution

    def _place(self, depth: int) -> Path | None:
        folder = self.directory.folder
        return None if folder is None else place(folder, depth, self.request.options.name)

    def _solved(self, depth: int, kept_in: Path | None) -> Solution:
        request, options = self.request, self.request.options
        if isinstance(options, Adjoint) and options.checkpoint is not None:
            request = replace(request, options=replace(options, checkpoint=kept_in))
        learnt = self._left_in_a_file() if self.learnt is None else self.learnt
        solution, self.learnt = solve_level(self.problem, depth, request, self._begin(), learnt)
        warn_unsolved(solution)
        return solution

    def _begin(self) -> StartLike:
        """Adjoint levels are extrapolated from all before; exact ones follow the last."""
        if not self.found:
            return self.start
        return self.found[-1] if isinstance(self.request.options, Exact) else self.found

    def _left_in_a_file(self) -> Learnt:
        """What the last level, which an earlier run finished, left beside its solution."""
        kept_in = self._place(self.found[-1].depth)
        assert kept_in is not None
        return Learnt(*load_learnt(kept_in, self.problem, self.found[-1]))

    def _keep(self, solution: Solution, kept_in: Path, last: bool) -> None:
        """On disk; the solution at the end, since it marks the level as finished."""
        owner, name = self.directory.owner, self.request.options.name
        belongs = owner.record(name, self.directory.first)
        with interrupts.waiting():
            if not last and self.learnt is not None:
                save_learnt(self.learnt.preconditioner, self.learnt.lowest, kept_in)
            save_solution(solution, kept_in, self.directory.source, belongs)

    def _tell(self, text: str) -> None:
        if self.say:
            self.say(text)


@dataclass(frozen=True)
class Directory:
    """Where levels are kept, if anywhere, and what their files say of the problem's source.

    ``owner``: what they belong to; ``first``: the depth at which this ladder begins.
    """

    folder: Path | None
    source: Mapping[str, Any]
    owner: Owner
    first: int


def _check_arguments(problem: object, *rest: object) -> None:
    reference, progress, follow = rest
    if not isinstance(problem, ControlProblem):
        checks.reject_type("problem", problem, "a ControlProblem")
    if not isinstance(reference, (Reference, type(None))):
        checks.reject_type("reference", reference, "a Reference or None")
    for name, call in (("progress", progress), ("follow", follow)):
        if call is not None:
            checks.takes(name, call, 1)
    if not problem.controls:
        seen = f"{problem.name!r} without controls"
        checks.reject("problem", seen, "a problem with controls; use simulate")


def _recorded(source: object) -> dict[str, Any]:
    """What the files say of the problem's source: a mapping that JSON can hold."""
    if source is None:
        return {}
    found = checks.mapping("source", source, "a mapping by names, as ProblemFile.source")
    try:
        plain(found)
    except RecursionError:
        checks.reject("source", "a mapping that holds itself", "plain values")
    return found


def _primary(
    problem: ControlProblem,
    depth: int,
    rule: str,
    backend: str | Exact | Adjoint,
    shorthand: Mapping[str, Any],
) -> tuple[str | Exact | Adjoint, str]:
    """The backend of every level, chosen once by the deepest; why, where "auto" chose."""
    if isinstance(backend, str):
        checks.choice("backend", backend, (*BACKENDS, AUTO))
    if not isinstance(backend, str) or backend != AUTO:
        return backend, ""
    return chosen(discretise(problem, depth, rule), shorthand)


def _options(
    backend: str | Exact | Adjoint,
    shorthand: Mapping[str, Any],
    with_exact: bool,
    keep: bool,
    follow: Progress | None,
) -> tuple[Exact | Adjoint, ...]:
    """The object of the levels' backend, and beside :class:`Adjoint` that of the exact levels.

    A shorthand goes to the one that has it.
    """
    for name in ONE_SOLVE:
        own = shorthand.get(name, getattr(backend, name, None))
        if own is not None and own is not False:
            allowed = "none in a study, which keeps its levels in directory= on one rank"
            checks.reject(STUDY, f"{name} = {own!r}", allowed)
    if isinstance(backend, Exact) or (isinstance(backend, str) and backend == "exact"):
        return (resolved(backend, shorthand, STUDY),)
    exact = {k: v for k, v in shorthand.items() if with_exact and OWNER.get(k) is Exact}
    adjoint = {k: v for k, v in shorthand.items() if k not in exact}
    return _adjoint(backend, adjoint, keep, follow), Exact(**exact)


def _adjoint(
    backend: object, shorthand: Mapping[str, Any], keep: bool, follow: Progress | None
) -> Adjoint:
    """The object of the adjoint levels.

    Their checkpoints belong to the directory of the study (``keep``); successive approximation has
    none.
    """
    if isinstance(backend, Adjoint):
        resolved(backend, shorthand, STUDY)
        options = backend
    else:
        continued = keep and not isinstance(method_of(shorthand.get("method", "newton")), MSA)
        more = {"checkpoint": "here"} if continued else {}
        found = resolved(backend, {**shorthand, **more}, STUDY)
        if not isinstance(found, Adjoint):
            checks.reject("backend", backend, "'adjoint', 'exact', 'auto' or an object of theirs")
        options = found
    if keep and not isinstance(options.method, MSA):
        options = replace(options, checkpoint="here")
    return options if follow is None else replace(options, progress=follow)


def check_depths(depths: object) -> list[int]:
    """A strictly increasing list of depths.

    Raises
    ------
    InputError : anything else.
    """
    items = checks.listed("depths", depths, "a list of increasing integers >= 1")
    ladder = [checks.whole("depths", d, 1, MOST_LAYERS) for d in items]
    if not ladder or any(b <= a for a, b in pairwise(ladder)):
        checks.reject("depths", ladder, "a non-empty, strictly increasing list")
    return ladder
