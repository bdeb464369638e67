"""Functions on [0, 1] carried onto others by an equation that is continuous in width and depth.

    min (1/S) Σ_s ½ ∫ (f_s(y,1) - g_s(y))² dy + (α/2) ‖(w, b)‖²,
    ∂_t f_s = tanh(∫ w(y,z,t) f_s(z,t) dz + b(y,t))

f_s(y, 0) = cos(sπy), g_s = f_s(., 0) + 0.6 sin(sπy), s = 1..S. The penalty is the norm of L²(Y² ×
[0,1]); with ``smooth`` that of H¹ in y, z and t. The plain problem has w(t) of rank at most S at
every stationary point, and its Hamiltonian is minimised in closed form up to S unknowns at each y.

Source: the model of Markowich and Portaro, arXiv 2411.06290; the data are made for this project.
"""

from __future__ import annotations

import numpy as np

import dnlcontrol as dnl
from dnlcontrol import checks


def problem(
    *,
    nodes: int = 16,
    rule: str = "midpoint",
    samples: int = 3,
    alpha: float = 0.02,
    smooth: bool = False,
) -> dnl.ControlProblem:
    pde = dnl.WidthPDE(nodes, rule)
    waves = np.pi * np.arange(1, checks.whole("samples", samples) + 1)[:, None] * pde.y
    penalty = dnl.H1 if smooth else dnl.L2
    return dnl.ControlProblem(
        name="width_pde",
        x0=np.cos(waves),
        dynamics=pde,
        terminal=pde.squared(np.cos(waves) + 0.6 * np.sin(waves)),
        running=pde.slopes(alpha, alpha) if smooth else None,
        regularisers=[penalty("w", alpha), penalty("b", alpha)],
    )
