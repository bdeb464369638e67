"""Whether a formula jumps along an optimum: in its times, or where the path crosses a threshold.

The expansions of the value hold for formulas without a jump. Only a comparison, a ``where``, a
``sign`` or a division can make one, so that most problems are done after one evaluation. For the
others the formulas are followed along the piecewise-linear path of the optimum: the kernel on lines
t = const, s = const and near the diagonal, the rest over [0, T]. Between two neighbouring points
the larger half of the change is halved again and again: the change of a continuous formula goes to
0, a jump stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from dnlcontrol.certificates.optimum import Optimum
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.problem.engines import Native, NumpyEngine, numpy_engine
from dnlcontrol.problem.formula import Formula

LINES = 7  # of constant t, and of constant s; no two see the same t - s
POINTS = 97  # of a line, beside those that approach the diagonal
NEAREST = 30  # the last of them is T/2^30 from the diagonal
SUSPECTS = 3  # intervals of a line that are halved at most: those of the largest change
UNUSUAL = 3.0  # times the median change of a line: a smaller jump is 3 % of what the line varies
HALVINGS = 44  # T/POINTS/2^44 is a few roundings of T
SETTLED = 20  # after so many halvings a smooth change is 1e-6 of what it was
STAYS = 0.6  # (t - s)^β loses more in the other 24 halvings for every β > 0.03
ROUNDING = 1e-9  # of the formula's own size: no jump is seen below it
SAMPLES = 3  # that the formulas are followed for
SPREAD = 0.6180339887498949  # multiples of it modulo 1 meet no lattice
# a slope is taken over 2e-6 T: its rounding is 1e-10, what a smooth slope changes over it 1e-6
SLOPE = 1e-6
SHARPEST = 14  # halvings of an interval between slopes: T/POINTS/2^14 is about SLOPE T

Along = Callable[[float], np.ndarray]


@dataclass(frozen=True)
class Jump:
    """Where a formula jumps: ``place`` in words."""

    formula: str
    place: str


class _Watch(NumpyEngine):
    """Notes whether a formula compares, selects, takes a sign or divides by an array."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False
        self.unary = {**self.unary, "sign": self._sign}
        self.binary = {**self.binary, "truediv": self._divide, "pow": self._power}

    def _sign(self, x: Native) -> Native:
        self.seen = True
        return np.sign(x)

    def _divide(self, a: Native, b: Native) -> Native:
        self.seen |= type(b) is not float  # a number of the formula, no array
        return a / b

    def _power(self, a: Native, b: Native) -> Native:
        self.seen |= type(b) is float and b < 0
        return a**b

    def number(self, mask: Native) -> Native:
        self.seen = True
        return super().number(mask)

    def where(self, condition: Native, a: Native, b: Native) -> Native:
        self.seen = True
        return super().where(condition, a, b)


def first_jump(at: Optimum) -> Jump | None:
    """The first jump that is seen along the optimum, None without one."""
    path = _Path(at)
    formulas = at.problem.formulas
    parts = [formulas.kernel, *([formulas.feature] if formulas.feature else [])]
    if any(_chooses(f, at.problem.horizon) for f in parts):
        for line in _lines(path):
            found = line.jump()
            if found:
                return Jump("kernel", found)
    for name, along in _along_the_path(path):
        where = _jump(along, np.linspace(0.0, at.problem.horizon, 4 * POINTS))
        if where is not None:
            return Jump(name, f"t = {where:.6g}")
    return None


def first_kink(at: Optimum) -> Jump | None:
    """The first place where the kernel's slope in s jumps, with state and controls held."""
    path = _Path(at)
    if not _chooses(at.problem.formulas.kernel, at.problem.horizon):
        return None
    for line in _lines(path):
        found = line.kink()
        if found:
            return Jump("kernel", found)
    return None


def _chooses(formula: Formula, horizon: float) -> bool:
    """Whether anything in the formula can jump."""
    engine = _Watch()
    with np.errstate(all="ignore"):
        formula(engine, *_floats(formula.random_point(np.random.default_rng(22), horizon)))
    return engine.seen


