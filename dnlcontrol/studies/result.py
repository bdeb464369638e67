"""The levels of a study and what they say of infinite depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.files.atomic import make_directory, write_together
from dnlcontrol.files.interrupts import interrupts
from dnlcontrol.files.locks import held
from dnlcontrol.limits.error_constant import error_constant
from dnlcontrol.problem.reference import Reference
from dnlcontrol.results.branches import lost
from dnlcontrol.results.records import json_bytes
from dnlcontrol.results.solution import Solution
from dnlcontrol.studies.doubts import doubts, fitted_orders
from dnlcontrol.studies.rates import (
    corrected,
    distances,
    errors,
    gaps,
    jumps_of,
    limit_of,
    orders_of,
    rates_of,
)
from dnlcontrol.studies.study_files import save_levels, table_bytes

if TYPE_CHECKING:
    import os

    import pandas

COLUMNS = (
    "value",
    "stationarity",
    "feasibility",
    "complementarity",
    "success",
    "status",
    "nit",
    "nfev",
    "njev",
    "nhev",
    "cg_per_step",
    "seconds",
    "peak_memory_mb",
)
SAME_VALUE = 1e-6  # values of one minimiser by both backends differ by less, relative to 1 + |J|


@dataclass(frozen=True)
class Level:
    """One depth: the adjoint solution, and the exact one where it ran, or that alone.

    ``solution`` is the one that the table, the rates and the limit are of: the adjoint solution
    where there is one.

    Raises
    ------
    InputError : a level without a solution.
    """

    adjoint: Solution | None = None
    exact: Solution | None = None
    stored_constant: float | None = None  # read from files, which hold no problem

    def __post_init__(self) -> None:
        if self.adjoint is None and self.exact is None:
            checks.reject("level", "no solution", "the solution of one backend, or of both")

    @property
    def solution(self) -> Solution:
        found = self.adjoint or self.exact
        assert found is not None
        return found

    @property
    def solutions(self) -> list[Solution]:
        """Those that there are."""
        return [s for s in (self.adjoint, self.exact) if s is not None]

    @property
    def depth(self) -> int:
        return self.solution.depth

    @cached_property
    def constant(self) -> float:
        """c in J_L = J* + c/L^p, predicted from this level.

        p is the order of the rule; NaN where c is not known.
        """
        if self.stored_constant is not None:
            return self.stored_constant
        try:
            return error_constant(self.solution).constant
        except checks.InputError:
            return np.nan

    @property
    def statements(self) -> list[str]:
        """Which backend did not converge here, and whether they found different minimisers."""
        said = [
            f"not converged: {s.backend} at L={self.depth}: {s.message}"
            for s in self.solutions
            if not s.success
        ]
        if self.adjoint is not None and self.exact is not None:
            value, exact = self.adjoint.value, self.exact.value
            if abs(exact - value) > SAME_VALUE * (1 + abs(value)):
                said.append(
                    f"the backends found different minimisers at L={self.depth}: "
                    f"{exact:.10g} (exact), {value:.10g} (adjoint)"
                )
        return said


@dataclass(frozen=True)
class Study:
    """The levels of one problem, coarse to fine.

    Beside them, what they say about the limit of infinite depth.

    ``table()`` has one row for each depth. Distances to the previous level carry the suffix
    ``_step``, to the reference (the closed form where the problem has one, else the finest level)
    ``_error``, between the backends ``_gap``. ``work`` counts gradients of that level (a product
    its measured cost), ``cg_per_step`` CG iterations for each Newton step. ``constant`` is c in J_L
    = J* + c/L (trapezoidal rule: c/L²) predicted from that level alone, ``corrected`` is J_L less
    that (NaN where c is not known). ``rates`` are fitted exponents p of C·L^{-p}; ``statements``
    say in words what to trust, and which backend was chosen where that was left to the study.
    ``levels`` hold the solutions: ``level.solution`` is the one that all this is of.
    """

    name: str
    levels: tuple[Level, ...]
    reference: Reference | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    orders_given: tuple[float, ...] | None = None
    choice: str = ""  # which backend "auto" took, and why

    @property
    def depths(self) -> list[int]:
        return [level.depth for level in self.levels]

    @property
    def success(self) -> bool:
        return all(s.success for level in self.levels for s in level.solutions)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The table as dictionaries."""
        return [self._row(k) for k in range(len(self.levels))]

    def _row(self, k: int) -> dict[str, Any]:
        level = self.levels[k]
        a = level.solution
        previous = self.levels[k - 1].solution if k else None
        return {
            "depth": a.depth,
            **{c: getattr(a, c) for c in COLUMNS},
            "controls": a.size,
            "work": a.work.get("units", np.nan),
            "product_cost": a.work.get("product_cost", np.nan),
            **distances(a, previous, self.levels[-1].solution),
            **errors(self.reference, a),
            "constant": level.constant,
            "corrected": corrected(a, level.constant),
            **gaps(level.adjoint, level.exact),
        }

    def table(self) -> pandas.DataFrame:
        """A pandas DataFrame, one row for each depth.

        Raises
        ------
        ImportError that names the extra where pandas is missing.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("study.table() needs pandas; install dnlcontrol[study]") from error
        return pd.DataFrame(self.rows).set_index("depth")

    # -- what follows from the levels
    @cached_property
    def jumps(self) -> list[int]:
        """Indices of levels that left the branch of the level before."""
        return jumps_of([level.solution for level in self.levels], self.rows)

    @property
    def first_of_branch(self) -> int:
        """The first level of the branch that the finest level is on."""
        return self.jumps[-1] if self.jumps else 0

    @property
    def _branch(self) -> list[dict[str, Any]]:
        """The rows of the branch that the finest level is on."""
        return self.rows[self.first_of_branch :]

    @property
    def _solved(self) -> list[dict[str, Any]]:
        """Those of them whose solve converged; all where none did."""
        return [row for row in self._branch if row["success"]] or self._branch

    @cached_property
    def rates(self) -> dict[str, float]:
        """Exponents p in C·L^{-p} on the last branch.

        Of consecutive steps, and of errors against a closed form.
        """
        return rates_of(self._branch, self.reference)

    @property
    def work(self) -> float:
        """The cost of all adjoint levels together, in measured gradients of the finest level.

        NaN for a study on the exact backend.
        """
        unit = self.levels[-1].solution.work.get("gradient_seconds", np.nan)
        every = [level.solution.work for level in self.levels]
        return float(
            sum(w.get("units", np.nan) * w.get("gradient_seconds", np.nan) for w in every) / unit
        )

    @property
    def _assumed(self) -> tuple[float, ...]:
        """The exponents that are known before the levels: given, of the reference, of the rule."""
        if self.orders_given is not None:
            return self.orders_given
        return orders_of(self.levels[-1].solution.rule, self.reference)

    @cached_property
    def orders(self) -> tuple[float, ...]:
        """The exponents of 1/L that the values are extrapolated with.

        Given, of the reference or of the rule; where the values show another rate, far from those
        of the rule, the one that they agree on, or none.
        """
        known = self.reference is not None and self.levels[-1].solution.rule == "left"
        if self.orders_given is not None or known:
            return self._assumed
        return fitted_orders(self._solved, self._assumed)

    @property
    def extrapolated_value(self) -> float:
        """The limit of J_L by Richardson extrapolation, over the last branch's solved levels.

        The value of the deepest of them where no exponent is trusted (``orders`` is empty).
        """
        return limit_of(self._solved, self.orders)

    @property
    def statements(self) -> list[str]:
        """What to trust and what not, in words."""
        said = [self.choice] if self.choice else []
        for k in self.jumps:
            row, before = self.rows[k], self.rows[k - 1]
            words = lost(
                row["depth"], row["controls_L2_step"], before["depth"], before["controls_L2_step"]
            )
            said.append(f"{words}; rates start there")
        for level in self.levels:
            said += level.statements
        solved = [r["depth"] for r in self._solved]
        followed = [level.solution for level in self.levels if level.depth in solved]
        return said + doubts(self._solved, followed, self._assumed, self.orders, self.rates)

    def summary(self) -> dict[str, Any]:
        """The JSON object of ``dnlcontrol study --json``."""
        levels = []
        for row, level in zip(self.rows, self.levels, strict=True):
            levels.append(
                {
                    **describe(level.solution),
                    **{k: v for k, v in row.items() if k not in COLUMNS and k != "controls"},
                }
            )
        return {
            "problem": self.name,
            "levels": levels,
            "rates": self.rates,
            "extrapolated_value": self.extrapolated_value,
            "statements": self.statements,
            "success": self.success,
        }

    # -- files and pictures
    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write every level and the table; ``dnlcontrol.load`` reads it.

        Levels of another study in the directory are replaced.
        """
        folder = make_directory(directory)
        every = [(level.depth, s) for level in self.levels for s in level.solutions]
        with held(folder), interrupts.waiting():
            save_levels(folder, every, self.source)
            save_table(self, folder)

    def plot(self, path: str | os.PathLike[str] = "convergence.png") -> Path:
        """The convergence picture: values and distances against the depth, with fitted rates."""
        from dnlcontrol.studies.plotting import plot_convergence

        return plot_convergence(self, path)

    def plots(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Every picture: convergence, each control, states, costates."""
        from dnlcontrol.studies.plotting import plot_all

        return plot_all(self, make_directory(directory))

    def __repr__(self) -> str:
        return (
            f"Study({self.name!r}, depths={self.depths}, "
            f"extrapolated_value={self.extrapolated_value:.10g})"
        )


def save_table(study: Study, folder: Path) -> None:
    """Write the table of a study beside its levels, which are there."""
    record = {
        "format": 1,
        "kind": "study",
        "name": study.name,
        "depths": study.depths,
        "backend": study.levels[-1].solution.backend,
        "orders": None if study.orders_given is None else list(study.orders_given),
        "choice": study.choice,
        "source": dict(study.source),
        "summary": study.summary(),
    }
    table = table_bytes(study.rows)
    write_together({folder / "study.json": json_bytes(record), folder / "table.csv": table})


def describe(solution: Solution) -> dict[str, Any]:
    """The JSON keys of one solve."""
    return {
        "problem": solution.name,
        "backend": solution.backend,
        "rule": solution.rule,
        "depth": solution.depth,
        "value": solution.value,
        "stationarity": solution.stationarity,
        "feasibility": solution.feasibility,
        "complementarity": solution.complementarity,
        "success": solution.success,
        "status": solution.status,
        "message": solution.message,
        "iterations": solution.nit,
        "evaluations": solution.nfev,
        "gradients": solution.njev,
        "hessian_products": solution.nhev,
        "seconds": solution.seconds,
        "peak_memory_mb": solution.peak_memory_mb,
        "samples": solution.samples,
        "controls": solution.size,
    }
