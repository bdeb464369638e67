"""What IPOPT calls after each iteration: it keeps the best iterate and stops at a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import casadi as ca
import numpy as np

from dnlcontrol.backends.exact.budget import Budget


@dataclass(frozen=True)
class BestIterate:
    """Unknowns and multipliers of the best iterate seen, as CasADi names them."""

    x: np.ndarray
    lam_x: np.ndarray
    lam_g: np.ndarray


class Follower(ca.Callback):
    """Called with each iterate; CasADi does not keep it alive.

    The best iterate is the one with the lowest objective among those that violate the rows by at
    most ``feasible``, or else the one that violates them least.
    """

    def __init__(self, unknowns: int, rows: int, budget: Budget, feasible: float) -> None:
        ca.Callback.__init__(self)
        self._sizes = {"x": unknowns, "lam_x": unknowns, "f": 1, "g": rows, "lam_g": rows}
        self._budget = budget
        self._feasible = feasible
        self._most = budget.left
        self.begin(np.zeros(rows), np.zeros(rows))
        self.construct("follower", {})

    def begin(self, low: np.ndarray, high: np.ndarray) -> None:
        """Before a solve with these sides of the rows."""
        self._sides = ca.DM(low), ca.DM(high)
        # calls of the first solve are counted by IPOPT itself, without those of a restoration
        left = self._budget.left
        self._calls_left = np.inf if left >= self._most else left
        self._best: tuple[tuple[float, float], list[ca.DM]] | None = None

    @property
    def best(self) -> BestIterate | None:
        """The best iterate since :meth:`begin`, None where no iterate was finite."""
        if self._best is None:
            return None
        return BestIterate(*(np.asarray(v.full()).ravel() for v in self._best[1]))

    def get_n_in(self) -> int:
        return int(ca.nlpsol_n_out())

    def get_n_out(self) -> int:
        return 1

    def get_name_in(self, i: int) -> str:
        return str(ca.nlpsol_out(i))

    def get_name_out(self, _i: int) -> str:
        return "stop"

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        size = self._sizes.get(self.get_name_in(i), 0)
        return ca.Sparsity.dense(size, 1) if size else ca.Sparsity(0, 0)

    def eval(self, arguments: Sequence[ca.DM]) -> list[ca.DM]:
        x, f, g, lam_x, lam_g = arguments[:5]
        low, high = self._sides
        violation = float(ca.mmax(ca.fmax(low - g, g - high))) if g.numel() else 0.0
        key = (max(violation, self._feasible), float(f))
        if np.all(np.isfinite(key)) and (self._best is None or key < self._best[0]):
            self._best = key, [x, lam_x, lam_g]
        self._calls_left -= 1
        return [ca.DM(int(self._calls_left < 0 or self._budget.deadline.passed))]
