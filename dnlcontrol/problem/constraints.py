"""Constraints lower <= c <= upper, per sample; a formula that does not read x is imposed once.

state_bounds          x^l                      l = 1..L
path_constraint       c(t_l, x^l, u^l)         l = 0..L-1
integral_constraint   τ Σ_{l<L} c(t_l, x^l, u^l)
terminal_constraint   c(x^L, constants[, target])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.problem.engines import UserFormula


@dataclass(frozen=True)
class Constraint:
    """One named constraint; ``function`` None: state bounds, ``samples`` None: all samples.

    Raises
    ------
    InputError for bounds that cross, are NaN or leave nothing, or an empty name.
    """

    kind: str
    name: str
    lower: Any
    upper: Any
    function: UserFormula | None = None
    samples: tuple[int, ...] | None = None
    target: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            checks.reject_type(f"{self.kind} constraint.name", self.name, "a non-empty string")
        lower, upper = (self._side(side) for side in ("lower", "upper"))
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        try:
            crossed = bool(np.any(lower > upper))
        except ValueError:
            checks.reject(
                f"{self.name}.lower, {self.name}.upper",
                f"shapes {lower.shape} and {upper.shape}",
                "shapes that broadcast",
            )
        if crossed:
            checks.reject(
                f"{self.name}.lower, {self.name}.upper", "bounds that cross", "lower <= upper"
            )
        if np.any(lower == np.inf) or np.any(upper == -np.inf):
            seen = "a lower bound of inf or an upper bound of -inf"
            checks.reject(
                f"{self.name}.lower, {self.name}.upper", seen, "lower < inf, upper > -inf"
            )

    def _side(self, side: str) -> np.ndarray:
        array = checks.array_of(
            f"{self.name}.{side}", getattr(self, side), "numbers (or infinities)"
        )
        if np.any(np.isnan(array)):
            checks.reject(f"{self.name}.{side}", "NaN", "numbers or infinities")
        return array

    def bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Both sides, broadcast to the shape of the constraint's value.

        Raises InputError where they do not broadcast to it.
        """
        try:
            return np.broadcast_to(self.lower, shape), np.broadcast_to(self.upper, shape)
        except ValueError:
            seen = f"bounds of shapes {self.lower.shape} and {self.upper.shape}"
            checks.reject(
                f"{self.name}.lower, {self.name}.upper", seen, f"shapes that broadcast to {shape}"
            )

    def rows(self, samples: int) -> np.ndarray:
        """The samples that it applies to, (rows,).

        Raises InputError for indices that are not distinct and below ``samples``.
        """
        if self.samples is None:
            return np.arange(samples)
        rows = np.asarray(self.samples, dtype=int)
        if (
            rows.size == 0
            or rows.min() < 0
            or rows.max() >= samples
            or len(set(self.samples)) < rows.size
        ):
            allowed = f"distinct indices from 0 to {samples - 1}"
            checks.reject(f"{self.name}.samples", list(self.samples), allowed)
        return rows

    def aligned(self, samples: int) -> Constraint:
        """The same constraint, checked against the number of samples.

        Raises InputError for samples that there are not, or another number of targets.
        """
        self.rows(samples)
        if self.target is not None and self.target.shape[:1] != (samples,):
            checks.reject(
                f"{self.name}.target", self.target, f"one row for each of the {samples} samples"
            )
        if self.target is not None and self.target.ndim > 3:
            checks.reject(f"{self.name}.target", self.target, "rows of rank <= 2")
        return replace(self)


def state_bounds(
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    name: str = "state bounds",
    samples: Iterable[int] | None = None,
) -> Constraint:
    """lower <= x^l <= upper for l = 1..L.

    Bounds broadcast to the state's shape; infinite entries are free. Raises InputError for bounds
    that cross.
    """
    return Constraint("state", name, lower, upper, samples=_samples(samples))


def path_constraint(
    fn: UserFormula,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    name: str = "path constraint",
    samples: Iterable[int] | None = None,
) -> Constraint:
    """lower <= fn(t, x, u) <= upper at l = 0..L-1; fn returns (k,) or 0-d.

    Raises InputError for bounds that cross, InputTypeError for what is no function.
    """
    return Constraint(
        "path",
        name,
        lower,
        upper,
        function=checks.function(f"{name}.fn", fn),
        samples=_samples(samples),
    )


def integral_constraint(
    fn: UserFormula,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    name: str = "integral constraint",
    samples: Iterable[int] | None = None,
) -> Constraint:
    """lower <= ∫ fn(t, x, u) dt <= upper, the integral by the rule of the discretisation.

    fn returns (k,) or 0-d. Raises InputError for bounds that cross, InputTypeError for what is no
    function.
    """
    return Constraint(
        "integral",
        name,
        lower,
        upper,
        function=checks.function(f"{name}.fn", fn),
        samples=_samples(samples),
    )


def terminal_constraint(
    fn: UserFormula,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    name: str = "terminal constraint",
    samples: Iterable[int] | None = None,
    target: ArrayLike | None = None,
) -> Constraint:
    """lower <= fn(x(T), c[, target]) <= upper; equal bounds make an equality.

    fn returns (k,) or 0-d; ``target`` has one row per sample. Raises InputError for bounds that
    cross, InputTypeError for what is no function.
    """
    rows = None if target is None else checks.numbers(f"{name}.target", target)
    return Constraint(
        "terminal",
        name,
        lower,
        upper,
        function=checks.function(f"{name}.fn", fn),
        samples=_samples(samples),
        target=rows,
    )


def _samples(samples: Iterable[int] | None) -> tuple[int, ...] | None:
    if samples is None:
        return None
    indices = checks.listed("constraint.samples", samples, "a list of sample indices")
    return tuple(checks.whole("constraint.samples", i, 0) for i in indices)
