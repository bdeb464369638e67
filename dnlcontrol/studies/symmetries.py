"""Symmetries of a problem: maps of its controls that keep value, bounds and constraints.

A kernel with hidden units, such as k = V(t,s) σ(W(t,s) x + b(t,s)) with W (h, d), b (h,), V (d, h),
does not change when its units are renumbered, W -> P W, b -> P b, V -> V Pᵀ, and for an odd σ when
units change sign, P = diag(±1). The states alone would allow another P at every (t, s); the
differences of an H¹ penalty join neighbouring nodes, so with it P is one matrix for the whole
triangle. Only such constant P are searched here.

Where the state itself is the layer (``Dense``, ``ResNet``) there is no hidden axis: x_0 enters by
addition, and W -> P W Pᵀ, b -> P b is a symmetry only for a P that keeps every x_0 and the cost, as
among coordinates that are padded with zeros and not read by the loss. A few such maps can be listed
in a :class:`FiniteSymmetry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import DiscreteProblem
from dnlcontrol.discretisation.space.extension import prolong
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.discretisation.space.metric import Metric
from dnlcontrol.problem.controls import smooth_random
from dnlcontrol.results.solution import Solution

if TYPE_CHECKING:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

Parts = Mapping[str, np.ndarray]  # control name -> samples (sites, *shape)
Axes = Mapping[str, "int | None"]
DRAWS = 3  # random elements tried of every declared symmetry
# a permutation changes the order of sums: rounding times the conditioning of the states
SAME_VALUE = 1e-9


class Symmetry(ABC):
    """A group that acts on the controls."""

    @abstractmethod
    def check(self, parts: Parts, argument: str) -> None:
        """Raise where the declaration does not fit these controls."""

    @abstractmethod
    def draw(self, parts: Parts, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The controls moved by a random element that is not the identity, if there is one."""

    @abstractmethod
    def align(self, parts: Parts, reference: Parts, masses: Parts) -> dict[str, np.ndarray]:
        """The controls moved by the element that brings them nearest to the reference in L²."""


