"""multistart: many seeded starts solved in parallel, and the distinct minimisers they lead to.

The problem is not convex: different starts end in different minimisers, and several may be one
minimiser in disguise, moved by a symmetry. Every converged start is compared, after alignment, with
the minimisers found before it.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Unpack

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.options import Adjoint, Exact, Goal
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.controls import smooth_random
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.solution import Solution
from dnlcontrol.solving.choice import resolved_for
from dnlcontrol.solving.learnt import NOTHING
from dnlcontrol.solving.request import DEFAULT, Request, Shorthand
from dnlcontrol.solving.solve import solve_level
from dnlcontrol.studies.symmetries import (
    Symmetry,
    aligned,
    check_symmetries,
    gap,
    masses_of,
    verify,
)

# starts per worker and round where a joblib backend cannot hand over results one by one
PER_ROUND = 4


@dataclass(frozen=True)
class Attempt:
    """One start: its number k, what its solve reported, and its cluster (-1: not converged).

    The seed is seed + k.
    """

    start: int
    value: float
    success: bool
    cluster: int
    stationarity: float
    nit: int


@dataclass(frozen=True)
class Cluster:
    """Starts that ended in one minimiser up to symmetries.

    The representative is that of the first of them.
    """

    value: float
    count: int
    representative: Solution


@dataclass(frozen=True)
class MultiStart:
    """The distinct minimisers that many starts led to.

    Attributes
    ----------
    clusters : the distinct minimisers by increasing value.
    best : the Solution of least value; where no start converged, the best that did not.
    starts : one row for each start, in their order; ``table()`` is the pandas form, ``cluster``
        counts in ``clusters``.
    seed, scale : start k is ``smooth_random(seed + k, scale)`` for every control.
    """

    name: str
    depth: int
    seed: int
    scale: float
    clusters: tuple[Cluster, ...]
    best: Solution
    starts: tuple[Attempt, ...]

    @property
    def values(self) -> np.ndarray:
        """The values of the distinct minimisers, (clusters,), increasing."""
        return np.array([cluster.value for cluster in self.clusters])

    @property
    def spread(self) -> float:
        """The largest minus the smallest of ``values``; NaN where no start converged."""
        return float(np.ptp(self.values)) if self.clusters else np.nan

    def table(self) -> Any:
        """A pandas DataFrame, one row for each start.

        Raises
        ------
        ImportError that names the extra where pandas is missing.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "multistart's table() needs pandas; install dnlcontrol[study]"
            ) from error
        return pd.DataFrame([asdict(row) for row in self.starts]).set_index("start")

    def __repr__(self) -> str:
        solved = sum(row.success for row in self.starts)
        return (
            f"MultiStart({self.name!r}, L={self.depth}, {solved} of {len(self.starts)} starts "
            "converged to "
            f"{len(self.clusters)} minimisers, best {self.best.value:.10g}, spread "
            f"{self.spread:.3g})"
        )


