"""Where a problem is not finite: the first formula, its node, its sample, its value.

Every formula is evaluated with NumPy, in the order in which the discrete problem reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.problem.engines import Native, numpy_engine
from dnlcontrol.problem.formula import Formula

# a change of an argument, relative to 1 + its size, that leaves the domain of a formula whose
# derivative is infinite (the root and the logarithm at 0)
NUDGE = 1e-8
FIXED = ("t", "s", "target")  # arguments that nothing is differentiated by


@dataclass(frozen=True)
class Evaluation:
    """One formula at one node for one sample; of a kernel, ``source`` is the layer that it reads.

    ``arguments`` are those of the formula, native to NumPy.
    """

    formula: Formula
    arguments: tuple[Native, ...]
    sample: int
    layer: int
    source: int | None = None

    @property
    def value(self) -> np.ndarray:
        """The formula's value."""
        with np.errstate(all="ignore"):
            return np.asarray(self.formula(numpy_engine(), *self.arguments), dtype=float)

    @property
    def on_an_edge(self) -> bool:
        """Whether the formula is not finite beside its arguments."""
        return any(not _finite(self._beside(sign).value) for sign in (NUDGE, -NUDGE))

    def _beside(self, change: float) -> Evaluation:
        moved = [
            value if name in FIXED else _moved(value, change)
            for name, value in zip(self.formula.shapes, self.arguments, strict=True)
        ]
        return Evaluation(self.formula, tuple(moved), self.sample, self.layer, self.source)

    def words(self, discrete: DiscreteProblem) -> str:
        """As in: 'kernel' at t = 0.5, s = 0.25 (layer 2, source 1), sample 0."""
        t = discrete.grid.nodes
        time, layer = f"t = {t[self.layer]:.6g}", f"layer {self.layer}"
        if self.source is not None:
            time += f", s = {t[self.source]:.6g}"
            layer += f", source {self.source}"
        return f"{self.formula.name!r} at {time} ({layer}), sample {self.sample}"


def not_finite(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> str:
    """What is not finite first at controls w and states x (L+1, N, *state); '' where nothing is."""
    bad = ~np.isfinite(x)
    if np.any(bad):
        l, n, *entry = (int(i) for i in np.argwhere(bad)[0])
        return f"{_state(discrete, x, (l, n, *entry))}: {_why(discrete, w, x, l, n)}"
    for at in chain(costs(discrete, w, x), constraints(discrete, w, x)):
        value = at.value
        if not _finite(value):
            return f"the formula {at.words(discrete)} is {value[~np.isfinite(value)][0]}"
    return ""


def not_differentiable(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> str:
    """The first formula on the edge of its domain, at finite states x; '' where none is."""
    every = chain(costs(discrete, w, x), constraints(discrete, w, x))
    for l in range(discrete.depth):
        every = chain(every, _source(discrete, w, x[l, 0], (l + 1, l, 0)))
    for at in every:
        if at.on_an_edge:
            return f"the formula {at.words(discrete)} stands on the edge of where it is defined"
    return ""


def _state(discrete: DiscreteProblem, x: np.ndarray, where: tuple[int, ...]) -> str:
    """As in: the state is nan at layer 3 (t = 0.3), sample 0, entry 1."""
    l, n, *entry = where
    of = f", entry {', '.join(map(str, entry))}" if entry else ""
    return (
        f"the state is {x[where]} at layer {l} (t = {discrete.grid.nodes[l]:.6g}), sample {n}{of}"
    )


def _why(discrete: DiscreteProblem, w: Flat, x: np.ndarray, l: int, n: int) -> str:
    """What made the state of sample n not finite at layer l, all before it finite."""
    for at in _reads(discrete, w, x, l, n):
        value = at.value
        if not _finite(value):
            return f"the formula {at.words(discrete)} is {value[~np.isfinite(value)][0]}"
    if discrete.grid.own[l]:
        return f"the implicit step of the rule {discrete.grid.rule!r} has no root beside x^{l - 1}"
    return "it grows beyond what float64 holds"


def _reads(
    discrete: DiscreteProblem, w: Flat, x: np.ndarray, l: int, n: int
) -> Iterator[Evaluation]:
    """All that layer l computes of sample n; in an implicit one from the state before."""
    grid, p = discrete.grid, discrete.problem
    free, outer = p.formulas.free_term, p.formulas.outer
    g, z = p.x0[n], np.zeros(p.integral_shape)
    if free:
        at = Evaluation(free, (grid.nodes[l], g), n, l)
        yield at
        g = at.value
    pairs = [(s, x[s, n], grid.later[s]) for s in range(l)]
    pairs += [(l, x[l - 1, n], grid.own[l])] if grid.own[l] else []
    for s, state, weight in pairs:
        for at in _source(discrete, w, state, (s + 1 if p.markov and s < l else l, s, n)):
            yield at
        z = z + weight * at.value
    if outer:
        controls = discrete.controls_at(w, outer, l)
        yield Evaluation(outer, (grid.nodes[l], g, z, controls), n, l)


def _source(
    discrete: DiscreteProblem, w: Flat, x: np.ndarray, where: tuple[int, int, int]
) -> Iterator[Evaluation]:
    """The feature map at source s, and the kernel there in layer l, of sample n."""
    l, s, n = where
    f, t = discrete.problem.formulas, discrete.grid.nodes
    y: Native = x
    if f.feature:
        at = Evaluation(f.feature, (t[s], x, discrete.controls_at(w, f.feature, s)), n, s)
        yield at
        y = at.value
    controls = discrete.controls_at(w, f.kernel, l, s)
    yield Evaluation(f.kernel, (t[l], t[s], y, controls), n, l, s)


def costs(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> Iterator[Evaluation]:
    """The running cost at its layers, then the terminal cost, of every sample."""
    p, L, grid = discrete.problem, discrete.depth, discrete.grid
    run, end = p.formulas.running, p.formulas.terminal
    if run is not None and p.running is not None:
        for l in grid.path:
            controls = discrete.controls_at(w, run, l)
            for n in range(p.samples):
                target = [] if p.running.target is None else [p.running.target[n]]
                yield Evaluation(run, (grid.nodes[l], x[l, n], controls, *target), n, int(l))
    if end is not None and p.terminal is not None:
        controls = discrete.controls_at(w, end, L)
        for n in range(p.samples):
            target = [] if p.terminal.target is None else [p.terminal.target[n]]
            yield Evaluation(end, (x[L, n], controls, *target), n, L)


def constraints(discrete: DiscreteProblem, w: Flat, x: np.ndarray) -> Iterator[Evaluation]:
    """Every constraint with a formula, at its layers and samples."""
    for block in discrete.rows.blocks:
        formula, target = block.formula, block.constraint.target
        if formula is None:
            continue
        terminal = block.constraint.kind == "terminal"
        for l in [discrete.depth] if terminal else discrete.grid.path:
            controls = discrete.controls_at(w, formula, l)
            time = [] if terminal else [discrete.grid.nodes[l]]
            for n in block.samples:
                extra = [target[n]] if terminal and target is not None else []
                arguments = (*time, x[l, n], controls, *extra)
                yield Evaluation(formula, arguments, int(n), int(l))


def _finite(value: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(value)))


def _moved(value: Native, change: float) -> Native:
    if isinstance(value, Mapping):
        return {k: _moved(v, change) for k, v in value.items()}
    return np.asarray(value + change * (1.0 + np.abs(value)))