@dataclass(frozen=True)
class _Hidden(Symmetry):
    """Signed permutations P of hidden units.

    ``axes`` says along which axis of its shape each control carries them.
    """

    axes: Axes

    _permutes = False
    _flips = False

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not isinstance(self.axes, Mapping) or not self.axes:
            checks.reject_type(
                f"{kind}.axes",
                self.axes,
                "a mapping from control name to the axis of its hidden units",
            )
        for name, axis in self.axes.items():
            whole = isinstance(axis, int) and not isinstance(axis, bool)
            if not whole and (axis is not None or self._permutes):
                checks.reject_type(f"{kind}.axes[{name!r}]", axis, "0 or 1")
        if len({axis is None for axis in self.axes.values()}) > 1:
            checks.reject(
                f"{kind}.axes", self.axes, "an axis for every control, or None for every control"
            )
        object.__setattr__(self, "axes", dict(self.axes))

    def check(self, parts: Parts, argument: str) -> None:
        units = {}
        for name, axis in self.axes.items():
            if name not in parts:
                checks.reject(argument, f"unknown control {name!r}", f"names among {sorted(parts)}")
            shape = parts[name].shape[1:]
            if axis is not None and not 0 <= axis < len(shape):
                checks.reject(
                    argument,
                    f"axis {axis} of {name!r}",
                    f"an axis of its shape {shape}, counted from 0",
                )
            units[name] = 1 if axis is None else shape[axis]
        if len(set(units.values())) > 1:
            checks.reject(
                argument, f"numbers of hidden units {units}", "the same number in every control"
            )

    def draw(self, parts: Parts, rng: np.random.Generator) -> dict[str, np.ndarray]:
        h = self._unit(parts, next(iter(self.axes))).shape[0]
        order = np.arange(h)
        if self._permutes:
            order = rng.permutation(h)
            order = np.roll(order, np.array_equal(order, np.arange(h)))
        signs = np.where(rng.random(h) < 0.5, -1.0, 1.0) if self._flips else np.ones(h)
        if self._flips and np.all(signs > 0):
            signs[rng.integers(h)] = -1.0
        return self._moved(parts, order, signs)

    def align(self, parts: Parts, reference: Parts, masses: Parts) -> dict[str, np.ndarray]:
        """The exact minimum, by a linear assignment.

        Σ_i |r_i - σ_i w_{π(i)}|² is least where Σ_i σ_i <r_i, w_{π(i)}> is greatest.
        """
        from scipy.optimize import linear_sum_assignment

        inner: Any = 0.0
        for name in self.axes:
            weight = np.sqrt(masses[name])
            r, w = (self._weighted(p, name, weight) for p in (reference, parts))
            inner = inner + r @ w.T
        order = np.arange(len(inner))
        if self._permutes:
            order = linear_sum_assignment(np.abs(inner) if self._flips else inner, maximize=True)[1]
        matched = inner[np.arange(len(inner)), order]
        signs = np.where(matched < 0, -1.0, 1.0) if self._flips else np.ones(len(inner))
        return self._moved(parts, order, signs)

    def _unit(self, parts: Parts, name: str) -> np.ndarray:
        """The samples with the hidden units first, (h, sites, ...)."""
        axis = self.axes[name]
        return parts[name][None] if axis is None else np.moveaxis(parts[name], axis + 1, 0)

    def _weighted(self, parts: Parts, name: str, weight: np.ndarray) -> np.ndarray:
        """(h, sites · rest), so that products of rows are L² inner products."""
        unit = self._unit(parts, name)
        weighted = unit * weight.reshape(-1, *(1,) * (unit.ndim - 2))
        return np.asarray(weighted.reshape(len(unit), -1))

    def _moved(self, parts: Parts, order: np.ndarray, signs: np.ndarray) -> dict[str, np.ndarray]:
        """Unit i becomes signs[i] times unit order[i]."""
        moved = dict(parts)
        for name, axis in self.axes.items():
            unit = self._unit(parts, name)[order]
            unit = unit * signs.reshape(-1, *(1,) * (unit.ndim - 1))
            moved[name] = np.ascontiguousarray(
                unit[0] if axis is None else np.moveaxis(unit, 0, axis + 1)
            )
        return moved


@dataclass(frozen=True)
class HiddenPermutation(_Hidden):
    """Renumbering of hidden units, constant over (t, s).

    ``axes``: control name -> the axis of its shape that counts the hidden units. All controls that
    carry the units belong in it, those into the layer and those out of it.

    >>> HiddenPermutation({"W": 0, "b": 0, "V": 1}).axes[
    ...     "V"
    ... ]  # k = V tanh(W x + b), W (h, d), b (h,), V (d, h)
    1
    """

    _permutes = True


@dataclass(frozen=True)
class SignFlip(_Hidden):
    """Sign changes of single hidden units behind an odd activation, σ(-z) = -σ(z).

    They are constant over (t, s). ``axes`` as in :class:`HiddenPermutation`; None for every control
    stands for one unit: all of them change sign, as (v, w) -> (-v, -w) in k = v tanh(w x). Listed
    beside a permutation of the same axes, both are aligned jointly.
    """

    _flips = True


@dataclass(frozen=True)
class _SignedPermutation(_Hidden):
    """Renumbering and sign changes together."""

    _permutes = True
    _flips = True