def multistart(
    problem: ControlProblem,
    depth: int,
    starts: int = 16,
    seed: int = 0,
    scale: float = 1.0,
    backend: str | Exact | Adjoint = "adjoint",
    workers: int = 1,
    tolerance: float = 1e-8,
    symmetries: Symmetry | Sequence[Symmetry] | None = None,
    distinct: float = 1e-3,
    rule: str = "left",
    max_iterations: int | None = None,
    **shorthand: Unpack[Shorthand],
) -> MultiStart:
    """Solve from many random starts and collect the distinct minimisers.

    Parameters
    ----------
    starts, seed, scale : start k = 0..starts-1 takes ``smooth_random(seed + k, scale)`` for every
        control; seeds that are ``starts`` apart share none.
    backend, tolerance, rule, max_iterations, shorthand : of :func:`dnlcontrol.solve`.
    workers : 1 solves in this process; more, or -1 for all there are, through joblib (the extra
        ``parallel``).
    symmetries : a list of ``HiddenPermutation``, ``SignFlip``, ``FiniteSymmetry``; each is tried on
        random controls first, and refused when it changes value, bounds or constraints.
    distinct : two minimisers u, v are one when the L² distance of their samples after alignment is
        at most distinct · max(|u|, |v|, scale). A start belongs to the first minimiser, in the
        order of starts, that it equals.

    Returns
    -------
    MultiStart. It is the same for any number of workers: a solve runs on one thread, and minimisers
    are compared in the order of the starts. What is kept are the distinct minimisers, one row for
    each start, and solutions that equal none of them yet and wait for an earlier start to finish.
    Starts that do not converge are rows with ``success=False``; a ConvergenceWarning is given when
    none converges.

    A cluster is a matter of a joblib backend. Every worker needs this library, and one thread is
    enough for it; the problem's functions are sent by cloudpickle (joblib's own
    "multiprocessing" backend does without: no lambdas)::

        from dask.distributed import Client  # or: ray.util.joblib.register_ray(), backend "ray"

        client = Client("scheduler:8786")
        with joblib.parallel_config(backend="dask"):
            found = dnl.multistart(problem, depth=64, starts=1000, workers=-1)

    Raises
    ------
    InputError for bad arguments; ImportError that names the extra when joblib is needed and
    missing.

    >>> import numpy as np, dnlcontrol as dnl
    >>> wells = dnl.ControlProblem(
    ...     x0=np.zeros(1),
    ...     dynamics=dnl.ODE(lambda t, x, u: u.u),
    ...     controls={"u": dnl.Control(())},
    ...     terminal=lambda x, c: (x**2 - 1) ** 2 + 0.1 * x,
    ...     regularisers=[dnl.L2("u", 0.1)],
    ... )
    >>> dnl.multistart(wells, depth=2, starts=4).values.round(4).tolist()
    [-0.05, 0.1475]
    """
    discrete = discretise(problem, depth, rule)
    count, seed = checks.whole("starts", starts), checks.whole("seed", seed, 0)
    scale, distinct = checks.positive("scale", scale), checks.positive("distinct", distinct)
    if workers != -1:
        checks.whole("workers", workers)
    for name in shorthand:
        if name not in DEFAULT:
            checks.reject_type("options", f"unknown option {name!r}", ", ".join(DEFAULT))
    options, reason = resolved_for(problem, depth, rule, backend, shorthand)
    request = Request(options, Goal(tolerance, max_iterations), rule, "duals", reason)
    found = check_symmetries(symmetries)
    verify(discrete, found, scale)
    gathering = _Gathering(
        _Sameness(found, masses_of({b.name: b.layout for b in discrete.space}), distinct, scale)
    )
    for k, solution in _finished(
        [(problem, depth, k, seed, scale, request) for k in range(count)], workers
    ):
        gathering.add(k, solution)
    result = gathering.result(problem, depth, seed, scale)
    if not result.clusters:
        text = (
            f"{problem.name}, multistart, L={depth}: none of the {count} starts converged; "
            f"{result.best.message}"
        )
        warnings.warn(text, checks.ConvergenceWarning, stacklevel=2)
    return result


@dataclass(frozen=True)
class _Sameness:
    """Whether two solutions are one minimiser."""

    symmetries: Sequence[Symmetry]
    masses: Mapping[str, np.ndarray]
    distinct: float
    scale: float

    def __call__(self, solution: Solution, reference: Solution) -> bool:
        u, v = (
            {name: control.values for name, control in s.controls.items()}
            for s in (solution, reference)
        )
        size = max(gap(u, None, self.masses), gap(v, None, self.masses), self.scale)
        return aligned(u, v, self.symmetries, self.masses)[1] <= self.distinct * size


