"""Hessian products for kernels σ(W y + b): the gradient sweep's derivative, columns written out.

States, costates and their tangents along the direction travel side by side, (L+1, d, 2, n), so that
one product of affine_columns.py serves both; affine_maps.py does the same for feature and outer
maps that it knows. What a layer does besides (other maps, implicit stage, cost) runs on dual
numbers.
"""

from __future__ import annotations

import torch
import torch.autograd.forward_ad as forward_ad

from dnlcontrol.backends.adjoint.sweep.affine_columns import Read
from dnlcontrol.backends.adjoint.sweep.columnwise import Data, Sweep
from dnlcontrol.backends.adjoint.sweep.lagrangian import Lagrangian
from dnlcontrol.backends.adjoint.sweep.vectorised import Pull, Tensor, Tensors, gradient_along
from dnlcontrol.minimise.multipliers import Multipliers


class AffineTangent:
    """The tangent sweep at the controls ``u`` along ``du``; needs a dual level around it."""

    def __init__(self, sweep: Sweep, lagrangian: Lagrangian, u: Tensors, du: Tensors) -> None:
        assert sweep.columns is not None
        self.sweep = sweep
        self.lagrangian = lagrangian
        self.columns = sweep.columns
        self.u, self.du = u, du
        self.dual = {k: forward_ad.make_dual(v, du[k]) for k, v in u.items()}
        self.shapes = sweep.problem.state_shape, sweep.problem.integral_shape

    def add(self, data: Data, multipliers: Multipliers | None, out: Tensors) -> None:
        """Add one chunk's share of (d²L/du²) du into ``out``."""
        chain = self.sweep.chain
        if chain is not None:
            layers = chain.pairs(self.u, self.du, data.free[0].T)
            seen = (
                layers.states[-1:] if self.lagrangian.reads_end_only(multipliers) else layers.states
            )
            direct = self._direct(seen, data, multipliers, out)
            chain.pull_pairs(self.u, self.du, layers, direct, out)
            return
        x, z = self._states(data)
        self._pull_back(data, x, z, self._direct(x, data, multipliers, out), out)

    def _direct(
        self, x: Tensor, data: Data, multipliers: Multipliers | None, out: Tensors
    ) -> Tensor:
        """The Lagrangian's derivative in the states x (l, d, 2, n) and its tangent, (l, d, 2, n).

        The tangent of its derivative in the controls goes into ``out``.
        """
        at, along = (
            (x[:, :, i].transpose(1, 2), self.lagrangian.visible(u))
            for i, u in enumerate((self.u, self.du))
        )
        (direct, _), (tangent, parts) = gradient_along(
            lambda x, u: self.lagrangian.value(x, u, data, multipliers), at, along
        )
        for name, part in parts.items():
            out[name].add_(part)
        return torch.stack([direct.transpose(1, 2), tangent.transpose(1, 2)], dim=2)

    def dual_states(self, data: Data) -> tuple[Tensor, Tensor]:
        """x and z as dual numbers, (L+1, n, d)."""
        x, z = self._states(data)
        return _dual(x), _dual(z)

    def _pairs(self, n: int, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(
            self.sweep.depth + 1, *shape, 2, n, dtype=self.sweep.dtype, device=self.sweep.device
        )

    def _source(self, s: int, x: Tensor) -> tuple[Tensor, Pull | None]:
        """(Y, Ẏ) of column s, (e, 2n), and the pull-back of the feature map.

        None for the pull-back: there is none, or it is known.
        """
        if self.sweep.feature_map is not None:
            return self.sweep.feature_map.pair(x).flatten(1), None
        if self.sweep.formulas.feature is None:
            return x.flatten(1), None
        own = self.sweep.inputs(self.dual, s)[2]
        y, pull = self.sweep.pulled_feature(s, _dual(x), own)
        return _pair(y).flatten(1), pull

    def _states(self, data: Data) -> tuple[Tensor, Tensor]:
        """x and z with their tangents, (L+1, d, 2, n)."""
        sweep, n = self.sweep, data.free.shape[1]
        x, z = (self._pairs(n, shape) for shape in self.shapes)
        for l in range(sweep.depth + 1):
            if sweep.outer_map is not None and not sweep.grid.own[l]:
                sweep.outer_map.value_pair(self.u, self.du, l, data.at(l).T, z[l], x[l])
            else:
                x[l] = _pair(sweep.stage(self.dual, data, l).solve(_dual(x[l - 1]), _dual(z[l])))
            if l == sweep.depth:
                break
            y, _ = self._source(l, x[l])
            self.columns.add_pair(_flat(z[sweep.rows(l)]), y, *self._reads(l), sweep.grid.later[l])
            if sweep.markov:
                z[l + 1] += z[l]
        return x, z

    def _reads(self, s: int) -> tuple[Read, Read]:
        """The controls of column s, and their tangents."""
        return self.columns.read(self.u, s), self.columns.read(self.du, s)

    def _pull_back(self, data: Data, x: Tensor, z: Tensor, direct: Tensor, out: Tensors) -> None:
        """The tangent of Sweep.pull_back."""
        sweep, zbar = self.sweep, torch.zeros_like(z)
        for l in reversed(range(sweep.depth + 1)):
            lam = direct[l].clone()
            if l < sweep.depth:
                lam += self._pull_column(l, x[l], zbar[sweep.rows(l)], out)
            if sweep.outer_map is not None and not sweep.grid.own[l]:
                sweep.outer_map.pull_pair(
                    self.u, self.du, l, z=z[l], lam=lam, zbar=zbar[l], out=out
                )
            else:
                stage = sweep.stage(self.dual, data, l)
                _, above, (added, *own) = stage.pull_back(_dual(x[l]), _dual(z[l]), _dual(lam))
                zbar[l] = _pair(above)
                sweep.add_shared(out, _tangents(added), l)
                for ts, *shared in own:
                    sweep.add(out, _tangents(ts), l, own=True)
                    for parts in shared:
                        sweep.add_shared(out, _tangents(parts), l)
            if sweep.markov and l < sweep.depth:
                zbar[l] += zbar[l + 1]

    def _pull_column(self, s: int, x: Tensor, zbar: Tensor, out: Tensors) -> Tensor:
        """The cotangent of x^s and its tangent, (d, 2, n)."""
        y, pull = self._source(s, x)
        ybar = torch.zeros_like(y)
        weight = self.sweep.grid.later[s]
        self.columns.pull_pair(
            _flat(zbar), y, *self._reads(s), weight, ybar=ybar, out=self.columns.read(out, s)
        )
        ybar = ybar.view(len(ybar), 2, -1)
        if self.sweep.feature_map is not None:
            self.sweep.feature_map.pull_pair(ybar, y.view(ybar.shape), x)
            return ybar
        if pull is None:
            return ybar
        xbar, own = pull(_dual(ybar))
        self.sweep.add_shared(out, _tangents(own), s)
        return _pair(xbar)


def _flat(rows: Tensor) -> Tensor:
    """(m, d, 2, n) as (m·d, 2n)."""
    return rows.view(-1, 2 * rows.shape[-1])


def _dual(pair: Tensor) -> Tensor:
    """(..., d, 2, n) as a dual number (..., n, d)."""
    return forward_ad.make_dual(
        pair.select(-2, 0).transpose(-1, -2), pair.select(-2, 1).transpose(-1, -2)
    )


def _pair(dual: Tensor) -> Tensor:
    """A dual number (n, d) as a new tensor (d, 2, n)."""
    value, tangent = forward_ad.unpack_dual(dual)
    return torch.stack(
        [value.T, torch.zeros_like(value.T) if tangent is None else tangent.T], dim=1
    )


def _tangents(parts: Tensors) -> Tensors:
    found = {k: forward_ad.unpack_dual(v).tangent for k, v in parts.items()}
    return {k: v for k, v in found.items() if v is not None}
