"""What every dynamics provides.

x(t) = G(t, g(t), ∫_0^t k(t, s, F(s, x(s), v(s)), w(t, s)) ds, v(t))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnlcontrol import checks
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.engines import Activation, UserFormula


@dataclass(frozen=True)
class Outer:
    """Says that an outer map is g + σ(z + b), σ as in Affine.

    b (d,) is the path control or constant named ``bias``.
    """

    bias: str | None = None
    activation: Activation | None = None


@dataclass(frozen=True)
class Affine:
    """Says that a kernel is σ(W y + b), y (e,).

    W (d, e) is the control named ``matrix``, b (d,) the one named ``bias``. ``feature`` says beside
    it that the feature map is φ(x), entry by entry; ``outer`` does so of g + σ(z + b).

    The column sweep then uses its own products, values, pull-backs and tangents written out, in
    place of torch.func's. σ must be None (the identity) or know its derivatives
    (:func:`dnlcontrol.problem.activations.known`); for any other (of a feature or outer map: for
    that map) the declaration has no effect. It is checked against the formulas.
    """

    matrix: str
    bias: str | None = None
    activation: Activation | None = None
    feature: Activation | None = None
    outer: Outer | None = None


class Dynamics:
    """The four functions of the state equation and the controls that come with them.

    ``kernel(t, s, y, u)`` is required. ``free_term(t, x0)`` (default: x0), ``feature(s, x, u)``
    (default: x) and ``outer(t, g, z, u)`` (default: g + z) may be None. ``batched(t, s, y, u)`` is
    an optional PyTorch version of the kernel for one source layer: t (m,), s 0-d, y (n, *y),
    triangular controls (m, *shape), the others (*shape) -> (m, n, *z); ``batched_feature(s, x, u)``
    is one of the feature map: x (n, *x) -> (n, *y). ``affine`` declares a kernel σ(W y + b), and
    maps φ(x) and g + σ(z + b), which the sweep then takes at full speed. ``is_ode`` says that x' =
    k(s, x, v(s)): its costate is the classical one.
    """

    kernel: UserFormula
    free_term: UserFormula | None = None
    feature: UserFormula | None = None
    outer: UserFormula | None = None
    batched: UserFormula | None = None
    batched_feature: UserFormula | None = None
    affine: Affine | None = None
    is_ode: bool = False

    @property
    def own_controls(self) -> Mapping[str, Control]:
        """The controls that come with the equation, by name; the problem's may replace them."""
        return {}


def check_functions(kind: str, **functions: object) -> None:
    """Raise InputTypeError unless each function is callable or None."""
    for name, value in functions.items():
        if value is not None:
            checks.function(f"{kind}.{name}", value)
