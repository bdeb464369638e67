"""The affine form of a ReLU (or leaky) stack at a point.

On the activation domain of x, where every layer's pattern is that of x, with J_i the diagonal
matrix of the pattern (entries 1 or the slope a),

    N_n(y) = (J_n W_n ... J_1 W_1) y + Σ_i (J_n W_n ... J_{i+1} W_{i+1}) J_i b_i

and for a residual block J_n (I + W^M J_{M-1} W^{M-1} ... J_1 W^1) in the place of J_n W_n. Idea:
Xu, Zhang, arXiv 2107.12530.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.stacks import Block, Layer, Stack


@dataclass(frozen=True, eq=False)
class AffineForm:
    """N_n(y) = matrix @ y + offset on the activation domain of x.

    Attributes
    ----------
    matrix, offset : (d_n, d_0) and (d_n,).
    patterns : one diagonal per activation in the order of evaluation, inner activations of a block
        included.
    """

    matrix: np.ndarray
    offset: np.ndarray
    patterns: tuple[np.ndarray, ...]

    def __call__(self, y: ArrayLike) -> np.ndarray:
        """(..., d_0) -> (..., d_n)."""
        return np.asarray(y, dtype=np.float64) @ self.matrix.T + self.offset


def affine_form(stack: Stack, x: ArrayLike, depth: int | None = None) -> AffineForm:
    """The affine form at x (width,); a pre-activation that is exactly 0 counts as inactive.

    Raises
    ------
    InputError for an activation that is not piecewise linear, and for an x of another length.

    >>> form = affine_form(Stack([[[1.0, 2.0], [3.0, 4.0]]], [[0.5, -9.0]]), [1.0, 1.0])
    >>> form.matrix.tolist(), form.offset.tolist()
    ([[1.0, 2.0], [0.0, 0.0]], [0.5, -0.0])
    """
    sigma = stack.activation
    if not sigma.piecewise_linear:
        checks.reject(
            "stack", "an activation of one's own", "ReLU or leaky ReLU, which are piecewise linear"
        )
    state = np.atleast_1d(checks.numbers("x", x))
    if state.shape != (stack.width,):
        checks.reject("x", state, f"shape ({stack.width},)")
    A, c = np.eye(state.size), np.zeros(state.size)
    patterns: list[np.ndarray] = []
    for n in range(1, stack.whole_depth(depth) + 1):
        layer = stack.layer(n)
        skip = isinstance(layer, Block)
        inner: tuple[Layer, ...] = layer.inner if isinstance(layer, Block) else (layer,)
        B = A
        d = c
        z = state
        for m, part in enumerate(inner, 1):
            u = part.before(z, sigma)
            B, d = part.weight.apply(B.T).T, part.weight.apply(d) + part.shift
            if skip and m == len(inner):
                u = state + u
                B = A + B
                d = c + d
            open_end = isinstance(layer, Block) and m == len(inner) and not layer.outer
            J = np.ones(u.shape) if open_end else sigma.derivative(u)
            patterns.append(J)
            z = J * u
            B = J[:, None] * B
            d = J * d
        A = B
        c = d
        state = z
    return AffineForm(A, c, tuple(patterns))


def activation_pattern(
    stack: Stack, x: ArrayLike, depth: int | None = None
) -> tuple[np.ndarray, ...]:
    """Where each activation passes its argument unchanged (slope 1: everywhere).

    One boolean array (rows,) per activation.
    """
    return tuple(J == 1 for J in affine_form(stack, x, depth).patterns)


def activation_matrices(
    stack: Stack, x: ArrayLike, depth: int | None = None
) -> tuple[np.ndarray, ...]:
    """The diagonal matrices J_1, J_2, ... at x, (rows, rows) each."""
    return tuple(np.diag(J) for J in affine_form(stack, x, depth).patterns)
