"""tanh by whatever is fast: the same to 3e-14 of each entry, however small."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.host import activation
from dnlcontrol.backends.adjoint.host.memory import Shared

# relative, of a value known to an absolute 2.2e-16 where |a| is not below 2⁻⁷; float32 to 4 units
TOLERANCE = {"float64": 3e-14, "float32": 5e-7}
POINTS = np.concatenate([s * np.geomspace(1e-300, 800.0, 20_000) for s in (1.0, -1.0)])


@pytest.mark.parametrize(
    ("dtype", "name"), [(t, name) for t in TOLERANCE for name in activation.CANDIDATES[t]]
)
def test_every_tanh_is_relatively_accurate(dtype, name):
    points = POINTS if dtype == "float64" else POINTS[np.abs(POINTS) > 1e-30]
    a = np.concatenate([[0.0, activation.SMALL, -activation.SMALL], points]).astype(dtype)
    found = Shared(a.reshape(1, -1).copy())
    activation.CANDIDATES[dtype][name](found)()
    np.testing.assert_allclose(found.array[0], np.tanh(a), rtol=TOLERANCE[dtype])


def test_infinite_and_undefined_entries():
    a = Shared(np.array([[np.inf, -np.inf, np.nan]]))
    activation.by_exponential(a)()
    np.testing.assert_array_equal(a.array, [[1.0, -1.0, np.nan]])


def test_the_choice_is_made_once():
    assert activation.fastest_tanh("float64") is activation.fastest_tanh("float64")
    assert activation.fastest_tanh("float64") in activation.CANDIDATES["float64"].values()


@pytest.mark.parametrize("name", activation.CANDIDATES["float64"])
@pytest.mark.parametrize("size", [1.0, 1e-8, 1e-150])
def test_small_states_keep_their_digits(name, size, monkeypatch):
    """x^L - x0 is as small as x0, and its digits are those of the sweep in PyTorch."""
    monkeypatch.setattr(
        activation, "fastest_tanh", lambda dtype: activation.CANDIDATES[dtype][name]
    )
    rng = np.random.default_rng(2)
    x0 = size * rng.standard_normal((5, 3))
    problem = dnl.ControlProblem(
        x0=x0,
        dynamics=dnl.Dense(3, "C", bias=False),
        terminal=lambda x, c: 1e8 * dnl.namespace(x).sum(x),
    )
    discrete = dnl.discretise(problem, 6)
    ours, theirs = (Evaluator(discrete, stored=False) for _ in range(2))
    theirs.way = theirs.way.swept
    w, d = rng.standard_normal((2, discrete.space.size))
    moved, expected = (evaluator.states(w) - x0 for evaluator in (ours, theirs))
    np.testing.assert_allclose(moved[1:], expected[1:], rtol=1e-12, atol=1e-14 * size)
    for a, b in zip(
        (*ours.value_and_gradient(w), ours.hessian_product(w, d)),
        (*theirs.value_and_gradient(w), theirs.hessian_product(w, d)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())
