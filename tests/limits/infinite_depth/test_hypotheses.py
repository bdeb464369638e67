"""Necessary conditions hold under their hypotheses alone."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D
from tests.limits.infinite_depth.cases import EPS, ONE


def test_necessary_conditions_of_residual_blocks():
    """With one inner layer as for I + W; with more they speak of the branch.

    Norms bound the branch from above alone.
    """

    def necessary(rule, hypotheses, **declared):
        report = D.certify(
            D.from_rule(rule, residual=True), 1.0, depth=5, hypotheses=hypotheses, **declared
        )
        return report.necessary, report.assumptions[-2]

    away, gone = D.Tail(weights=ONE), D.Tail(D.PowerLaw(1, 2), D.Zero())
    assert necessary(lambda k: ([-1.0], [2.0]), (), minorant=away)[0] == "not examined"
    assert necessary(lambda k: ([-1.0], [2.0]), D.PositiveLimits(), minorant=away)[0] == "violated"
    told, text = necessary(lambda k: ([1.0, 1.0], None), D.PositiveLimits(), minorant=away)
    # W² σ(W¹ x) may vanish with ‖W²‖ ‖W¹‖ = 1
    assert told == "undecidable"
    assert "not W^{n,m} -> 0" in text
    grows = [D.PositiveLimits(), D.NonnegativeTail(increments=ONE)]
    assert necessary(lambda k: ([1.0, 1.0], None), grows)[0] == "violated"
    assert (
        necessary(lambda k: ([1 / k, 1 / k], None), D.PositiveLimits(), tail=gone)[0] == "satisfied"
    )
    points = D.RegularDomain([[1.0], [2.0]])
    told, text = necessary(lambda k: ([1 / k, 1 / k], None), points, tail=gone)
    assert told == "satisfied"
    assert "A_n" in text
    apart = D.RegularDomain([[1.0], [-2.0]])
    assert necessary(lambda k: ([1 / k, 1 / k], None), apart, tail=gone)[0] == "hypothesis fails"


def test_necessary_conditions_only_under_their_hypothesis():
    forgets = D.from_rule(lambda k: (0.0, 2.0), minorant=D.Tail(weights=ONE))
    assert D.certify(forgets, 1.0, depth=5).necessary == "not examined"
    assert D.certify(forgets, 1.0, depth=5, hypotheses=D.PositiveLimits()).necessary == "violated"
    points = [[1.0], [2.0]]
    falls = D.from_rule(lambda k: (1.0, -1.0), minorant=D.Tail(biases=ONE))
    assert (
        D.certify(falls, 9.0, depth=5, hypotheses=D.RegularDomain(points)).necessary
        == "hypothesis fails"
    )
    high = D.RegularDomain([[10.0], [20.0]])
    # W = I, b = -1: products are I, yet N_n does not converge
    report = D.certify(falls, 9.0, depth=5, hypotheses=high)
    assert report.necessary == "violated"
    assert "cannot converge" in report.assumptions[-2]
    assert (
        D.certify(forgets, 1.0, depth=5, hypotheses=D.RegularDomain(points)).necessary
        == "hypothesis fails"
    )
    good = D.from_rule(lambda k: (1 + 1 / k**2, None), tail=D.Tail(D.PowerLaw(1, 2), D.Zero()))
    assert D.certify(good, 1.0, depth=5, hypotheses=D.PositiveLimits()).necessary == "satisfied"
    plain = D.Stack([[[1.0]]])
    assert D.certify(plain, 1.0, hypotheses=D.PositiveLimits()).necessary == "undecidable"
    # σ(x/a) = x for x < 0: W_n = I/a is no perturbation of I
    with pytest.raises(dnl.InputError, match="leaky"):
        D.certify(D.Stack([[[2.0]]], slope=0.5), -1.0, hypotheses=D.RegularDomain([[-1.0], [-2.0]]))
    for points in (None, [[1.0]], [[1.0], [1.0]]):
        with pytest.raises(dnl.InputError, match="points"):
            D.RegularDomain(points)


def test_limits_of_points_determine_the_limits_of_the_weights():
    """[W_n b_n] = X_n [X_{n-1}; 1]^-1, with W_n -> I, b_n -> 0.

    For m + 1 positive, affinely independent states.
    """
    rng = np.random.default_rng(9)
    Q, v = rng.random((3, 3)), rng.random(3)  # states stay positive
    stack = D.from_rule(lambda k: (np.eye(3) + 0.3 * Q / k**2, 0.3 * v / k**2))
    X = 5 + rng.random((4, 3))
    before, after = stack(X, 60), stack(X, 61)
    both = np.linalg.solve(np.column_stack([before, np.ones(4)]), after).T
    W, b = stack.layer(61).weight.matrix(), stack.layer(61).shift
    condition = np.linalg.cond(np.column_stack([before, np.ones(4)]))
    np.testing.assert_allclose(both, np.column_stack([W, b]), atol=100 * EPS * condition)


def test_layers_beyond_may_differ_from_the_first():
    """A rule is looked at in more layers than the next.

    Later ones may have more inner layers, or be plain layers.
    """
    half = -0.5 * np.eye(2)

    def deeper(k):
        return ([half] * (1 if k == 1 else 2), None)

    contraction = D.Contraction(0.5 * np.eye(2), weights=D.PowerLaw(10, 1))
    with pytest.raises(dnl.InputError, match="one inner layer"):
        D.certify(D.from_rule(deeper, residual=True), np.ones(2), depth=0, hypotheses=contraction)

    def necessary(rule, hypothesis=None, **declared):
        stack = D.from_rule(rule, residual=True)
        hypotheses = (
            [D.PositiveLimits()] if hypothesis is None else [D.PositiveLimits(), hypothesis]
        )
        report = D.certify(stack, np.ones(2), depth=0, hypotheses=hypotheses, **declared)
        return report.necessary, report.assumptions[-2]

    text = necessary(lambda k: (np.eye(2), None))[1]
    assert "W_n -> I" in text
    assert "W_n -> 0" not in text
    text = necessary(lambda k: (np.eye(2), None) if k % 2 else ([half / k], None))[1]
    assert "W_n -> I" in text
    assert "W_n -> 0" in text
    text = necessary(deeper)[1]
    assert "W_n -> 0" in text
    assert "along the paths" in text
    # 0.5 I in plain layers, a contraction there too: N_n forgets x, so that the limits are not
    # independent
    told, text = necessary(lambda k: (0.5 * np.eye(2), None), D.Contraction(0.5 * np.eye(2)))
    assert told == "hypothesis fails"
    assert "same for every input" in text
    assert necessary(lambda k: (2 * np.eye(2), None), D.Contraction(2 * np.eye(2)))[0] == "violated"
    with pytest.raises(dnl.InputError, match="the width 3 of W"):
        necessary(lambda k: (np.eye(2), None), D.Contraction(np.eye(3)))
