"""Memory of finite rank: Volterra kernels that are sums of products, in O(L r) instead of O(L²)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dnlcontrol import checks
from dnlcontrol.problem.dynamics.base import Dynamics, check_functions
from dnlcontrol.problem.dynamics.volterra import Volterra
from dnlcontrol.problem.engines import FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.namespace import namespace

LARGEST_EXPONENT = 600.0  # e^600 and its square root's products stay far from the largest float64


Factors: TypeAlias = Callable[[FormulaArray], Sequence[FormulaArray]]  # t -> a_1..a_r
Term: TypeAlias = Callable[[FormulaArray, FormulaArray, FormulaControls], FormulaArray]
Terms: TypeAlias = Callable[[FormulaArray, FormulaArray, FormulaControls], Sequence[FormulaArray]]


@dataclass(frozen=True)
class Separable(Dynamics):
    """A Volterra equation whose kernel is a sum of r products.

        x(t) = G(t, g(t), z(t), u(t)),    y(s) = F(s, x(s), u(s))
        z(t) = ∫_0^t Σ_r a_r(t) b_r(s, y(s), u(s)) ds

    The r integrals m_r(t) = ∫_0^t b_r ds do not depend on t under the integral: they are carried
    from layer to layer, and z = Σ_r a_r(t) m_r. The sums are those of the same :class:`Volterra`
    problem, in another order.

    Parameters
    ----------
    factors : ``a(t)``, a list of r numbers (0-d).
    terms : ``b(s, y, u)``, a list of r arrays of the shape of z.
    free_term, feature, outer : as in :class:`Volterra`; u holds path controls and constants only.

    Raises
    ------
    InputError where the lists differ in length, or are empty (when the problem is made).

    >>> import numpy as np, dnlcontrol as dnl
    >>> # the kernel (t - s) u(s)
    >>> ramp = dnl.Separable(lambda t: [t, -1.0], lambda s, x, u: [u.u, s * u.u])
    >>> problem = dnl.ControlProblem(
    ...     x0=[0.0], dynamics=ramp, controls={"u": dnl.Control((), initial=1)}
    ... )
    >>> dnl.simulate(problem, depth=4)[:, 0].tolist()  # the left rule's τ² l(l+1)/2
    [0.0, 0.0625, 0.1875, 0.375, 0.625]
    """

    factors: Factors
    terms: Terms
    free_term: UserFormula | None = None
    feature: UserFormula | None = None
    outer_map: UserFormula | None = None

    def __init__(
        self,
        factors: Factors,
        terms: Terms,
        free_term: UserFormula | None = None,
        feature: UserFormula | None = None,
        outer: UserFormula | None = None,
    ) -> None:
        checks.function("Separable.factors", factors)
        checks.function("Separable.terms", terms)
        check_functions("Separable", free_term=free_term, feature=feature, outer=outer)
        values = {
            "factors": factors,
            "terms": terms,
            "free_term": free_term,
            "feature": feature,
            "outer_map": outer,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def kernel(
        self, t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
    ) -> FormulaArray:
        """b_1..b_r, one below the other, (r·n, ...) for terms of n rows."""
        terms = _listed("Separable.terms", self.terms(s, y, u))
        xp = namespace(s)
        terms = [xp.asarray(b) for b in terms]
        return xp.concat(terms) if len(terms[0].shape) == 2 else xp.stack(terms)

    @property
    def outer(self) -> UserFormula:  # type: ignore[override]
        """G(t, g, Σ_r a_r(t) m_r, u) from the integrals m_1..m_r, one below the other."""

        def combine(
            t: FormulaArray, g: FormulaArray, z: FormulaArray, u: FormulaControls
        ) -> FormulaArray:
            factors = _listed("Separable.factors", self.factors(t))
            rows, count = z.shape[0], len(factors)
            if rows % count or (len(z.shape) < 2 and rows != count):
                checks.reject(
                    "Separable.factors",
                    f"{count} factors",
                    f"as many as there are terms ({rows} rows)",
                )
            height = rows // count
            parts = [z[i * height : (i + 1) * height] if height > 1 else z[i] for i in range(count)]
            total = factors[0] * parts[0]
            for a, m in zip(factors[1:], parts[1:], strict=True):
                total = total + a * m
            return self.outer_map(t, g, total, u) if self.outer_map else g + total

        return combine

    def dense(self) -> Volterra:
        """The same equation with its kernel evaluated for every pair of layers, O(L²)."""

        def kernel(
            t: FormulaArray, s: FormulaArray, y: FormulaArray, u: FormulaControls
        ) -> FormulaArray:
            pairs = zip(self.factors(t), self.terms(s, y, u), strict=True)
            a, b = next(pairs)
            total = a * b
            for a, b in pairs:
                total = total + a * b
            return total

        return Volterra(kernel, self.free_term, self.feature, self.outer_map)


def exponential_memory(
    rates: Sequence[float],
    term: Term,
    weights: Sequence[float] | None = None,
    horizon: float = 1.0,
    **maps: UserFormula | None,
) -> Separable:
    """The convolution kernel Σ_r c_r e^{-ρ_r (t - s)} b(s, y, u) as a :class:`Separable`.

    Parameters
    ----------
    rates, weights : ρ_r and c_r (default 1). A rate may be negative or 0.
    term : ``b(s, y, u)``.
    horizon : T of the problem: factors and terms are e^{±ρs}, refused where |ρ| T > 600.
    maps : ``free_term``, ``feature``, ``outer``.

    Raises
    ------
    InputError for a rate that is too large, or lists that differ in length.

    >>> import dnlcontrol as dnl
    >>> decay = dnl.exponential_memory([1.0, 4.0], lambda s, x, u: u.u - x, weights=[0.5, 0.5])
    """
    rho = np.atleast_1d(checks.numbers("rates", rates))
    c = np.ones_like(rho) if weights is None else np.atleast_1d(checks.numbers("weights", weights))
    if rho.ndim != 1 or c.shape != rho.shape or not rho.size:
        checks.reject(
            "rates, weights",
            f"shapes {rho.shape} and {c.shape}",
            "two lists of one length, at least 1",
        )
    checks.positive("horizon", horizon)
    checks.function("term", term)
    if np.any(np.abs(rho) * horizon > LARGEST_EXPONENT):
        seen = f"a rate {rho[np.argmax(np.abs(rho))]:g} on [0, {horizon:g}]"
        checks.reject(
            "rates",
            seen,
            f"|rate| times horizon up to {LARGEST_EXPONENT:g}; dnl.Volterra takes any kernel",
        )

    rates = tuple(map(float, rho))
    return Separable(Decays(rates, tuple(map(float, c))), Growths(rates, term), **maps)


@dataclass(frozen=True)
class Decays:
    """c_r e^{-ρ_r t}, a list of numbers; a class, so that it is pickled by its name."""

    rates: tuple[float, ...]
    weights: tuple[float, ...]

    def __call__(self, t: FormulaArray) -> list[FormulaArray]:
        exp = namespace(t).exp
        return [a * exp(-r * t) for a, r in zip(self.weights, self.rates, strict=True)]


@dataclass(frozen=True)
class Growths:
    """e^{ρ_r s} b(s, y, u), a list of arrays."""

    rates: tuple[float, ...]
    term: Term

    def __call__(self, s: FormulaArray, y: FormulaArray, u: FormulaControls) -> list[FormulaArray]:
        b, exp = self.term(s, y, u), namespace(s).exp
        return [exp(r * s) * b for r in self.rates]


def _listed(name: str, value: object) -> list[FormulaArray]:
    if not isinstance(value, (list, tuple)) or not value:
        checks.reject_type(name, value, "a function that returns a list with at least one entry")
    return list(value)
