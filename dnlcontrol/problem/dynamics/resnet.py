"""Residual networks, whose depth limit is an ODE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnlcontrol import checks
from dnlcontrol.problem.activations import tanh
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Affine, Dynamics
from dnlcontrol.problem.engines import Activation, FormulaArray, FormulaControls


@dataclass(frozen=True)
class ResNet(Dynamics):
    """x^{l+1} = x^l + τ σ(K^l x^l + b^l), the Euler method for x' = σ(K(t) x + b(t)).

    Source: the residual network of Thorpe and van Gennip, arXiv 1810.11741 (X_{i+1} = X_i + (1/n)
    σ(K_i X_i + b_i)).

    Parameters
    ----------
    width : d; K is (d, d) and b is (d,), both path controls.
    activation : σ, a function of one array.

    Raises
    ------
    InputError for a width below 1, or an activation that is no function.
    """

    width: int
    activation: Activation = tanh
    is_ode = True

    def __post_init__(self) -> None:
        checks.size("ResNet.width", self.width)
        checks.function("ResNet.activation", self.activation)

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """K (d, d) and b (d,) on the path."""
        d = self.width
        return {"K": Control((d, d), on="t"), "b": Control((d,), on="t")}

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """σ(K y + b), (d,)."""
        return self.activation(u.K @ y + u.b)

    @property
    def affine(self) -> Affine:  # type: ignore[override]
        """The kernel is σ of an affine map."""
        return Affine("K", "b", self.activation)

    def batched(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """y (n, d) -> (1, n, d)."""
        return self.activation(y @ u.K.T + u.b).unsqueeze(0)
