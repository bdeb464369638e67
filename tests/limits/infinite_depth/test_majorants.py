"""Sums and products of majorants, beyond every depth."""

from __future__ import annotations

import numpy as np
import pytest

from dnlcontrol.limits import infinite_depth as D
from tests.limits.infinite_depth.cases import DEEP


@pytest.mark.parametrize("s", [1.01, 1.5, 2.0, 7.3])
@pytest.mark.parametrize("n", [0, 1, 100, 10**7])
def test_power_law_sums_are_just_above_hurwitzs_zeta(s, n):
    """Hurwitz's ζ(s, n+1) from above.

    The integral over the last part is off by s/24 K^(-s-1), relatively tiny.
    """
    from scipy.special import zeta

    exact = 2.5 * zeta(s, n + 1)
    assert exact * (1 - 1e-13) <= D.PowerLaw(2.5, s).sum_after(n) <= exact * (1 + 1e-6)


def test_sums_decrease_and_bound_partial_sums():
    for bound in (D.PowerLaw(0.7, 1.3), D.Geometric(2.0, 0.9), D.Zero()):
        sums = [bound.sum_after(n) for n in range(200)]
        logs = [bound.log_product_after(n) for n in range(200)]
        for n in range(199):
            assert sums[n] >= sums[n + 1] + bound.at(n + 1) * (1 - 1e-12) - 1e-300
            assert logs[n] >= logs[n + 1]
            assert logs[n] <= sums[n] * (1 + 1e-12)
    assert D.Geometric(2.0, 0.5).sum_after(0) == pytest.approx(2.0, rel=1e-14)
    assert D.Geometric(1.0, 0.5).sum_after(5000) > 0  # below the smallest number, not 0
    assert D.PowerLaw(1, 1).sum_after(5) == np.inf == D.Geometric(1, 1).sum_after(5)


def test_user_declared_tails_bound_the_error():
    own = D.Declared(lambda k: 1 / (k * (k + 1)), lambda n: 1 / (n + 1))
    stack = D.from_rule(lambda k: (1 + 1 / (k * (k + 1)), None), tail=D.Tail(own, D.Zero()))
    report = D.certify(stack, 1.0, depth=20)
    assert stack(1.0, DEEP)[0] - stack(1.0, 20)[0] <= report.bound < 0.06 * report.state_norm
    assert report.condition == "satisfied"
    assert any("lambda" in text for text in report.assumptions)
