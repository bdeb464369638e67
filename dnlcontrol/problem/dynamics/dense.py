"""Dense non-local networks, ideas from Huang, Su, Tai, Wu, arXiv 2510.02049."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dnlcontrol import checks
from dnlcontrol.problem.activations import tanh
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Affine, Dynamics, Outer
from dnlcontrol.problem.engines import Activation, FormulaArray, FormulaControls, UserFormula


@dataclass(frozen=True)
class Dense(Dynamics):
    """Every layer is fed by all earlier layers; W(t, s) is (width, width).

        form "A"   x(t) = x0 + ∫_0^t W(t,s) F(x(s)) ds + b(t)       F = activation by default
        form "B"   x(t) = x0 + σ(∫_0^t W(t,s) F(x(s)) ds + b(t))    F = identity by default
        form "C"   x(t) = x0 + ∫_0^t σ(W(t,s) F(x(s)) + b(t,s)) ds  F = identity by default

    Parameters
    ----------
    width : d, the state's shape is (d,).
    form : "A", "B" or "C".
    activation : σ, a function of one array such as :func:`dnlcontrol.tanh`.
    feature : ``F(s, x, u)``, replaces the default feature map; ``feature_controls`` are its path
        controls.
    bias : False leaves b out.

    Raises
    ------
    InputError for a width below 1, a form that is none of the three, functions that are none.
    """

    width: int
    form: str = "C"
    activation: Activation = tanh
    feature_map: UserFormula | None = None
    feature_controls: Mapping[str, Control] = field(default_factory=dict)
    bias: bool = True

    def __init__(
        self,
        width: int,
        form: str = "C",
        activation: Activation = tanh,
        feature: UserFormula | None = None,
        feature_controls: Mapping[str, Control] | None = None,
        bias: bool = True,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "width", checks.size("Dense.width", width))
        set_field(self, "form", checks.choice("Dense.form", form, ("A", "B", "C")))
        set_field(self, "activation", checks.function("Dense.activation", activation))
        set_field(
            self,
            "feature_map",
            None if feature is None else checks.function("Dense.feature", feature),
        )
        if not isinstance(feature_controls, (Mapping, type(None))):
            checks.reject_type(
                "Dense.feature_controls", feature_controls, "a mapping name -> Control"
            )
        set_field(self, "feature_controls", dict(feature_controls or {}))
        set_field(self, "bias", checks.flag("Dense.bias", bias))

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """W (d, d) on the triangle, b (d,), and those of the feature map."""
        d = self.width
        controls = {"W": Control((d, d), on="ts"), **self.feature_controls}
        if self.bias:
            controls["b"] = Control((d,), on="ts" if self.form == "C" else "t")
        return controls

    @property
    def feature(self) -> UserFormula | None:  # type: ignore[override]
        """F(s, x, u), by default σ(x) in form "A" and x in the others."""
        if self.feature_map is not None:
            return self.feature_map
        return (lambda s, x, u: self.activation(x)) if self.form == "A" else None

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """W y, or σ(W y + b) in form "C", (d,)."""
        mixed = u.W @ y
        if self.form != "C":
            return mixed
        return self.activation(mixed + u.b if self.bias else mixed)

    @property
    def outer(self) -> UserFormula | None:  # type: ignore[override]
        """g + z + b in form "A", g + σ(z + b) in form "B", (d,)."""
        if self.form == "C" or (self.form == "A" and not self.bias):
            return None

        def combine(
            t: FormulaArray, g: FormulaArray, z: FormulaArray, u: FormulaControls
        ) -> FormulaArray:
            z = z + u.b if self.bias else z
            return g + (z if self.form == "A" else self.activation(z))

        return combine

    @property
    def affine(self) -> Affine:  # type: ignore[override]
        """Which of kernel, feature and outer map are σ of an affine map."""
        bias = "b" if self.bias else None
        if self.form == "C":
            return Affine("W", bias, self.activation)
        if self.form == "B":
            return Affine("W", outer=Outer(bias, self.activation))
        return Affine("W", feature=None if self.feature_map else self.activation, outer=Outer(bias))

    def batched(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """All later layers at once: y (n, d), W (m, d, d), b (m, d) -> (m, n, d)."""
        mixed = y @ u.W.transpose(1, 2)
        if self.form != "C":
            return mixed
        return self.activation(mixed + u.b.unsqueeze(1) if self.bias else mixed)
