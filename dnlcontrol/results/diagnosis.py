"""Why a solve failed, in words that lead on: stiff, not finite, float32, a missing H¹ term.

A reason that was found takes the place of what the minimiser said, since that may contradict it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dnlcontrol.backends.found import STALLED, BackendResult
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.regularisers import H1
from dnlcontrol.results.not_finite import not_differentiable, not_finite
from dnlcontrol.results.solution import Solution
from dnlcontrol.results.stiffness import stiff, tame

# advice that leads the wrong way where the steps are too long
MISLEADING = ("unbounded", "loosen the tolerance", "rescale")
NOT_A_NUMBER = ("not finite", "NaN or infinity")  # how minimisers say it


@np.errstate(all="ignore")
def explained(
    solution: Solution, discrete: DiscreteProblem, found: BackendResult, start: Flat
) -> Solution:
    """The same solution, the message of a failed one with the reason that can be seen.

    ``found`` is what the backend said, from controls ``start`` (size,).
    """
    if solution.success:
        return solution
    reason = _too_long(solution, discrete, found) or _not_a_number(solution, discrete, found, start)
    # "infeasible" and "out of iterations" were said of numbers that mean nothing
    status = STALLED if reason else solution.status
    said = reason or _told(solution, discrete, found)
    parts = [solution.message.replace(found.message, said, 1)]
    if np.isfinite(solution.value) and not reason:
        parts += filter(None, [_single(solution), missing_h1(discrete.problem)])
    return replace(solution, status=status, message="; ".join(parts))


def untrusted(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> str:
    """Why states x (L+1, N, *state) at controls w are not to be trusted; '' where they may be."""
    if tame(x) == len(x):
        return ""
    reason = stiff(discrete, w, x)
    if reason:
        return f"states up to {np.max(np.abs(x[np.isfinite(x)])):.1e}; {reason}"
    return "" if np.all(np.isfinite(x)) else not_finite(discrete, w, x)


def missing_h1(problem: ControlProblem) -> str:
    """That a terminal cost reads a triangular control without an H¹ term; '' if none does."""
    if problem.formulas.terminal is None:
        return ""
    names = [
        name
        for name, control in problem.controls.items()
        if control.on == "ts" and not any(isinstance(r, H1) for r in problem.regularisers_of(name))
    ]
    if not names:
        return ""
    return (
        f"the triangular control {names[0]!r} has no H1 term: the terminal cost reads it on the "
        f"row t = T, which costs nothing as the depth grows; add dnl.H1({names[0]!r}, ...)"
    )


def _too_long(solution: Solution, discrete: DiscreteProblem, found: BackendResult) -> str:
    """That the problem is stiff, where states or words show it; '' where they do not."""
    wild = tame(solution.states) < len(solution.states)
    misled = any(words in found.message for words in MISLEADING)
    return stiff(discrete, found.w, solution.states) if wild or misled else ""


def _told(solution: Solution, discrete: DiscreteProblem, found: BackendResult) -> str:
    """What the backend said; float32 by its name, steps that are too long beside it."""
    said = found.message
    if solution.options.get("dtype") == "float32":
        said = said.replace("in float64", "in float32")
    reason = stiff(discrete, found.w, solution.states) if solution.status == STALLED else ""
    return f"{said}; {reason}" if reason else said


def _not_a_number(
    solution: Solution, discrete: DiscreteProblem, found: BackendResult, start: Flat
) -> str:
    """The formula that is not finite, or has no derivative, at the start or on the way."""
    figures = (solution.value, solution.stationarity, solution.complementarity)
    told = any(words in found.message for words in NOT_A_NUMBER)
    if np.all(np.isfinite(figures)) and not told:
        return ""
    at_start = found.evaluator.states(start)
    what = not_finite(discrete, start, at_start)
    if what:
        return (
            f"the cost is not finite at the start: {what}; {_remedy(what, 'start elsewhere or ')}"
        )
    what = not_finite(discrete, found.w, solution.states)
    if what:
        return f"the cost is not finite on the way: {what}; {_remedy(what)}"
    what = not_differentiable(discrete, start, at_start)
    if what:
        return f"the gradient is not finite at the start: {what}; {_remedy(what, 'start inside, ')}"
    what = not_differentiable(discrete, found.w, solution.states)
    return f"the gradient is not finite on the way: {what}; {_remedy(what)}" if what else ""


def _remedy(what: str, first: str = "") -> str:
    if "no root" in what:
        return f"{first}take a larger depth, whose steps are shorter"
    if "grows beyond" in what or " inf" in what:
        return f"{first}bound the controls or the states, or take a larger depth"
    return f"{first}bound the controls or the states so that it is defined"


def _single(solution: Solution) -> str:
    """The limit of float32, where a solve in it stalled or went on at one stationarity."""
    if solution.options.get("dtype") != "float32":
        return ""
    norms = [line[2] for line in solution.log]
    half = len(norms) // 2
    stands = half > 0 and min(norms[half:]) > 0.5 * min(norms[:half])
    if solution.status != STALLED and not stands:
        return ""
    return (
        f"float32 holds seven digits, too few for the tolerance {solution.tolerance:.0e} here; "
        "dtype='float64' goes on"
    )
