"""The adjoint backend on a CUDA device gives the results of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from problems import o1_hager, two_class_toy

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize(
    "problem", [two_class_toy.problem(), o1_hager.problem()], ids=["dense", "ode"]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products(problem, dtype):
    discrete = dnl.discretise(problem, 8)
    rng = np.random.default_rng(0)
    w, d = 0.3 * rng.standard_normal((2, discrete.space.size))
    cpu, gpu = Evaluator(discrete, stored=False), Evaluator(discrete, device="cuda", dtype=dtype)
    # sums of a few hundred terms, in another order
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for name, arguments in (("value_and_gradient", (w,)), ("hessian_product", (w, d))):
        expected, found = (getattr(e, name)(*arguments) for e in (cpu, gpu))
        expected, found = (v[1] if isinstance(v, tuple) else v for v in (expected, found))
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max())
        )


def test_solve():
    problem = two_class_toy.problem()
    cpu, gpu = (dnl.solve(problem, 8, "adjoint", device=device) for device in ("cpu", "cuda"))
    assert gpu.success
    assert gpu.value == pytest.approx(cpu.value, rel=1e-10)
