"""Whether a stored solution is one of a problem, by one gradient: what a kept level is taken on."""

from __future__ import annotations

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.found import SOLVED
from dnlcontrol.certificates.minimum_principle.pontryagin import SUMMED_OTHERWISE
from dnlcontrol.certificates.point import stored_point
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.assemble import Measures, generalised
from dnlcontrol.results.rescaled import in_own_units
from dnlcontrol.results.solution import Solution

SINGLE = 1e-5  # of values in float32: 1.2e-7, times what their sums lose
REPORTED = 1e-6  # of a measure that is not at its tolerance, relative: rounding of the same sums


def unproved(solution: Solution, problem: ControlProblem, depth: int, rule: str) -> str:
    """Why this is not the solution of the problem at that depth that it says it is; '' if it is.

    Depth and shapes, value, stationarity, feasibility and complementarity, as they are reported and
    as a fresh gradient says.
    """
    if (solution.depth, solution.rule) != (depth, rule):
        return f"depth {solution.depth}, rule {solution.rule!r}"
    try:
        own = in_own_units(solution, problem)
        assert own.problem is not None
        discrete = discretise(own.problem, depth, rule)
        w, mu = stored_point(own, discrete, "level")
    except checks.InputError as error:
        return str(error)
    with np.errstate(all="ignore"):  # what is not finite is not close
        value, measures = _measured(own, discrete, w, mu)
    single = solution.options.get("dtype") == "float32"
    accuracy = max(solution.tolerance, SINGLE if single else 0.0)
    if not _close(own.value, value, accuracy * (1.0 + abs(value))):
        return f"value {own.value!r} kept, {value!r} found"
    for name, found in vars(measures).items():
        reported = getattr(own, name)
        most = SUMMED_OTHERWISE * accuracy
        if solution.status == SOLVED and not found <= most:
            return f"{name} {found:.1e}, above the tolerance {solution.tolerance:.0e}"
        if not _close(reported, found, most + REPORTED * abs(found)):
            return f"{name} {reported:.1e} kept, {found:.1e} found"
    return ""


def _measured(
    own: Solution, discrete: DiscreteProblem, w: np.ndarray, mu: np.ndarray
) -> tuple[float, Measures]:
    """The value at stored controls and multipliers, and the measures as a solve reports them."""
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.minimise.multipliers import Multipliers

    evaluator = Evaluator(discrete, dtype=str(own.options.get("dtype", "float64")))
    at = evaluator.trajectory(w, Multipliers(mu))
    value = at.value - (float(mu @ at.constraints) if mu.any() else 0.0)
    at = generalised(discrete, w, at, own.tolerance)
    return float(value), Measures.at(discrete, w, mu, at)


def _close(kept: float, found: float, most: float) -> bool:
    """Whether two numbers agree; what is not a number agrees with the like."""
    same = kept == found or (np.isnan(kept) and np.isnan(found))
    return bool(same or abs(kept - found) <= most)
