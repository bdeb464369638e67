"""Regularisers: quadratic penalties on one control, theory section 3 of the documentation.

With nodes (l, s), step τ and horizon T, ω = ½ on s = l-1 and 1 elsewhere:

    H1, triangle   (α/2) [τ² Σ ω |w^{l,s}|² + Σ |w^{l+1,s} - w^{l,s}|² + Σ |w^{l,s+1} - w^{l,s}|²]
    H1, path       (α/2) [τ Σ |v^l|² + τ^{-1} Σ |v^{l+1} - v^l|²]
    L2             (α/2) τ² Σ |w^{l,s}|²,   (α/2) τ Σ |v^l|²,   (α/2) |c|²
    TvG, path      α [τ^{-1} Σ |v^l - v^{l-1}|² + τ_1 |v^0|²]

The differences run over neighbouring nodes of the triangle only and carry no τ there.
"""

from __future__ import annotations

from dataclasses import dataclass

from dnlcontrol import checks


@dataclass(frozen=True)
class Regulariser:
    """A quadratic penalty of ``weight`` on the control ``name``.

    Raises InputError for a weight that is not finite and >= 0.
    """

    name: str
    weight: float

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not isinstance(self.name, str):
            checks.reject_type(f"{kind}.name", self.name, "the name of a control")
        object.__setattr__(self, "weight", checks.non_negative(f"{kind}.weight", self.weight))

    def check(self, on: str) -> None:
        """Raise InputError when the penalty does not exist for a control on ``on``."""


@dataclass(frozen=True)
class L2(Regulariser):
    """(α/2) ‖w‖²: α/2 times τ² Σ |w|² (triangle), τ Σ |v|² (path) or |c|²."""


@dataclass(frozen=True)
class H1(Regulariser):
    """(α/2) (‖w‖² + ‖∇w‖²), as in the module's docstring; on constants the same as L2."""


@dataclass(frozen=True)
class TvG(Regulariser):
    """α [n Σ |K_i - K_{i-1}|² + τ_1 |K_0|²] for T = 1, n = 1/τ: without a factor ½.

    Its limit is α [∫|K'|² + τ_1 |K(0)|²]. The constant ``tau`` is τ_1 and has nothing to do with
    the step. Source: the functional of Thorpe and van Gennip, Research in the Mathematical Sciences
    2023 (arXiv 1810.11741).
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tau", checks.non_negative("TvG.tau", self.tau))

    def check(self, on: str) -> None:
        """Raise InputError for a control that is not on the path."""
        if on != "t":
            checks.reject("TvG.name", f"control {self.name!r} on {on!r}", "a path control (on='t')")


def check_all(regularisers: object) -> tuple[Regulariser, ...]:
    """A tuple of regularisers from a list.

    Raises InputTypeError for anything else.
    """
    if isinstance(regularisers, Regulariser):
        regularisers = [regularisers]
    if not isinstance(regularisers, (list, tuple, type(None))):
        checks.reject_type("regularisers", regularisers, "a list of H1(...), L2(...), TvG(...)")
    items = tuple(regularisers or ())
    for item in items:
        if not isinstance(item, Regulariser):
            checks.reject_type("regularisers", item, "a list of H1(...), L2(...), TvG(...)")
    return items
