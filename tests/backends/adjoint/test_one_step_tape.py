"""The tape over all layers of a one-step problem gives what the sweep layer by layer gives."""

from __future__ import annotations

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.sweep.one_step_tape import tapeable
from dnlcontrol.backends.adjoint.way import AffineColumns, Dual, Taped
from dnlcontrol.minimise.multipliers import Multipliers
from problems import o4_bryson_denham, o5b_van_der_pol, resnet_tvg, spirals, t2_scalar_resnet

ONE_STEP = [o4_bryson_denham, o5b_van_der_pol, resnet_tvg, t2_scalar_resnet]


@pytest.mark.parametrize("source", ONE_STEP, ids=lambda m: m.__name__.split(".")[-1])
def test_tape_and_sweep_agree(source):
    """Both sum the same products; their orders differ by rounding only."""
    discrete = dnl.discretise(source.problem(), 6)
    ours = Evaluator(discrete, chunk=2, stored=False)
    assert tapeable(ours.sweep)
    ours.way = Taped(ours.sweep, ours.lagrangian, ours.vectors)
    rng = np.random.default_rng(3)
    w = np.clip(0.3 * rng.standard_normal(discrete.space.size), *discrete.space.bounds)
    at = Multipliers(rng.standard_normal(discrete.rows.size), 2.0)
    taped = ours.trajectory(w, at)
    d = rng.standard_normal(w.size)
    product = ours.hessian_product(w, d, at)
    kind = Dual if ours.sweep.columns is None else AffineColumns
    ours.way = kind(ours.sweep, ours.lagrangian, ours.vectors)
    swept = ours.trajectory(w, at)
    for name in (
        "value",
        "gradient",
        "states",
        "integrals",
        "costates",
        "integral_costates",
        "constraints",
    ):
        np.testing.assert_allclose(
            getattr(taped, name), getattr(swept, name), rtol=1e-12, atol=1e-13, err_msg=name
        )
    # the tape's product is the gradient of <gradient, d>, the sweep's its derivative: the same
    # Hessian
    np.testing.assert_allclose(product, ours.hessian_product(w, d, at), rtol=1e-11, atol=1e-12)


def test_kernels_on_the_triangle_and_implicit_rules_are_swept():
    assert not tapeable(Evaluator(dnl.discretise(spirals.problem(samples=4), 3)).sweep)
    assert not tapeable(Evaluator(dnl.discretise(t2_scalar_resnet.problem(), 3, "trapezoid")).sweep)