@dataclass
class _Gathering:
    """Solutions come in any order; the clusters are those of the order of starts.

    In that order a converged start joins the first minimiser that it equals, or becomes a minimiser
    itself. ``leaders`` are the minimisers among the starts 0..due-1. A later start that equals one
    of them is settled at once and dropped; any other waits until all before it are there.
    """

    same: Callable[[Solution, Solution], bool]
    leaders: dict[int, Solution] = field(default_factory=dict)
    waiting: dict[int, Solution] = field(default_factory=dict)
    belongs: dict[int, int] = field(default_factory=dict)
    rows: dict[int, Attempt] = field(default_factory=dict)
    unsolved: tuple[float, int, Solution] | None = None
    due: int = 0

    def add(self, k: int, solution: Solution) -> None:
        self.rows[k] = Attempt(
            k, solution.value, solution.success, -1, solution.stationarity, solution.nit
        )
        if not solution.success:
            value = solution.value if np.isfinite(solution.value) else np.inf
            if self.unsolved is None or (value, k) < self.unsolved[:2]:
                self.unsolved = value, k, solution
        elif not self._settle(k, solution, self.leaders):
            self.waiting[k] = solution
        while self.due in self.rows:
            self._promote(self.due)
            self.due += 1

    def _settle(self, k: int, solution: Solution, leaders: Mapping[int, Solution]) -> bool:
        first = next((i for i, leader in leaders.items() if self.same(solution, leader)), None)
        if first is not None:
            self.belongs[k] = first
        return first is not None

    def _promote(self, k: int) -> None:
        """A waiting start whose turn has come equals no minimiser before it: it is one."""
        if k not in self.waiting:
            return
        leader = self.waiting.pop(k)
        self.leaders[k], self.belongs[k] = leader, k
        for i in sorted(self.waiting):
            if self._settle(i, self.waiting[i], {k: leader}):
                del self.waiting[i]

    def result(self, problem: ControlProblem, depth: int, seed: int, scale: float) -> MultiStart:
        order = sorted(self.leaders, key=lambda k: (self.leaders[k].value, k))
        counts, number = Counter(self.belongs.values()), {k: i for i, k in enumerate(order)}
        whole = {k: replace(self.leaders[k], problem=problem) for k in order}
        clusters = tuple(Cluster(whole[k].value, counts[k], whole[k]) for k in order)
        if clusters:
            best = clusters[0].representative
        else:
            assert self.unsolved is not None
            best = replace(self.unsolved[2], problem=problem)
        rows = (
            replace(self.rows[k], cluster=number.get(self.belongs.get(k, -1), -1))
            for k in sorted(self.rows)
        )
        return MultiStart(
            name=problem.name,
            depth=depth,
            seed=seed,
            scale=scale,
            clusters=clusters,
            best=best,
            starts=tuple(rows),
        )


Task = tuple[ControlProblem, int, int, int, float, Request]


def _finished(tasks: Sequence[Task], workers: int) -> Iterator[tuple[int, Solution]]:
    """(k, solution) as the solves finish."""
    if workers == 1:
        yield from (_solve_one(*task) for task in tasks)
        return
    try:
        import joblib
        from joblib.parallel import get_active_backend
    except ImportError as error:
        raise ImportError(
            "multistart with workers needs joblib; install dnlcontrol[parallel]"
        ) from error
    one_by_one = getattr(get_active_backend()[0], "supports_return_generator", False)
    step = len(tasks) if one_by_one else PER_ROUND * joblib.effective_n_jobs(workers)
    kind = "generator_unordered" if one_by_one else "list"
    with _problem_files_by_value():
        for i in range(0, len(tasks), step):
            part = (joblib.delayed(_solve_one)(*task) for task in tasks[i : i + step])
            yield from joblib.Parallel(n_jobs=workers, return_as=kind, batch_size=1)(part)


@in_turn
def _solve_one(
    problem: ControlProblem, depth: int, k: int, seed: int, scale: float, request: Request
) -> tuple[int, Solution]:
    """One start, in whatever process; the problem, known to the caller, does not travel back."""
    start = {name: smooth_random(seed + k, scale) for name in problem.controls}
    with _one_thread():
        solution, _ = solve_level(problem, depth, request, start, NOTHING)
    return k, replace(solution, problem=None)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Linear algebra on one thread.

    The order of its sums, and so the last digit, depends on the number of threads.
    """
    import torch

    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        threadpool_limits = nullcontext
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _problem_files_by_value() -> Iterator[None]:
    """Functions of problem files, which workers cannot import by name, are sent by value."""
    try:
        from joblib.externals import cloudpickle  # joblib < 1.6 brings its own
    except ImportError:
        import cloudpickle
    loaded = [m for name, m in list(sys.modules.items()) if name.startswith("dnlcontrol_problem_")]
    for module in loaded:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in loaded:
            cloudpickle.unregister_pickle_by_value(module)
