"""What a user may declare about the layers beyond the known ones.

Each declaration is listed in the report it enters. None can be deduced from a finite prefix. What
the known layers (and, for a rule, some layers beyond) can contradict is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.majorants import Bound, Zero
from dnlcontrol.limits.infinite_depth.operators import Operator, as_operator


@dataclass(frozen=True)
class NonnegativeTail:
    """For all k > n the width stays, W_k - I >= 0 and b_k >= 0 entry by entry.

    A non-negative state only grows. With a declared non-summable minorant it diverges [derived]:
    then x^k = x^{k-1} + A_k x^{k-1} + c_k with A_k = W_k - I and c_k = b_k, so that Σ ‖c_k‖ = ∞
    sends an entry to infinity, and so does Σ ‖A_k‖ = ∞ when every entry of the state is positive.

    Residual stacks: every W^{k,m} >= 0 and b^{k,m} >= 0. No activation then cuts, and the same
    holds with A_k = W^{k,M}...W^{k,1} and c_k = Σ_m W^{k,M}...W^{k,m+1} b^{k,m}. Minorants of p_k
    and β_k, products of norms, say nothing about these (W^{k,2} W^{k,1} may be 0): what is to be
    used is declared here.

    Parameters
    ----------
    increments, shifts : minorants of ‖A_k‖ and of ‖c_k‖; of a plain stack they are those of p_k and
        β_k.
    """

    increments: Bound | None = None
    shifts: Bound | None = None

    def __post_init__(self) -> None:
        for name, bound in (("increments", self.increments), ("shifts", self.shifts)):
            if bound is not None and not isinstance(bound, Bound):
                checks.reject_type(name, bound, "PowerLaw, Geometric, Zero, Declared or None")


@dataclass(frozen=True)
class Decay:
    """‖W_k‖ <= 1 - d_k for all k > n with Σ d_k = ∞.

    With Σ ‖b_k‖ < ∞ the network converges to 0 [derived].

    ‖x^k‖ <= (1 - d_k) ‖x^{k-1}‖ + β_k, whose solutions tend to 0. For residual stacks this line
    itself is declared: ‖x + f_k(x)‖ <= (1 - d_k) ‖x‖ + β_k for every x >= 0 (for every x if the
    slope is positive), f_k the branch. With one inner layer ‖I + W_k‖ <= 1 - d_k does; with more no
    bound of the norms can give it.
    """

    gaps: Bound

    def __post_init__(self) -> None:
        if not isinstance(self.gaps, Bound):
            checks.reject_type("gaps", self.gaps, "PowerLaw, Geometric, Zero or Declared")
        if not self.gaps.diverges:
            checks.reject("gaps", str(self.gaps), "a non-summable sequence")


@dataclass(frozen=True, eq=False)
class Contraction:
    """W_k -> W, b_k -> b with q ‖W‖ < 1, q the Lipschitz constant of σ.

    The limit is the fixed point x* = σ(W x* + b), the same for every input: a degenerate limit. A
    posteriori, ‖x^n - x*‖ <= ‖x^n - σ(W x^n + b)‖ / (1 - q ‖W‖) [derived]. A residual stack with
    one inner layer is the plain stack of I + W_k, and W is the limit of that.

    Parameters
    ----------
    weight, bias : the limits W, b.
    weights, biases : majorants of ‖W_k - W‖ and ‖b_k - b‖, which tend to 0.
    """

    weight: Any
    bias: Any = None
    weights: Bound = field(default_factory=Zero)
    biases: Bound = field(default_factory=Zero)

    def __post_init__(self) -> None:
        operator = as_operator("weight", self.weight)
        if operator.rows != operator.columns:
            checks.reject("weight", f"{operator.rows} by {operator.columns}", "a square map")
        object.__setattr__(self, "weight", operator)
        object.__setattr__(self, "bias", operator.bias("bias", self.bias))
        for name, bound in (("weights", self.weights), ("biases", self.biases)):
            if not isinstance(bound, Bound):
                checks.reject_type(name, bound, "PowerLaw, Geometric, Zero or Declared")
            if not bound.vanishes:
                checks.reject(name, str(bound), "a sequence that tends to 0")

    @property
    def operator(self) -> Operator:
        assert isinstance(self.weight, Operator)
        return self.weight


@dataclass(frozen=True)
class PositiveLimits:
    """At m + 1 inputs N_n converges, to strictly positive and affinely independent limits.

    m is the width. Then W_n -> I and b_n -> 0 are necessary [derived; the idea is in Xu, Zhang,
    arXiv 2107.12530]: with the limits all entries are active from some n on, [W_n b_n] [X; 1] = X'
    and [X; 1] has a nonsingular limit.

    Residual stacks: what is necessary is that the branch vanishes along the m + 1 paths,
    f_n(x^{n-1}) -> 0 [derived]; with one inner layer this is W_n -> 0 and b_n -> 0, as for the
    plain stack of I + W_n.
    """


@dataclass(frozen=True, eq=False)
class RegularDomain:
    """Points of one activation domain at every depth, with nonsingular limits of the products.

    The points share their activation domain at every depth, the products J_n W_n ... J_1 W_1 have a
    nonsingular limit and N_n converges at these m + 1 affinely independent points.

    Then W_n -> I and b_n -> 0 are necessary for ReLU [derived]: J_n W_n -> I with J_n in {0, 1}
    makes J_n = I. The products alone are not enough: W_n = I, b_n = -1.

    Residual stacks: inner activations included, f_n(y) = A_n y + c_n on the domain, the products
    are those of J_n (I + A_n), and A_n -> 0 and c_n -> 0 are necessary; with one inner layer A_n =
    W_n, c_n = b_n [derived].

    Parameters
    ----------
    points : (m + 1, m), affinely independent.
    """

    points: Any

    def __post_init__(self) -> None:
        points = checks.numbers("points", self.points)
        if points.ndim != 2 or points.shape[0] != points.shape[1] + 1:
            checks.reject("points", points, "shape (m + 1, m), m the width")
        if np.linalg.matrix_rank(np.column_stack([points, np.ones(len(points))])) < len(points):
            checks.reject("points", points, "affinely independent points")
        object.__setattr__(self, "points", points)


Hypothesis = NonnegativeTail | Decay | Contraction | PositiveLimits | RegularDomain


def as_hypotheses(value: Hypothesis | Iterable[object]) -> dict[type, Any]:
    """One of each kind at most, by kind; a single hypothesis may stand alone.

    Raises
    ------
    InputError for what is no hypothesis, and for two of one kind.
    """
    allowed = "a hypothesis, or a list of them"
    alone = isinstance(value, Hypothesis)
    given = [value] if alone else checks.listed("hypotheses", value, allowed)
    kinds: dict[type, Any] = {}
    for hypothesis in given:
        if not isinstance(hypothesis, Hypothesis):
            checks.reject_type(
                "hypotheses",
                hypothesis,
                "NonnegativeTail, Decay, Contraction, PositiveLimits or RegularDomain",
            )
        if type(hypothesis) in kinds:
            checks.reject("hypotheses", f"two of {type(hypothesis).__name__}", "one of each kind")
        kinds[type(hypothesis)] = hypothesis
    return kinds
