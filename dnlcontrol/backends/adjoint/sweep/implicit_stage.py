"""One layer of the state equation, x = r(x, z, controls), solved for x and pulled back.

Explicit where the layer's own source has no weight: then r does not read x. Otherwise Newton's
method, sample by sample, to the root that continues the state before (stage_root.py), and the
implicit function theorem:

    dx = (I - r_x)^{-1} (r_z dz + r_u du),      λ = (I - r_x)^{-T} x̄,   z̄ = r_zᵀ λ,   ū = r_uᵀ λ
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from torch.utils._pytree import tree_map

from dnlcontrol.backends.adjoint.sweep.vectorised import (
    Pull,
    Tensor,
    Tree,
    tangents_at_work,
    transformed,
    value_and_pull,
)
from dnlcontrol.discretisation.stage_root import (
    chosen,
    continued_root,
    doubtful,
    rough,
    unsettled,
)

# Newton's method doubles its digits once it is close; more means that the stage has no root nearby
NEWTON_STEPS = 50
# a step so small beside the state, and then beside the step before, keeps the slope: that costs a
# pull-back for each entry of the state, the value one evaluation
KEEPS_SLOPE = 1e-2
# a Newton step of so many units of rounding of the state is noise
NOISE_UNITS = 4.0
# further steps for entries that are small beside the largest: each doubles their digits
REFINEMENTS = 3


@dataclass(frozen=True)
class Stage:
    """r(x, z, *controls), x (n, *state); samples do not interact."""

    right: Callable[..., Tensor]
    controls: tuple[Tree, ...]
    implicit: bool

    def solve(self, guess: Tensor, z: Tensor) -> Tensor:
        """x with x = r(x, z); NaN for samples where Newton's method does not settle."""
        if not self.implicit:
            return self.right(guess, z, *self.controls)
        primals = _primal(z), tree_map(_primal, self.controls)
        with torch.no_grad():
            x = self._root(_primal(guess), *primals)
        if not tangents_at_work() and not torch.is_grad_enabled():
            return x
        # Steps with a fixed slope, which carry tangents and autograd's graph: k of them have the
        # first k derivatives of the implicit function, since each multiplies the error by one more
        # perturbation.
        with torch.no_grad():
            _, slope = self._linearised(x, *primals)
        for _ in range(2 if torch.is_grad_enabled() else 1):
            x = x - _solve(slope, x - self.right(x, z, *self.controls))
        return x

    def _root(self, start: Tensor, z: Tensor, controls: tuple[Tree, ...]) -> Tensor:
        """Newton's root; the one that continues ``start`` where that may be another."""
        x, steps = self._newton(start, z, controls)
        if transformed():
            return x
        rows = _rows(start), _rows(x)
        if not np.any(doubtful([_rows(step) for step in steps], *rows)):
            return self._refined(x, z, controls, steps)

        def linearised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            value, slope = self._linearised(_like(rows, start), z, controls)
            return _rows(value), slope.cpu().numpy()

        found = continued_root(linearised, rows[0], torch.finfo(x.dtype).eps)
        further, steps = self._newton(_like(found, start), z, controls)
        further = self._refined(further, z, controls, steps)
        return _like(chosen(rows[1], _rows(further), rows[0]), start)

    def _newton(
        self, x: Tensor, z: Tensor, controls: tuple[Tree, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        """The state where Newton's method settles, NaN where it does not, and its steps."""
        eps = torch.finfo(x.dtype).eps
        slope = None
        before = None
        steps: list[Tensor] = []
        for _ in range(NEWTON_STEPS):
            if slope is None:
                value, slope = self._linearised(x, z, controls)
            else:
                value = self.right(x, z, *controls)
            steps.append(_solve(slope, x - value))
            x = x - steps[-1]
            size, scale = _size(steps[-1]), 1.0 + _size(x)
            noise = NOISE_UNITS * eps * scale
            # with the ratio of two steps, the next one would be size²/before
            moved = (
                (size > noise)
                if before is None
                else (size > noise) & (size * size > noise * before)
            )
            if not bool(moved.any()):  # NaN compares as settled, and stays NaN
                return x, steps
            if bool((size > KEEPS_SLOPE * (scale if before is None else before)).any()):
                slope, before = None, None
            else:
                before = size
        return torch.where(moved.reshape(-1, *[1] * (x.dim() - 1)), torch.nan, x), steps

    def _refined(
        self, x: Tensor, z: Tensor, controls: tuple[Tree, ...], steps: list[Tensor]
    ) -> Tensor:
        """Newton steps until every entry, the small ones too, solves its row to rounding."""
        eps = torch.finfo(x.dtype).eps
        if not np.any(rough([_rows(step) for step in steps], _rows(x), eps)):
            return x
        for _ in range(REFINEMENTS):
            value, slope = self._linearised(x, z, controls)
            rows = _rows(x - value), _rows(value), slope.cpu().numpy(), _rows(x)
            if not np.any(unsettled(*rows, eps)):
                break
            x = x - _solve(slope, x - value)
        return x

    def _linearised(
        self, x: Tensor, z: Tensor, controls: tuple[Tree, ...]
    ) -> tuple[Tensor, Tensor]:
        """r and I - r_x, (n, d, d)."""
        value, pull = value_and_pull(lambda x: self.right(x, z, *controls), x)
        return value, _slope(pull, value)

    def pull_back(
        self, x: Tensor, z: Tensor, xbar: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Any, ...]]:
        """λ, z̄ and the cotangents of the controls, from the cotangent x̄ of the solved x."""
        _, pull = value_and_pull(self.right, x, z, *self.controls)
        if self.implicit:
            xbar = _solve(_slope(pull, x).transpose(1, 2), xbar)
        _, zbar, *parts = pull(xbar)
        return xbar, zbar, tuple(parts)


def _slope(pull: Pull, like: Tensor) -> Tensor:
    """I - r_x of every sample, (n, d, d), from one pull-back for each entry of the state."""
    n, size = len(like), math.prod(like.shape[1:])
    unit = torch.eye(size, dtype=like.dtype, device=like.device)
    rows = [
        pull(unit[i].expand(n, size).reshape(like.shape))[0].reshape(n, size) for i in range(size)
    ]
    return unit - torch.stack(rows, dim=1)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """matrix^{-1} right, sample by sample; not finite where a matrix is singular or not finite."""
    solution = torch.linalg.solve_ex(matrix, right.reshape(*matrix.shape[:2], 1))[0]
    return solution.squeeze(-1).reshape(right.shape)


def _rows(x: Tensor) -> np.ndarray:
    """(n, d), the states of the samples as NumPy rows."""
    return np.asarray(x.reshape(len(x), math.prod(x.shape[1:])).cpu().numpy())


def _like(rows: np.ndarray, x: Tensor) -> Tensor:
    """NumPy rows (n, d) as a tensor like x."""
    return torch.as_tensor(rows, dtype=x.dtype, device=x.device).reshape(x.shape)


def _size(x: Tensor) -> Tensor:
    """The largest entry of each sample."""
    return x.abs().reshape(len(x), math.prod(x.shape[1:])).amax(1)


def _primal(tensor: Tensor) -> Tensor:
    """The value without tangent and outside the graph of autograd."""
    return (forward_ad.unpack_dual(tensor).primal if tangents_at_work() else tensor).detach()
