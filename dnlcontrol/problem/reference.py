"""What a problem file knows about its own exact answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike


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
