"""What a solution says of itself beside its numbers, against what was computed again.

tolerance     what it was solved to is no looser than what is certified
name, rule    those of the problem and of the options that are kept with it
backend       agrees with what only one of them leaves: a formulation, or measured work
status        says solved where the rows hold, and only there
message       does not say otherwise
iterations    no more than the lines of its log, or the values that were formed
nodes         the rows of each constraint are those of the problem
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnlcontrol.backends.found import NO_MINIMISER, SOLVED
from dnlcontrol.backends.options import Adjoint, Exact
from dnlcontrol.certificates.certificate import Check, at_most
from dnlcontrol.certificates.point import StoredPoint
from dnlcontrol.certificates.verdict import REFUSED
from dnlcontrol.results.assemble import ABOVE, Measures
from dnlcontrol.results.solution import Solution

# of the solution's own tolerance: below, its solve would not have stopped there unsolved
SURELY = 0.5
ROUNDING = 1e-11  # of the measures of problems of size 1, with room for long sums
# iterations for a value or a line of the log: one; those of softened kinks came to 1.1
PER_VALUE = 2
UNSOLVED = (ABOVE, REFUSED)  # in the message of what is not solved


def tolerance_row(solution: Solution, tolerance: float) -> Check:
    """The tolerance that the solution names, and the one that its solve was asked for."""
    asked = solution.options.get("tolerance", solution.tolerance)
    what = "what the solution was solved to"
    return at_most("tolerance", max(solution.tolerance, asked), tolerance, what)


def reported_rows(solution: Solution, point: StoredPoint) -> list[Check]:
    """What is compared word by word: the number of words that differ, at most 0."""
    options, problem = solution.options, point.evaluator.discrete.problem
    named = [
        f"{name} {seen!r} for {expected!r}"
        for name, seen, expected in (
            ("name", solution.name, problem.name),
            ("rule", options.get("rule", solution.rule), solution.rule),
        )
        if seen != expected
    ]
    return [
        _agree("name and rule", named, "those of the problem and of the options"),
        _agree("backend", _backend(solution, options), "agrees with options, formulation, work"),
        _agree("iterations", _counts(solution), "whole numbers, no more than values and log tell"),
        _agree("nodes", _nodes(solution, point), "the layers and samples of its multipliers"),
        _agree("message", _words(solution), "agrees with the status"),
    ]


def status_row(solution: Solution, point: StoredPoint, others: list[Check]) -> Check:
    """Whether the status is what the other rows, and the solution's own tolerance, say."""
    discrete = point.evaluator.discrete
    measures = Measures.at(discrete, point.w, point.multipliers.mu, point.at)
    failed = any(not check.passed for check in others)
    solved = not failed and not measures.above(SURELY * solution.tolerance)
    seen: list[str] = []
    known = isinstance(solution.status, int) and SOLVED <= solution.status <= NO_MINIMISER
    if not known:
        seen.append(f"{solution.status!r}, which is no status")
    elif solution.status == SOLVED and failed:
        seen.append("says solved, and rows fail")
    elif solution.status == SOLVED and (above := measures.above(_reachable(solution.tolerance))):
        seen.append(f"says solved to {solution.tolerance:.0e}, and has {above}")
    elif solution.status != SOLVED and solved:
        seen.append(f"says {solution.status}, not solved, and all rows hold")
    return _agree("status", seen, "0 where the other rows hold, and only there")


def _reachable(tolerance: float) -> float:
    """What a solve to a tolerance leaves when it is measured by another order of summation."""
    return max(10.0 * tolerance, ROUNDING)


def _backend(solution: Solution, options: Mapping[str, Any]) -> list[str]:
    """Traces of another backend than the one that is named."""
    exact, adjoint = Exact.name, Adjoint.name
    found = [
        f"{kind} of the {backend} backend"
        for kind, backend, there in (
            ("a formulation", exact, bool(solution.formulation)),
            ("work in gradients", adjoint, bool(solution.work)),
            ("options", options.get("backend"), bool(options)),
        )
        if there and solution.backend != backend
    ]
    known = solution.backend in (exact, adjoint)
    return found if known else [f"{solution.backend!r}, which is no backend"]


def _counts(solution: Solution) -> list[str]:
    """Counts that cannot be."""
    counts = {k: getattr(solution, k) for k in ("nit", "nfev", "njev", "nhev")}
    found = [f"{k} {n!r}" for k, n in counts.items() if not isinstance(n, int) or n < 0]
    # where units were tightened on the way, values and log are those of the last ones alone
    if not found and not solution.scales:
        most = PER_VALUE * (solution.nfev + len(solution.log))
        found += [f"nit {solution.nit}, more than {most} can be"] if solution.nit > most else []
    return found


def _nodes(solution: Solution, point: StoredPoint) -> list[str]:
    """Constraints whose multipliers are said to stand elsewhere; older files do not say."""
    seen = {k: [list(nodes) for nodes in v] for k, v in solution.multiplier_nodes.items()}
    if not seen:
        return []
    blocks = point.evaluator.discrete.rows.blocks
    own = {b.constraint.name: [b.layers.tolist(), b.samples.tolist()] for b in blocks}
    return [repr(k) for k in sorted({*own, *seen}) if own.get(k) != seen.get(k)]


def _words(solution: Solution) -> list[str]:
    """What the message says of a solution that is said to be solved."""
    if solution.status != SOLVED:
        return []
    return [f"says {words!r}" for words in UNSOLVED if words in solution.message]


def _agree(name: str, differences: list[str], what: str) -> Check:
    said = f": {'; '.join(differences)}" if differences else ""
    return at_most(name, len(differences), 0, f"{what}{said}")
