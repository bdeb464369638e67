"""The levels of a study and what they say of infinite depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.rules import RULES
from dnlcontrol.discretisation.space.distances import function_distance
from dnlcontrol.files.atomic import make_directory
from dnlcontrol.limits.error_constant import error_constant
from dnlcontrol.problem.reference import Reference
from dnlcontrol.results.branches import leaves, lost
from dnlcontrol.results.extrapolation import extrapolate, fitted_rate
from dnlcontrol.results.records import write_json
from dnlcontrol.results.solution import Solution, distance
from dnlcontrol.studies.study_files import save_level

DISTANCES = {
    "controls_L2": ("L2", "controls"),
    "controls_H1": ("H1", "controls"),
    "controls_sup": ("sup", "controls"),
    "states_sup": ("sup", "states"),
    "costates_sup": ("sup", "costates"),
}

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


@dataclass(frozen=True)
class Level:
    """One depth: the adjoint solution, and the exact one where it ran."""

    adjoint: Solution
    exact: Solution | None = None
    stored_constant: float | None = None  # read from files, which hold no problem

    @property
    def depth(self) -> int:
        return self.adjoint.depth

    @cached_property
    def constant(self) -> float:
        """c in J_L = J* + c/L^p, p the order of the rule, predicted from this level; NaN where it
        is not known.
        """
        if self.stored_constant is not None:
            return self.stored_constant
        try:
            return error_constant(self.adjoint).constant
        except checks.InputError:
            return np.nan


@dataclass(frozen=True)
class Study:
    """The levels of one problem, coarse to fine, and what they say about the limit of infinite
    depth.

    ``table()`` has one row for each depth. Distances to the previous level carry the suffix
    ``_step``, to the reference (the closed form where the problem has one, else the finest level)
    ``_error``, between the backends ``_gap``. ``work`` counts gradients of that level (a product
    its measured cost), ``cg_per_step`` CG iterations for each Newton step. ``constant`` is c in J_L
    = J* + c/L (trapezoidal rule: c/L²) predicted from that level alone, ``corrected`` is J_L less
    that (NaN where c is not known). ``rates`` are fitted exponents p of C·L^{-p}; ``statements``
    say in words what to trust.
    """

    name: str
    levels: tuple[Level, ...]
    reference: Reference | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def depths(self) -> list[int]:
        return [level.depth for level in self.levels]

    @property
    def success(self) -> bool:
        return all(
            s.success
            for level in self.levels
            for s in (level.adjoint, level.exact)
            if s is not None
        )

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The table as dictionaries."""
        return [self._row(k) for k in range(len(self.levels))]

    def _row(self, k: int) -> dict[str, Any]:
        level, finest = self.levels[k], self.levels[-1].adjoint
        a = level.adjoint
        row: dict[str, Any] = {
            "depth": a.depth,
            **{c: getattr(a, c) for c in COLUMNS},
            "controls": a.size,
        }
        row.update(
            work=a.work.get("units", np.nan), product_cost=a.work.get("product_cost", np.nan)
        )
        for name, (norm, of) in DISTANCES.items():
            previous = self.levels[k - 1].adjoint if k else None
            row[f"{name}_step"] = distance(previous, a, norm, of) if previous else np.nan
            row[f"{name}_error"] = distance(a, finest, norm, of) if a is not finest else np.nan
        row.update(_against(self.reference, a))
        row.update(
            constant=level.constant,
            corrected=a.value - level.constant / a.depth ** RULES[a.rule].exponents[0],
        )
        exact = level.exact
        row["value_exact"] = exact.value if exact else np.nan
        row["value_gap"] = abs(exact.value - a.value) if exact else np.nan
        row["exact_stationarity"] = exact.stationarity if exact else np.nan
        for name in ("controls_L2", "states_sup", "costates_sup"):
            row[f"{name}_gap"] = distance(a, exact, *DISTANCES[name]) if exact else np.nan
        return row

    def table(self) -> Any:
        """A pandas DataFrame, one row for each depth."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("study.table() needs pandas; install dnlcontrol[study]") from error
        return pd.DataFrame(self.rows).set_index("depth")

    # -- what follows from the levels
    # ---------------------------------------------------------------------------
    @cached_property
    def jumps(self) -> list[int]:
        """Indices of levels that left the branch of the level before."""
        found = []
        steps = [row["controls_L2_step"] for row in self.rows]
        for k in range(2, len(steps)):
            if leaves(self.levels[k].adjoint, steps[k], steps[k - 1]):
                found.append(k)
        return found

    @property
    def first_of_branch(self) -> int:
        """The first level of the branch that the finest level is on."""
        return self.jumps[-1] if self.jumps else 0

    @cached_property
    def rates(self) -> dict[str, float]:
        """Exponents p in C·L^{-p} on the last branch: of consecutive steps, and of errors against a
        closed form.
        """
        rows = self.rows[self.first_of_branch :]
        depths, values = [r["depth"] for r in rows], [r["value"] for r in rows]
        noise = 1e-13 * max(abs(v) for v in values)
        rates = {"value": fitted_rate(depths[1:], np.abs(np.diff(values)).tolist(), noise)}
        for name in DISTANCES:
            rates[name] = fitted_rate(depths[1:], [r[f"{name}_step"] for r in rows[1:]], 1e-9)
        if (
            self.reference is not None
            and self.reference.value is not None
            and self.reference.attained
        ):
            rates["value_error"] = fitted_rate(depths, [r["value_error"] for r in rows], noise)
            if self.reference.controls:
                rates["controls_L2_error"] = fitted_rate(
                    depths, [r["controls_L2_error"] for r in rows], 1e-9
                )
        return rates

    @property
    def work(self) -> float:
        """The cost of all adjoint levels together, in measured gradients of the finest level."""
        unit = self.levels[-1].adjoint.work.get("gradient_seconds", np.nan)
        every = [level.adjoint.work for level in self.levels]
        return float(
            sum(w.get("units", np.nan) * w.get("gradient_seconds", np.nan) for w in every) / unit
        )

    @property
    def orders(self) -> tuple[float, ...]:
        """The exponents of 1/L that the values are extrapolated with."""
        rule = self.levels[-1].adjoint.rule
        if self.reference is not None and rule == "left":
            return tuple(self.reference.orders)
        return RULES[rule].exponents

    @property
    def extrapolated_value(self) -> float:
        """The limit of J_L by Richardson extrapolation over the levels of the last branch."""
        rows = self.rows[self.first_of_branch :]
        return extrapolate([r["depth"] for r in rows], [r["value"] for r in rows], self.orders)[0]

    @property
    def statements(self) -> list[str]:
        """What to trust and what not, in words."""
        said = []
        for k in self.jumps:
            row, before = self.rows[k], self.rows[k - 1]
            words = lost(
                row["depth"], row["controls_L2_step"], before["depth"], before["controls_L2_step"]
            )
            said.append(f"{words}; rates start there")
        for level in self.levels:
            for solution in (level.adjoint, level.exact):
                if solution is not None and not solution.success:
                    said.append(
                        f"not converged: {solution.backend} at L={level.depth}: {solution.message}"
                    )
            if level.exact is not None and abs(level.exact.value - level.adjoint.value) > 1e-6 * (
                1 + abs(level.adjoint.value)
            ):
                said.append(
                    f"the backends found different minimisers at L={level.depth}: "
                    f"{level.exact.value:.10g} (exact), "
                    f"{level.adjoint.value:.10g} (adjoint)"
                )
        return said

    def summary(self) -> dict[str, Any]:
        """The JSON object of ``dnlcontrol study --json``."""
        levels = []
        for row, level in zip(self.rows, self.levels, strict=True):
            levels.append(
                {
                    **describe(level.adjoint),
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
    # ---------------------------------------------------------------------------------------
    def save(self, directory: Any) -> None:
        """Write every level and the table; ``dnlcontrol.load`` reads it."""
        folder = make_directory(directory)
        for level in self.levels:
            save_level(folder, level.depth, (level.adjoint, level.exact), self.source)
        write_json(
            folder / "study.json",
            {
                "format": 1,
                "kind": "study",
                "name": self.name,
                "depths": self.depths,
                "source": dict(self.source),
                "summary": self.summary(),
            },
        )
        self.table().to_csv(folder / "table.csv")

    def plot(self, path: Any = "convergence.png") -> Path:
        """The convergence picture: values and distances against the depth, with fitted rates."""
        from dnlcontrol.studies.plotting import plot_convergence

        return plot_convergence(self, path)

    def plots(self, directory: Any) -> list[Path]:
        """Every picture: convergence, each control, states, costates."""
        from dnlcontrol.studies.plotting import plot_all

        return plot_all(self, make_directory(directory))

    def __repr__(self) -> str:
        return (
            f"Study({self.name!r}, depths={self.depths}, "
            f"extrapolated_value={self.extrapolated_value:.10g})"
        )


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


def _against(reference: Reference | None, solution: Solution) -> dict[str, Any]:
    """Errors against a closed form; they replace those against the finest level."""
    out: dict[str, Any] = {"value_error": np.nan}
    if reference is None:
        return out
    if reference.value is not None:
        out["value_error"] = abs(solution.value - reference.value)
    if reference.controls and set(reference.controls) == set(solution.controls):
        pairs = [(solution.controls[k], fn) for k, fn in reference.controls.items()]
        squares = [function_distance(c.layout, c.values, fn) ** 2 for c, fn in pairs]
        out["controls_L2_error"] = float(np.sqrt(sum(squares)))
    return out
