"""Two separate verdicts, each with the assumptions it rests on.

    condition  of the sufficient condition Σ p_k < ∞, Σ β_k < ∞
               (an activation of one's own: q ‖W‖ < 1, W_k -> W, b_k -> b)
               satisfied      finite declared tails
               violated       a declared non-summable minorant
               undecidable    otherwise: a finite prefix extends both ways
    network    converges, diverges, or undecided, at the point x.
               A violated condition is never "diverges".

Sufficiency of the condition: Xu, Zhang, arXiv 2107.12530 (plain), Huang, Zhang, arXiv 2205.06571
(residual) [paper]; the other criteria are those of the hypotheses [derived].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.affine import affine_form
from dnlcontrol.limits.infinite_depth.contradictions import away_from_identity, check_contradictions
from dnlcontrol.limits.infinite_depth.declarations import Case, check_declarations
from dnlcontrol.limits.infinite_depth.hypotheses import (
    Contraction,
    Decay,
    NonnegativeTail,
    PositiveLimits,
    RegularDomain,
)
from dnlcontrol.limits.infinite_depth.majorants import Bound, Tail
from dnlcontrol.limits.infinite_depth.rounding import up
from dnlcontrol.limits.infinite_depth.stacks import Stack


@dataclass(frozen=True)
class Verdicts:
    """See the module; ``degenerate``: the limit does not depend on the input."""

    condition: str
    network: str
    degenerate: bool
    necessary: str
    assumptions: tuple[str, ...]


def decide(case: Case) -> Verdicts:
    """The verdicts, and every assumption that they rest on."""
    given = case.given
    tail = case.tail
    relu = case.stack.activation.piecewise_linear
    if Contraction in given and case.stack.residual and max(case.inner) > 1:
        seen = f"Contraction of a residual stack, of blocks with {max(case.inner)} inner layers"
        checks.reject("hypotheses", seen, "a plain stack, or one with one inner layer")
    check_contradictions(case)
    notes = _declared(case, check_declarations(case))
    network, degenerate = "undecided", False
    condition = _condition(case) if relu else "undecidable"
    if not relu:
        notes.append(
            "the summability condition is for max(u, a u); for this activation only a "
            "contraction is looked at"
        )
    elif condition == "undecidable":
        notes.append(
            "a finite prefix decides nothing: the same layers extend to convergent and divergent "
            "stacks"
        )
    if condition == "satisfied":
        network = "converges"
    if Contraction in given and _contracts(case.stack, given[Contraction], case.norm, notes):
        network, degenerate = "converges", True
        condition = condition if relu else "satisfied"
    unused = [h.__name__ for h in (Decay, NonnegativeTail) if h in given and not relu]
    if unused:
        notes.append(f"{' and '.join(unused)}: not used, for max(u, a u) only")
    if Decay in given and relu:
        notes.append(_decay_note(case, given[Decay]))
        if tail.biases is not None and tail.biases.summable:
            network, degenerate = "converges", True
    if NonnegativeTail in given and relu:
        notes += _growth_notes(case)
        if network == "undecided" and _grows(case, notes):
            network = "diverges"
    necessary, statement = _necessary(case, degenerate)
    return Verdicts(condition, network, degenerate, necessary, (*notes, statement))


def _decay_note(case: Case, decay: Decay) -> str:
    what = (
        "‖x + f_k(x)‖ <= (1 - d_k)‖x‖ + β_k, f_k the branch,"
        if case.stack.residual
        else "‖W_k‖ <= 1 - d_k"
    )
    return f"declared: {what} with d_k = {decay.gaps} for all k > {case.n}"


def _growth_notes(case: Case) -> list[str]:
    what = "every inner W and b is" if max(case.inner) else "W_k - I and b_k are"
    if len(case.inner) > 1 and 0 in case.inner:
        what = "every inner W and b, of plain layers W - I and b, is"
    notes = [f"declared: the width stays, {what} non-negative entry by entry for all k > {case.n}"]
    given: NonnegativeTail = case.given[NonnegativeTail]
    pairs = (("‖A_k‖", given.increments), ("‖c_k‖", given.shifts))
    return notes + [
        f"declared minorant: {name} >= {m} for all k > {case.n}"
        for name, m in pairs
        if m is not None
    ]


def _declared(case: Case, probed: int) -> list[str]:
    notes = [
        f"declared {what}: {name} {sign} {bound} for all k > {case.n}"
        for what, pair, sign in (("majorant", case.tail, "<="), ("minorant", case.minorant, ">="))
        for name, bound in (("p_k", pair.weights), ("β_k", pair.biases))
        if bound is not None
    ]
    if probed:
        notes.append(
            f"declarations beyond layer {case.n} were compared with {probed} layers of the rule, "
            "not with all"
        )
    return notes


def _condition(case: Case) -> str:
    if case.tail.summable:
        return "satisfied"
    below = (case.minorant, case.growth)  # ‖A_k‖ <= p_k, ‖c_k‖ <= β_k
    if any(
        bound is not None and bound.diverges
        for pair in below
        for bound in (pair.weights, pair.biases)
    ):
        return "violated"
    return "undecidable"


def _contracts(stack: Stack, limit: Contraction, norm: float, notes: list[str]) -> bool:
    if stack.residual:
        notes.append(
            "declared: one inner layer at most; a block is then the plain layer of I + W_k, "
            "called W_k here"
        )
    rate = float(up(stack.activation.lipschitz * limit.operator.norm(norm)))
    notes.append(
        f"declared: W_k -> W and b_k -> b, majorants {limit.weights} and {limit.biases}; q ‖W‖ "
        f"<= {rate:.6g}"
    )
    if stack.activation.function is not None:
        notes.append(
            f"declared: the activation has the Lipschitz constant {stack.activation.lipschitz:g}"
        )
    if rate < 1:
        notes.append(
            "contraction: the limit is a fixed point independent of x; the network forgets its "
            "input"
        )
    return rate < 1


def _grows(case: Case, notes: list[str]) -> bool:
    """Divergence from a non-negative state at layer n; see NonnegativeTail."""
    path = case.path
    n = case.n
    growth = case.growth
    stack = case.stack
    if path is None:
        return False
    state, error = path.states[n], path.rounding[n] + path.spread[n]
    sure = bool(state.min() > error)  # every norm here bounds the largest entry
    relu = stack.activation.slope == 0 and n >= 1
    if not (sure or relu or (n == 0 and path.spread[0] == 0 and state.min() >= 0)):
        return False
    bias, weight = ("c_k", "A_k") if stack.residual else ("b_k", "P_k")
    if growth.biases is not None and growth.biases.diverges:
        notes.append(
            f"the state at layer {n} is non-negative, so that it never decreases, and Σ ‖{bias}‖ "
            "= ∞"
        )
        return True
    if growth.weights is not None and growth.weights.diverges and sure:
        text = (
            f"the state at layer {n} is positive in every entry, so that it never decreases, "
            f"and Σ ‖{weight}‖ = ∞"
        )
        notes.append(text)
        return True
    return False


def _necessary(case: Case, degenerate: bool) -> tuple[str, str]:
    """The conditions W_n -> I, b_n -> 0 under a hypothesis that makes them necessary.

    Residual: the branch -> 0.
    """
    stack, tail = case.stack, case.tail
    hypothesis = case.given.get(PositiveLimits, case.given.get(RegularDomain))
    if hypothesis is None:
        text = (
            "W_n -> I and b_n -> 0 are not necessary without a hypothesis: W_n = 0, b_n = c "
            ">= 0 converges"
        )
        if max(case.inner):
            text = (
                "W_n -> 0 is not necessary without a hypothesis: W_n = -1, b_n = c >= 0 converges"
            )
        return "not examined", text
    if not stack.activation.piecewise_linear:
        checks.reject("hypotheses", type(hypothesis).__name__, "a stack with max(u, a u)")
    if isinstance(hypothesis, RegularDomain) and 0 < stack.activation.slope < 1:
        checks.reject(
            "hypotheses",
            "RegularDomain of a leaky stack",
            "ReLU: J_n = a I, W_n = I/a has J_n W_n = I",
        )
    text = f"under {type(hypothesis).__name__} {_what_is_necessary(case, hypothesis)}"
    if isinstance(hypothesis, RegularDomain) and not _one_domain(stack, case.n, hypothesis):
        return (
            "hypothesis fails",
            f"{text}; but the points lie in different domains, or a product is singular",
        )
    if degenerate:
        return "hypothesis fails", f"{text}; but the limit is the same for every input"
    limit: Contraction | None = case.given.get(Contraction)
    away = any(bound is not None and bound.stays_away for bound in _necessary_minorants(case))
    if away or (limit is not None and away_from_identity(limit)):
        return (
            "violated",
            f"{text}; what is declared stays away from that: N_n cannot converge as the "
            "hypothesis says",
        )
    if all(bound is not None and bound.vanishes for bound in (tail.weights, tail.biases)):
        return "satisfied", f"{text}; the declared majorants tend to 0"
    return "undecidable", f"{text}; nothing declared tells whether they hold"


def _what_is_necessary(case: Case, hypothesis: PositiveLimits | RegularDomain) -> str:
    if not case.stack.residual:
        return "W_n -> I and b_n -> 0 are necessary"
    texts = []
    if 0 in case.inner:
        texts.append("W_n -> I and b_n -> 0 are necessary (plain layers, also beyond)")
    if 1 in case.inner:
        texts.append(
            "W_n -> 0 and b_n -> 0 are necessary (blocks with one inner layer, also beyond)"
        )
    if max(case.inner) > 1 and isinstance(hypothesis, RegularDomain):
        text = (
            "A_n -> 0 and c_n -> 0 are necessary, the branch being A_n y + c_n on the domain "
            "(not W^{n,m} -> 0)"
        )
        texts.append(text)
    elif max(case.inner) > 1:
        texts.append(
            "f_n(x^{n-1}) -> 0 along the paths is necessary, f_n the branch (not W^{n,m} -> 0)"
        )
    return ", and ".join(texts)


def _necessary_minorants(case: Case) -> tuple[Bound | None, ...]:
    """Minorants of what has to vanish.

    With more inner layers only the increments of non-negative blocks have some. Under
    NonnegativeTail the branch is A_n x + c_n at every state x >= 0, and at positive limits it is at
    least as large as c_n and as A_n times the least entry.
    """
    known = case.minorant if max(case.inner) <= 1 else Tail()
    return known.weights, known.biases, case.growth.weights, case.growth.biases


def _one_domain(stack: Stack, n: int, hypothesis: RegularDomain) -> bool:
    """The points have one pattern in the known layers and its product is nonsingular."""
    points = hypothesis.points
    if points.shape[1] != stack.width:
        checks.reject("RegularDomain.points", points, f"shape ({stack.width + 1}, {stack.width})")
    forms = [affine_form(stack, point, n) for point in points]
    first = forms[0]
    same = all(
        np.array_equal(one, two)
        for form in forms[1:]
        for one, two in zip(first.patterns, form.patterns, strict=True)
    )
    square = first.matrix.shape[0] == first.matrix.shape[1]
    return bool(same and square and np.linalg.matrix_rank(first.matrix) == len(first.matrix))