@dataclass(frozen=True)
class FiniteSymmetry(Symmetry):
    """A few maps, all elements of a finite group but the identity; every one of them is tried.

    ``maps``: functions from {name: samples (sites, *shape)} to the samples that change. Unlike
    hidden symmetries they may move the states, as reflections of the state space do.

    >>> mirrored = FiniteSymmetry([lambda w: {"u": -w["u"]}])
    """

    maps: Sequence[Callable[[Parts], Parts]]

    def __post_init__(self) -> None:
        if not isinstance(self.maps, (list, tuple)) or not self.maps:
            checks.reject_type("FiniteSymmetry.maps", self.maps, "a list of functions")
        object.__setattr__(
            self, "maps", tuple(checks.takes("FiniteSymmetry.maps", m, 1) for m in self.maps)
        )

    def check(self, parts: Parts, argument: str) -> None:
        for move in self.maps:
            changed = move(parts)
            if not isinstance(changed, Mapping):
                checks.reject_type(
                    argument, changed, "maps that return a mapping from control name to samples"
                )
            for name, values in changed.items():
                if name not in parts:
                    checks.reject(
                        argument, f"unknown control {name!r}", f"names among {sorted(parts)}"
                    )
                found, shape = checks.numbers(argument, values), parts[name].shape
                if found.shape != shape:
                    checks.reject(argument, f"{name!r} of shape {found.shape}", f"shape {shape}")

    def draw(self, parts: Parts, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**parts, **self.maps[int(rng.integers(len(self.maps)))](parts)}

    def align(self, parts: Parts, reference: Parts, masses: Parts) -> dict[str, np.ndarray]:
        images = [dict(parts), *({**parts, **move(parts)} for move in self.maps)]
        return min(images, key=lambda image: gap(image, reference, masses))


def gap(parts: Parts, reference: Parts | None, masses: Parts) -> float:
    """The L² distance of the piecewise-constant extensions.

    It is (Σ_controls Σ_sites mass |w - r|²)^{1/2}.
    """
    total = 0.0
    for name, values in parts.items():
        difference = values if reference is None else values - reference[name]
        total += float(masses[name] @ np.square(difference).reshape(len(values), -1).sum(1))
    return float(np.sqrt(total))


def masses_of(layouts: Mapping[str, Layout]) -> dict[str, np.ndarray]:
    """The L² mass of each site, name -> (sites,).

    τ² on the triangle, τ on the path, 1 for constants.
    """
    mass = {name: Metric(layout, smooth=False).mass for name, layout in layouts.items()}
    return {name: np.broadcast_to(m, (layouts[name].count,)) for name, m in mass.items()}


def aligned(
    parts: Parts, reference: Parts, symmetries: Sequence[Symmetry], masses: Parts
) -> tuple[Parts, float]:
    """The controls moved towards the reference, and the L² distance that remains.

    Exact for one symmetry and for several that share no control. Those that share a control (two
    hidden layers in a row) are aligned in turn until nothing moves: the distance is then an upper
    bound.
    """
    best = gap(parts, reference, masses)
    while symmetries:
        moved = parts
        for symmetry in symmetries:
            moved = symmetry.align(moved, reference, masses)
        now = gap(moved, reference, masses)
        if not now < best * (1 - 1e-12):
            break
        parts, best = moved, now
        if len(symmetries) == 1:
            break
    return parts, best


def check_symmetries(symmetries: object) -> tuple[Symmetry, ...]:
    """A tuple of symmetries from a list.

    A permutation and sign flips of the same axes become one symmetry.

    Raises
    ------
    InputError for anything else than symmetries.
    """
    if isinstance(symmetries, Symmetry):
        symmetries = [symmetries]
    if not isinstance(symmetries, (list, tuple, type(None))):
        checks.reject_type(
            "symmetries", symmetries, "a list of HiddenPermutation, SignFlip, FiniteSymmetry"
        )
    found: list[Symmetry] = []
    for item in symmetries or ():
        if not isinstance(item, Symmetry):
            checks.reject_type(
                "symmetries", item, "a list of HiddenPermutation, SignFlip, FiniteSymmetry"
            )
        pair = {HiddenPermutation, SignFlip}
        same = [
            k
            for k, other in enumerate(found)
            if isinstance(item, _Hidden)
            and isinstance(other, _Hidden)
            and {type(item), type(other)} == pair
            and item.axes == other.axes
        ]
        if same and isinstance(item, _Hidden):
            found[same[0]] = _SignedPermutation(item.axes)
        else:
            found.append(item)
    return tuple(found)


