"""The units in which a problem is solved: from its natural sizes, in powers of a thousand.

A problem whose sizes lie within a band around 1 is solved as it is. The sizes are measured where
the solve starts, at a shallow level with few samples; where they ask for other units, once more at
the level itself. A start that is a solution hands its units on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.backends.found import BackendEvaluator
from dnlcontrol.backends.options import Adjoint, Exact
from dnlcontrol.backends.starting_point import StartingPoint
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.fingerprint import changed, fingerprint
from dnlcontrol.discretisation.scaling import Scaling
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.discretisation.space.prolongation import Samples
from dnlcontrol.minimise.outcome import Iterate, Progress
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.results.natural_sizes import NaturalSizes, natural_sizes
from dnlcontrol.results.rescaled import LOOSEST, looseness
from dnlcontrol.results.solution import Solution

SHALLOW = 8  # layers of the level at which sizes are measured first
FEW = 16  # samples there
# Units are powers of it, like milli, kilo, mega: a problem in units a thousand apart is then the
# same scaled problem, step by step. Finer units gain nothing: a trust region's path changes with a
# factor of 2 already.
UNIT = 1000.0
# (least, largest) size that keeps its unit: sizes of the reference and test problems lie within,
# their costs between 0.005 and 170, controls 0.05 and 10, rows 0.1 and 3, states 0.1 and 10
COST_BAND = (1 / 256, 256.0)
BAND = (1 / 32, 32.0)
# a network's control, small in the data but large where the penalty alone bounds it (up to 35), is
# worth no loss of its fast kernels
FAST_BAND = (1 / 64, 64.0)
COST_CENTRE = 2.5  # of the costs that keep their unit, and so of those of every other
RESCALED = 2  # times that a solve goes on in tighter units


def scaling_of(discrete: DiscreteProblem, w: Flat, options: Exact | Adjoint) -> Scaling:
    """The units for a solve of the discrete problem from the controls w (size,)."""
    if not discrete.space.size or getattr(options, "distributed", False):
        return Scaling()  # ranks have samples of their own, and must agree
    problem = discrete.problem
    few = _few(problem)
    if discrete.depth <= SHALLOW and few is problem:
        return _measured(discrete, w, options)
    small = discretise(few, min(discrete.depth, SHALLOW), discrete.grid.rule)
    at = np.clip(Samples.of(discrete.space, w).on(small.space), *small.space.bounds)
    sizes = natural_sizes(_evaluator(small, options), at)
    if sizes is not None and rounded(sizes, problem).trivial:
        return Scaling()
    return _measured(discrete, w, options)


def _measured(discrete: DiscreteProblem, w: Flat, options: Exact | Adjoint) -> Scaling:
    sizes = natural_sizes(_evaluator(discrete, options), w)
    return Scaling() if sizes is None else rounded(sizes, discrete.problem)


def rounded(sizes: NaturalSizes, problem: ControlProblem) -> Scaling:
    """Sizes as units; those within their band keep the user's.

    Fast kernels of a dynamics are for states as they are: those keep their unit.
    """
    fast = problem.dynamics.affine is not None or problem.dynamics.batched is not None
    states = None if fast else _units(sizes.states, BAND)
    band = FAST_BAND if fast else BAND
    controls = {k: _units(v, band) for k, v in sizes.controls.items()}
    rows = {
        c.name: _units(sizes.rows[c.name], BAND)
        for c in problem.constraints
        if c.function is not None
    }
    return Scaling(
        float(_power(np.array(sizes.cost), COST_BAND, COST_CENTRE)),
        {k: v for k, v in controls.items() if v is not None},
        {k: v for k, v in rows.items() if v is not None},
        states,
    )


def _power(size: np.ndarray, band: tuple[float, float], centre: float = 1.0) -> np.ndarray:
    """The power of UNIT nearest to a size (that of the centre is 1), 1 within the band."""
    power = UNIT ** np.round(np.log(size / centre) / np.log(UNIT))
    return np.where((size >= band[0]) & (size <= band[1]), 1.0, power)


def _units(size: np.ndarray, band: tuple[float, float]) -> np.ndarray | None:
    power = _power(size, band)
    return None if np.all(power == 1.0) else power


def _evaluator(discrete: DiscreteProblem, options: Exact | Adjoint) -> BackendEvaluator:
    """That of the backend which solves, so that no other library is loaded."""
    if isinstance(options, Exact):
        from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator

        return ReducedEvaluator(discrete)
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    return Evaluator(discrete)


def _few(problem: ControlProblem) -> ControlProblem:
    """The problem with at most about FEW samples, the first of every constraint among them."""
    if problem.samples <= FEW:
        return problem
    firsts = [int(c.rows(problem.samples)[0]) for c in problem.constraints]
    spread = np.linspace(0, problem.samples - 1, FEW).astype(int)
    chosen = np.unique([*spread, *firsts])
    number = {int(n): k for k, n in enumerate(chosen)}

    def cost(given: Cost | None) -> Cost | None:
        if given is None or given.target is None:
            return given
        return replace(given, target=given.target[chosen])

    return ControlProblem(
        name=problem.name,
        horizon=problem.horizon,
        x0=problem.x0[chosen],
        dynamics=problem.dynamics,
        controls=problem.controls,
        terminal=cost(problem.terminal),
        running=cost(problem.running),
        regularisers=problem.regularisers,
        constraints=[
            replace(
                c,
                samples=None
                if c.samples is None
                else tuple(number[n] for n in c.samples if n in number),
                target=None if c.target is None else c.target[chosen],
            )
            for c in problem.constraints
        ],
    )


# -- a solve in other units ------------------------------------------------------------------------
@dataclass(frozen=True)
class Scaled:
    """What a backend is given of one solve: problem, start and progress in the scaling's units."""

    scaling: Scaling
    users: DiscreteProblem

    @property
    def discrete(self) -> DiscreteProblem:
        """The problem at the same depth."""
        if self.scaling.trivial:
            return self.users
        grid = self.users.grid
        return discretise(self.scaling.applied(self.users.problem), grid.depth, grid.rule)

    def begin(self, start: StartingPoint, origin: Solution | None) -> StartingPoint:
        """Controls over D, multipliers times r/J0; what was learnt in other units is forgotten."""
        if not self.same_units(origin):
            start = replace(start, quadratic_rate=np.inf, preconditioner=None)
        if self.scaling.trivial:
            return start
        controls = self.scaling.controls
        levels = tuple(
            Samples(s.layouts, {k: v / controls.get(k, 1.0) for k, v in s.values.items()})
            for s in start.levels
        )
        mu = None if start.mu is None else start.mu * self._rows() / self.scaling.cost
        return replace(start, w=start.w / self.scaling.flat(self.users.space), levels=levels, mu=mu)

    def same_units(self, origin: Solution | None) -> bool:
        """Whether what was learnt from that solution is in these units."""
        return origin is None or origin.scales == self.scaling.record()

    def _rows(self) -> np.ndarray:
        """r of every row, (rows.size,)."""
        r = np.ones(self.users.rows.size)
        for b in self.users.rows.blocks:
            scale = self.scaling.of_row(b.constraint)
            r[b.part] = np.broadcast_to(scale, b.full_shape).ravel()
        return r

    def told(self, options: Exact | Adjoint) -> Exact | Adjoint:
        """The options, whose progress hears values and controls in the user's units."""
        if self.scaling.trivial or isinstance(options, Exact) or options.progress is None:
            return options
        return replace(options, progress=self._progress(options.progress))

    def _progress(self, call: Progress) -> Callable[[Iterate], None]:
        flat = self.scaling.flat(self.users.space)

        def tell(at: Iterate) -> None:
            w = None if at.controls is None else at.controls * flat
            call(replace(at, value=at.value * self.scaling.cost, controls=w))

        return tell


def handed_on(problem: ControlProblem, origin: Solution | None) -> Scaling | None:
    """The units of the solution that a start is prolonged from, if it is one of this problem."""
    if origin is None:
        return None
    theirs = origin.problem
    if theirs is not None and theirs is not problem:  # that of a loaded solution is built again
        rule = origin.rule
        if changed(fingerprint(theirs, rule), fingerprint(problem, rule)):
            return None
    return Scaling.restored(origin.scales)


def tighter(
    discrete: DiscreteProblem, solution: Solution, options: Exact | Adjoint
) -> Scaling | None:
    """The units of the sizes at a solution where it was measured too loosely for them, else None.

    The start of a solve may be far larger than its end: a tolerance relative to it says little.
    """
    if not solution.scales:
        return None
    w = discrete.space.assemble({k: c.values for k, c in solution.controls.items()})
    sizes = natural_sizes(_evaluator(discrete, options), w)
    if sizes is None or looseness(Scaling.restored(solution.scales), sizes) <= 0.5 * LOOSEST:
        return None
    return rounded(sizes, discrete.problem)
