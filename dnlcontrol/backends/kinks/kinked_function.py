"""A discrete problem with its kinks: their arguments at a control, J(w, θ) and its derivatives.

A vector v = (w, θ) is flat in the space of the sided problem, whose first blocks are the controls.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.evaluator import Trajectory
from dnlcontrol.problem.engines import Native, numpy_engine
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.kinks.sided import entries, sided
from dnlcontrol.problem.kinks.switches import Recorder, SwitchEngine
from dnlcontrol.problem.losses import Cost

EVALUATIONS = 100_000  # of formulas, one by one with NumPy: some ten seconds

DENSE = 1500  # controls and kinks up to which the whole Hessian is formed


def evaluations(discrete: DiscreteProblem) -> int:
    """How many evaluations of formulas with kinks a forward solve makes."""
    p, L = discrete.problem, discrete.depth + 1
    f = p.formulas
    along = [g for g in (f.feature, f.outer, f.running) if g is not None and g.kinks]
    pairs = 0 if not f.kernel.kinks else L if p.markov else L * (L + 1) // 2
    return p.samples * (pairs + L * len(along) + 1)


def applies(discrete: DiscreteProblem) -> bool:
    """Whether sides are kept: there are kinks, few enough, and no rows beside control bounds."""
    p = discrete.problem
    return bool(p.kinks) and not p.constraints and evaluations(discrete) <= EVALUATIONS


class KinkedFunction:
    """J(w, θ) of a discrete problem, and the arguments of its kinks.

    ``size`` is the number of controls; v is (size + kinks,).
    """

    def __init__(self, discrete: DiscreteProblem) -> None:
        from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator

        self.discrete = discrete
        self.size = discrete.space.size
        self.sided = sided(discrete.problem)
        self.with_sides = discretise(self.sided.problem, discrete.depth, discrete.grid.rule)
        self.plain = ReducedEvaluator(discrete)
        self.smooth = ReducedEvaluator(self.with_sides)

    @property
    def total(self) -> int:
        """Controls and kinks together."""
        return self.with_sides.space.size

    def joined(self, w: Flat, theta: np.ndarray) -> Flat:
        """v = (w, θ)."""
        return np.concatenate([w, theta])

    def second(self, v: Flat, columns: np.ndarray) -> np.ndarray:
        """Columns of the Hessian of J(w, θ) at v, (size + kinks, columns)."""
        if self.total <= DENSE:
            return self.smooth.hessian(v)[:, columns]
        out = np.empty((self.total, len(columns)))
        unit = np.zeros(self.total)
        for i, j in enumerate(columns):
            unit[j] = 1.0
            out[:, i] = self.smooth.hessian_product(v, unit)
            unit[j] = 0.0
        return out

    def arguments(self, w: Flat) -> np.ndarray:
        """The argument a of every kink at controls w, (kinks,); inf where none is evaluated."""
        at = self.plain.trajectory(w)
        out = np.full(self.total, np.inf)
        for name, formula in self.sided.places.items():
            block = self.with_sides.space.blocks[name]
            values = out[block.part].reshape(block.layout.count, self.discrete.problem.samples, -1)
            for site, n, point in self._points(formula, name, w, at):
                values[site, n] = _arguments(formula, point)
        return out[self.size :]

    def _points(
        self, formula: Formula, name: str, w: Flat, at: Trajectory
    ) -> Iterator[tuple[int, int, tuple[Native, ...]]]:
        """(site, sample, what the formula is evaluated at), for all of its evaluations."""
        d, p, f = self.discrete, self.discrete.problem, self.discrete.problem.formulas
        layout, t = self.with_sides.space.blocks[name].layout, d.grid.nodes
        x, z = at.states, at.integrals
        for site in range(layout.count):
            if formula is f.kernel:
                s = int(layout.sources[site])
                l = int(layout.layers[site]) if layout.on == "ts" else min(s + 1, d.depth)
                u = d.controls_at(w, formula, l, s)
            else:
                l = s = d.depth if formula is f.terminal else site
                u = d.controls_at(w, formula, l)
            for n in range(p.samples):
                if formula is f.kernel:
                    yield site, n, (t[l], t[s], self._feature(w, s, x[s, n]), u)
                elif formula is f.outer:
                    g = f.free_term(numpy_engine(), t[l], p.x0[n]) if f.free_term else p.x0[n]
                    yield site, n, (t[l], g, z[l, n], u)
                elif formula is f.terminal:
                    yield site, n, (x[-1, n], u, *_target(p.terminal, n))
                else:
                    target = _target(p.running, n) if formula is f.running else ()
                    yield site, n, (t[l], x[l, n], u, *target)

    def _feature(self, w: Flat, s: int, x: np.ndarray) -> Native:
        """y^s of one sample."""
        d, feature = self.discrete, self.discrete.problem.formulas.feature
        if feature is None:
            return x
        u = d.controls_at(w, feature, s)
        return feature(numpy_engine(), d.grid.nodes[s], x, u)


def _arguments(formula: Formula, point: tuple[Native, ...]) -> np.ndarray:
    """The arguments of the moving switches of one evaluation, (entries,)."""
    recorder = Recorder()
    with np.errstate(all="ignore"):
        formula(SwitchEngine(numpy_engine(), recorder), *point)
    moving = [
        np.ravel(a) for a, s in zip(recorder.arguments, formula.switches, strict=True) if s.moves
    ]
    found = np.concatenate(moving)
    assert found.size == entries(formula)
    return found


def _target(cost: Cost | None, n: int) -> tuple[np.ndarray, ...]:
    return () if cost is None or cost.target is None else (cost.target[n],)
