"""All layers of a one-step recursion at once.

z^{l+1} = z^l + τ k(t_{l+1}, t_l, F(x^l), v^l),     x^l = g(t_l) + z^l
"""

from __future__ import annotations

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.condensed.node_function import NodeFunction


class March:
    """A Markov problem's kernel with outer map g + z, folded over layers, mapped over samples."""

    def __init__(self, kernel: NodeFunction, depth: int) -> None:
        self.kernel, self.depth = kernel, depth
        data, _, q = kernel.arguments
        z = ca.SX.sym("z", kernel.outputs)
        g = ca.SX.sym("g", kernel.inputs)
        weight = ca.SX.sym("weight", 1)
        value = z + weight * kernel.value_function(data, g + z, q)
        fold = ca.Function("step", [z, weight, data, g, q], [value]).mapaccum("march", depth)
        N = kernel.samples
        self._all: ca.Function = fold if N == 1 else fold.map("samples", "serial", N, [1, 2, 4], [])

    def __call__(
        self, weights: np.ndarray, data: np.ndarray, free: np.ndarray, q: np.ndarray
    ) -> np.ndarray:
        """z (L+1, N, dz) from weights, data, free terms and the controls at the pairs.

        Weights (L,), data (L, k), free terms (L, N, dx), controls (L, m).
        """
        N, dz = self.kernel.samples, self.kernel.outputs
        by_sample = free.transpose(1, 0, 2).reshape(N * self.depth, -1).T
        z = self._all(ca.DM.zeros(dz, N), weights[None], data.T, by_sample, q.T).full()
        out = np.zeros((self.depth + 1, N, dz))
        out[1:] = z.T.reshape(N, self.depth, dz).transpose(1, 0, 2)
        return out