def _floats(point: tuple[Native, ...]) -> tuple[Native, ...]:
    return tuple(v if isinstance(v, Mapping) else np.asarray(v, dtype=float) for v in point)


@dataclass(frozen=True)
class _Path:
    """The optimum as continuous functions of time."""

    at: Optimum

    @cached_property
    def samples(self) -> list[int]:
        N = self.at.problem.samples
        return sorted({round(x) for x in np.linspace(0, N - 1, min(SAMPLES, N))})

    @cached_property
    def triangular(self) -> dict[str, Extension]:
        w = self.at.w
        return {b.name: Extension(b.name, b.layout, b.values(w)) for b in self.at.triangular}

    def between(self, values: np.ndarray, t: float) -> np.ndarray:
        """Linear between the nodes."""
        place = min(max(t / self.at.step, 0.0), float(self.at.depth))
        l = min(int(place), self.at.depth - 1)
        return np.asarray(values[l] + (place - l) * (values[l + 1] - values[l]))

    def controls(self, formula: Formula, t: float) -> dict[str, np.ndarray]:
        """Path controls and constants that the formula reads."""
        return {
            name: self.between(values, t)
            for name, values in self.at.at_nodes.items()
            if name in formula.reads
        }

    def weights(self, formula: Formula, t: float, s: float) -> dict[str, np.ndarray]:
        """Triangular controls that the formula reads."""
        return {
            name: np.asarray(extension(t, min(s, t)))
            for name, extension in self.triangular.items()
            if name in formula.reads
        }

    def source(self, s: float, sample: int) -> np.ndarray:
        """y(s) = F(s, x(s), v(s))."""
        x = self.between(self.at.states[:, sample], s)
        feature = self.at.problem.formulas.feature
        if feature is None:
            return x
        return np.asarray(feature(numpy_engine(), np.asarray(s), x, self.controls(feature, s)))

    def kernel(self, t: float, s: float, held: tuple[float, float] | None = None) -> np.ndarray:
        """k(t, s, y(s), w(t, s)) of the samples that are followed; ``held``: y and w from there."""
        formula = self.at.problem.formulas.kernel
        a, b = held or (t, s)
        u = {**self.controls(formula, b), **self.weights(formula, a, b)}
        times = np.asarray(t), np.asarray(s)
        with np.errstate(all="ignore"):
            values = [formula(numpy_engine(), *times, self.source(b, n), u) for n in self.samples]
        return np.asarray(values, dtype=float)


def _along_the_path(path: _Path) -> Iterator[tuple[str, Along]]:
    """The formulas of one time that can jump, by name, as functions of it."""
    at, formulas = path.at, path.at.problem.formulas
    T, cost = at.problem.horizon, at.problem.running
    if formulas.free_term is not None and _chooses(formulas.free_term, T):
        yield "free_term", partial(_free_term, path, formulas.free_term)
    if formulas.running is not None and cost is not None and _chooses(formulas.running, T):
        yield "running", partial(_rate, path, formulas.running, cost.target)
    for block in at.discrete.rows.blocks:
        rate = block.formula
        if block.constraint.kind == "integral" and rate is not None and _chooses(rate, T):
            yield block.constraint.name, partial(_rate, path, rate, None)


def _free_term(path: _Path, formula: Formula, t: float) -> np.ndarray:
    """g(t, x0) of the samples that are followed."""
    x0 = path.at.problem.x0
    return np.stack([formula(numpy_engine(), np.asarray(t), x0[n]) for n in path.samples])


def _rate(path: _Path, formula: Formula, target: np.ndarray | None, t: float) -> np.ndarray:
    """ℓ or h(t, x(t), v(t)) of the samples that are followed."""
    u, values = path.controls(formula, t), []
    for n in path.samples:
        extra = [] if target is None else [target[n]]
        x = path.between(path.at.states[:, n], t)
        values.append(formula(numpy_engine(), np.asarray(t), x, u, *extra))
    return np.asarray(values, dtype=float)


