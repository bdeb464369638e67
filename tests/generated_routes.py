"""Every route through ``solve``, and what became of a generated case on it.

A route is a backend with its options, cold (from the case's start) or warm (from the solution at
half the depth on the same route). What is asked of each:

    success implies a certificate that passed
    a value above the best of the other routes has a certificate that passed
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

import dnlcontrol as dnl
from tests.generated_problems import Case

ABOVE = 1e-6  # of the unit of the cost: what a value may be above the best other route's
FEASIBLE = 1e-6  # of the row's unit: the violation of a point whose value counts as reached
CERTIFICATE_SEED = 0
WARM = " warm"


@dataclass(frozen=True)
class Route:
    """A backend with its options; whether it takes constraint rows.

    ``iterations`` bound what fails: two to ten times what most of these problems take.
    """

    backend: dnl.Exact | dnl.Adjoint
    iterations: int = 60
    takes_rows: bool = True


ADAM = dnl.Adam(dnl.MiniBatches(size=2, epochs=5))
COLD = {
    "exact lifted": Route(dnl.Exact(formulation="lifted"), 300),
    "exact condensed": Route(dnl.Exact(formulation="condensed"), 300),
    "newton": Route(dnl.Adjoint(method="newton")),
    "gauss-newton": Route(dnl.Adjoint(method="gauss-newton"), 30),
    "lbfgs": Route(dnl.Adjoint(method="lbfgs"), 100),
    "adam": Route(dnl.Adjoint(method=ADAM), takes_rows=False),
    "msa": Route(dnl.Adjoint(method="msa"), takes_rows=False),
    "emsa": Route(dnl.Adjoint(method="emsa"), takes_rows=False),
}
ROUTES = {**COLD, **{name + WARM: route for name, route in COLD.items()}}


@dataclass(frozen=True)
class Attempt:
    """One case on one route, in plain values.

    unit, least : of the cost, and the least value (-inf where it is not known).
    certified : whether there is a certificate that passed; ``failed`` names its other rows. Only
        what ended with success is certified: the others say themselves that they are not proved.
    feasible : whether the value is that of a point within the constraints.
    error : the exception that came in place of a solution.
    """

    name: str
    seed: int
    setting: str
    natural: bool
    unit: float
    least: float
    route: str
    seconds: float
    value: float = np.inf
    success: bool = False
    feasible: bool = False
    certified: bool = False
    message: str = ""
    failed: tuple[str, ...] = ()
    error: str = ""

    @property
    def unproved(self) -> bool:
        """Success with a failed certificate."""
        return self.success and not self.certified

    @property
    def below(self) -> bool:
        """A certified value below the least one: the family or the library is wrong."""
        return self.certified and self.value < self.least - ABOVE * self.unit

    def above(self, best: float) -> bool:
        """Whether the value is above the best one, and nothing says that it is a minimiser's."""
        return not self.certified and not self.value <= best + ABOVE * self.unit

    def __str__(self) -> str:
        """What happened, in one line."""
        told = self.error or f"success {self.success}: {self.message}"
        failed = f"; certificate failed: {', '.join(self.failed)}" if self.failed else ""
        return (
            f"{self.name} (seed {self.seed}, {self.setting}), {self.route}: "
            f"J = {self.value:.10g}, {told}{failed}"
        )


def solved(case: Case, route: str) -> dnl.Solution:
    """One solve; from the solution at half the depth where the route is warm."""
    start = case.start
    if route.endswith(WARM):
        start = solution_of(case, route, case.depth // 2, start)
    return solution_of(case, route, case.depth, start)


def solution_of(case: Case, route: str, depth: int, start: object) -> dnl.Solution:
    way = ROUTES[route]
    options = {"rule": case.rule, "max_iterations": way.iterations}
    return dnl.solve(case.problem, depth, way.backend, start=start, **options)


def attempts(case: Case, routes: Iterable[str] | None = None) -> list[Attempt]:
    """The case on its routes (or those of them that are named), each success with a certificate."""
    chosen = [name for name in case.routes if routes is None or name in set(routes)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [attempt(case, name) for name in chosen]


def attempt(case: Case, route: str) -> Attempt:
    """One solve, and the certificate of its solution; an exception is an attempt that failed."""
    units = "natural units" if case.natural else f"units {case.units.in_words()}"
    setting = f"L = {case.depth}, {case.rule}, {units}"
    least = -np.inf if case.minimum is None else case.minimum
    about = (case.name, case.seed, setting, case.natural, case.units.cost, least, route)
    began = time.perf_counter()
    try:
        found = solved(case, route)
        seconds = time.perf_counter() - began
        rows = dnl.certify(found, seed=CERTIFICATE_SEED).checks if found.success else ()
    except Exception as error:  # whatever it is, it is reported
        first = str(error).partition("\n")[0]
        spent = time.perf_counter() - began
        return Attempt(*about, spent, error=f"{type(error).__name__}: {first}")
    return Attempt(
        *about,
        seconds,
        found.value,
        found.success,
        feasible(case, found),
        found.success and all(check.passed for check in rows),
        found.message,
        tuple(check.name for check in rows if not check.passed),
    )


def feasible(case: Case, found: dnl.Solution) -> bool:
    """Whether the rows hold up to FEASIBLE of their unit, so that the value can be compared."""
    unit = min(case.units.row, case.units.state) if case.problem.constraints else case.units.control
    return bool(found.feasibility <= FEASIBLE * unit)


def best_other(made: list[Attempt], one: Attempt) -> float:
    """The least value that another route reached at a feasible point; inf for none."""
    return min((a.value for a in made if a is not one and a.feasible), default=np.inf)


def above_others(made: list[Attempt]) -> list[Attempt]:
    """The attempts at one case whose value is above the best other one without a certificate."""
    return [a for a in made if a.above(best_other(made, a))]