def verify(discrete: DiscreteProblem, symmetries: Sequence[Symmetry], scale: float = 1.0) -> None:
    """Raise for a declared symmetry that changes the value, a bound or a constraint.

    The controls are seeded random ones.

    Raises
    ------
    InputError that names the symmetry and what it changes.
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    if not symmetries:
        return
    space, rng = discrete.space, np.random.default_rng(11)
    w = space.initial({block.name: smooth_random(11, scale) for block in space})
    evaluator, parts = Evaluator(discrete), space.split(w)
    value, excess = evaluator.value(w), _excess(evaluator, w)
    lower, upper = space.bounds
    finite = np.abs(np.concatenate([lower, upper]))
    far = 10.0 * (1.0 + np.max(finite, where=np.isfinite(finite), initial=0.0))
    for symmetry in symmetries:
        symmetry.check(parts, "symmetries")
        for _ in range(DRAWS):
            corner = np.clip(np.where(rng.random(space.size) < 0.5, lower, upper), -far, far)
            image = space.assemble(symmetry.draw(space.split(corner), rng))
            if np.any(image < lower) or np.any(image > upper):
                _refuse(symmetry, "which moves a control out of its bounds")
            image = space.assemble(symmetry.draw(parts, rng))
            moved = evaluator.value(image)
            if np.isfinite(value) and abs(moved - value) > SAME_VALUE * max(abs(moved), abs(value)):
                _refuse(symmetry, f"which changes a value from {value:.10g} to {moved:.10g}")
            if not np.allclose(
                _excess(evaluator, image), excess, SAME_VALUE, SAME_VALUE, equal_nan=True
            ):
                _refuse(symmetry, "which changes the violation of a constraint")


def _excess(evaluator: Evaluator, w: np.ndarray) -> np.ndarray:
    """The violations of all constraint entries, sorted: a symmetry may exchange entries."""
    rows = evaluator.rows
    return np.sort(rows.violation(evaluator.constraint_values(w))) if rows.size else np.zeros(0)


def _refuse(symmetry: Symmetry, seen: str) -> None:
    axes = f"({dict(symmetry.axes)})" if isinstance(symmetry, _Hidden) else ""
    kind = (
        type(symmetry).__name__
        if not isinstance(symmetry, _SignedPermutation)
        else "HiddenPermutation and SignFlip"
    )
    checks.reject("symmetries", f"{kind}{axes}, {seen}", "symmetries of the problem")


def align(
    solution: Solution, reference: Solution, symmetries: Symmetry | Sequence[Symmetry] | None
) -> Solution:
    """The solution with its hidden units renumbered and signed as in the reference, nearest in L².

    Two solutions of one problem found independently are compared by
    ``distance(align(a, b, symmetries), b)``. Another depth of the reference is met by prolonging
    it. Value, states and costates are those of ``solution``, which hidden symmetries leave as they
    are (a FiniteSymmetry need not: it is refused).

    Raises
    ------
    InputError for solutions of different problems, and for a FiniteSymmetry.
    """
    for argument, value in (("align.solution", solution), ("align.reference", reference)):
        if not isinstance(value, Solution):
            checks.reject_type(argument, value, "a Solution")
    found = check_symmetries(symmetries)
    parts = {name: control.values for name, control in solution.controls.items()}
    layouts = {name: control.layout for name, control in solution.controls.items()}
    towards = {}
    for name, layout in layouts.items():
        other = reference.controls.get(name)
        if (
            other is None
            or other.layout.on != layout.on
            or other.values.shape[1:] != parts[name].shape[1:]
        ):
            checks.reject(
                "align.reference",
                f"no control {name!r} of the same kind",
                "a solution of the same problem",
            )
        towards[name] = prolong(other.layout, other.values, layout)
    for symmetry in found:
        if isinstance(symmetry, FiniteSymmetry):
            checks.reject(
                "align.symmetries", symmetry, "hidden symmetries: HiddenPermutation, SignFlip"
            )
        symmetry.check(parts, "align.symmetries")
    moved, _ = aligned(parts, towards, found, masses_of(layouts))
    controls = {
        name: replace(control, values=moved[name]) for name, control in solution.controls.items()
    }
    return replace(solution, controls=controls)
