"""Verdicts on the condition and on the network, of section 9 of the theory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D
from tests.limits.infinite_depth.cases import DEEP, HARMONIC, ONE

# rule, x, the truth, declarations (tail, minorant, hypotheses), condition and network with all of
# them
EXAMPLES = {
    "W = 0, b = c": (
        lambda k: (0.0, 2.0),
        1.0,
        "converges",
        (None, D.Tail(weights=ONE), D.Contraction(0.0, 2.0)),
        ("violated", "converges"),
    ),
    "W = 1 - 1/(n+1)": (
        lambda k: (1 - 1 / (k + 1), None),
        1.0,
        "converges",
        (D.Tail(None, D.Zero()), D.Tail(weights=D.PowerLaw(0.5, 1)), D.Decay(D.PowerLaw(0.5, 1))),
        ("violated", "converges"),
    ),
    "W = 1 + 1/n, b = 0, x > 0": (
        lambda k: (1 + 1 / k, None),
        1.0,
        "diverges",
        (None, D.Tail(weights=HARMONIC), D.NonnegativeTail()),
        ("violated", "diverges"),
    ),
    "W = 1, b = 1/n": (
        lambda k: (1.0, 1 / k),
        1.0,
        "diverges",
        (None, D.Tail(biases=HARMONIC), D.NonnegativeTail()),
        ("violated", "diverges"),
    ),
    "W = 1 + 1/n, x < 0": (  # the first layer leaves 0, which stays
        lambda k: (1 + 1 / k, None),
        -1.0,
        "converges",
        (None, D.Tail(weights=HARMONIC), D.NonnegativeTail()),
        ("violated", "undecided"),
    ),
    "W = 1, b = -1": (
        lambda k: (1.0, -1.0),
        3.5,
        "converges",
        (None, D.Tail(biases=ONE), ()),
        ("violated", "undecided"),
    ),
    "W = 1 + 1/n²": (
        lambda k: (1 + 1 / k**2, 0.0),
        1.0,
        "converges",
        (D.Tail(D.PowerLaw(1, 2), D.Zero()), None, D.NonnegativeTail()),
        ("satisfied", "converges"),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_verdicts_of_the_scalar_examples_are_true(name):
    """The verdicts of theory.md section 9.

    With fewer declarations a verdict weakens and is never wrong.
    """
    rule, x, truth, declared, verdicts = EXAMPLES[name]
    for kept in itertools.product((False, True), repeat=3):
        tail, minorant, hypotheses = (
            d if k else e for d, k, e in zip(declared, kept, (None, None, ()), strict=True)
        )
        report = D.certify(
            D.from_rule(rule), x, depth=10, tail=tail, minorant=minorant, hypotheses=hypotheses
        )
        assert report.network in (truth, "undecided")
        assert report.condition in (verdicts[0], "undecidable")
        if all(kept):
            assert (report.condition, report.network) == verdicts
        if not any(kept):
            assert (report.condition, report.network) == ("undecidable", "undecided")
            assert report.bound == np.inf
            assert report.vacuous
            assert report.depth_for(1e-3) is None
        assert report.degenerate <= (report.network == "converges")


NILPOTENT = [[[0.0, 1.0], [0.0, 0.0]]] * 2

# rule of two inner layers, or one; x, the truth, declarations, condition and network with all of
# them
RESIDUAL = {
    "W² W¹ = 1/n": (
        lambda k: ([k**-0.5] * 2, None),
        1.0,
        "diverges",
        (None, None, D.NonnegativeTail(increments=HARMONIC)),
        ("violated", "diverges"),
    ),
    "W² b¹ = 1/n": (
        lambda k: ([0.0, 1 / k], [1.0, 0.0]),
        0.0,
        "diverges",
        (None, None, D.NonnegativeTail(shifts=HARMONIC)),
        ("violated", "diverges"),
    ),
    "W² W¹ = 0, ‖W²‖ ‖W¹‖ = 1": (  # minorants of p_k prove no growth
        lambda k: (NILPOTENT, None),
        [1.0, 1.0],
        "converges",
        (None, D.Tail(weights=ONE), D.NonnegativeTail()),
        ("violated", "undecided"),
    ),
    "x (1 - 1/(n+1))": (
        lambda k: ([1.0, -1 / (k + 1)], None),
        1.0,
        "converges",
        (D.Tail(None, D.Zero()), D.Tail(weights=D.PowerLaw(0.5, 1)), D.Decay(D.PowerLaw(0.5, 1))),
        ("violated", "converges"),
    ),
    "W = -1, b = c": (
        lambda k: ([-1.0], [2.0]),
        1.0,
        "converges",
        (None, D.Tail(weights=ONE), D.Contraction(0.0, 2.0)),
        ("violated", "converges"),
    ),
    "W² W¹ = 1/n²": (
        lambda k: ([1 / k, 1 / k], None),
        1.0,
        "converges",
        (D.Tail(D.PowerLaw(1, 2), D.Zero()), None, D.NonnegativeTail()),
        ("satisfied", "converges"),
    ),
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_verdicts_of_residual_blocks_are_true(name):
    """As for the scalar examples: a verdict weakens and is never wrong, and the bound holds.

    It weakens with fewer declarations.
    """
    rule, x, truth, declared, verdicts = RESIDUAL[name]
    stack = D.from_rule(rule, residual=True)
    for kept in itertools.product((False, True), repeat=3):
        tail, minorant, hypotheses = (
            d if k else e for d, k, e in zip(declared, kept, (None, None, ()), strict=True)
        )
        report = D.certify(stack, x, depth=10, tail=tail, minorant=minorant, hypotheses=hypotheses)
        assert report.network in (truth, "undecided")
        assert report.condition in (verdicts[0], "undecidable")
        if all(kept):
            assert (report.condition, report.network) == verdicts
        if report.network == "converges":
            assert np.abs(stack(x, DEEP) - stack(x, 10)).max() <= report.bound * (1 + 1e-12)
        assert np.isfinite(report.bound) == (report.network == "converges")


def test_a_finite_prefix_extends_both_ways():
    stack = D.Stack([np.eye(2)] * 5)
    x = np.ones(2)
    assert D.certify(stack, x).condition == "undecidable"
    assert D.certify(stack, x).network == "undecided"
    assert D.certify(stack, x, tail=D.PowerLaw(1, 2)).network == "converges"
    growing = D.certify(stack, x, minorant=D.Tail(weights=HARMONIC), hypotheses=D.NonnegativeTail())
    assert (growing.condition, growing.network) == ("violated", "diverges")
    assert D.certify(stack, x, minorant=D.Tail(weights=HARMONIC)).network == "undecided"
    # an infinite majorant says nothing
    assert D.certify(stack, x, tail=D.PowerLaw(1, 1)).condition == "undecidable"
    half = D.certify(stack, x, tail=D.Tail(weights=D.Zero()))
    assert half.condition == "undecidable"
    assert any("p_k <= 0" in text for text in half.assumptions)


@pytest.mark.parametrize("slope", [0.0, 0.5])
@pytest.mark.parametrize("residual", [False, True])
def test_no_verdict_says_more_than_its_assumptions(slope, residual):
    """Every combination of declarations: each verdict only with those that prove it, all listed.

    Of residual stacks minorants of p_k and β_k prove no growth.
    """
    one = [np.eye(2)] if residual else np.eye(2)
    stack = D.Stack([one], slope=slope, residual=residual)
    bounds = (None, D.PowerLaw(1, 2), HARMONIC)
    hypotheses = [D.NonnegativeTail(), D.Decay(HARMONIC)]
    chosen = [h for r in range(3) for h in itertools.combinations(hypotheses, r)]
    for p, beta, low_p, low_beta, given in itertools.product(
        bounds, bounds, bounds, bounds, chosen
    ):
        tail, minorant = D.Tail(p, beta), D.Tail(low_p, low_beta)
        contradictory = any(
            above is not None and below is not None and above.summable and below.diverges
            for above, below in (
                (p, low_p),
                (beta, low_beta),
                (p, HARMONIC if hypotheses[1] in given else None),
            )
        )
        if contradictory or len(given) == 2:
            with pytest.raises(dnl.InputError, match=r"finite sum|Decay and NonnegativeTail"):
                D.certify(stack, np.ones(2), tail=tail, minorant=minorant, hypotheses=given)
            continue
        report = D.certify(stack, np.ones(2), tail=tail, minorant=minorant, hypotheses=given)
        finite = all(b is not None and b.summable for b in (p, beta))
        infinite = any(b is not None and b.diverges for b in (low_p, low_beta))
        decays = hypotheses[1] in given and beta is not None and beta.summable
        assert report.condition == (
            "satisfied" if finite else "violated" if infinite else "undecidable"
        )
        expected = "converges" if finite or decays else "undecided"
        if expected == "undecided" and infinite and hypotheses[0] in given and not residual:
            expected = "diverges"
        assert report.network == expected
        assert np.isfinite(report.bound) == (report.network == "converges")
        declared = sum(b is not None for b in (p, beta, low_p, low_beta)) + len(given)
        assert sum("declared" in text for text in report.assumptions) >= declared
