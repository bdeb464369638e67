"""The Hamiltonian at the nodes against the reduced gradient, differences and the theory by hand."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.node_hamiltonian import Hamiltonian
from dnlcontrol.minimise.multipliers import Multipliers
from tests.certificates.cases import flat, solved, stacked
from tests.random_problems import CASES, build

UNCOUPLED = [
    name
    for name in CASES
    if any(
        not b.metric.smooth and b.layout.on != "const"
        for b in dnl.discretise(build(name).problem, 1).space
    )
]


@pytest.mark.parametrize("name", UNCOUPLED)
def test_hamiltonian_is_the_reduced_gradients_antiderivative(name: str):
    """∂h/∂v is the gradient at every node; second derivatives against second differences of h."""
    made = build(name)
    discrete = dnl.discretise(made.problem, made.depth)
    rng = np.random.default_rng(5)
    w = 0.5 * rng.standard_normal(discrete.space.size)
    evaluator, at = Evaluator(discrete), Multipliers(np.zeros(0))
    trajectory = evaluator.trajectory(w, at)
    h = Hamiltonian(evaluator, w, at, trajectory)
    for block in discrete.space:
        if block.metric.smooth or block.layout.on == "const":
            continue
        r, u = block.view(trajectory.gradient), block.view(w)
        seen = 0
        for s in h.nodes(block):
            part = h.sites(block, s)
            seen += part.stop - part.start
            np.testing.assert_allclose(h.gradient(block, s), r[part], rtol=1e-9, atol=1e-11)
            d = rng.standard_normal((3, *u[part].shape))
            e = 1e-4
            up, at_u, down = (h.values(block, s, u[None, part] + k * e * d) for k in (1, 0, -1))
            differences = (up - 2 * at_u + down) / e**2
            np.testing.assert_allclose(
                h.second_derivatives(block, s, d), differences, rtol=1e-5, atol=1e-6
            )
        assert seen == block.layout.count


def test_hamiltonian_is_that_of_the_theory():
    """The Hamiltonian of a node, by hand.

    h^s(v)/τ = ℓ(t_s, x^s, v) + Σ_{l>s} λ^l k(t_l, t_s, x^s, v) + μ c(t_s, x^s, v)/τ + ...
    """
    s = solved("constrained")
    discrete = dnl.discretise(s.problem, s.depth)
    evaluator, at = Evaluator(discrete), Multipliers(stacked(s))
    h = Hamiltonian(evaluator, flat(s), at, evaluator.trajectory(flat(s), at))
    block = discrete.space.blocks["v"]
    tau = 1 / 6
    x = s.states
    # of the mean over two samples
    lam = np.append(s.costates[:-1] * tau, [s.terminal_gradient], axis=0) / 2

    def by_hand(node: int, v: float) -> float:
        t = tau * node
        total = np.mean(0.5 * (x[node] - 1) ** 2 + 0.1 * v**2 - 0.6 * t * v)
        for l in range(node + 1, 7):
            total += lam[l] @ (np.exp(t - tau * l) * (v - x[node] ** 2))
        total += s.multipliers["push"][node].ravel() @ (v + 0.2 * x[node]) / tau
        return float(total + s.multipliers["budget"].item() * v)

    for node in range(6):
        got = np.diff(h.values(block, node, np.array([[[0.3]], [[0.9]]])).ravel()) / tau
        assert got == pytest.approx(by_hand(node, 0.9) - by_hand(node, 0.3), abs=1e-8)
