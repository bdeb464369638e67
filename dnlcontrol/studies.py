"""study: the same problem over a ladder of depths, both backends compared, rates and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.branches import leaves, lost
from dnlcontrol.certificates.error_constant import error_constant
from dnlcontrol.extrapolation import extrapolate, fitted_rate
from dnlcontrol.files import make_directory
from dnlcontrol.fingerprints import fingerprint, same_problem
from dnlcontrol.problem import ControlProblem
from dnlcontrol.reference import Reference
from dnlcontrol.rules import RULES
from dnlcontrol.solution import Solution, distance
from dnlcontrol.solving import solve
from dnlcontrol.space.distances import function_distance
from dnlcontrol.storage import (
    load_learnt,
    load_solution,
    read_json,
    save_learnt,
    save_solution,
    write_json,
)

DISTANCES = {"controls_L2": ("L2", "controls"), "controls_H1": ("H1", "controls"), "controls_sup": ("sup", "controls"),
             "states_sup": ("sup", "states"), "costates_sup": ("sup", "costates")}  # fmt: skip
COLUMNS = ("value", "stationarity", "feasibility", "complementarity", "success", "status",
           "nit", "nfev", "njev", "nhev", "cg_per_step", "seconds", "peak_memory_mb")  # fmt: skip
OPTIONS = ("max_iterations", "method", "batches", "dtype", "chunk", "warm", "every")  # of the adjoint solve


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
        """c in J_L = J* + c/L^p, p the order of the rule, predicted from this level; NaN where it is not known."""
        if self.stored_constant is not None:
            return self.stored_constant
        try:
            return error_constant(self.adjoint).constant
        except checks.InputError:
            return np.nan


@dataclass(frozen=True)
class Study:
    """The levels of one problem, coarse to fine, and what they say about the limit of infinite depth.

    ``table()`` has one row for each depth. Distances to the previous level carry the suffix ``_step``, to the
    reference (the closed form where the problem has one, else the finest level) ``_error``, between the
    backends ``_gap``. ``work`` counts gradients of that level (a product its measured cost), ``cg_per_step`` CG
    iterations for each Newton step. ``constant`` is c in J_L = J* + c/L (trapezoidal rule: c/L²) predicted from that
    level alone, ``corrected`` is J_L less that (NaN where c is not known). ``rates`` are fitted exponents p of
    C·L^{-p}; ``statements`` say in words what to trust.
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
        return all(s.success for level in self.levels for s in (level.adjoint, level.exact) if s is not None)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The table as dictionaries."""
        return [self._row(k) for k in range(len(self.levels))]

    def _row(self, k: int) -> dict[str, Any]:
        level, finest = self.levels[k], self.levels[-1].adjoint
        a = level.adjoint
        row: dict[str, Any] = {"depth": a.depth, **{c: getattr(a, c) for c in COLUMNS}, "controls": a.size}
        row.update(work=a.work.get("units", np.nan), product_cost=a.work.get("product_cost", np.nan))
        for name, (norm, of) in DISTANCES.items():
            previous = self.levels[k - 1].adjoint if k else None
            row[f"{name}_step"] = distance(previous, a, norm, of) if previous else np.nan
            row[f"{name}_error"] = distance(a, finest, norm, of) if a is not finest else np.nan
        row.update(_against(self.reference, a))
        row.update(constant=level.constant, corrected=a.value - level.constant / a.depth ** RULES[a.rule].exponents[0])
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

    # -- what follows from the levels ---------------------------------------------------------------------------
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
        """Exponents p in C·L^{-p} on the last branch: of consecutive steps, and of errors against a closed form."""
        rows = self.rows[self.first_of_branch :]
        depths, values = [r["depth"] for r in rows], [r["value"] for r in rows]
        noise = 1e-13 * max(abs(v) for v in values)
        rates = {"value": fitted_rate(depths[1:], np.abs(np.diff(values)).tolist(), noise)}
        for name in DISTANCES:
            rates[name] = fitted_rate(depths[1:], [r[f"{name}_step"] for r in rows[1:]], 1e-9)
        if self.reference is not None and self.reference.value is not None and self.reference.attained:
            rates["value_error"] = fitted_rate(depths, [r["value_error"] for r in rows], noise)
            if self.reference.controls:
                rates["controls_L2_error"] = fitted_rate(depths, [r["controls_L2_error"] for r in rows], 1e-9)
        return rates

    @property
    def work(self) -> float:
        """The cost of all adjoint levels together, in measured gradients of the finest level."""
        unit = self.levels[-1].adjoint.work.get("gradient_seconds", np.nan)
        every = [level.adjoint.work for level in self.levels]
        return float(sum(w.get("units", np.nan) * w.get("gradient_seconds", np.nan) for w in every) / unit)

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
            words = lost(row["depth"], row["controls_L2_step"], before["depth"], before["controls_L2_step"])
            said.append(f"{words}; rates start there")
        for level in self.levels:
            for solution in (level.adjoint, level.exact):
                if solution is not None and not solution.success:
                    said.append(f"not converged: {solution.backend} at L={level.depth}: {solution.message}")
            if level.exact is not None and abs(level.exact.value - level.adjoint.value) > 1e-6 * (
                1 + abs(level.adjoint.value)
            ):
                said.append(
                    f"the backends found different minimisers at L={level.depth}: {level.exact.value:.10g} (exact), "
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

    # -- files and pictures ---------------------------------------------------------------------------------------
    def save(self, directory: Any) -> None:
        """Write every level and the table; ``dnlcontrol.load`` reads it."""
        folder = make_directory(directory)
        for level in self.levels:
            save_level(folder, level, self.source)
        write_json(folder / "study.json", {"format": 1, "kind": "study", "name": self.name, "depths": self.depths,
                                           "source": dict(self.source), "summary": self.summary()})  # fmt: skip
        self.table().to_csv(folder / "table.csv")

    def plot(self, path: Any = "convergence.png") -> Path:
        """The convergence picture: values and distances against the depth, with fitted rates."""
        from dnlcontrol.plotting import plot_convergence

        return plot_convergence(self, path)

    def plots(self, directory: Any) -> list[Path]:
        """Every picture: convergence, each control, states, costates."""
        from dnlcontrol.plotting import plot_all

        return plot_all(self, make_directory(directory))

    def __repr__(self) -> str:
        return f"Study({self.name!r}, depths={self.depths}, extrapolated_value={self.extrapolated_value:.10g})"


def study(problem: ControlProblem, depths: Sequence[int], exact_to: int = 0, directory: Any = None,
          reference: Reference | None = None, start: Any = None, rule: str = "left", tolerance: float = 1e-8,
          device: str = "cpu", source: Mapping[str, Any] | None = None,
          progress: Callable[[str], None] | None = None, follow: Callable[[Any], None] | None = None,
          **options: Any) -> Study:  # fmt: skip
    """Solve at every depth, each level started from the ones before: adjoint levels extrapolated where that
    foretold the last level, and preconditioned by a coarse level; exact levels by prolongation.

    Parameters
    ----------
    depths : increasing depths, e.g. [4, 8, 16, 32].
    exact_to : the exact backend runs too where depth <= exact_to; it follows its own chain of prolongations, so
        neither backend is started from the other's solution.
    directory : finished levels are kept there, and the checkpoint of an adjoint level, at most ``every`` so many
        seconds; a study that was killed continues from them.
    reference : the closed form that levels are measured against, else the finest level.
    start : the first level's start, as in :func:`solve`; further options go to the adjoint solve of every level.
    progress, follow : called with a line for each level, and with each iterate of the adjoint levels.
    """
    ladder = check_depths(depths)
    exact_to = checks.whole("exact_to", exact_to, 0)
    if not isinstance(problem, ControlProblem):
        checks.reject_type("problem", problem, "a ControlProblem")
    if not isinstance(reference, (Reference, type(None))):
        checks.reject_type("reference", reference, "a Reference or None")
    for name, call in (("progress", progress), ("follow", follow)):
        if call is not None:
            checks.function(name, call)
    for name in options:
        checks.choice("study option", name, OPTIONS)
    if not problem.controls:
        checks.reject("problem", f"{problem.name!r} without controls", "a problem with controls; use simulate")
    folder = None if directory is None else _prepare(directory, problem, ladder, rule)
    levels: list[Level] = []
    chains: dict[str, Any] = {"adjoint": start, "exact": start}
    for depth in ladder:
        found: dict[str, Solution] = {}
        for backend in ("adjoint", "exact"):
            if backend == "exact" and depth > exact_to:
                continue
            place = None if folder is None else _place(folder, depth, backend)
            solution = None if place is None else _finished(place, problem, tolerance)
            if solution is None:
                if progress:
                    progress(f"L={depth} {backend} ...")
                more: dict[str, Any] = {}
                if backend == "adjoint":
                    more = {**options, "device": device, "progress": follow, "checkpoint": place}
                begin = [k.adjoint for k in levels] if levels and backend == "adjoint" else chains[backend]
                solution = solve(problem, depth, backend, rule, begin, tolerance=tolerance, **more)
                if progress and "branch lost" in solution.message:
                    progress(f"L={depth} {backend}: {solution.message}")
                if place is not None:
                    if depth < ladder[-1]:
                        save_learnt(solution, place)  # before the solution, which marks the level as finished
                    save_solution(solution, place, source)
            elif progress:
                progress(f"L={depth} {backend}: kept from {place}")
            chains[backend] = found[backend] = solution
        if levels:  # only the last level needs what was learnt of the Hessian
            levels[-1] = replace(levels[-1], adjoint=replace(levels[-1].adjoint, preconditioner=None))
        levels.append(Level(found["adjoint"], found.get("exact")))
    result = Study(problem.name, tuple(levels), reference, dict(source or {}))
    if folder is not None:
        result.save(folder)
    return result


def check_depths(depths: Any) -> list[int]:
    """A strictly increasing list of depths."""
    if isinstance(depths, (int, np.integer)) or not hasattr(depths, "__iter__"):
        checks.reject_type("depths", depths, "a list of increasing integers >= 1")
    ladder = [checks.whole("depths", d) for d in depths]
    if not ladder or any(b <= a for a, b in pairwise(ladder)):
        checks.reject("depths", ladder, "a non-empty, strictly increasing list")
    return ladder


def describe(solution: Solution) -> dict[str, Any]:
    """The JSON keys of one solve."""
    return {
        "problem": solution.name, "backend": solution.backend, "rule": solution.rule, "depth": solution.depth,
        "value": solution.value, "stationarity": solution.stationarity, "feasibility": solution.feasibility,
        "complementarity": solution.complementarity, "success": solution.success, "status": solution.status,
        "message": solution.message, "iterations": solution.nit, "evaluations": solution.nfev,
        "gradients": solution.njev, "hessian_products": solution.nhev, "seconds": solution.seconds,
        "peak_memory_mb": solution.peak_memory_mb, "samples": solution.samples, "controls": solution.size,
    }  # fmt: skip


def _prepare(directory: Any, problem: ControlProblem, ladder: list[int], rule: str) -> Path:
    """The directory of a new study, or of the same study begun before."""
    folder = make_directory(directory)
    if (folder / "solution.json").exists():
        checks.reject("directory", f"{folder}, which holds a solution", "a new directory, or that of the same study")
    mine, path = fingerprint(problem, rule), folder / "problem.json"
    if path.is_file():
        theirs = read_json(path, "fingerprint")
        if not same_problem(theirs, mine):
            checks.reject("directory", f"{folder}, which holds a study of another problem ({theirs.get('name')!r})",
                          "a new directory, or that of the same problem and parameters")  # fmt: skip
    else:
        write_json(path, {"format": 1, "kind": "fingerprint", **mine, "depths": ladder})
    return folder


def _place(folder: Path, depth: int, backend: str) -> Path:
    return folder / f"L{depth:05d}" / backend


def _finished(place: Path, problem: ControlProblem, tolerance: float) -> Solution | None:
    """The level's solution if it was completed before, at this tolerance or a tighter one."""
    if not (place / "solution.json").is_file():
        return None
    try:
        solution = load_solution(place)
    except checks.InputError:
        return None  # killed between its two files: solve it again
    if solution.tolerance > tolerance:
        return None
    return replace(solution, problem=problem, preconditioner=load_learnt(place, problem, solution))


