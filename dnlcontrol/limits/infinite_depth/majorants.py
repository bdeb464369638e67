"""Declared bounds of a sequence beyond the known layers, for k > n.

a_k <= m_k (majorant) or a_k >= m_k (minorant). Sums are rounded up. For a convex decreasing m the
midpoint rule gives Σ_{k>n} m_k <= ∫_{n+1/2}^∞ m(t) dt [derived], so that for m_k = c k^-s, s > 1,

    Σ_{k>n} c k^-s <= Σ_{n<k<=n+K} c k^-s + c (n + K + 1/2)^(1-s) / (s - 1),

and likewise for Σ log(1 + m_k), whose first K terms are summed as log1p and whose rest is bounded
by Σ m_k.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol import checks
from dnlcontrol.limits.infinite_depth.rounding import SUBNORMAL, up

EXPLICIT = 512  # terms summed one by one before the integral
STEEPEST = 1e9  # the exponent of a power law whose rounding, s units in the last place, means much


class Bound(ABC):
    """A sequence m_1, m_2, ... of non-negative numbers."""

    @abstractmethod
    def at(self, k: int) -> float:
        """m_k."""

    @abstractmethod
    def sum_after(self, n: int) -> float:
        """An upper bound of Σ_{k>n} m_k; infinite when none is known."""

    @property
    @abstractmethod
    def summable(self) -> bool:
        """Σ m_k is known to be finite."""

    @property
    @abstractmethod
    def diverges(self) -> bool:
        """Σ m_k is known to be infinite."""

    @property
    @abstractmethod
    def vanishes(self) -> bool:
        """m_k -> 0 is known."""

    @property
    @abstractmethod
    def stays_away(self) -> bool:
        """inf m_k > 0 is known."""

    def log_product_after(self, n: int) -> float:
        """An upper bound of Σ_{k>n} log(1 + m_k)."""
        return self.sum_after(n)


@dataclass(frozen=True)
class PowerLaw(Bound):
    """m_k = c k^-s; summable for s > 1, non-summable for c > 0, s <= 1, constant for s = 0.

    >>> round(PowerLaw(1.0, 2.0).sum_after(0), 6)  # π²/6 = 1.644934...
    1.644934
    """

    c: float
    s: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", checks.non_negative("c", self.c))
        object.__setattr__(self, "s", checks.non_negative("s", self.s))
        if self.s > STEEPEST:
            checks.reject("s", self.s, f"at most {STEEPEST:g}")

    def at(self, k: int) -> float:
        return self.c * checks.at_least("k", k, 1) ** -self.s

    def sum_after(self, n: int) -> float:
        return self._sum(checks.at_least("n", n, 0), lambda m: m)

    def log_product_after(self, n: int) -> float:
        return self._sum(checks.at_least("n", n, 0), np.log1p)

    def _sum(self, n: float, of: Callable[[np.ndarray], np.ndarray]) -> float:
        if self.c == 0:
            return 0.0
        if self.s <= 1:
            return np.inf
        first = of(self.c * (n + np.arange(1.0, EXPLICIT + 1)) ** -self.s).sum()
        rest = self.c * (n + EXPLICIT + 0.5) ** (1 - self.s) / (self.s - 1)
        # a relative error u in k becomes s u in k^-s; log1p and the power are good to a few ulps
        return float(up(first + rest, EXPLICIT + 16 + 2 * int(self.s)) + SUBNORMAL)

    @property
    def summable(self) -> bool:
        return self.c == 0 or self.s > 1

    @property
    def diverges(self) -> bool:
        return not self.summable

    @property
    def vanishes(self) -> bool:
        return self.c == 0 or self.s > 0

    @property
    def stays_away(self) -> bool:
        return not self.vanishes

    def __str__(self) -> str:
        return f"{self.c:g} k^-{self.s:g}"


@dataclass(frozen=True)
class Geometric(Bound):
    """m_k = c q^k, Σ_{k>n} m_k = c q^(n+1) / (1 - q) for q < 1."""

    c: float
    q: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "c", checks.non_negative("c", self.c))
        object.__setattr__(self, "q", checks.non_negative("q", self.q))

    def at(self, k: int) -> float:
        with np.errstate(over="ignore"):
            return float(self.c * np.power(self.q, checks.at_least("k", k, 1)))

    def sum_after(self, n: int) -> float:
        checks.at_least("n", n, 0)
        if self.c == 0 or self.q == 0:
            return 0.0
        if self.q >= 1:
            return np.inf
        return float(up(self.at(n + 1) / (1 - self.q), 8) + SUBNORMAL)

    @property
    def summable(self) -> bool:
        return self.c == 0 or self.q < 1

    @property
    def diverges(self) -> bool:
        return not self.summable

    @property
    def vanishes(self) -> bool:
        return self.summable

    @property
    def stays_away(self) -> bool:
        return not self.summable

    def __str__(self) -> str:
        return f"{self.c:g} · {self.q:g}^k"


@dataclass(frozen=True)
class Zero(Bound):
    """m_k = 0: the layers beyond the known ones are the identity."""

    summable = True
    diverges = False
    vanishes = True
    stays_away = False

    def at(self, k: int) -> float:
        return 0.0

    def sum_after(self, n: int) -> float:
        return 0.0

    def __str__(self) -> str:
        return "0"


@dataclass(frozen=True)
class Declared(Bound):
    """The user's own sequence.

    Parameters
    ----------
    terms : k -> m_k >= 0.
    tail_sum : n -> an upper bound of Σ_{k>n} m_k (None: none is known).
    diverges : Σ m_k = ∞, which a minorant may claim; not together with ``tail_sum``.
    stays_away : inf m_k > 0; implies ``diverges``.
    """

    terms: Callable[[int], float]
    tail_sum: Callable[[int], float] | None = None
    diverges: bool = False
    stays_away: bool = False

    def __post_init__(self) -> None:
        checks.takes("terms", self.terms, 1)
        checks.flag("diverges", self.diverges)
        checks.flag("stays_away", self.stays_away)
        if self.tail_sum is not None:
            checks.takes("tail_sum", self.tail_sum, 1)
            if self.diverges or self.stays_away:
                checks.reject(
                    "diverges, stays_away", True, "False for a sequence with a finite tail sum"
                )
        if self.stays_away:
            object.__setattr__(self, "diverges", True)

    def at(self, k: int) -> float:
        checks.at_least("k", k, 1)
        return checks.non_negative(f"terms({k})", self.terms(k))

    def sum_after(self, n: int) -> float:
        checks.at_least("n", n, 0)
        return (
            np.inf
            if self.tail_sum is None
            else checks.non_negative(f"tail_sum({n})", self.tail_sum(n))
        )

    @property
    def summable(self) -> bool:
        return self.tail_sum is not None

    @property
    def vanishes(self) -> bool:
        return self.summable

    def __str__(self) -> str:
        return f"the declared {getattr(self.terms, '__name__', 'sequence')}"


@dataclass(frozen=True)
class Tail:
    """Bounds of p_k and β_k for all k beyond the known layers.

    p_k is the distance of layer k from the identity, β_k is its bias. As a majorant both are needed
    for a verdict; as a minorant either may be None.
    """

    weights: Bound | None = None
    biases: Bound | None = None

    def __post_init__(self) -> None:
        for name, bound in (("weights", self.weights), ("biases", self.biases)):
            if bound is not None and not isinstance(bound, Bound):
                checks.reject_type(name, bound, "PowerLaw, Geometric, Zero, Declared or None")

    @property
    def summable(self) -> bool:
        return all(bound is not None and bound.summable for bound in (self.weights, self.biases))


def as_tail(argument: str, value: object) -> Tail:
    """A Tail; one bound stands for both sequences, None for nothing declared.

    Raises
    ------
    InputError for anything else.
    """
    if value is None:
        return Tail()
    if isinstance(value, Tail):
        return value
    if isinstance(value, Bound):
        return Tail(value, value)
    checks.reject_type(
        argument, value, "PowerLaw, Geometric, Zero, Declared, Tail(weights, biases) or None"
    )
