"""The lifted problem's linearisation with the states eliminated: dense in the controls.

The linearised steps give δx = S δw + s, s from the defects; S is formed once, by one recursion over
the steps for all controls together, and with it the Hessian of the Lagrangian on the linearised
states, exactly: H = Sᵀ L_xx S + Sᵀ L_xw + L_wx S + L_ww + Q. The costates λ are those that make the
derivative in x vanish, by the recursion backwards.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dnlcontrol.backends.adjoint.lifted.derivatives import (
    NodeDerivatives,
    RowJacobian,
    step_weights,
)
from dnlcontrol.discretisation.space.flat import Flat, RowVector


class StepSlopes:
    """The linearised steps (I - β f_x) δx^{l+1} = (I + α f_x) δx^l + f_q's part - defect^l.

    ``fx`` (L+1, N, d, d) and ``fq`` (L+1, N, d, e) are zero at T where f does not stand there.
    """

    def __init__(self, at: NodeDerivatives) -> None:
        self.depth = at.sweep.depth
        self.alpha, self.beta = step_weights(at.sweep)
        jacobian = at.right_jacobian()
        missing = self.depth + 1 - len(jacobian.x)
        pad = [(0, missing), (0, 0), (0, 0), (0, 0)]
        self.fx, self.fq = np.pad(jacobian.x, pad), np.pad(jacobian.q, pad)
        one = np.eye(self.fx.shape[-1])
        self.from_here = one + self.alpha[:, None, None, None] * self.fx
        self.solved = None
        if self.beta.any():
            self.solved = np.linalg.inv(one - self.beta[:, None, None, None] * self.fx)

    def costates(self, direct: np.ndarray) -> np.ndarray:
        """λ (L+1, N, d), λ^0 = 0: (I - β f_x)ᵀ λ^l = (I + α f_x)ᵀ λ^{l+1} - direct^l."""
        lam = np.zeros_like(direct)
        for l in range(self.depth, 0, -1):
            right = -direct[l]
            if l < self.depth:
                right = right + (lam[l + 1][:, None] @ self.from_here[l])[:, 0]
            lam[l] = right if self.solved is None else (right[:, None] @ self.solved[l])[:, 0]
        return lam

    def offset(self, defects: np.ndarray) -> np.ndarray:
        """s (L+1, N, d), what the steps make of the defects (L, N, d)."""
        s = np.zeros((self.depth + 1, *defects.shape[1:]))
        for l in range(self.depth):
            s[l + 1] = (self.from_here[l] @ s[l][..., None])[..., 0] - defects[l]
            if self.solved is not None:
                s[l + 1] = (self.solved[l + 1] @ s[l + 1][..., None])[..., 0]
        return s

    def sensitivity(self, index: np.ndarray, size: int) -> np.ndarray:
        """S (L+1, N, d, size), of controls that node l reads at ``index[l]``."""
        S = np.zeros((*self.fx.shape[:3], size))
        for l in range(self.depth):
            np.matmul(self.from_here[l], S[l], out=S[l + 1])
            S[l + 1][..., index[l]] += self.alpha[l] * self.fq[l]
            if self.solved is not None:
                S[l + 1][..., index[l + 1]] += self.beta[l + 1] * self.fq[l + 1]
                S[l + 1] = self.solved[l + 1] @ S[l + 1]
        return S


class CondensedStep:
    """What a step needs at controls w and states x, with multipliers μ and ``cost`` times J.

    Attributes
    ----------
    hessian : H, (space.size, space.size).
    jacobian : C = c_x S + c_w, (rows.size, space.size).
    """

    def __init__(
        self, at: NodeDerivatives, cost: float, mu: RowVector, penalty: np.ndarray
    ) -> None:
        self.at = at
        self.cost, self.penalty = cost, penalty
        self.sweep = at.sweep
        self.index = at.terms.controls.index
        self.steps = StepSlopes(at)
        self.cost_x, self.cost_q = (cost * part for part in at.cost_gradient())
        self._rows = at.row_jacobians()
        self.costates = self.steps.costates(self.cost_x + self._rows_pulled(mu))
        alpha, beta = (v[:, None, None] for v in (self.steps.alpha, self.steps.beta))
        nu = alpha * _shifted(self.costates) + beta * self.costates
        side = self.sweep.grid.side
        self.xx, self.qx, self.qq = at.lagrangian_hessian(cost, mu, -nu[:side])

    # -- the steps -------------------------------------------------------------------------------
    @cached_property
    def sensitivity(self) -> np.ndarray:
        """S, (L+1, N, d, space.size)."""
        return self.steps.sensitivity(self.index, self.sweep.space.size)

    def offset(self, defects: np.ndarray) -> np.ndarray:
        """s (L+1, N, d), what the linearised steps make of the defects (L, N, d)."""
        return self.steps.offset(defects)

    def states(self, dw: Flat, s: np.ndarray) -> np.ndarray:
        """δx = S δw + s."""
        return np.asarray(self.sensitivity @ dw + s)

    # -- the controls ----------------------------------------------------------------------------
    def _gathered(self, q: np.ndarray) -> Flat:
        """The transpose of what the nodes read, summed over samples; q is (L+1, N, e)."""
        out = np.zeros(self.sweep.space.size)
        np.add.at(out, self.index, q.sum(1))
        return out

    def _flat(self) -> np.ndarray:
        return self.sensitivity.reshape(-1, self.sweep.space.size)

    def gradient(self, s: np.ndarray) -> Flat:
        """Of J in δw where the states are off by s: Sᵀ(J_x + L_xx s) + J_w + L_wx s."""
        x, q = self.cost_x, self.cost_q
        if s.any():
            x = x + (self.xx @ s[..., None])[..., 0]
            q = q + (self.qx @ s[..., None])[..., 0]
        penalty = self.cost * self.sweep.space.penalty_gradient(self.at.w)
        return self._flat().T @ x.reshape(-1) + self._gathered(q) + penalty

    def slope(self, dw: Flat, dx: np.ndarray) -> float:
        """The derivative of J along (δw, δx)."""
        penalty = self.cost * self.sweep.space.penalty_gradient(self.at.w)
        direct = self._gathered(self.cost_q) + penalty
        return float(np.vdot(self.cost_x, dx) + direct @ dw)

    @cached_property
    def hessian(self) -> np.ndarray:
        S, n = self._flat(), self.sweep.space.size
        H = S.T @ (self.xx @ self.sensitivity).reshape(S.shape)
        cross = np.zeros((n, n))
        np.add.at(cross, self.index, (self.qx @ self.sensitivity).sum(1))
        H += cross + cross.T
        i, j = np.broadcast_arrays(self.index[:, :, None], self.index[:, None, :])
        np.add.at(H, (i, j), self.qq.sum(1))
        return H + self.cost * self.penalty

    # -- the rows --------------------------------------------------------------------------------
    def _rows_pulled(self, mu: RowVector) -> np.ndarray:
        """c_xᵀ μ, (L+1, N, d)."""
        out = np.zeros_like(self.cost_x)
        for weights, block in self._weighted(mu):
            here = np.ix_(block.term.nodes, block.term.samples)
            out[here] += np.einsum("mkr,mkrd->mkd", weights, block.x)
        return out

    def _weighted(self, mu: RowVector) -> list[tuple[np.ndarray, RowJacobian]]:
        """Each block's Jacobian with its weights (m, k, r)."""
        found = []
        for block, rows in zip(self.sweep.discrete.rows.blocks, self._rows, strict=True):
            weights = mu[block.part].reshape(*block.full_shape[:2], -1)
            if block.constraint.kind == "integral":
                weights = self.at.path_weights[:, None, None] * weights
            found.append((weights, rows))
        return found

    @cached_property
    def jacobian(self) -> np.ndarray:
        n = self.sweep.space.size
        C = np.zeros((self.sweep.discrete.rows.size, n))
        for block, rows in zip(self.sweep.discrete.rows.blocks, self._rows, strict=True):
            nodes, samples = rows.term.nodes, rows.term.samples
            part = rows.x @ self.sensitivity[np.ix_(nodes, samples)]
            for m, l in enumerate(nodes):
                part[m][..., self.index[l]] += rows.q[m]
            if block.constraint.kind == "integral":
                part = np.tensordot(self.at.path_weights, part, 1)
            C[block.part] = part.reshape(-1, n)
        return C

    def row_offset(self, s: np.ndarray) -> RowVector:
        """c_x s, (rows.size,)."""
        out = np.zeros(self.sweep.discrete.rows.size)
        for block, rows in zip(self.sweep.discrete.rows.blocks, self._rows, strict=True):
            here = np.ix_(rows.term.nodes, rows.term.samples)
            values = np.einsum("mkrd,mkd->mkr", rows.x, s[here])
            if block.constraint.kind == "integral":
                values = np.tensordot(self.at.path_weights, values, 1)
            out[block.part] = values.reshape(-1)
        return out


def _shifted(lam: np.ndarray) -> np.ndarray:
    """λ^{l+1} at l, zero at T."""
    return np.concatenate([lam[1:], np.zeros_like(lam[:1])])
