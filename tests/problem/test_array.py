"""The vocabulary of a formula means the same on NumPy, PyTorch (under vmap) and CasADi.

Each row of the table is evaluated with plain NumPy and SciPy and on each engine behind the seam.
"""

from __future__ import annotations

import casadi as ca
import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.problem.array import VOCABULARY
from dnlcontrol.problem.engines import numpy_engine
from tests.problem.three_engines import (
    REFERENCE,
    RTOL,
    OnCasadi,
    as_formula,
    assert_same,
    on_torch,
    torch_slopes,
)
from tests.problem.vocabulary import NAMED, ROWS


@pytest.mark.parametrize("key", ROWS)
def test_every_row_means_the_same_on_every_engine(key):
    row = ROWS[key]
    arguments = row.arguments()
    with np.errstate(all="ignore"):
        expected = np.asarray(row.fn(REFERENCE, *(np.array(a) for a in arguments)))
        formula = as_formula(row.fn, row.shapes, expected.shape)
        assert_same(formula(numpy_engine(), *arguments), expected)
    casadi = OnCasadi(formula)
    assert_same(on_torch(formula, arguments), expected)
    assert_same(casadi.value(arguments), expected)
    if row.smooth:
        # products and quotients of a handful of such numbers: ten times the rounding of the values
        for a, b in zip(torch_slopes(formula, arguments), casadi.slopes(arguments), strict=True):
            assert_same(a, b, 10 * RTOL)


@pytest.mark.parametrize("key", NAMED)
def test_every_row_means_the_same_on_native_arrays(key):
    """``namespace`` of an ndarray or a tensor itself, as in activations inside a batched kernel."""
    row = NAMED[key]
    arguments = row.arguments()
    with np.errstate(all="ignore"):
        expected = row.fn(REFERENCE, *(np.array(a) for a in arguments))
        assert_same(row.fn(dnl.namespace(arguments[0]), *arguments), expected)
    tensors = [torch.as_tensor(a) for a in arguments]
    assert_same(np.asarray(row.fn(dnl.namespace(tensors[0]), *tensors)), expected)


def test_every_name_has_rows():
    assert set(VOCABULARY) == {row.name.split()[0] for row in NAMED.values()} - {"number"}
    assert set(VOCABULARY) == set(dir(dnl.namespace(np.zeros(1))))
    for name in VOCABULARY:
        ranks = {
            len(s) for row in NAMED.values() if row.name.split()[0] == name for s in row.shapes
        }
        assert ranks >= (
            {1, 2}
            if name in ("softmax", "matmul", "concat")
            else {0, 1}
            if name == "stack"
            else {0, 1, 2}
        )


def test_namespace_of_foreign_things():
    for foreign in ("text", None, ca.SX.sym("x"), object()):
        with pytest.raises(
            dnl.InputTypeError, match="a formula's array, an ndarray, a torch tensor"
        ):
            dnl.namespace(foreign)
