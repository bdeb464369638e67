"""Whether the Hamiltonian is known to be convex in a control, whatever states and costates are.

It is where kernel and outer map are affine in the control and the running cost is a convex
quadratic in it. Seen from values: differences of second, third and fourth order at seeded points
vanish up to rounding for these and for no other smooth formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dnlcontrol.problem.engines import numpy_engine
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.problem import ControlProblem

POINTS = 4  # at which each formula is looked at
ROUNDING = 1e-9  # of the largest change: a difference below it is 0
CONSTANT = 1e-13  # of the largest value: what rounding leaves of a term that does not move
MOST_ENTRIES = 16  # of a control whose second derivatives are formed
SEED = 26

Along = Callable[[np.ndarray], np.ndarray]  # a formula's value at an offset of one control


def convex_hamiltonian(problem: ControlProblem, name: str) -> bool:
    """Whether H is known to be convex in the control ``name``; False says that it may be."""
    f = problem.formulas
    if f.feature is not None and name in f.feature.reads:
        return False
    affine = [g for g in (f.kernel, f.outer) if g is not None and name in g.reads]
    if not all(_affine(g, problem, name) for g in affine):
        return False
    return f.running is None or name not in f.running.reads or _convex(f.running, problem, name)


def _affine(formula: Formula, problem: ControlProblem, name: str) -> bool:
    if formula.kinks:
        return False
    for along, d in _lines(formula, problem, name):
        v = {k: along(k * d) for k in (-1, 0, 1)}
        if not _vanishes(v[1] - 2.0 * v[0] + v[-1], [v[1] - v[0]], v[0]):
            return False
    return True


def _convex(formula: Formula, problem: ControlProblem, name: str) -> bool:
    """A quadratic with a semidefinite matrix at every point."""
    if formula.kinks or np.prod(problem.controls[name].shape, dtype=int) > MOST_ENTRIES:
        return False
    for along, d in _lines(formula, problem, name):
        v = {k: along(k * d) for k in (-2, -1, 0, 1, 2)}
        third = v[2] - 2.0 * v[1] + 2.0 * v[-1] - v[-2]
        fourth = v[2] - 4.0 * v[1] + 6.0 * v[0] - 4.0 * v[-1] + v[-2]
        moves = [v[2] - v[0], v[-2] - v[0]]
        if not (_vanishes(third, moves, v[0]) and _vanishes(fourth, moves, v[0])):
            return False
        if not _semidefinite(along, d.shape):
            return False
    return True


def _semidefinite(along: Along, shape: tuple[int, ...]) -> bool:
    """Whether the second differences of a quadratic, which are its matrix, have no negative one."""
    units = np.eye(int(np.prod(shape, dtype=int))).reshape(-1, *shape)
    zero = along(np.zeros(shape))
    single = [along(e) for e in units]
    H = np.array(
        [
            [along(a + b) - x - y + zero for b, y in zip(units, single, strict=True)]
            for a, x in zip(units, single, strict=True)
        ]
    )
    values = np.linalg.eigvalsh(0.5 * (H + H.T))
    return bool(values[0] >= -ROUNDING * np.abs(values).max(initial=0.0))


def _lines(
    formula: Formula, problem: ControlProblem, name: str
) -> Iterator[tuple[Along, np.ndarray]]:
    """At each of POINTS seeded points: the value as a function of an offset, and a direction."""
    rng, engine = np.random.default_rng(SEED), numpy_engine()
    for _ in range(POINTS):
        point = formula.random_point(rng, problem.horizon)

        def along(offset: np.ndarray, point: tuple[object, ...] = point) -> np.ndarray:
            moved = (
                {k: v + offset if k == name else v for k, v in a.items()}
                if isinstance(a, dict)
                else a
                for a in point
            )
            with np.errstate(all="ignore"):
                return np.asarray(formula(engine, *moved), dtype=float)

        yield along, rng.standard_normal(problem.controls[name].shape)


def _vanishes(difference: np.ndarray, moves: list[np.ndarray], value: np.ndarray) -> bool:
    """Whether a difference is rounding, beside the changes that it is formed of."""
    largest = max(float(np.abs(m).max(initial=0.0)) for m in moves)
    allowed = ROUNDING * largest + CONSTANT * float(np.abs(value).max(initial=0.0))
    return bool(np.all(np.abs(difference) <= allowed))
