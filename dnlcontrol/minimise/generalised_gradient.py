"""The distance of 0 to a set of gradients: min over a box of θ of ‖r + B θ‖ in the dual norm."""

from __future__ import annotations

import numpy as np

from dnlcontrol.discretisation.space.control_space import ControlSpace
from dnlcontrol.discretisation.space.flat import Flat


def nearest(
    space: ControlSpace, free: np.ndarray, r: Flat, B: np.ndarray, bounds: tuple[np.ndarray, ...]
) -> np.ndarray:
    """The θ (kinks,) in the box that minimises (qᵀ A_FF⁻¹ q)^½, q = r + B θ on the free entries F.

    r is (size,), B (size, kinks), ``free`` holds the indices of F, the box is (lower, upper).
    """
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import lsq_linear

    lower, upper = bounds
    if not B.shape[1] or not free.size:
        return np.clip(np.zeros(B.shape[1]), lower, upper)
    A = np.array([space.metric(e)[free] for e in np.eye(space.size)[free]])
    factor = cholesky(A, lower=True)
    columns = solve_triangular(factor, B[free], lower=True)
    target = solve_triangular(factor, -r[free], lower=True)
    wide = upper - lower > 0
    theta = lower.copy()
    if wide.any():
        rest = target - columns[:, ~wide] @ lower[~wide]
        found = lsq_linear(columns[:, wide], rest, (lower[wide], upper[wide]), "bvls", tol=1e-15)
        theta[wide] = np.clip(found.x, lower[wide], upper[wide])
    return theta
