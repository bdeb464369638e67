"""Declarations that no layers satisfy are told, and true ones never are."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.limits import infinite_depth as D
from tests.limits.infinite_depth.cases import HARMONIC, NORMS, ONE


@pytest.mark.parametrize(
    ("rule", "declared"),
    [
        (lambda k: (1 + 2 / k**2, None), {"tail": D.PowerLaw(1, 2)}),
        (lambda k: (1.0, 1 / k), {"tail": D.PowerLaw(1, 2)}),
        (lambda k: (1 + 1 / k**2, None), {"minorant": D.Tail(weights=HARMONIC)}),
        (lambda k: (1 - 1 / k, None), {"hypotheses": D.NonnegativeTail()}),
        (lambda k: (1.0, None), {"hypotheses": D.Decay(HARMONIC)}),
        (lambda k: (0.5, 1.0), {"hypotheses": D.Contraction(0.4, 1.0)}),
        (lambda k: (0.5, 1.0), {"hypotheses": D.Contraction(0.5, 2.0)}),
    ],
)
def test_a_rule_can_contradict_what_is_declared(rule, declared):
    with pytest.raises(dnl.InputError, match="at layer"):
        D.certify(D.from_rule(rule), 1.0, depth=4, **declared)


@pytest.mark.parametrize(
    ("rule", "hypothesis"),
    [
        (lambda k: ([1.0, -1.0], None), D.NonnegativeTail()),
        (lambda k: ([1 / k, 1.0], None), D.NonnegativeTail(increments=ONE)),
        (lambda k: ([1.0, 1.0], [0.0, 1 / k**2]), D.NonnegativeTail(shifts=HARMONIC)),
        (lambda k: ([1.0, -1 / k**2], None), D.Decay(HARMONIC)),
        (lambda k: ([-0.5], None), D.Contraction(0.4, 0.0)),
    ],
)
def test_a_residual_rule_can_contradict_too(rule, hypothesis):
    with pytest.raises(dnl.InputError, match="at layer"):
        D.certify(D.from_rule(rule, residual=True), 1.0, depth=4, hypotheses=hypothesis)


SHRINKS, CONST = D.Decay(HARMONIC), 0.5 * np.eye(2)
CROSSED = {  # tail, minorant, hypotheses that no layers satisfy, plain or with one inner layer
    "finite tail, W_k shrinks": (D.Zero(), None, SHRINKS),
    "finite tail, W_k -> I/2": (D.Zero(), None, D.Contraction(CONST)),
    "p_k <= 1/k, W_k -> I + tiny": (HARMONIC, None, D.Contraction(np.eye(2) * (1 - 1e-9))),
    "b_k -> 1, finite sum": (
        D.Tail(None, D.PowerLaw(1, 2)),
        None,
        D.Contraction(CONST, [1.0, 1.0]),
    ),
    "b_k -> 0 summably, Σ b_k = ∞": (None, D.Tail(None, HARMONIC), D.Contraction(CONST)),
    "W_k = I, p_k >= 1": (None, D.Tail(ONE), D.Contraction(np.eye(2))),
    "p_k >= 1, W_k -> I/2": (None, D.Tail(ONE), D.Contraction(CONST)),
    "p_k <= 1/(2k) <= d_k": (D.PowerLaw(0.5, 1), None, SHRINKS),
    "p_k <= k^-2 / 2 <= p_k": (D.PowerLaw(0.5, 2), D.PowerLaw(1, 2), ()),
    "shrinks and grows": (
        D.Tail(None, D.Zero()),
        None,
        [SHRINKS, D.NonnegativeTail(increments=HARMONIC)],
    ),
    "shrinks, W_k -> 2 I": (None, None, [SHRINKS, D.Contraction(2 * np.eye(2))]),
    "shrinks slower than W_k": (None, None, [D.Decay(D.PowerLaw(0.6, 0)), D.Contraction(CONST)]),
    "d_k = 2": (None, None, D.Decay(D.PowerLaw(2, 0))),
    "grows, W_k -> I/2": (None, None, [D.NonnegativeTail(), D.Contraction(CONST)]),
    "grows, b_k -> -1": (None, None, [D.NonnegativeTail(), D.Contraction(np.eye(2), [0.0, -1.0])]),
    "finite tail, c_k >= 1/k": (D.PowerLaw(1, 2), None, D.NonnegativeTail(shifts=HARMONIC)),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", CROSSED)
def test_declarations_can_contradict_each_other(name, residual):
    tail, minorant, hypotheses = CROSSED[name]
    stack = D.Stack([[np.zeros((2, 2))]], residual=True) if residual else D.Stack([np.eye(2)])
    with pytest.raises(dnl.InputError, match=r"Decay|Contraction|minorant|NonnegativeTail"):
        D.certify(stack, np.ones(2), tail=tail, minorant=minorant, hypotheses=hypotheses)


def test_limits_that_are_convolutions():
    """A large one is looked at in a part of its columns.

    Filters that reach beyond the image do not count.
    """
    for size in ((4, 4), (200, 300)):
        half = D.Convolution(0.5 * np.eye(3)[1].reshape(1, 1, 1, 3), size)
        limit = D.Contraction(half)
        stack = D.Stack([half])
        assert D.certify(stack, hypotheses=limit).degenerate
        for other in ({"tail": D.Zero()}, {"hypotheses": [limit, D.NonnegativeTail()]}):
            with pytest.raises(dnl.InputError, match="Contraction"):
                D.certify(stack, **{"hypotheses": limit} | other)
    identity = D.Convolution(np.array([7.0, 1.0, 7.0]).reshape(1, 1, 1, 3), (5, 1))
    assert (
        D.certify(D.Stack([identity]), tail=D.Zero(), hypotheses=D.Contraction(identity)).network
        == "converges"
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [False, True])
def test_true_declarations_do_not_contradict(norm, residual):
    """W_k = W + E/k, b_k = b + e/k with everything declared that the triangle inequality gives.

    The limit of a contraction is found by iteration, at most 0.9 per step: 0.9^400 < 1e-18.
    """
    rng, size = np.random.default_rng(12), lambda a: np.linalg.norm(a, norm)
    kinds = set()
    for i in range(40):
        W, E, b, e = (
            s * rng.standard_normal(d)
            for s, d in zip(rng.random(4), [(3, 3), (3, 3), 3, 3], strict=True)
        )
        if i % 4 == 1:
            W, b = np.eye(3), np.zeros(3)
        if i % 4 == 2:
            W = np.eye(3) + np.abs(W)
            E = np.abs(E)
            b = np.abs(b)
            e = np.abs(e)
        if i % 4 == 3:
            W, E = 0.5 * W / size(W), 0.4 * E / size(E)
        drift = size(E)
        p, beta = size(W - np.eye(3)), size(b)
        tail = D.Tail(D.PowerLaw(p + drift, 0), D.PowerLaw(beta + size(e), 0))
        least = D.Tail(D.PowerLaw(max(0.0, p - drift), 0), D.PowerLaw(max(0.0, beta - size(e)), 0))
        given = [D.Contraction(W, b, D.PowerLaw(drift, 1), D.PowerLaw(size(e), 1))]
        if size(W) + drift < 1:
            given.append(D.Decay(D.PowerLaw(1 - size(W) - drift, 0)))
        if (W + np.minimum(E, 0) - np.eye(3)).min() >= 0 and min(b.min(), e.min()) >= 0:
            given.append(D.NonnegativeTail(least.weights, least.biases))

        def rule(k, W=W, E=E, b=b, e=e):
            full, shift = W + E / k, b + e / k
            return ([full - np.eye(3)], [shift]) if residual else (full, shift)

        stack = D.from_rule(rule, residual=residual)
        kinds |= {type(hypothesis) for hypothesis in given}
        for case in (
            stack,
            D.Stack(*zip(*(rule(k) for k in (1, 2)), strict=True), residual=residual),
        ):
            report = D.certify(
                case, np.ones(3), depth=2, norm=norm, tail=tail, minorant=least, hypotheses=given
            )
            if size(W) <= 0.9:
                assert report.network == "converges"
                assert report.degenerate
                limit = np.ones(3)
                for _ in range(400):
                    limit = np.maximum(W @ limit + b, 0)
                assert size(stack(np.ones(3), 2) - limit) <= report.bound * (1 + 1e-12) + 1e-15
    assert kinds == {D.Contraction, D.Decay, D.NonnegativeTail}
