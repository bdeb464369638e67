"""What a backend hands over to the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SOLVED, LIMIT, INFEASIBLE, STALLED = 0, 1, 2, 3


@dataclass(frozen=True)
class Found:
    """Controls and multipliers, how the solver ended, and its own costates where it has them.

    ``evaluator`` recomputes everything that is reported; ``costates`` are ψ where the rows are ``one_step``, else λ.
    """

    evaluator: Any
    w: np.ndarray
    multipliers: np.ndarray
    message: str
    status: int
    nit: int
    log: tuple[Any, ...] = ()
    nfev: int | None = None
    costates: np.ndarray | None = None
    one_step: bool = False
    formulation: str = ""
