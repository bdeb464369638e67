"""Two separate verdicts, each with the assumptions it rests on.

condition  of the sufficient condition Σ p_k < ∞, Σ β_k < ∞ (an activation of one's own: q ‖W‖ < 1, W_k -> W, b_k -> b)
           satisfied      finite declared tails
           violated       a declared non-summable minorant
           undecidable    otherwise: a finite prefix extends both ways
network    converges, diverges, or undecided, at the point x. A violated condition is never "diverges".

Sufficiency of the condition: Xu, Zhang, arXiv 2107.12530 (plain), Huang, Zhang, arXiv 2205.06571 (residual) [paper];
the other criteria are those of the hypotheses [derived].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.certificates.depth.affine import affine_form
from dnlcontrol.certificates.depth.hypotheses import Contraction, Decay, NonnegativeTail, PositiveLimits, RegularDomain
from dnlcontrol.certificates.depth.majorants import Bound, Tail
from dnlcontrol.certificates.depth.path import Path
from dnlcontrol.certificates.depth.rounding import up, vector_norm
from dnlcontrol.certificates.depth.stacks import Layer, Stack

PROBES = (*range(1, 9), *(2**j for j in range(4, 13)))  # layers n + i of a rule that are compared with declarations
SLACK = 1e-9  # a probe contradicts a declaration only beyond this relative difference: norms are rounded up


@dataclass(frozen=True)
class Verdicts:
    """See the module; ``degenerate``: the limit does not depend on the input."""

    condition: str
    network: str
    degenerate: bool
    necessary: str
    assumptions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """What is to be decided: the stack known to layer n, what is declared beyond, the evaluation at x if any."""

    stack: Stack
    n: int
    norm: float
    tail: Tail
    minorant: Tail
    given: dict[type, Any]
    path: Path | None


def check_declarations(case: Case) -> int:
    """Compare what is declared with layers of a rule beyond n; the number of layers looked at."""
    tail, minorant = case.tail, case.minorant
    for name, above, below in (("weights", tail.weights, minorant.weights), ("biases", tail.biases, minorant.biases)):
        if above is not None and below is not None and above.summable and below.diverges:
            seen = f"{above} above {below}"
            checks.reject(f"tail and minorant of the {name}", seen, "not a finite sum above an infinite one")
    if case.stack.depth is not None:
        return 0
    for k in (case.n + i for i in PROBES):
        layer = case.stack.layer(k)
        p, beta = layer.perturbation(case.norm), layer.bias(case.norm)
        _bounded("tail.weights", k, p, tail.weights, above=True)
        _bounded("tail.biases", k, beta, tail.biases, above=True)
        _bounded("minorant.weights", k, p, minorant.weights, above=False)
        _bounded("minorant.biases", k, beta, minorant.biases, above=False)
        if isinstance(layer, Layer):
            _check_layer(k, layer, case.norm, case.given)
    return len(PROBES)


def _bounded(name: str, k: int, seen: float, bound: Bound | None, above: bool) -> None:
    if bound is None:
        return
    m = bound.at(k)
    if seen > m * (1 + SLACK) + 1e-14 if above else seen < m * (1 - SLACK) - 1e-14:
        allowed = f"at {'most' if above else 'least'} {m:.6g}, as declared"
        checks.reject(f"{name} at layer {k}", f"{seen:.6g} in the layer", allowed)


def _check_layer(k: int, plain: Layer, norm: float, given: dict[type, Any]) -> None:
    if NonnegativeTail in given and plain.rows != plain.columns:
        checks.reject(f"NonnegativeTail at layer {k}", f"{plain.columns} -> {plain.rows}", "a width that stays")
    if NonnegativeTail in given and (plain.weight.least_excess() < 0 or plain.shift.min() < 0):
        checks.reject(f"NonnegativeTail at layer {k}", "a negative entry of W - I or b", "none")
    if Decay in given:
        gap = given[Decay].gaps.at(k)
        if plain.weight.norm(norm) > (1 - gap) + SLACK:
            checks.reject(f"Decay at layer {k}", f"‖W‖ = {plain.weight.norm(norm):.6g}", f"at most 1 - {gap:.6g}")
    if Contraction in given:
        limit: Contraction = given[Contraction]
        drift = vector_norm(plain.shift - limit.bias, norm)
        if drift > limit.biases.at(k) * (1 + SLACK) + 1e-14:
            checks.reject(f"Contraction.biases at layer {k}", f"‖b_k - b‖ = {drift:.6g}", f"{limit.biases.at(k):.6g}")
        difference = plain.weight.matrix() - limit.operator.matrix()
        if np.abs(difference).max() > limit.weights.at(k) * (1 + SLACK) + 1e-14:  # a lower bound of the norm
            checks.reject(f"Contraction.weights at layer {k}", "‖W_k - W‖ larger", f"{limit.weights.at(k):.6g}")


def decide(case: Case) -> Verdicts:
    """The verdicts, and every assumption that they rest on."""
    given, tail, relu = case.given, case.tail, case.stack.activation.piecewise_linear
    notes = _declared(case, check_declarations(case))
    network, degenerate = "undecided", False
    condition = _condition(tail, case.minorant) if relu else "undecidable"
    if not relu:
        notes.append(
            "the summability condition is for max(u, a u); for this activation only a contraction is looked at"
        )
    elif condition == "undecidable":
        notes.append("a finite prefix decides nothing: the same layers extend to convergent and divergent stacks")
    if condition == "satisfied":
        network = "converges"
    if Contraction in given and _contracts(case.stack, given[Contraction], case.norm, notes):
        network, degenerate = "converges", True
        condition = condition if relu else "satisfied"
    unused = [h.__name__ for h in (Decay, NonnegativeTail) if h in given and (case.stack.residual or not relu)]
    if unused:
        notes.append(f"{' and '.join(unused)}: not used, for plain stacks with max(u, a u) only")
    elif Decay in given:
        notes.append(f"declared: ‖W_k‖ <= 1 - d_k with d_k = {given[Decay].gaps} for all k > {case.n}")
        if tail.biases is not None and tail.biases.summable:
            network, degenerate = "converges", True
    if NonnegativeTail in given and not unused:
        notes.append(f"declared: the width stays, W_k - I >= 0 and b_k >= 0 entry by entry for all k > {case.n}")
        if network == "undecided" and _grows(case, notes):
            network = "diverges"
    necessary, statement = _necessary(case)
    return Verdicts(condition, network, degenerate, necessary, (*notes, statement))


def _declared(case: Case, probed: int) -> list[str]:
    notes = [
        f"declared {what}: {name} {sign} {bound} for all k > {case.n}"
        for what, pair, sign in (("majorant", case.tail, "<="), ("minorant", case.minorant, ">="))
        for name, bound in (("p_k", pair.weights), ("β_k", pair.biases))
        if bound is not None
    ]
    if probed:
        notes.append(f"declarations beyond layer {case.n} were compared with {probed} layers of the rule, not with all")
    return notes


def _condition(tail: Tail, minorant: Tail) -> str:
    if tail.summable:
        return "satisfied"
    if any(bound is not None and bound.diverges for bound in (minorant.weights, minorant.biases)):
        return "violated"
    return "undecidable"


def _contracts(stack: Stack, limit: Contraction, norm: float, notes: list[str]) -> bool:
    if stack.residual:
        checks.reject("hypotheses", "Contraction of a residual stack", "a plain stack")
    rate = float(up(stack.activation.lipschitz * limit.operator.norm(norm)))
    notes.append(f"declared: W_k -> W and b_k -> b, majorants {limit.weights} and {limit.biases}; q ‖W‖ <= {rate:.6g}")
    if stack.activation.function is not None:
        notes.append(f"declared: the activation has the Lipschitz constant {stack.activation.lipschitz:g}")
    if rate < 1:
        notes.append("contraction: the limit is a fixed point independent of x; the network forgets its input")
    return rate < 1


def _grows(case: Case, notes: list[str]) -> bool:
    """Divergence from a non-negative state at layer n; see NonnegativeTail."""
    path, n, minorant, stack = case.path, case.n, case.minorant, case.stack
    if path is None or stack.residual:
        return False
    state, error = path.states[n], path.rounding[n] + path.spread[n]
    sure = bool(state.min() > error)  # every norm here bounds the largest entry
    relu = stack.activation.slope == 0 and n >= 1
    if not (sure or relu or (n == 0 and path.spread[0] == 0 and state.min() >= 0)):
        return False
    if minorant.biases is not None and minorant.biases.diverges:
        notes.append(f"the state at layer {n} is non-negative, so that it never decreases, and Σ ‖b_k‖ = ∞")
        return True
    if minorant.weights is not None and minorant.weights.diverges and sure:
        notes.append(f"the state at layer {n} is positive in every entry, so that it never decreases, and Σ ‖P_k‖ = ∞")
        return True
    return False


def _necessary(case: Case) -> tuple[str, str]:
    """The conditions W_n -> I, b_n -> 0 under a hypothesis that makes them necessary."""
    stack, tail, minorant = case.stack, case.tail, case.minorant
    hypothesis = case.given.get(PositiveLimits, case.given.get(RegularDomain))
    if hypothesis is None:
        text = "W_n -> I and b_n -> 0 are not necessary without a hypothesis: W_n = 0, b_n = c >= 0 converges"
        return "not examined", text
    if stack.residual or not stack.activation.piecewise_linear:
        checks.reject("hypotheses", type(hypothesis).__name__, "a plain stack with max(u, a u)")
    if isinstance(hypothesis, RegularDomain) and 0 < stack.activation.slope < 1:
        checks.reject("hypotheses", "RegularDomain of a leaky stack", "ReLU: J_n = a I, W_n = I/a has J_n W_n = I")
    text = f"under {type(hypothesis).__name__} W_n -> I and b_n -> 0 are necessary"
    if isinstance(hypothesis, RegularDomain) and not _one_domain(stack, case.n, hypothesis):
        return "hypothesis fails", f"{text}; but the points lie in different domains, or a product is singular"
    if any(bound is not None and bound.stays_away for bound in (minorant.weights, minorant.biases)):
        return "violated", f"{text}; a declared minorant stays away from 0: N_n cannot converge as the hypothesis says"
    if all(bound is not None and bound.vanishes for bound in (tail.weights, tail.biases)):
        return "satisfied", f"{text}; the declared majorants tend to 0"
    return "undecidable", f"{text}; nothing declared tells whether they hold"


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
    )  # fmt: skip
    square = first.matrix.shape[0] == first.matrix.shape[1]
    return bool(same and square and np.linalg.matrix_rank(first.matrix) == len(first.matrix))
