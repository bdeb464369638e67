"""NumPy, PyTorch and CasADi on random problems; benchmarks/19 asks for ten thousand."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from tests.generated_evaluations import differs, trial
from tests.random_problems import CASES, build


@pytest.mark.parametrize("seed", range(1000, 1024))
def test_random_problems(seed):
    assert trial(seed) is None


@pytest.mark.slow
def test_every_family_by_both_rules():
    assert [said for said in map(trial, range(2000, 2000 + 8 * len(CASES))) if said] == []


@pytest.mark.parametrize(
    ("part", "said"), [("states", "states of torch and NumPy"), ("value_and_gradient", "values of")]
)
def test_a_wrong_number_is_told(monkeypatch, part, said):
    """Off by 1e-10 in one entry."""
    made = build("Dense C, cross-entropy head", 3)
    discrete = dnl.discretise(made.problem, made.depth)
    right = getattr(Evaluator, part)

    def wrong(self, w, *others):
        found = right(self, w, *others)
        return (found[0] + 1e-10, found[1]) if isinstance(found, tuple) else found + 1e-10

    w, d = np.random.default_rng(1).standard_normal((2, discrete.space.size))
    d /= np.linalg.norm(d)
    assert differs(discrete, w, d) is None
    monkeypatch.setattr(Evaluator, part, wrong)
    assert said in differs(discrete, w, d)
