"""The Hamiltonian at other values of a control: CasADi's against the adjoint backend's."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian
from dnlcontrol.backends.exact.condensed.candidate_values import CandidateValues
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.discretisation.space.control_space import ControlBlock
from dnlcontrol.minimise.multipliers import Multipliers
from tests.certificates.cases import flat, solved, stacked
from tests.random_problems import CASES, build


def uncoupled(discrete: dnl.DiscreteProblem) -> list[ControlBlock]:
    return [b for b in discrete.space if not b.metric.smooth and b.layout.on != "const"]


NAMES = [name for name in CASES if uncoupled(dnl.discretise(build(name).problem, 1))]


def compare(discrete: dnl.DiscreteProblem, w: np.ndarray, mu: np.ndarray) -> int:
    """Changes of h from the first of five candidates, at every site; how many sites there were."""
    at, rng, seen = Multipliers(mu), np.random.default_rng(3), 0
    swept, reduced = Evaluator(discrete), ReducedEvaluator(discrete)
    by_sweep = Hamiltonian(swept, w, at, swept.trajectory(w, at))
    by_nodes = CandidateValues(reduced, w, at)
    for block in uncoupled(discrete):
        candidates = rng.standard_normal((5, *block.view(w).shape))
        one, other = (h.every(block, candidates) for h in (by_sweep, by_nodes))
        # the same sums in another order
        np.testing.assert_allclose(one - one[0], other - other[0], rtol=1e-9, atol=1e-11)
        assert np.ptp(one) > 0.0
        seen += one.shape[1]
    return seen


@pytest.mark.parametrize("rule", ["left", "trapezoid"])
@pytest.mark.parametrize("name", NAMES)
def test_both_backends_form_the_same_hamiltonian(name: str, rule: str):
    made = build(name)
    discrete = dnl.discretise(made.problem, made.depth, rule)
    w = 0.5 * np.random.default_rng(5).standard_normal(discrete.space.size)
    sites = compare(discrete, w, np.zeros(0))
    assert sites == sum(b.layout.count for b in uncoupled(discrete))


def test_with_constraint_rows():
    s = solved("constrained")
    assert compare(dnl.discretise(s.problem, s.depth), flat(s), stacked(s)) == 6
