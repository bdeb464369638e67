"""Handwritten digits, as principal components, classified by a dense network with a linear head.

    min (1/N) Σ_n cross-entropy(head_W x_n(1) + head_c, y_n)
        + (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹} + |head_W|² + |head_c|²)

Form C: x(t) = x_0 + ∫_0^t tanh(W(t,s) x(s) + b(t,s)) ds. The 64 pixels, scaled to [0, 1] and
centred, are projected on their first `width` principal directions over all 1797 digits (each with
its largest entry positive) and divided by the standard deviation along the first. The first
`samples` digits are used. The head is penalised because separable data would let it grow for ever.
The start is 0.

Source: the digits data of scikit-learn.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(
    *, samples: int = 512, width: int = 16, alpha: float = 1e-2, form: str = "C"
) -> dnl.ControlProblem:
    from sklearn.datasets import load_digits

    pixels, y = load_digits(return_X_y=True)
    if not 10 <= checks.whole("samples", samples) <= len(pixels):
        checks.reject("samples", samples, f"an integer from 10 to {len(pixels)}")
    if not 1 <= checks.whole("width", width) <= 64:
        checks.reject("width", width, "an integer from 1 to 64")
    x = principal_components(pixels / 16.0, width)
    return dnl.ControlProblem(
        name="digits_dense",
        x0=x[:samples],
        dynamics=dnl.Dense(width, form=form),
        terminal=dnl.losses.cross_entropy(y[:samples], head=dnl.head(10, width), classes=10),
        regularisers=[
            dnl.H1("W", alpha),
            dnl.H1("b", alpha),
            dnl.L2("head_W", alpha),
            dnl.L2("head_c", alpha),
        ],
    )


def principal_components(data: np.ndarray, count: int) -> np.ndarray:
    """Coordinates along the directions of largest variance, the first of standard deviation 1."""
    centred = data - data.mean(0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:count]
    largest = directions[np.arange(count), np.abs(directions).argmax(1)]
    x = centred @ (directions * np.sign(largest)[:, None]).T
    return x / x[:, 0].std()
