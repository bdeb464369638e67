"""The TL² distance between functions known on different grids: optimal transport of their graphs.

For f on points t_1..t_n and g on r_1..r_m, each with the uniform measure,

    d(f, g)² = min over couplings π of Σ π_ij (|t_i - r_j|² + |f(t_i) - g(r_j)|²)

Source: the distance in which Thorpe and van Gennip, arXiv 1810.11741, let parameters of different
depths converge.
"""

from __future__ import annotations

import math

import numpy as np

MOST_ATOMS = 1024  # atoms on each side of the assignment problem, cubic in time


def tl2_distance(t: np.ndarray, f: np.ndarray, r: np.ndarray, g: np.ndarray) -> float:
    """d(f, g) for values f (n, ...) at t (n,) and g (m, ...) at r (m,), both grids increasing.

    Both measures are split into lcm(n, m) equal atoms; an optimal coupling of equally many equal
    atoms is a permutation (Birkhoff), which the assignment problem finds. Beyond 1024 atoms the
    monotone coupling in t is taken: an upper bound.
    """
    atoms = math.lcm(len(t), len(r))
    left = np.repeat(np.column_stack([t, f.reshape(len(t), -1)]), atoms // len(t), axis=0)
    right = np.repeat(np.column_stack([r, g.reshape(len(r), -1)]), atoms // len(r), axis=0)
    if atoms > MOST_ATOMS:
        return float(np.sqrt(np.mean(np.sum((left - right) ** 2, axis=1))))
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    cost = cdist(left, right, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))
