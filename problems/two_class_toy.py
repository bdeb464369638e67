"""Two rings to be told apart by a dense network, form C with H¹ weights (non-convex).

    min (1/N) Σ_n (x_{n,1}(1) - y_n)² + (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹})
    x(t) = x_0 + ∫_0^t tanh(W(t,s) x(s) + b(t,s)) ds

N points at random angles, at radius ½ (even n, y = -1) or 1 (odd n, y = +1); further coordinates
are 0. The start is one random (W, b), the same on the whole triangle at every depth.

Source: made for this project; the network is of the kind of Huang, Su, Tai, Wu, arXiv 2510.02049.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(*, samples: int = 32, width: int = 2, alpha: float = 2e-2) -> dnl.ControlProblem:
    n = np.arange(checks.whole("samples", samples, 2))
    x0 = np.zeros((samples, checks.whole("width", width, 2)))
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, samples)
    radius = np.where(n % 2 == 0, 0.5, 1.0)
    x0[:, 0], x0[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    start = np.random.default_rng(1)
    return dnl.ControlProblem(
        name="two_class_toy",
        x0=x0,
        dynamics=dnl.Dense(width, form="C"),
        controls={
            "W": dnl.Control(
                (width, width), on="ts", initial=0.1 * start.standard_normal((width, width))
            ),
            "b": dnl.Control((width,), on="ts", initial=0.1 * start.standard_normal(width)),
        },
        terminal=dnl.cost(lambda x, c, y: (x[0] - y) ** 2, target=np.where(n % 2 == 0, -1.0, 1.0)),
        regularisers=[dnl.H1("W", alpha), dnl.H1("b", alpha)],
    )
