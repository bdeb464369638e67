"""The lifted program from derivatives at the nodes, for the outer map g + z.

The same unknowns (w, x), objective and rows as :class:`Transcription`, but no symbolic graph of the
whole problem: each formula is differentiated once, mapped over its nodes and samples, and its
nonzeros are carried to their places in the gradient, the Jacobian and the Hessian of the Lagrangian
by constant sparse matrices. With e over evaluations of a formula φ at the unknowns v_e, which
enters the rows r_e with the weights ω_e,

    g = A v - b + Σ_e ω_e φ(v_e) at r_e,
    ∂g/∂v = A + Σ_e ω_e φ'(v_e),
    ∇²(σf + λᵀg) = σQ + Σ_e (ω_e λ_{r_e})·φ''(v_e)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.condensed.node_function import NodeFunction
from dnlcontrol.backends.exact.condensed.structure import Reduced
from dnlcontrol.backends.exact.lifted.sides import Sides
from dnlcontrol.discretisation.discrete import DiscreteProblem


def applies(discrete: DiscreteProblem) -> bool:
    """Whether the rows are linear in the kernel's values: no outer map."""
    return discrete.problem.formulas.outer is None


@dataclass(frozen=True)
class Piece:
    """A node function at many evaluations, with the places of its arguments and results.

    Attributes
    ----------
    index : the entries of v that each evaluation reads, q, then x, (evaluations, m + n).
    data : its arguments without derivatives, (k, evaluations).
    rows, weights : where its outputs go, and how often, (evaluations, outputs); ``rows`` is None
        for a term of the objective.
    """

    function: NodeFunction
    index: np.ndarray
    data: np.ndarray
    rows: np.ndarray | None
    weights: np.ndarray

    @property
    def count(self) -> int:
        return len(self.index)

    def arguments(self, v: ca.MX) -> list[ca.MX]:
        """Data, x and q as columns, one for each evaluation."""
        m = self.function.reads
        q, x = (
            ca.reshape(v[_numbers(part)], part.shape[1], self.count)
            for part in (self.index[:, :m], self.index[:, m:])
        )
        return [ca.MX(ca.DM(self.data)), x, q]

    def values(self, v: ca.MX) -> ca.MX:
        """φ, flat: evaluations, then outputs."""
        return ca.vec(self._mapped(self.function.value_function)(*self.arguments(v)))

    @cached_property
    def jacobian(self) -> tuple[ca.Function, np.ndarray, np.ndarray]:
        """The mapped φ' with the output and the argument (q, then x) of each nonzero."""
        data, x, q = self.function.arguments
        J = ca.jacobian(self.function.expression, ca.vertcat(q, x))
        return self._mapped(ca.Function("jacobian", [data, x, q], [J])), *_triplets(J)

    @cached_property
    def hessian(self) -> tuple[ca.Function, np.ndarray, np.ndarray]:
        """The mapped upper triangle of ∇²(cᵀφ) with the arguments of each nonzero."""
        data, x, q = self.function.arguments
        c = ca.SX.sym("c", self.function.outputs)
        H = ca.triu(ca.hessian(ca.dot(c, self.function.expression), ca.vertcat(q, x))[0])
        return self._mapped(ca.Function("hessian", [data, x, q, c], [H])), *_triplets(H)

    def _mapped(self, function: ca.Function) -> ca.Function:
        return function.map(self.count) if self.count > 1 else function


