"""Feature maps φ(x) and outer maps g + σ(z + b) of kernels that affine_columns.py writes out.

With X, Z, G (d, n), samples last in memory, both are an activation of a whole layer:

    feature   Y = φ(X),             X̄ += Ȳ ⊙ φ'(Y)
    outer     X = G + H, H = σ(Z + b),   Z̄ = Λ ⊙ σ'(H),   b̄ += Z̄ 1

and along (Ẋ, Ż, ḃ), with A the activation's argument, Q its cotangent and δQ the tangent of that,

    value     σ' ⊙ Ȧ
    adjoint   σ' ⊙ (δQ + (σ''/σ') ⊙ Ȧ ⊙ Q)

where σ' and σ''/σ' are functions of the value. Derivatives travel beside values, (d, 2, n).
"""

from __future__ import annotations

from dataclasses import dataclass

from dnlcontrol.backends.adjoint.sweep.affine_columns import Columns, Elements, elements
from dnlcontrol.backends.adjoint.sweep.vectorised import (
    Tensor,
    Tensors,
    Vectorised,
    check_feature,
    check_outer,
)
from dnlcontrol.problem.dynamics.base import Affine


@dataclass(frozen=True)
class FeatureMap:
    """y = φ(x), entry by entry."""

    elements: Elements

    def value(self, x: Tensor) -> Tensor:
        """Y (d, n)."""
        y = x.clone()
        self.elements.apply(y)
        return y

    def pull(self, ybar: Tensor, y: Tensor) -> Tensor:
        """X̄, in place of Ȳ."""
        self.elements.times_slope(ybar, y, out=ybar)
        return ybar

    def pair(self, x: Tensor) -> Tensor:
        """(Y, Ẏ) of (X, Ẋ), (d, 2, n)."""
        y = x.clone()
        _apply_pair(self.elements, y)
        return y

    def pull_pair(self, ybar: Tensor, y: Tensor, x: Tensor) -> None:
        """The cotangent of x and its tangent in place of those of y, all (d, 2, n)."""
        _pull_pair(self.elements, ybar, y[:, 0], x[:, 1].clone())


@dataclass(frozen=True)
class OuterMap:
    """x = g + σ(z + b); ``bias`` names b, ``path`` says that it has one sample per layer."""

    elements: Elements
    bias: str | None
    path: bool

    def _shift(self, u: Tensors, l: int) -> Tensor:
        """b of layer l (or its cotangent), (d,)."""
        assert self.bias is not None
        return u[self.bias][l if self.path else 0]

    def _argument(self, u: Tensors, l: int, z: Tensor, out: Tensor) -> None:
        if self.bias is None:
            out.copy_(z)
        else:
            out.copy_(z).add_(self._shift(u, l)[:, None])

    def value(self, u: Tensors, l: int, g: Tensor, z: Tensor, x: Tensor) -> None:
        """Writes x^l; g, z and x are (d, n)."""
        self._argument(u, l, z, x)
        self.elements.apply(x)
        x.add_(g)

    def pull(self, u: Tensors, l: int, z: Tensor, lam: Tensor, zbar: Tensor, out: Tensors) -> None:
        """Writes z̄^l from λ^l and adds the cotangent of b into ``out``."""
        if self.elements.value is None:
            zbar.copy_(lam)
        else:
            self._argument(u, l, z, zbar)
            self.elements.apply(zbar)
            self.elements.times_slope(lam, zbar, out=zbar)
        if self.bias is not None:
            self._shift(out, l).add_(zbar.sum(1))

    def _pair(self, u: Tensors, du: Tensors, l: int, z: Tensor, out: Tensor) -> None:
        """The activation's argument and its tangent, (d, 2, n)."""
        out.copy_(z)
        if self.bias is not None:
            out[:, 0].add_(self._shift(u, l)[:, None])
            out[:, 1].add_(self._shift(du, l)[:, None])

    def value_pair(self, u: Tensors, du: Tensors, l: int, g: Tensor, z: Tensor, x: Tensor) -> None:
        """Writes (X, Ẋ); g is (d, n), z and x are (d, 2, n)."""
        self._pair(u, du, l, z, x)
        _apply_pair(self.elements, x)
        x[:, 0].add_(g)

    def pull_pair(
        self, u: Tensors, du: Tensors, l: int, z: Tensor, lam: Tensor, zbar: Tensor, out: Tensors
    ) -> None:
        """Writes (Z̄, δZ̄) from λ^l and its tangent, and adds the tangent of b̄ into ``out``."""
        zbar.copy_(lam)
        if self.elements.value is not None:
            h = z.new_empty(z.shape)
            self._pair(u, du, l, z, h)
            self.elements.apply(h[:, 0])
            _pull_pair(self.elements, zbar, h[:, 0], h[:, 1])
        if self.bias is not None:
            self._shift(out, l).add_(zbar[:, 1].sum(1))


def _apply_pair(elements: Elements, a: Tensor) -> None:
    """(a, ȧ) <- (σ(a), σ'(a) ⊙ ȧ)."""
    elements.apply(a[:, 0])
    elements.times_slope(a[:, 1], a[:, 0], out=a[:, 1])


def _pull_pair(elements: Elements, bar: Tensor, h: Tensor, p: Tensor) -> None:
    """The cotangents (q, δq) of σ(a) <- those of a; h = σ(a), p = ȧ, which is overwritten."""
    elements.bent(p, h, bar[:, 0], bar[:, 1])
    elements.times_slope(p, h, out=bar[:, 1])
    elements.times_slope(bar[:, 0], h, out=bar[:, 0])


def feature_map(vectorised: Vectorised, columns: Columns | None) -> FeatureMap | None:
    """The declared feature map of a problem whose columns are written out.

    None where nothing applies.
    """
    affine = vectorised.problem.dynamics.affine
    if columns is None or not isinstance(affine, Affine) or affine.feature is None:
        return None
    known = elements(affine.feature)
    if known is None:
        return None
    value = known.value
    check_feature(
        vectorised,
        vectorised.feature or (lambda s, x, u: x),
        lambda s, x, u: x if value is None else value(x),
        "affine.feature",
    )
    return FeatureMap(known)


def outer_map(vectorised: Vectorised, columns: Columns | None) -> OuterMap | None:
    """The same for the outer map, which is g + z where the problem has none."""
    problem = vectorised.problem
    affine, free = problem.dynamics.affine, problem.formulas.free_term
    shapes = {
        problem.state_shape,
        problem.integral_shape,
        free.shape if free else problem.state_shape,
    }
    if columns is None or not isinstance(affine, Affine) or len(shapes) > 1:
        return None
    if affine.outer is None:
        return None if problem.formulas.outer else OuterMap(Elements(None), None, False)
    outer, known = affine.outer, elements(affine.outer.activation)
    if known is None:
        return None
    if outer.bias is not None and (
        outer.bias not in problem.controls or problem.controls[outer.bias].on == "ts"
    ):
        return None
    found = OuterMap(
        known, outer.bias, outer.bias is not None and problem.controls[outer.bias].on == "t"
    )

    def batched(t: Tensor, g: Tensor, z: Tensor, u: Tensors) -> Tensor:
        z = z if outer.bias is None else z + u[outer.bias]
        return g + (z if known.value is None else known.value(z))

    check_outer(vectorised, vectorised.outer or (lambda t, g, z, u: g + z), batched, "affine.outer")
    return found
