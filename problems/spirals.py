"""Two spirals to be told apart by a dense network, form C with H¹ weights (non-convex).

    min (1/N) Σ_n (x_{n,1}(1) - y_n)² + (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹})
    x(t) = x_0 + ∫_0^t tanh(W(t,s) x(s) + b(t,s)) ds

Point j = 0..N-1 is of class j mod 2, y = 2·class - 1; with i = j div 2 it has q = 1.5π i/(N/2) +
0.5, radius q/5 and angle q + π·class. The two spirals are each other's reflection in 0, with
opposite labels, and tanh is odd: from the zero start (`scale` = 0) b and its gradient stay 0. This
branch is a local minimiser, J about 0.6095 at α = 1e-2, where random starts found it too at L = 8
and 16. A smaller α has better ones (at α = 2e-3 about 0.3 against 0.609), reached from `scale` = 1,
a smooth random start of that size.

Source: made for this project; the network is of the kind of Huang, Su, Tai, Wu, arXiv 2510.02049.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(
    *, samples: int = 64, alpha: float = 1e-2, scale: float = 0.0, seed: int = 0
) -> dnl.ControlProblem:
    if checks.whole("samples", samples, 2) % 2:
        checks.reject("samples", samples, "an even number, the same for both classes")
    j = np.arange(samples)
    label = j % 2
    q = 1.5 * np.pi * (j // 2) / (samples // 2) + 0.5
    x0 = (q / 5 * np.stack([np.cos(q + np.pi * label), np.sin(q + np.pi * label)])).T
    start = dnl.smooth_random(seed, scale)
    return dnl.ControlProblem(
        name="spirals",
        x0=x0,
        dynamics=dnl.Dense(2, form="C"),
        controls={
            "W": dnl.Control((2, 2), on="ts", initial=start),
            "b": dnl.Control((2,), on="ts", initial=start),
        },
        terminal=dnl.cost(lambda x, c, y: (x[0] - y) ** 2, target=2.0 * label - 1.0),
        regularisers=[dnl.H1("W", alpha), dnl.H1("b", alpha)],
    )
