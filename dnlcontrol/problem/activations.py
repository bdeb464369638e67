"""Activations: scalar functions applied to each entry, on any backend.

Those of this module know their derivatives as functions of their own value y = σ(x), which is what
the column sweep has at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dnlcontrol.checks import function, real
from dnlcontrol.problem.array import Array
from dnlcontrol.problem.engines import Activation, FormulaArray
from dnlcontrol.problem.namespace import namespace


@dataclass(frozen=True)
class Derivatives:
    """``slope(y)`` = σ', ``curvature_ratio(y)`` = σ''/σ' (None where σ'' = 0) at y = σ(x)."""

    slope: Activation
    curvature_ratio: Activation | None


def known(
    slope: Activation, curvature_ratio: Activation | None = None, *, bend: Activation | None = None
) -> Callable[[Activation], Activation]:
    """Decorator for an activation whose derivatives are known from its value y = σ(x).

    Parameters
    ----------
    slope : y -> σ'(x).
    curvature_ratio : y -> σ''(x)/σ'(x); None for a piecewise linear σ.
    bend : the name of ``curvature_ratio`` in version 0.1.0.

    InputTypeError is raised for what is no function. The derivatives are trusted:
    ``dnl.taylor_test`` shows a wrong one. Without them an activation is differentiated by
    torch.func, which is slower.

    >>> import dnlcontrol as dnl
    >>> @known(slope=lambda y: 2.0 * y - y * y, curvature_ratio=lambda y: 2.0 - 2.0 * y)
    ... def shifted(x):
    ...     return 1.0 + dnl.namespace(x).tanh(x)
    """
    function("known.slope", slope)
    if curvature_ratio is None:
        curvature_ratio = bend
    if curvature_ratio is not None:
        function("known.curvature_ratio", curvature_ratio)

    def attach(activation: Activation) -> Activation:
        activation.derivatives = Derivatives(slope, curvature_ratio)  # type: ignore[attr-defined]
        return activation

    return attach


def derivatives(activation: object) -> Derivatives | None:
    """What :func:`known` attached; None for any other function."""
    found = getattr(activation, "derivatives", None)
    return found if isinstance(found, Derivatives) else None


def _step(y: FormulaArray, left: float) -> FormulaArray:
    one = namespace(y).ones_like(y)
    return namespace(y).where(y > 0, one, left * one)


@known(slope=lambda y: 1.0 - y * y, curvature_ratio=lambda y: -2.0 * y)
def tanh(x: FormulaArray) -> FormulaArray:
    """tanh(x)."""
    return namespace(x).tanh(x)


@known(slope=lambda y: _step(y, 0.0))
def relu(x: FormulaArray) -> FormulaArray:
    """max(x, 0), with derivative 0 at 0."""
    xp = namespace(x)
    return xp.where(x > 0, x, 0.0)


@known(slope=lambda y: _step(y, 0.01))
def leaky_relu(x: FormulaArray, slope: float = 0.01) -> FormulaArray:
    """x where x > 0, slope·x elsewhere."""
    xp = namespace(x)  # before x is compared: it refuses what is no array
    factor = slope if isinstance(slope, (float, Array)) else real("leaky_relu.slope", slope)
    return xp.where(x > 0, x, factor * x)


@known(slope=lambda y: y - y * y, curvature_ratio=lambda y: 1.0 - 2.0 * y)
def sigmoid(x: FormulaArray) -> FormulaArray:
    """1/(1 + e^{-x}), written as (1 + tanh(x/2))/2 so that nothing overflows."""
    xp = namespace(x)
    return 0.5 * (1.0 + xp.tanh(0.5 * x))


@known(slope=lambda y: 1.0 - namespace(y).exp(-y), curvature_ratio=lambda y: namespace(y).exp(-y))
def softplus(x: FormulaArray) -> FormulaArray:
    """log(1 + e^x), without overflow."""
    xp = namespace(x)
    positive, negative = xp.where(x > 0, x, 0.0), xp.where(x > 0, 0.0, x)
    return positive + xp.log1p(xp.exp(negative - positive))  # -|x| with a derivative of 1 at 0


@known(slope=lambda y: namespace(y).ones_like(y))
def identity(x: FormulaArray) -> FormulaArray:
    """x."""
    return x
