"""The order of the axes of stored images is said, or the only one that the shape allows."""

from __future__ import annotations

import re

import numpy as np
import pytest

import dnlcontrol as dnl


def stored(path, shape, labels, test_shape=None):
    """Both parts with distinct numbers."""
    sizes = {"train": shape, "test": test_shape or shape}
    arrays = {f"x_{k}": np.arange(np.prod(s), dtype=float).reshape(s) for k, s in sizes.items()}
    arrays |= {f"y_{k}": np.arange(labels) % 2 for k in sizes}
    np.savez(path, **arrays)
    return arrays["x_train"]


@pytest.mark.parametrize(
    ("shape", "labels"),
    [
        ((6, 3, 8, 8), 6),  # channels first
        ((6, 1, 8, 8), 6),
        ((6, 3, 8, 3), 6),  # first or last
        ((6, 1, 8, 1), 6),
        ((6, 8, 8, 5), 6),  # neither
        ((6, 4, 8, 8), 6),
        ((8, 8, 3, 6), 6),  # images last
        ((3, 8, 8, 3), 3),  # images or channels last
        ((8, 8, 6), 6),
        ((6, 8, 6), 6),
        ((6, 64, 3), 6),  # pixels in one row
        ((6, 3, 64), 6),
    ],
)
def test_shapes_with_several_readings_are_refused(tmp_path, shape, labels):
    stored(tmp_path / "a.npz", shape, labels)
    seen = f"x_train of shape {shape} for {labels} labels, whose axes can be read in several ways"
    with pytest.raises(dnl.InputError, match=re.escape(seen) + ".*axes=") as caught:
        dnl.images(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("NCHW", (6, 3, 8, 5)),
        ("NHWC", (6, 8, 5, 3)),
        ("HWCN", (8, 5, 3, 6)),
        ("CHWN", (3, 8, 5, 6)),
        ("NHW", (6, 8, 3)),
        ("HWN", (8, 5, 6)),
    ],
)
def test_the_order_said_is_the_order_read(tmp_path, axes, shape):
    x = stored(tmp_path / "a.npz", shape, 6)
    data = dnl.images(tmp_path / "a.npz", axes=axes)
    sizes = dict(zip(axes, shape, strict=True))
    assert data.x_train.shape == tuple(sizes.get(letter, 1) for letter in "NHWC")
    at = {"N": 4, "H": 2, "W": 1, "C": sizes.get("C", 1) - 1}
    assert data.x_train[tuple(at.values())] == x[tuple(at[letter] for letter in axes)]


@pytest.mark.parametrize("shape", [(6, 8, 8, 3), (6, 8, 8, 1), (6, 8, 5), (1, 8, 8, 1)])
def test_the_only_reading_needs_no_word(tmp_path, shape):
    x = stored(tmp_path / "a.npz", shape, shape[0])
    np.testing.assert_array_equal(dnl.images(tmp_path / "a.npz").x_train.reshape(shape), x)


@pytest.mark.parametrize("axes", ["NHWX", "NHH", "HWC", "nhwc", ""])
def test_orders_that_are_none(tmp_path, axes):
    stored(tmp_path / "a.npz", (6, 8, 8, 3), 6)
    with pytest.raises(dnl.InputError, match=r"images\.axes: got"):
        dnl.images(tmp_path / "a.npz", axes=axes)


def test_other_refusals(tmp_path):
    stored(tmp_path / "a.npz", (6, 8, 8, 3), 6)
    with pytest.raises(dnl.InputTypeError, match=r"images\.axes"):
        dnl.images(tmp_path / "a.npz", axes=3)
    with pytest.raises(dnl.InputError, match=r"x_train of shape \(6, 8, 8, 3\); allowed: 3 axes"):
        dnl.images(tmp_path / "a.npz", axes="NHW")
    with pytest.raises(dnl.InputError, match="'digits', whose format fixes the order"):
        dnl.images("digits", axes="NHW")
