"""How much the adjoint sweep of an affine kernel keeps between its passes."""

from __future__ import annotations

from dnlcontrol.discretisation.resources.counts import Structure

# Bytes of activations, states and costates kept at most: all Hessian products of a Newton step
# share them. Dense form C in float64, N = 256, d = 16, L = 128 has 271 MB of activations, and 10 to
# 30 % slower gradients without them.
KEPT_BYTES = 256 << 20

# Bytes of the joint copies (Ẇ ḃ W b), and of the gradient in the same order, that such a sweep has
# of all controls; beyond, columns are read where they lie and nothing is kept (affine_columns.py).
# Dense, d = 16: L = 128 has 72 MB of copies, L = 256 286 MB.
COPIED_BYTES = 256 << 20
COPIES = 4


def activation_bytes(c: Structure, itemsize: int = 8) -> int:
    """Bytes of σ(W y + b) at all pairs l > s and samples; 0 for other kernels."""
    if c.problem.dynamics.affine is None:
        return 0
    pairs = c.depth if c.problem.markov else c.depth * (c.depth + 1) // 2
    return pairs * c.samples * c.integral * itemsize


def kept_bytes(c: Structure, itemsize: int = 8) -> int:
    """Bytes of activations that a sweep keeps."""
    return min(KEPT_BYTES, activation_bytes(c, itemsize)) if copied(c.controls, itemsize) else 0


def copied(controls: int, itemsize: int = 8) -> bool:
    """Whether so many entries of controls are few enough to be copied."""
    return COPIES * controls * itemsize <= COPIED_BYTES
