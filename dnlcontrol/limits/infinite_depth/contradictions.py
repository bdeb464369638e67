"""Contradictory declarations about the layers beyond the known ones.

A contradiction is an error, whatever the layers are.

Each declaration bounds p_k or β_k, from above or from below, and a pair may not cross [derived]:

    tail             p_k <= m_k
    minorant         p_k >= m_k
    NonnegativeTail  p_k >= ‖A_k‖ >= increments
                     (the branch is A_k x + c_k on x >= 0, ‖A_k‖ <= p_k, ‖c_k‖ <= β_k)
    Decay            p_k >= d_k: plain 1 - d_k >= ‖W_k‖ >= 1 - p_k,
                     residual ‖x + f_k(x)‖ >= (1 - p_k)‖x‖ - β_k, large x;
                     p_k <= 2 - d_k (plain)
    Contraction      | p_k - ‖W - I‖ | <= ω_k, | β_k - ‖b‖ | <= ν_k,
                     also with one inner layer (W the limit of I + W_k)

Decay with NonnegativeTail: x + f_k(x) >= x for x >= 0, and ‖W_k‖ >= 1, so that no d_k > 0 is left,
while Σ d_k = ∞.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.declarations import SLACK, Case
from dnlcontrol.limits.infinite_depth.hypotheses import Contraction, Decay, NonnegativeTail
from dnlcontrol.limits.infinite_depth.majorants import Bound
from dnlcontrol.limits.infinite_depth.operators import Matrix, Operator
from dnlcontrol.limits.infinite_depth.rounding import LARGEST_SVD, vector_norm

COLUMNS = 64  # columns looked at of a large convolution or Toeplitz map, whose matrix would not fit


@dataclass(frozen=True, eq=False)
class Side:
    """A bound of p_k or of β_k.

    at : k -> its value; summed : of an upper one, its sum is finite; of a lower one, infinite;
    limit : an upper one tends to 0; a lower one stays away from 0.
    """

    name: str
    at: Callable[[int], float]
    summed: bool
    limit: bool


def check_contradictions(case: Case) -> None:
    """InputError where no layers at all satisfy what is declared."""
    given = case.given
    decay: Decay | None = given.get(Decay)
    limit: Contraction | None = given.get(Contraction)
    if decay is not None:
        for k in case.probes:
            if decay.gaps.at(k) > 1 + SLACK:
                seen = f"{decay.gaps.at(k):.6g}"
                checks.reject(f"Decay.gaps at layer {k}", seen, "at most 1: norms are not negative")
    if NonnegativeTail in given and decay is not None:
        seen = "Decay and NonnegativeTail: the state shrinks and only grows"
        checks.reject("hypotheses", seen, "one of them")
    if NonnegativeTail in given and limit is not None:
        least = min(excess(limit.operator).min(), limit.bias.min())
        if least < 0:
            seen = f"Contraction with an entry {least:.6g} of W - I or b, and NonnegativeTail"
            checks.reject("hypotheses", seen, "limits W - I >= 0 and b >= 0")
    if decay is not None and limit is not None:
        _decaying_limit(case, decay, limit)
    for above, below in (_weights(case), _biases(case)):
        for one in above:
            for two in below:
                _cross(case, one, two)


def _cross(case: Case, above: Side, below: Side) -> None:
    names = f"{above.name} and {below.name}"
    if above.summed and below.summed:
        checks.reject(
            names, "a finite sum above an infinite one", "declarations that can hold together"
        )
    if above.limit and below.limit:
        checks.reject(
            names,
            "a sequence that tends to 0 above one that does not",
            "declarations that can hold together",
        )
    for k in case.probes:
        most, least = above.at(k), below.at(k)
        if least > most * (1 + SLACK) + 1e-14:
            checks.reject(
                f"{names} at layer {k}",
                f"at most {most:.6g} and at least {least:.6g}",
                "bounds that hold",
            )


def _weights(case: Case) -> tuple[list[Side], list[Side]]:
    """Bounds of p_k from above and from below."""
    above, below = _sides(case, "weights")
    decay: Decay | None = case.given.get(Decay)
    if decay is not None:
        gaps = decay.gaps
        below.append(Side("Decay", gaps.at, gaps.diverges, gaps.stays_away))
        if not case.stack.residual:
            above.append(Side("Decay", lambda k: 2 - gaps.at(k), False, False))
    limit: Contraction | None = case.given.get(Contraction)
    if limit is not None:
        size = limit.operator.off_identity(case.norm), least_norm(excess(limit.operator), case.norm)
        _near("Contraction.weight", size, limit.weights, (above, below))
    return above, below


def _biases(case: Case) -> tuple[list[Side], list[Side]]:
    """Bounds of β_k from above and from below."""
    above, below = _sides(case, "biases")
    limit: Contraction | None = case.given.get(Contraction)
    if limit is not None:
        size = vector_norm(limit.bias, case.norm)
        _near("Contraction.bias", (size, size * (1 - SLACK)), limit.biases, (above, below))
    return above, below


def _sides(case: Case, which: str) -> tuple[list[Side], list[Side]]:
    """The declared sequences."""
    tail: Bound | None = getattr(case.tail, which)
    grown = case.given.get(NonnegativeTail, NonnegativeTail())
    own = "increments" if which == "weights" else "shifts"
    lower = [
        (f"minorant.{which}", getattr(case.minorant, which)),
        (f"NonnegativeTail.{own}", getattr(grown, own)),
    ]
    above = [] if tail is None else [Side(f"tail.{which}", tail.at, tail.summable, tail.vanishes)]
    return above, [Side(name, b.at, b.diverges, b.stays_away) for name, b in lower if b is not None]


def _near(name: str, size: tuple[float, float], drift: Bound, sides: Sequence[list[Side]]) -> None:
    """A norm within drift of a limit, whose upper and lower bounds are ``size``."""
    above, below = sides
    most, least = size
    above.append(Side(name, lambda k: most + drift.at(k), most == 0 and drift.summable, most == 0))
    below.append(Side(name, lambda k: least - drift.at(k), least > 0, least > 0))


def _decaying_limit(case: Case, decay: Decay, limit: Contraction) -> None:
    """‖W_k‖ <= 1 - d_k (residual: on large x >= 0, here unit vectors) and ‖W_k - W‖ <= ω_k."""
    W = seen_columns(limit.operator)[0]
    columns = max(float(np.linalg.norm(w, case.norm)) for w in W.T) * (1 - SLACK)
    size = columns if case.stack.residual else least_norm(W, case.norm)
    for k in case.probes:
        if size - limit.weights.at(k) > 1 - decay.gaps.at(k) + SLACK:
            seen = (
                f"‖W‖ >= {size:.6g} within {limit.weights.at(k):.6g}, and d = "
                f"{decay.gaps.at(k):.6g}"
            )
            checks.reject(f"Contraction and Decay at layer {k}", seen, "‖W_k‖ <= 1 - d_k")
    if size > 1 + SLACK:
        checks.reject("Contraction and Decay", f"‖W‖ >= {size:.6g}", "at most 1")


def away_from_identity(limit: Contraction) -> bool:
    """W != I or b != 0 is known."""
    return bool(excess(limit.operator).any() or limit.bias.any())


def excess(W: Operator) -> np.ndarray:
    """Columns of W - I, (rows, k); a part of them has no larger norm."""
    columns, unit = seen_columns(W)
    return columns - unit


def seen_columns(W: Operator) -> tuple[np.ndarray, np.ndarray]:
    """Columns of W, (rows, k), all of them unless W is large, and those of I."""
    if isinstance(W, Matrix) or W.columns <= LARGEST_SVD:
        return W.matrix(), np.eye(W.columns)
    unit = np.zeros((COLUMNS, W.columns))
    unit[np.arange(COLUMNS), np.random.default_rng(0).choice(W.columns, COLUMNS, replace=False)] = (
        1.0
    )
    return W.apply(unit).T, unit.T


def least_norm(A: np.ndarray, norm: float) -> float:
    """A lower bound of the induced norm.

    The norm itself, or for large matrices in the 2-norm the largest entry.
    """
    if norm == 2 and max(A.shape) > LARGEST_SVD:
        return float(np.abs(A).max(initial=0.0))
    return float(np.linalg.norm(A, norm)) * (1 - SLACK)