def save_level(folder: Path, level: Level, source: Mapping[str, Any]) -> None:
    """Write the solutions of a level that are not there yet."""
    for solution in (level.adjoint, level.exact):
        if solution is not None and not (_place(folder, level.depth, solution.backend) / "solution.json").is_file():
            save_solution(solution, _place(folder, level.depth, solution.backend), source)


def _stored_constants(record: Mapping[str, Any]) -> dict[int, float]:
    """depth -> the error constant in the table of a finished study."""
    summary = record.get("summary")
    rows = summary.get("levels") if isinstance(summary, Mapping) else None
    found = [(r.get("depth"), r.get("constant")) for r in rows or () if isinstance(r, Mapping)]
    return {depth: float(c) for depth, c in found if isinstance(depth, int) and isinstance(c, (int, float))}


def load_study(directory: Any, reference: Reference | None = None) -> Study:
    """Read a finished study."""
    folder = Path(directory)
    record = read_json(folder / "study.json", "study")
    constants = _stored_constants(record)
    levels = []
    for depth in check_depths(record.get("depths")):
        exact = _place(folder, depth, "exact")
        levels.append(
            Level(
                load_solution(_place(folder, depth, "adjoint")),
                load_solution(exact) if exact.is_dir() else None,
                constants.get(depth),
            )
        )
    return Study(str(record.get("name")), tuple(levels), reference, record.get("source", {}))


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
