"""L-BFGS on values of seven digits ends at what they allow, soon, with its best iterate."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from problems import iris_dense, two_class_toy

# Rounding 6e-8 of a gradient whose terms are of size 1: what is reached lies below a few of them,
# and the value within five units of rounding of the one in float64.
ATTAINED, UNITS = 2e-7, 5 * 1.2e-7


def residual() -> dnl.ControlProblem:
    rng = np.random.default_rng(5)
    x0 = rng.normal(size=(12, 2))
    return dnl.ControlProblem(
        x0=x0,
        dynamics=dnl.ResNet(2),
        controls={"b": dnl.Control((2,), lower=-0.1, upper=0.1)},
        terminal=dnl.losses.squared(x0 + 0.8 * np.sign(x0[:, :1] * x0[:, 1:])),
        regularisers=[dnl.H1("K", 1e-1), dnl.H1("b", 1e-1)],
    )


MADE = {
    "toy": (lambda: two_class_toy.problem(samples=8, alpha=0.2), 6),
    "iris": (lambda: iris_dense.problem(samples=30), 3),
    "bounded": (residual, 8),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.filterwarnings("ignore::dnlcontrol.ConvergenceWarning")
def test_it_ends_at_its_attainable_accuracy(name):
    problem, depth = MADE[name][0](), MADE[name][1]
    found = dnl.solve(problem, depth, "adjoint", method="lbfgs", dtype="float32")
    exact = dnl.solve(problem, depth, "adjoint", method="lbfgs")
    assert found.stationarity <= ATTAINED
    assert found.value == pytest.approx(exact.value, abs=UNITS * (1 + abs(exact.value)))
    assert found.nit < 2000
    assert found.success == (found.stationarity <= found.tolerance)
    if not found.success:
        assert found.status == 3
        assert "float32" in found.message
        assert "dtype='float64' goes on" in found.message


def test_the_least_stationary_of_equal_values_is_returned():
    """1e-5 is below the float32 rounding of the cost: of the log, it is the best."""
    with pytest.warns(dnl.ConvergenceWarning):
        found = dnl.solve(
            residual(), 4, "adjoint", method="lbfgs", dtype="float32", tolerance=1e-12
        )
    values, norms = (np.array([line[i] for line in found.log]) for i in (1, 2))
    equal = values <= values.min() + UNITS * abs(values.min())
    # recomputed in float64, it is off by the gradient's rounding
    assert found.stationarity <= norms[equal].min() + ATTAINED
