"""The user's own Volterra equation."""

from __future__ import annotations

from dataclasses import dataclass

from dnlcontrol import checks
from dnlcontrol.problem.dynamics.base import Dynamics, check_functions
from dnlcontrol.problem.engines import UserFormula


@dataclass(frozen=True)
class Volterra(Dynamics):
    """A Volterra equation with any kernel.

        x(t) = G(t, g(t), z(t), u(t)),    y(s) = F(s, x(s), u(s))
        z(t) = ∫_0^t k(t, s, y(s), u(t, s)) ds

    Parameters
    ----------
    kernel : ``k(t, s, y, u)``; the first argument is the time of the state being computed.
    free_term : ``g(t, x0)``, by default the constant input x0.
    feature : ``F(s, x, u)``, by default x.
    outer : ``G(t, g, z, u)``, by default g + z.
    batched : optional PyTorch version of the kernel over all later layers and samples of one source
        layer.

    A kernel that reads neither t nor a triangular control is detected and runs as an O(L)
    recursion.

    Raises
    ------
    InputTypeError for what is no function.
    """

    kernel: UserFormula
    free_term: UserFormula | None = None
    feature: UserFormula | None = None
    outer: UserFormula | None = None
    batched: UserFormula | None = None

    def __post_init__(self) -> None:
        checks.function("Volterra.kernel", self.kernel)
        check_functions(
            "Volterra",
            free_term=self.free_term,
            feature=self.feature,
            outer=self.outer,
            batched=self.batched,
        )
