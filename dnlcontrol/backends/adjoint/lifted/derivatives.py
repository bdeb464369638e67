"""Values, Jacobians and the Lagrangian's Hessian at all nodes of a one-step problem.

With f the right side, α_s and β_s its weights in the steps from and to node s, the problem is

    min J(x, w)   subject to   x^{l+1} - x^l - (g^{l+1} - g^l) - α_l f^l - β_{l+1} f^{l+1} = 0

and the constraint rows. Its Lagrangian is J + μᵀc + Σ_l λ^{l+1}·(the defect of step l), so that f^s
has the multiplier -(α_s λ^{s+1} + β_s λ^s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dnlcontrol.backends.adjoint.lifted.node_terms import NodeTerm, NodeTerms
from dnlcontrol.backends.adjoint.sweep.columnwise import Sweep
from dnlcontrol.backends.adjoint.sweep.vectorised import Tensor
from dnlcontrol.discretisation.space.flat import Flat, RowVector


@dataclass(frozen=True)
class NodeValues:
    """J without penalties, c (rows.size,), and f at its nodes (side, N, d)."""

    cost: float
    rows: RowVector
    right: np.ndarray


@dataclass(frozen=True)
class RowJacobian:
    """NodeDerivatives of the values of one block: in x (m, k, r, d) and in q (m, k, r, e)."""

    term: NodeTerm
    x: np.ndarray
    q: np.ndarray


class NodeDerivatives:
    """One tape over all nodes at states x (L+1, N, d) and controls w, (space.size,)."""

    def __init__(self, terms: NodeTerms, w: Flat, x: np.ndarray, second: bool = True) -> None:
        self.terms, self.sweep = terms, terms.sweep
        self.w, self.states = w, x
        q = w[terms.controls.index][:, None]
        q = np.repeat(q, x.shape[1], axis=1)
        with torch.set_grad_enabled(second):
            self._x = torch.as_tensor(x).clone().requires_grad_(second)
            self._q = torch.as_tensor(q).requires_grad_(second)
            self._right = terms.right(self._x, self._q)
            self._cost = self._cost_here()
            self._rows = [term(self._x, self._q) for term in terms.rows]
        self.values = NodeValues(
            float(self._cost.detach()), self._flat_rows(), self._right.detach().numpy()
        )

    def _cost_here(self) -> Tensor:
        total = self._x.new_zeros(())
        if self.terms.terminal:
            total = total + self.terms.terminal(self._x, self._q).sum()
        if self.terms.running:
            weights = self.sweep.tensor(self.sweep.grid.running_weights[self.sweep.grid.path])
            running = self.terms.running(self._x, self._q)
            total = total + (weights[:, None, None] * running).sum()
        return total / self.sweep.problem.samples

    def _flat_rows(self) -> RowVector:
        """c, integrals summed."""
        rows = self.sweep.discrete.rows
        out = np.zeros(rows.size)
        for block, values in zip(rows.blocks, self._rows, strict=True):
            found = values.detach().numpy()
            if block.constraint.kind == "integral":
                found = np.tensordot(self.path_weights, found, 1)
            out[block.part] = found.reshape(-1)
        return out

    @property
    def path_weights(self) -> np.ndarray:
        """ω at the layers of the running cost, (side,)."""
        return self.sweep.grid.running_weights[self.sweep.grid.path]

    # -- first order -----------------------------------------------------------------------------
    def _pulled(self, value: Tensor, graph: bool = False) -> tuple[Tensor, Tensor]:
        """The derivatives of a number in x and q."""
        if not value.requires_grad:
            return torch.zeros_like(self._x), torch.zeros_like(self._q)
        dx, dq = torch.autograd.grad(
            value,
            (self._x, self._q),
            create_graph=graph,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dx, dq

    def cost_gradient(self) -> tuple[np.ndarray, np.ndarray]:
        """Of J in x (L+1, N, d) and in q (L+1, N, e)."""
        dx, dq = self._pulled(self._cost)
        return dx.numpy(), dq.numpy()

    def _jacobian(self, values: Tensor, term: NodeTerm) -> RowJacobian:
        here = np.ix_(term.nodes, term.samples)
        pulled = [self._pulled(values[..., r].sum()) for r in range(values.shape[-1])]
        x, q = (np.stack([p[k].numpy()[here] for p in pulled], axis=2) for k in (0, 1))
        return RowJacobian(term, x, q)

    def right_jacobian(self) -> RowJacobian:
        """Of f in x (side, N, d, d) and in q (side, N, d, e)."""
        return self._jacobian(self._right, self.terms.right)

    def row_jacobians(self) -> list[RowJacobian]:
        """Of every block."""
        return [self._jacobian(v, t) for v, t in zip(self._rows, self.terms.rows, strict=True)]

    # -- second order ----------------------------------------------------------------------------
    def lagrangian_hessian(
        self, cost: float, mu: RowVector, right: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of cost·J + μᵀc + Σ right·f at every node and sample.

        In (x, x) (L+1, N, d, d), in (q, x) (L+1, N, e, d) and in (q, q) (L+1, N, e, e).
        """
        with torch.enable_grad():
            total = cost * self._cost + (torch.as_tensor(right) * self._right).sum()
            for block, values in zip(self.sweep.discrete.rows.blocks, self._rows, strict=True):
                weights = mu[block.part].reshape(*block.full_shape[:2], -1)
                if block.constraint.kind == "integral":
                    weights = self.path_weights[:, None, None] * weights
                total = total + (torch.as_tensor(weights) * values).sum()
            gx, gq = self._pulled(total, graph=True)
            by_x = [self._pulled(gx[..., i].sum()) for i in range(gx.shape[-1])]
            by_q = [self._pulled(gq[..., i].sum()) for i in range(gq.shape[-1])]
        shape = self._x.shape[:2]
        xx = np.stack([dx.numpy() for dx, _ in by_x], axis=2)
        empty_x, empty_q = (np.zeros((*shape, 0, v.shape[-1])) for v in (self._x, self._q))
        qx = np.stack([dx.numpy() for dx, _ in by_q], axis=2) if by_q else empty_x
        qq = np.stack([dq.numpy() for _, dq in by_q], axis=2) if by_q else empty_q
        return xx, qx, qq


def step_weights(sweep: Sweep) -> tuple[np.ndarray, np.ndarray]:
    """α_s and β_s: of f^s in the step from node s and in the step to it, (L+1,) each."""
    own = sweep.grid.own
    return np.append(sweep.grid.later - own[:-1], 0.0), own
