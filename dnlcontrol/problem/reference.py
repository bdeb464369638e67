"""What a problem file knows about its own exact answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks


@dataclass(frozen=True)
class Reference:
    """The known answer of a problem; every field that is not known stays None or empty.

    value : J*, the continuous optimal value (for forward problems None).
    attained : False when J* is an infimum that no control attains.
    error_constant : c in J_L = J* + c/L + O(L^-2) for T = 1 as for any T.
    orders : the exponents of 1/L in the expansion of J_L - J*, for Richardson extrapolation (left
        rule).
    controls : name -> function of (t, s), (t) or () that returns arrays (*times, *shape).
    state : function of t that returns x(t) of one sample.
    forward_constant : e in x_L(T) - x(T) = τ e + o(τ); 0 says second order.
    discrete_value : function of L that returns J_L exactly (left rule, as error_constant and
        discrete_controls).
    discrete_controls : function of L that returns name -> packed array (sites, *shape).
    source : where the answer comes from.

    Raises
    ------
    InputError : a field is not what it should be.
    """

    source: str
    value: float | None = None
    attained: bool = True
    error_constant: float | None = None
    orders: tuple[float, ...] = (1.0, 2.0, 3.0)
    controls: Mapping[str, Callable[..., ArrayLike]] = field(default_factory=dict)
    state: Callable[..., ArrayLike] | None = None
    forward_constant: float | None = None
    discrete_value: Callable[[int], float] | None = None
    discrete_controls: Callable[[int], Mapping[str, np.ndarray]] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        checks.instance("Reference.source", self.source, str, "a string")
        checks.instance("Reference.note", self.note, str, "a string")
        checks.flag("Reference.attained", self.attained)
        for name in ("value", "error_constant", "forward_constant"):
            if getattr(self, name) is not None:
                checks.real(f"Reference.{name}", getattr(self, name))
        object.__setattr__(self, "orders", increasing_exponents("Reference.orders", self.orders))
        controls = checks.mapping("Reference.controls", self.controls, "a mapping name -> function")
        for name, call in controls.items():
            checks.function(f"Reference.controls[{name!r}]", call)
        for name in ("state", "discrete_value", "discrete_controls"):
            if getattr(self, name) is not None:
                checks.takes(f"Reference.{name}", getattr(self, name), 1)


def increasing_exponents(argument: str, orders: object) -> tuple[float, ...]:
    """Strictly increasing positive exponents.

    Raises
    ------
    InputError : anything else.
    """
    items = checks.listed(argument, orders, "a list of increasing exponents > 0")
    exponents = tuple(checks.positive(argument, p) for p in items)
    if not exponents or any(b <= a for a, b in pairwise(exponents)):
        checks.reject(argument, list(exponents), "a non-empty, strictly increasing list")
    return exponents
