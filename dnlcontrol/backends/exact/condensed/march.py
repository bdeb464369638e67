"""All layers of a one-step recursion at once, with the outer map g + z.

    explicit    z^{l+1} = z^l + c_l k^l,                x^l = g(t_l) + z^l
    implicit    b^{l+1} = b^l + c_l k^l,                z^l = b^l + d_l k^l,  x^l = g(t_l) + z^l

k^l = k(F(x^l), v^l); b^l is z^l without its own source, and each implicit layer takes a fixed
number of Newton steps from the layer before.
"""

from __future__ import annotations

from dataclasses import dataclass

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.condensed.node_function import NodeFunction

# Newton steps of an implicit layer: from a distance τ, quadratically, 1e-1 -> 1e-3 -> 1e-7 -> 1e-15
# and one that shows rounding alone; layers that need more are left to the caller
STAGE_STEPS = 5
# entries of a state up to which a step is solved symbolically: its length grows with their cube
MOST_ENTRIES = 12
# Newton-Kantorovich: steps that halve lead to the one root near the layer before
CONTRACTION = 0.5
# units of rounding of a component that its last step may have
STAGE_ROUNDING = 4.0


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


@dataclass(frozen=True)
class Stages:
    """What :class:`ImplicitMarch` found, up to the first layer whose steps did not settle.

    ``settled``: how many layers did, 0 counted. x (L+1, N, dx) and z (L+1, N, dz) hold there, and
    z^settled is what it is without its own source.
    """

    settled: int
    x: np.ndarray
    z: np.ndarray


class ImplicitMarch:
    """A Markov problem's kernel with outer map g + z, where the layers are implicit in x^l."""

    def __init__(self, kernel: NodeFunction, depth: int) -> None:
        self.kernel, self.depth = kernel, depth
        fold = self._layer().mapaccum("march", depth, 2)
        N = kernel.samples
        shared = [2, 3, 4, 5, 7, 8]
        self._all: ca.Function = fold if N == 1 else fold.map("samples", "serial", N, shared, [])

    def _layer(self) -> ca.Function:
        """(b, x) of the next layer, z and the largest entry of every Newton step, and the scale."""
        data, x, q = self.kernel.arguments
        n = self.kernel.outputs
        own, right = ca.SX.sym("own", 1), ca.SX.sym("right", n)
        value = self.kernel.expression
        matrix = ca.SX.eye(n) - own * ca.jacobian(value, x)
        step = ca.solve(ca.densify(matrix), ca.densify(x - right - own * value))
        newton = ca.Function("newton", [data, x, q, own, right], [step])
        b, weight = ca.SX.sym("b", n), ca.SX.sym("weight", 1)
        later = ca.SX.sym("later", data.numel())
        p, g = ca.SX.sym("p", q.numel()), ca.SX.sym("g", n)
        k = self.kernel.value_function
        base = b + weight * k(data, x, q)
        at, steps = x, []
        for _ in range(STAGE_STEPS):
            steps.append(newton(later, at, p, own, g + base))
            at = at - steps[-1]
        sizes = ca.vertcat(*(ca.norm_inf(s) for s in steps[:-1]))
        z = base + own * k(later, at, p)
        results = [base, at, z, sizes, steps[-1]]
        return ca.Function("layer", [b, x, weight, own, data, later, g, q, p], results)

    def __call__(
        self, weights: np.ndarray, data: np.ndarray, free: np.ndarray, q: np.ndarray
    ) -> Stages:
        """From the weights (c_l, d_{l+1}), (2, L), and what the kernel reads at the nodes.

        Data (L+1, k), free terms (L+1, N, dx), controls (L+1, m).
        """
        N, L = self.kernel.samples, self.depth
        n = self.kernel.outputs
        g = free.transpose(1, 2, 0)[:, :, 1:]
        arguments = [
            ca.DM.zeros(n, N),
            free[0].T,
            weights[:1],
            weights[1:],
            data[:-1].T,
            data[1:].T,
            g.transpose(1, 0, 2).reshape(n, N * L),
            q[:-1].T,
            q[1:].T,
        ]
        results = [v.full().T.reshape(N, L, -1).transpose(1, 0, 2) for v in self._all(*arguments)]
        base, x, z, sizes, last = results
        good = _settled(x, free[1:] + base, sizes, last)
        settled = 1 + (L if good.all() else int(np.argmin(good)))
        start = np.zeros((1, N, n))
        z = np.concatenate([start, z])
        z[settled : settled + 1] = base[settled - 1 : settled]
        return Stages(settled, np.concatenate([free[:1], x]), z)


def _settled(x: np.ndarray, right: np.ndarray, sizes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Whether every layer's steps contract down to rounding, (L,), from x = right + d k(x).

    x, right and the last step (L, N, n), the sizes of the steps before (L, N, STAGE_STEPS - 1).
    """
    rounding = STAGE_ROUNDING * np.finfo(float).eps * (np.abs(x) + np.abs(right))
    resolved = np.all(np.abs(last) <= rounding, axis=2)
    largest = rounding.max(2, keepdims=True)
    contracts = np.all(sizes[..., 1:] <= np.maximum(CONTRACTION * sizes[..., :-1], largest), axis=2)
    return np.all(resolved & contracts, axis=1)
