"""What a solve learnt that the next one can use, kept beside its solution as long as that lives."""

from __future__ import annotations

from dataclasses import dataclass

from dnlcontrol.backends.by_identity import ByIdentity
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.preconditioner import Preconditioner
from dnlcontrol.results.solution import Solution


@dataclass(frozen=True)
class Learnt:
    """What the minimiser learnt of the Hessian, and where its curvature is lowest.

    None where nothing was learnt.
    """

    preconditioner: Preconditioner | None = None
    lowest: Samples | None = None


NOTHING = Learnt()
_beside: ByIdentity[Learnt] = ByIdentity()


def remember(solution: Solution, learnt: Learnt) -> None:
    """Keep what was learnt in finding this solution until the solution is gone."""
    if learnt.preconditioner is None and learnt.lowest is None:
        forget(solution)
        return
    _beside[solution] = learnt


def recall(solution: Solution | None) -> Learnt:
    """What was learnt in finding this solution."""
    return NOTHING if solution is None else _beside.get(solution, NOTHING)


def forget(solution: Solution) -> None:
    """Free what was learnt in finding this solution."""
    _beside.pop(solution)
