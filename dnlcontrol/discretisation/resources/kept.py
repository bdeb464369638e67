"""How much the adjoint sweep of an affine kernel keeps between its passes."""

from __future__ import annotations

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem

# Bytes of activations, states and costates kept at most: all Hessian products of a Newton step
# share them. Dense form C in float64, N = 256, d = 16, L = 128 has 271 MB of activations, and 10 to
# 30 % slower gradients without them.
KEPT_BYTES = 256 << 20


def activation_bytes(discrete: DiscreteProblem, itemsize: int = 8) -> int:
    """Bytes of σ(W y + b) at all pairs (l, s) and samples; 0 for other kernels."""
    p = discrete.problem
    if p.dynamics.affine is None:
        return 0
    L = discrete.depth
    pairs = L if p.markov else L * (L + 1) // 2
    return pairs * p.samples * int(np.prod(p.integral_shape, dtype=int)) * itemsize


def kept_bytes(discrete: DiscreteProblem, itemsize: int = 8) -> int:
    """Bytes of activations that a sweep keeps."""
    return min(KEPT_BYTES, activation_bytes(discrete, itemsize))
