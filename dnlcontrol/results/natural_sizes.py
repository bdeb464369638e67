"""Natural sizes of cost, controls, rows and states of a problem, from what is known at the start.

All are covariant: in other units of a control, a row, a state or the cost the same start has the
same sizes, in those units.

    cost     J0 = |J|, or what the penalty of the controls would be at the curvature there, or what
             a Newton step promises: a thousandth of it, all where J = 0
    control  D = (J0/h)^{1/2}, h the largest curvature of J in the metric at the start and on the
             way from it, at most half the width of its box; without curvature that width, the
             guess, or the step that a violated row asks for
    row      |D ∇c| in the dual norm, the largest of a few rows of one component
    state    the largest value at the start and after a step D of every control
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dnlcontrol.backends.found import BackendEvaluator
from dnlcontrol.discretisation.constraint_rows import RowBlock
from dnlcontrol.discretisation.space.control_space import ControlBlock, sample
from dnlcontrol.discretisation.space.flat import Flat
from dnlcontrol.minimise.outcome import finite
from dnlcontrol.problem.controls import smooth_random

PROMISE = (
    1e-3  # of what a step promises: the model is the start's, and J is rarely smaller by chance
)
WAY = 1 / 8  # of a first step: at a start of all zeros a network hides its curvature
FAR = 8.0  # times J0: a step that changes J by more has left the region of its model
HALVINGS = 40  # quarterings of a step: by 1e-24, through any explosion on the way
SAME_UNIT = 1024.0  # ratio up to which components are taken to have one unit
SINGLE = 16  # components of a control or a constraint that are measured one by one
SEED = 26  # of the directions of curvatures


@dataclass(frozen=True)
class NaturalSizes:
    """Of the cost, and by component of each control, of each constraint and of the state.

    ``controls`` and ``rows``: name -> an array of the shape of the control or the constraint; state
    bounds have the sizes of the state.
    """

    cost: float
    controls: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    states: np.ndarray


@dataclass(frozen=True)
class _Piece:
    """Components of one control that share a unit, and J along a direction of theirs, ‖d‖_A = 1.

    ``slope`` is the dual norm of the gradient, ``curvature`` |dᵀHd|, ``guess`` the largest value of
    the start, ``box`` half the width of the bounds (inf without), ``asked`` the step that the rows
    violated at the start ask for.
    """

    name: str
    entries: np.ndarray
    direction: Flat
    slope: float
    curvature: float
    guess: float
    box: float
    asked: float

    @property
    def plain(self) -> float:
        """A size that needs no cost: of the box, the guess or the rows; 0 where none tells."""
        known = (self.box if np.isfinite(self.box) else 0.0, self.guess, self.asked)
        return next((size for size in known if size > 0), 0.0)

    @property
    def promise(self) -> float:
        """What a Newton step within the box gains."""
        step = self.slope / self.curvature if self.curvature > 0 else np.inf
        step = min(step, self.box)
        return self.slope * step if np.isfinite(step) else self.slope * self.plain

    def size(self, cost: float) -> float:
        """D for a cost of that size, 0 where nothing tells."""
        if self.curvature > 0 and cost > 0:
            return float(min(np.sqrt(cost / self.curvature), self.box))
        return self.plain

    def seen_from(self, evaluator: BackendEvaluator, w: Flat) -> _Piece:
        """With the curvature at w where that is larger."""
        w = np.clip(w, *evaluator.space.bounds)
        here = _curvature(evaluator, w, self.direction)
        return replace(self, curvature=here) if here > self.curvature else self


def natural_sizes(evaluator: BackendEvaluator, w: Flat) -> NaturalSizes | None:
    """The sizes at the controls w (size,); None where J or its derivatives are not finite."""
    value, gradient = evaluator.value_and_gradient(w)
    if not finite(value, gradient):
        return None
    samples = [_Rows.of(evaluator, w, block) for block in evaluator.rows.blocks]
    pieces = [
        p for block in evaluator.space for p in _pieces(evaluator, block, w, gradient, samples)
    ]
    cost = _cost(value, pieces)
    if not np.isfinite(cost):
        return None
    step = _trusted(evaluator, w, _step(evaluator, pieces, cost), value, cost)
    if step is None:
        return None
    pieces = [p.seen_from(evaluator, w + WAY * step) for p in pieces]
    flat = _flat(evaluator, pieces, cost)
    return NaturalSizes(
        cost or 1.0,
        {b.name: b.values(flat)[0].copy() for b in evaluator.space},
        {
            r.block.constraint.name: r.sizes(evaluator, flat, w + step)
            for r in samples
            if r.block.formula is not None
        },
        _states(evaluator, w, step),
    )


def _trusted(
    evaluator: BackendEvaluator, w: Flat, step: Flat, value: float, cost: float
) -> Flat | None:
    """The step, shortened until J changes by no more than a few J0; None where it never does."""
    if not cost:
        return step
    for _ in range(HALVINGS):
        change = abs(evaluator.value(np.clip(w + step, *evaluator.space.bounds)) - value)
        if change <= FAR * cost:
            return step
        step = 0.25 * step
    return None


def _flat(evaluator: BackendEvaluator, pieces: list[_Piece], cost: float) -> Flat:
    """D of every entry: components of one control that are near each other share one."""
    flat = np.ones(evaluator.space.size)
    for block in evaluator.space:
        own = [p for p in pieces if p.name == block.name]
        sizes = np.array([p.size(cost) for p in own])
        sizes = shared(sizes)
        for piece, size in zip(own, sizes, strict=True):
            flat[piece.entries] = size
    return flat


def _step(evaluator: BackendEvaluator, pieces: list[_Piece], cost: float) -> Flat:
    """A step of natural size of every control whose size is known."""
    step = np.zeros(evaluator.space.size)
    for piece in pieces:
        if piece.size(cost) > 0:
            step += piece.direction
    return _flat(evaluator, pieces, cost) * step


def shared(sizes: np.ndarray) -> np.ndarray:
    """Sizes of entries of one quantity: their geometric mean, if they are of one unit; 1 for none.

    An entry of size 0 is one of which nothing is known.
    """
    known = sizes[sizes > 0]
    if not known.size:
        return np.ones_like(sizes)
    mean = float(np.exp(np.mean(np.log(known))))
    if known.max() <= SAME_UNIT * known.min():
        return np.full_like(sizes, mean)
    return np.where(sizes > 0, sizes, mean)


def _cost(value: float, pieces: list[_Piece]) -> float:
    """J0."""
    promise = sum(p.promise for p in pieces)
    guess = max((0.5 * p.curvature * p.guess**2 for p in pieces), default=0.0)
    if value:
        return max(abs(value), PROMISE * promise, guess)
    return max(promise, guess) or max((p.curvature * p.plain**2 for p in pieces), default=0.0)


def _pieces(
    evaluator: BackendEvaluator,
    block: ControlBlock,
    w: Flat,
    gradient: Flat,
    rows: list[_Rows],
) -> Iterator[_Piece]:
    """One control by components, or as a whole where a penalty joins them or they are many."""
    space, count = evaluator.space, block.components
    number = np.arange(space.size)[block.part].reshape(block.layout.count, count)
    single = block.penalty is None and 1 < count <= SINGLE
    smooth = sample(block, smooth_random(SEED)).reshape(number.shape)
    for part in [slice(i, i + 1) for i in range(count)] if single else [slice(None)]:
        entries = number[:, part].ravel()
        d = np.zeros(space.size)
        d[entries] = smooth[:, part].ravel()
        d /= np.sqrt(d @ space.metric(d))
        low, high = (side[entries] for side in space.bounds)
        yield _Piece(
            block.name,
            entries,
            d,
            slope=_dual(evaluator, gradient, entries),
            curvature=_curvature(evaluator, w, d),
            guess=float(np.max(np.abs(w[entries]))),
            box=0.5 * float(np.max(high - low)),
            asked=max((r.asked(evaluator, entries) for r in rows), default=0.0),
        )


def _curvature(evaluator: BackendEvaluator, w: Flat, d: Flat) -> float:
    """|dᵀHd|, 0 where it is not finite."""
    found = abs(float(d @ evaluator.hessian_product(w, d)))
    return found if np.isfinite(found) else 0.0


def _dual(evaluator: BackendEvaluator, r: Flat, entries: np.ndarray) -> float:
    """The dual norm of some entries of a gradient."""
    part = np.zeros_like(r)
    part[entries] = r[entries]
    return float(np.sqrt(max(part @ evaluator.space.riesz(part), 0.0)))


@dataclass(frozen=True)
class _Rows:
    """A few rows of one constraint: the first sample's last, for every component.

    ``numbers`` among all rows, (components,), their gradients at the start (components, space.size)
    and the largest violation of each component there.
    """

    block: RowBlock
    numbers: np.ndarray
    gradients: np.ndarray
    violations: np.ndarray

    @staticmethod
    def of(evaluator: BackendEvaluator, w: Flat, block: RowBlock) -> _Rows:
        number = np.arange(block.size).reshape(len(block.layers), len(block.samples), -1)
        chosen = number[-1, 0, :SINGLE] + block.offset
        c = evaluator.constraint_values(w)
        outside = evaluator.rows.violation(c)[block.part].reshape(number.shape)
        gradients = np.array([_gradient(evaluator, w, i) for i in chosen])
        return _Rows(block, chosen, gradients, np.max(outside, axis=(0, 1))[:SINGLE])

    def asked(self, evaluator: BackendEvaluator, entries: np.ndarray) -> float:
        """The step along some entries that the violated rows ask for, to first order."""
        steps = [0.0]
        for violation, gradient in zip(self.violations, self.gradients, strict=True):
            slope = _dual(evaluator, gradient, entries)
            if violation > 0 and slope > 0:
                steps.append(float(violation) / slope)
        return max(steps)

    def sizes(self, evaluator: BackendEvaluator, flat: Flat, beside: Flat) -> np.ndarray:
        """What a step of natural size changes, by component, (*shape).

        Of a row that is stationary at the start: at the controls ``beside`` it.
        """
        every = np.arange(len(flat))
        beside = np.clip(beside, *evaluator.space.bounds)
        sizes = np.zeros(int(np.prod(self.block.shape, dtype=int)))
        for k, (i, gradient) in enumerate(zip(self.numbers, self.gradients, strict=True)):
            size = _dual(evaluator, flat * gradient, every)
            size = size or _dual(evaluator, flat * _gradient(evaluator, beside, i), every)
            size = size or float(self.violations[k])
            sizes[k] = size if np.isfinite(size) else 0.0
        return shared(sizes).reshape(self.block.shape)


def _gradient(evaluator: BackendEvaluator, w: Flat, i: int) -> Flat:
    """That of the row i."""
    unit = np.zeros(evaluator.rows.size)
    unit[i] = 1.0
    return evaluator.constraint_gradient(w, unit)


def _states(evaluator: BackendEvaluator, w: Flat, step: Flat) -> np.ndarray:
    """The largest size of each component of the state, of finite values."""
    space = evaluator.space
    found = []
    for at in (w, np.clip(w + step, *space.bounds)):
        x = np.abs(evaluator.states(at))
        found.append(np.max(np.where(np.isfinite(x), x, 0.0), axis=(0, 1)))
    sizes = np.max(found, axis=0)
    return shared(sizes.ravel()).reshape(sizes.shape)