class NodeProgram:
    """Unknowns v = (w, x), rows and exact derivatives of one discrete problem's lifted program."""

    def __init__(self, reduced: Reduced) -> None:
        self.discrete, self.reduced = reduced.discrete, reduced
        self.one_step = reduced.markov
        self.sides = Sides(reduced.discrete)
        self._x = reduced.size + np.arange(np.prod(self.sides.shape)).reshape(self.sides.shape)
        self.size = reduced.size + self._x.size
        self.height = self._x.size + len(self.sides.row_index)
        self._linear, self._shift = self._linear_rows()
        self.pieces = [self._kernel(), *self._terms()]
        self._v = ca.MX.sym("v", self.size)

    # -- structure -------------------------------------------------------------------------------
    def _linear_rows(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        """Rows, columns and entries of A, and b.

        x^l - g(t_l),     one-step: x^{l+1} - x^l - (g(t_{l+1}) - g(t_l))
        """
        free, rows = self.reduced.free, self._x - self.reduced.size
        shift = np.zeros(self.height)
        entries = [(rows.ravel(), self._x.ravel(), np.ones(rows.size))]
        if self.one_step:
            shift[: rows.size] = np.concatenate([free[:1], np.diff(free, axis=0)]).ravel()
            entries.append((rows[1:].ravel(), self._x[:-1].ravel(), -np.ones(rows[1:].size)))
        else:
            shift[: rows.size] = free.ravel()
        i, j, values = (np.concatenate(part) for part in zip(*entries, strict=True))
        return (i, j, values), shift

    def _index(self, controls: np.ndarray, layers: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Entries of v, (evaluations, m + n), from those of w at the nodes and the layers of x."""
        q = np.repeat(controls[:, None], len(samples), axis=1)
        both = np.concatenate([q, self._x[layers][:, samples]], axis=2)
        return both.reshape(-1, both.shape[2])

    def _kernel(self) -> Piece:
        """-ω k(t_l, t_s, F(t_s, x^s, q), q) in the rows of layer l; pairs without weight left out.

        In a recursion of one step ω is the weight in z^l - z^{l-1}.
        """
        r, everyone = self.reduced, np.arange(self.reduced.samples)
        omega = r.pairs.increments if self.one_step else r.pairs.weights
        used = np.flatnonzero(omega)
        index = self._index(r.pair_index[used], r.pairs.sources[used], everyone)
        rows = (self._x[r.pairs.layers[used]] - r.size).reshape(len(index), -1)
        weights = np.broadcast_to(-np.repeat(omega[used], r.samples)[:, None], rows.shape)
        data = r.pair_data(slice(None))[used].reshape(len(index), -1).T
        return Piece(r.nodes.kernel, index, data, rows, weights)

    def _terms(self) -> list[Piece]:
        """Costs, with their weights in the objective, and constraint rows."""
        places = np.full(self.discrete.rows.size, -1)
        places[self.sides.row_index] = self._x.size + np.arange(len(self.sides.row_index))
        pieces = []
        for term in self.reduced.terms:
            block = term.block
            samples = np.arange(self.reduced.samples) if block is None else block.samples
            index = self._index(term.index, term.layers, samples)
            data = term.data[:, samples].reshape(len(index), -1).T
            shape = (len(term.layers), len(samples), term.function.outputs)
            if block is None:
                assert term.weight is not None
                rows, weights = None, np.broadcast_to(term.weight, shape)
            else:
                own = places[block.part].reshape(len(block.layers), *shape[1:])
                rows = np.broadcast_to(own, shape).reshape(len(index), -1)
                integral = block.constraint.kind == "integral"
                over = (
                    self.reduced.grid.running_weights[term.layers]
                    if integral
                    else np.ones(len(term.layers))
                )
                weights = np.broadcast_to(over[:, None, None], shape)
            pieces.append(Piece(term.function, index, data, rows, weights.reshape(len(index), -1)))
        return pieces

    @cached_property
    def _penalty(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and entries of Q with R = ½ vᵀQ v."""
        parts: list[tuple[np.ndarray, ...]] = [
            (np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0))
        ]
        for b in self.discrete.space:
            if b.penalty is not None:
                Q = b.penalty.tocoo()
                i, j = (
                    b.offset + k[:, None] * b.components + np.arange(b.components)
                    for k in (Q.row, Q.col)
                )
                parts.append((i.ravel(), j.ravel(), np.repeat(Q.data, b.components)))
        rows, columns, entries = (np.concatenate(part) for part in zip(*parts, strict=True))
        return rows, columns, entries

    @cached_property
    def _slope(self) -> ca.MX:
        """Q v."""
        rows, columns, entries = self._penalty
        if not len(entries):
            return ca.MX.zeros(self.size, 1)
        return ca.mtimes(_constant((self.size, self.size), rows, columns, entries), self._v)

    # -- values ----------------------------------------------------------------------------------
    @cached_property
    def objective(self) -> ca.MX:
        v = self._v
        total = ca.MX(0)
        for piece in self.pieces:
            if piece.rows is None:
                total += ca.dot(ca.DM(piece.weights.ravel()), piece.values(v))
        return total + 0.5 * ca.dot(v, self._slope)

    @cached_property
    def rows(self) -> ca.MX:
        v = self._v
        total = ca.mtimes(_constant((self.height, self.size), *self._linear), v) - ca.DM(
            self._shift
        )
        for piece in self.pieces:
            if piece.rows is not None:
                total += ca.mtimes(_carry(self.height, piece.rows, piece.weights), piece.values(v))
        return total

    @property
    def nlp(self) -> dict[str, Any]:
        """Unknowns, objective and rows, as ``casadi.nlpsol`` takes them."""
        return {"x": self._v, "f": self.objective, "g": self.rows}

    # -- derivatives -----------------------------------------------------------------------------
    @cached_property
    def derivatives(self) -> dict[str, Any]:
        """Options for ``casadi.nlpsol``: exact first and second derivatives."""
        v, p = self._v, ca.MX.sym("p", 0)
        sigma, lam = ca.MX.sym("sigma"), ca.MX.sym("lam", self.height)
        first = ["x", "p"]
        return {
            "grad_f": ca.Function(
                "grad_f", [v, p], [self.objective, self._gradient()], first, ["f", "grad"]
            ),
            "jac_g": ca.Function(
                "jac_g", [v, p], [self.rows, self._jacobian()], first, ["g", "jac"]
            ),
            "hess_lag": ca.Function(
                "hess_lag",
                [v, p, sigma, lam],
                [self._hessian(sigma, lam)],
                [*first, "lam_f", "lam_g"],
                ["hess"],
            ),
            "no_nlp_grad": True,
            "calc_lam_p": False,
        }

    def _gradient(self) -> ca.MX:
        total = self._slope
        for piece in self.pieces:
            if piece.rows is None:
                mapped, outputs, inputs = piece.jacobian
                carry = _carry(self.size, piece.index[:, inputs], piece.weights[:, outputs])
                total += ca.mtimes(carry, _nonzeros(mapped(*piece.arguments(self._v))))
        return ca.densify(total)

    def _jacobian(self) -> ca.MX:
        parts = [_Part(*self._linear, None)]
        for piece in self.pieces:
            if piece.rows is not None:
                mapped, outputs, inputs = piece.jacobian
                nonzeros = _nonzeros(mapped(*piece.arguments(self._v)))
                parts.append(
                    _Part(
                        piece.rows[:, outputs].ravel(),
                        piece.index[:, inputs].ravel(),
                        piece.weights[:, outputs].ravel(),
                        nonzeros,
                    )
                )
        return _assembled((self.height, self.size), parts)

    def _hessian(self, sigma: ca.MX, lam: ca.MX) -> ca.MX:
        """The upper triangle: q stands before x in v and in a piece's arguments, both ascending."""
        i, j, Q = (part[self._penalty[0] <= self._penalty[1]] for part in self._penalty)
        parts = [_Part(i, j, Q, ca.repmat(sigma, len(Q), 1))] if len(Q) else []
        for piece in self.pieces:
            mapped, first, second = piece.hessian
            if not len(first):
                continue
            weights = ca.DM(piece.weights.ravel())
            c = weights * (sigma if piece.rows is None else lam[_numbers(piece.rows)])
            out = mapped(*piece.arguments(self._v), ca.reshape(c, -1, piece.count))
            i, j = piece.index[:, first].ravel(), piece.index[:, second].ravel()
            parts.append(_Part(i, j, np.ones(len(i)), _nonzeros(out)))
        return _assembled((self.size, self.size), parts)


@dataclass(frozen=True)
class _Part:
    """Entries of a matrix: their places, and weights times values (None: the weights alone)."""

    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    values: ca.MX | None


def _assembled(shape: tuple[int, int], parts: list[_Part]) -> ca.MX:
    """The sum of all parts as one sparse matrix; a constant matrix adds entries that meet."""
    if not parts:
        return ca.MX(*shape)
    rows, columns = (np.concatenate([getattr(p, k) for p in parts]) for k in ("rows", "columns"))
    keys, place = np.unique(columns * shape[0] + rows, return_inverse=True)
    pattern = ca.Sparsity.triplet(*shape, _numbers(keys % shape[0]), _numbers(keys // shape[0]))
    total, start = ca.MX.zeros(len(keys), 1), 0
    for part in parts:
        here = place[start : start + len(part.rows)]
        start += len(part.rows)
        if part.values is None:
            total += ca.DM(np.bincount(here, part.weights, minlength=len(keys)))
        elif len(here):
            total += ca.mtimes(_carry(len(keys), here, part.weights), part.values)
    return ca.MX(pattern, total)


def _carry(height: int, places: np.ndarray, weights: np.ndarray) -> ca.DM:
    """The constant matrix that adds weights times values at their places.

    SciPy's matrices convert ten times slower.
    """
    count = places.size
    pattern = ca.Sparsity(height, count, list(range(count + 1)), _numbers(places))
    return ca.DM(pattern, ca.DM(weights.ravel()))


def _constant(
    shape: tuple[int, int], rows: np.ndarray, columns: np.ndarray, entries: np.ndarray
) -> ca.DM:
    """A constant sparse matrix from its entries, no two of them at one place."""
    order = np.lexsort((rows, columns))
    pattern = ca.Sparsity.triplet(*shape, _numbers(rows[order]), _numbers(columns[order]))
    return ca.DM(pattern, ca.DM(entries[order]))


def _triplets(matrix: ca.SX) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = matrix.sparsity().get_triplet()
    return np.array(rows, dtype=int), np.array(columns, dtype=int)


def _nonzeros(matrix: ca.MX) -> ca.MX:
    return ca.vec(matrix.nz[:])


def _numbers(index: np.ndarray) -> list[int]:
    return index.ravel().tolist()