# -- lines in the triangle -------------------------------------------------------------------------
@dataclass(frozen=True)
class _Line:
    """The points of the triangle with one time fixed: s runs, or t does."""

    path: _Path
    fixed: float
    s_runs: bool

    def place(self, moving: float) -> tuple[float, float]:
        return (self.fixed, moving) if self.s_runs else (moving, self.fixed)

    @property
    def points(self) -> np.ndarray:
        """From end to end, and halving the distance to the diagonal."""
        T = self.path.at.problem.horizon
        start, stop = (0.0, self.fixed) if self.s_runs else (self.fixed, T)
        near = (stop - start) * 0.5 ** np.arange(1, NEAREST)
        near = stop - near if self.s_runs else start + near
        return np.unique(np.concatenate([np.linspace(start, stop, POINTS), near]))

    def jump(self) -> str:
        """Where the kernel jumps, in words."""
        return self._words(_jump(lambda q: self.path.kernel(*self.place(q)), self.points))

    def kink(self) -> str:
        """Where its slope in the moving time jumps, state and controls held at the midpoint."""
        h = SLOPE * self.path.at.problem.horizon
        points = self.points
        held = self.place(0.5 * (points[0] + points[-1]))

        def slope(q: float) -> np.ndarray:
            up, down = (self.path.kernel(*self.place(q + e), held) for e in (h, -h))
            return (up - down) / (2 * h)

        inside = np.linspace(points[0] + 2 * h, points[-1] - 2 * h, POINTS)
        return self._words(_jump(slope, inside, (SHARPEST, SHARPEST // 2), 1e-4))

    def _words(self, moving: float | None) -> str:
        if moving is None:
            return ""
        t, s = self.place(moving)
        return f"t = {t:.6g}, s = {s:.6g} (t - s = {t - s:.6g})"


def _lines(path: _Path) -> Iterator[_Line]:
    """t = T alone for a kernel that reads neither t nor a triangular control."""
    T = path.at.problem.horizon
    yield _Line(path, T, s_runs=True)
    if path.at.problem.markov:
        return
    for k in range(1, LINES):
        yield _Line(path, T * (0.2 + 0.8 * (k * SPREAD % 1.0)), s_runs=True)
    for k in range(LINES):
        yield _Line(path, T * 0.8 * (k * SPREAD % 1.0), s_runs=False)


def _jump(
    along: Along,
    points: np.ndarray,
    halvings: tuple[int, int] = (HALVINGS, SETTLED),
    rounding: float = ROUNDING,
) -> float | None:
    """A place between the points where the function jumps."""
    values = [along(float(q)) for q in points]
    scale = max((float(np.max(np.abs(v))) for v in values if np.all(np.isfinite(v))), default=0.0)
    changes = np.array([_gap(a, b) for a, b in pairwise(values)])
    least = max(rounding * scale, UNUSUAL * float(np.median(changes)))
    for k in np.argsort(-changes, kind="stable")[:SUSPECTS]:
        if changes[k] > least:
            ends = (float(points[k]), float(points[k + 1]))
            where, start, end = _halved(along, ends, halvings)
            if end > max(STAYS * start, rounding * scale):
                return where
    return None


def _halved(
    along: Along, ends: tuple[float, float], halvings: tuple[int, int]
) -> tuple[float, float, float]:
    """The half of larger change, again and again: its place, its change midway and at the end."""
    a, b = ends
    left, right = along(a), along(b)
    settled = change = _gap(left, right)
    for k in range(halvings[0]):
        middle = 0.5 * (a + b)
        if not a < middle < b:
            break
        value = along(middle)
        if _gap(left, value) > _gap(value, right):
            b, right = middle, value
        else:
            a, left = middle, value
        change = _gap(left, right)
        if k + 1 == halvings[1]:
            settled = change
    return b, settled, change


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """The largest change of an entry; 0 where one is not finite, which is another fault."""
    change = np.abs(a - b)
    return float(np.max(change[np.isfinite(change)], initial=0.0))
