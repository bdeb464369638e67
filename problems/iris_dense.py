"""Iris flowers classified by a dense network of any form with a linear head.

    min (1/N) Σ_n cross-entropy(head_W x_n(1) + head_c, y_n)
        + (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹} + |head_W|² + |head_c|²)

Form C: x(t) = x_0 + ∫_0^t tanh(W(t,s) x(s) + b(t,s)) ds; x_0 are the four measurements, each with
mean 0 and variance 1 over all 150 flowers; fewer `samples` are rows evenly spread over the three
classes. The head must be penalised: setosa is linearly separable from the others, so without it the
loss could be lowered for ever by a growing head and the infimum would not be attained. The start is
0.

Source: the iris data of scikit-learn.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, alpha: float = 1e-2, form: str = "C", samples: int = 150) -> dnl.ControlProblem:
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    if not 3 <= checks.whole("samples", samples) <= len(x):
        checks.reject("samples", samples, f"an integer from 3 to {len(x)}")
    rows = np.arange(samples) * len(x) // samples
    return dnl.ControlProblem(
        name="iris_dense",
        x0=x[rows],
        dynamics=dnl.Dense(width=4, form=form),
        terminal=dnl.losses.cross_entropy(y[rows], head=dnl.head(3, 4)),
        regularisers=[
            dnl.H1("W", alpha),
            dnl.H1("b", alpha),
            dnl.L2("head_W", alpha),
            dnl.L2("head_c", alpha),
        ],
    )
