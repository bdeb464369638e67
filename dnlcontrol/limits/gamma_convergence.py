"""The two inequalities of Γ-convergence as checks on a given control: recovery sequence and liminf.

J_L Γ-converges to J when for every control w (of H¹, weakly)

    recovery   the cell averages w̄_L of w have J_L(w̄_L) -> J(w)
    liminf     every w_L with Î_L w_L -> w weakly has liminf J_L(w_L) >= J(w)

With J = D + R (data and penalties) the liminf inequality splits into what can be computed at each
depth:

    R_L(w_L) >= R(Î_L w_L)                      exactly, for every w_L
    R(Î_L w_L) >= R(w) + <w, Î_L w_L - w>_R     convexity, <.,.>_R the penalties' inner product
    J_L(w_L) >= J(w) - slack_L,
        slack_L = |<w, Î_L w_L - w>_R| + |D_L(w_L) - D(w)|

The first line: Î_L is at every point an average of samples, hat functions on the mirrored square
have integral τ² (on the path τ), and the constant of the gradient part is 1. Weak convergence in H¹
makes both terms of the slack vanish, since the trace w(T, .) then converges in L²; under L² alone
the trace, and with it D, does not.

That values and minimisers converge in this way is proved by Huang, Su, Tai, Wu, arXiv 2510.02049;
the split and the checks are derived for this project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.space.control_space import ControlBlock, ControlSpace
from dnlcontrol.discretisation.space.distances import control_distance
from dnlcontrol.discretisation.space.extension import cell_averages, prolong
from dnlcontrol.discretisation.space.layout import Layout
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.regularisers import H1, TvG
from dnlcontrol.solving.starts import starting_point

Functions = Mapping[str, Callable[..., ArrayLike]]  # control name -> function of (t, s), (t) or ()
SUM_ROUNDING = 1e-12  # sums of O(L²) squares, relative to their value
HALVED = 0.5  # a quantity vanishes when the last level has at most half of the first


@dataclass(frozen=True)
class RecoverySequence:
    """J_L at the cell averages of one control.

    Attributes
    ----------
    values, penalties : J_L(w̄_L) and its part R_L, one for each of ``depths``.
    limit : J(w), given or extrapolated from the deepest levels; ``known`` says which.
    gaps : |J_L(w̄_L) - J(w)|, against an extrapolated limit |J_L - J_L'| to the next level.
    rate : the fitted exponent of the gaps.
    """

    depths: tuple[int, ...]
    values: tuple[float, ...]
    penalties: tuple[float, ...]
    limit: float
    known: bool

    @property
    def gaps(self) -> np.ndarray:
        values = np.asarray(self.values)
        return np.abs(values - self.limit) if self.known else np.abs(np.diff(values))

    @property
    def rate(self) -> float:
        from dnlcontrol.results.extrapolation import fitted_rate

        return fitted_rate(self.depths[: len(self.gaps)], self.gaps.tolist(), self._rounding)

    @property
    def _rounding(self) -> float:
        return SUM_ROUNDING * (1.0 + abs(self.limit))

    @property
    def passed(self) -> bool:
        """The last gap is at most half of the first, or rounding."""
        return bool(self.gaps[-1] <= max(HALVED * self.gaps[0], self._rounding))


@dataclass(frozen=True)
class LiminfCheck:
    """J_L(w_L) >= J(w) - slack_L along one sequence.

    All arrays have one entry for each of ``depths``.

    Attributes
    ----------
    values : J_L(w_L).
    limit : J(w).
    penalty_gaps : R_L(w_L) - R(Î_L w_L), never negative.
    slacks : slack_L = |<w, Î_L w_L - w>_R| + |D_L(w_L) - D(w)|.
    data_gaps : its part |D_L(w_L) - D(w)|.
    """

    depths: tuple[int, ...]
    values: np.ndarray
    limit: float
    penalty_gaps: np.ndarray
    slacks: np.ndarray
    data_gaps: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """J_L(w_L) - J(w), one for each depth."""
        return self.values - self.limit

    @cached_property
    def failures(self) -> tuple[str, ...]:
        """What does not hold, in words."""
        rounding = SUM_ROUNDING * (1.0 + np.abs(self.values))
        said = []
        if np.any(self.penalty_gaps < -rounding):
            said.append(f"R_L(w_L) < R(Î_L w_L) by {-self.penalty_gaps.min():.1e}")
        if self.slacks[-1] > max(HALVED * self.slacks[0], rounding[-1]):
            said.append(
                f"the slack does not vanish ({self.slacks[0]:.2e} at L={self.depths[0]}, "
                f"{self.slacks[-1]:.2e} at "
                f"L={self.depths[-1]}): the sequence does not converge weakly to w, or the "
                "penalties do not control "
                "what the cost sees"
            )
        if self.excess[-1] < -self.slacks[-1] - rounding[-1]:
            said.append(
                f"J_L(w_L) < J(w) - slack by {-self.excess[-1] - self.slacks[-1]:.1e} at "
                f"L={self.depths[-1]}"
            )
        return tuple(said)

    @property
    def passed(self) -> bool:
        return not self.failures

    def table(self) -> str:
        """One line for each depth."""
        lines = ["    L     J_L(w_L)  J_L(w_L) - J(w)        slack  R_L - R(Îw)"]
        for row in zip(
            self.depths, self.values, self.excess, self.slacks, self.penalty_gaps, strict=True
        ):
            lines.append("{:5d} {:12.8f} {:16.3e} {:12.3e} {:12.3e}".format(*row))
        return "\n".join([*lines, *(self.failures or ("liminf inequality holds",))])


@in_turn
def recovery_sequence(
    problem: ControlProblem,
    controls: Functions,
    depths: Sequence[int],
    value: float | None = None,
) -> RecoverySequence:
    """J_L at the cell averages of given controls (left rule), with its limit and rate.

    Parameters
    ----------
    controls : name -> function of (t, s), (t) or (), one for each control; a solution's
        ``controls`` will do.
    value : J(w) if it is known; otherwise the limit is extrapolated from the deepest levels.

    Raises
    ------
    InputError for bad depths, and where the functions are not those of the controls or return
    another shape.

    >>> import dnlcontrol as dnl
    >>> from problems import t7_h1_triangle as t7
    >>> exact = t7.reference()
    >>> found = dnl.recovery_sequence(t7.problem(), exact.controls, [8, 16, 32], exact.value)
    >>> found.passed, round(found.rate, 1)
    (True, 1.0)
    """
    problem, ladder = _checked("recovery_sequence", problem, depths)
    functions = _functions("recovery_sequence", problem, controls)
    rows = []
    for depth in ladder:
        discrete = discretise(problem, depth)
        w = averages(discrete.space, functions)
        rows.append((_value(discrete, w), discrete.space.penalty(w)))
    values, penalties = (tuple(column) for column in zip(*rows, strict=True))
    known = value is not None
    limit = (
        checks.real("recovery_sequence.value", value) if known else _extrapolated(ladder, values)
    )
    return RecoverySequence(tuple(ladder), values, penalties, limit, known)


@in_turn
def liminf_check(
    problem: ControlProblem,
    controls: Functions,
    depths: Sequence[int],
    sequence: Callable[[int], Any] | None = None,
    value: float | None = None,
    amplitude: float = 1.0,
) -> LiminfCheck:
    """J_L(w_L) >= J(w) - slack_L along a sequence that converges weakly to w (left rule).

    Parameters
    ----------
    controls : the limit w, name -> function, as in :func:`recovery_sequence`.
    sequence : depth -> w_L, whatever ``solve(start=...)`` accepts (a Solution, a mapping, a flat
        vector). The default adds to the cell averages an oscillation that tends to 0 weakly in H¹
        and keeps its energy, ``amplitude`` · cos(kπt/T) cos(kπs/T)/(kπ/T), k = ⌈√L⌉ (on the path
        without the second factor).
    value : J(w) if it is known; otherwise extrapolated from the cell averages at ``depths``.

    Raises
    ------
    InputError as :func:`recovery_sequence`, and for a sequence that is no start of a solve.
    """
    problem, ladder = _checked("liminf_check", problem, depths)
    functions = _functions("liminf_check", problem, controls)
    if sequence is not None:
        checks.function("liminf_check.sequence", sequence)
    size = checks.real("liminf_check.amplitude", amplitude)
    fine = discretise(problem, 2 * ladder[-1])
    target = averages(fine.space, functions)
    recovered = recovery_sequence(problem, functions, ladder, value)
    # D(w)
    data = _extrapolated(ladder, np.subtract(recovered.values, recovered.penalties).tolist())
    rows = []
    for depth in ladder:
        discrete = discretise(problem, depth)
        if sequence is None:
            w = averages(discrete.space, functions) + size * oscillation(discrete.space)
        else:
            w = starting_point(discrete, sequence(depth)).w
        total, penalty = _value(discrete, w), discrete.space.penalty(w)
        pairing = float(
            target @ fine.space.penalty_gradient(_prolonged(discrete.space, w, fine.space) - target)
        )
        data_gap = abs(total - penalty - data)
        rows.append(
            (
                total,
                penalty - extended_penalty(problem, discrete.space, w),
                abs(pairing) + data_gap,
                data_gap,
            )
        )
    values, gaps, slacks, data_gaps = (np.asarray(column) for column in zip(*rows, strict=True))
    return LiminfCheck(tuple(ladder), values, recovered.limit, gaps, slacks, data_gaps)


def averages(space: ControlSpace, functions: Functions) -> np.ndarray:
    """The recovery sequence at one depth: cell averages of every control, flat (size,)."""
    return space.assemble(
        {b.name: cell_averages(_on_arrays(functions[b.name], b), b.layout) for b in space}
    )


def oscillation(space: ControlSpace) -> np.ndarray:
    """cos(kπt/T) cos(kπs/T)/(kπ/T), k = ⌈√L⌉, in every component, (size,); 0 for constants."""
    k = int(np.ceil(np.sqrt(space.grid.depth))) * np.pi / space.grid.horizon

    def wave(block: ControlBlock) -> np.ndarray:
        if block.layout.on == "const":
            return np.zeros((1, *block.control.shape))
        factors = [np.cos(k * x) for x in block.layout.positions]
        return np.multiply.outer(np.prod(factors, axis=0) / k, np.ones(block.control.shape))

    return space.assemble({block.name: wave(block) for block in space})


def extended_penalty(problem: ControlProblem, space: ControlSpace, w: np.ndarray) -> float:
    """R(Î_L w_L), the penalties' integrals of the piecewise-linear extension; w flat (size,).

    The quadrature is without error.
    """
    total = 0.0
    for block in space:
        layout, values = block.layout, block.values(w)

        def norm(kind: str, layout: Layout = layout, values: np.ndarray = values) -> float:
            return control_distance(layout, values, layout, np.zeros_like(values), kind) ** 2

        for item in problem.regularisers_of(block.name):
            if isinstance(item, TvG):  # Î v is constant up to the first sample
                total += item.weight * (norm("H1") + item.tau * float(np.sum(values[0] ** 2)))
            else:
                slopes = norm("H1") if isinstance(item, H1) else 0.0
                total += 0.5 * item.weight * (norm("L2") + slopes)
    return total


def _prolonged(space: ControlSpace, w: np.ndarray, fine: ControlSpace) -> np.ndarray:
    return fine.assemble(
        {b.name: prolong(b.layout, b.values(w), fine.blocks[b.name].layout) for b in space}
    )


def _value(discrete: DiscreteProblem, w: np.ndarray) -> float:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    return Evaluator(discrete).value(w)


def _extrapolated(depths: Sequence[int], values: Sequence[float]) -> float:
    from dnlcontrol.results.extrapolation import extrapolate

    return extrapolate(depths, values)[0]


def _checked(name: str, problem: object, depths: object) -> tuple[ControlProblem, list[int]]:
    if not isinstance(problem, ControlProblem):
        checks.reject_type(f"{name}.problem", problem, "a ControlProblem")
    if not isinstance(depths, Iterable):
        checks.reject_type(
            f"{name}.depths", depths, "a list of at least two increasing integers >= 1"
        )
    ladder = [checks.whole(f"{name}.depths", d) for d in depths]
    if len(ladder) < 2 or any(b <= a for a, b in pairwise(ladder)):
        checks.reject(f"{name}.depths", ladder, "at least two increasing integers >= 1")
    return problem, ladder


def _functions(name: str, problem: ControlProblem, controls: object) -> Functions:
    if not isinstance(controls, Mapping):
        checks.reject_type(f"{name}.controls", controls, "a mapping name -> function")
    if set(controls) != set(problem.controls):
        checks.reject(
            f"{name}.controls",
            sorted(map(str, controls)),
            f"one function for each of {sorted(problem.controls)}",
        )
    for key, function in controls.items():
        checks.function(f"{name}.controls[{key!r}]", function)
    return controls


def _on_arrays(
    function: Callable[..., ArrayLike], block: ControlBlock
) -> Callable[..., np.ndarray]:
    """The function on arrays of times, point by point where it does not take them."""

    def evaluate(*times: np.ndarray) -> np.ndarray:
        full = (*np.shape(times[0]), *block.control.shape) if times else block.control.shape
        try:
            values = np.asarray(function(*times), dtype=float)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.shape != full:
            values = np.array([function(*point) for point in zip(*times, strict=True)], dtype=float)
        if values.shape != full:
            seen = f"values of shape {values.shape[1:]}"
            checks.reject(
                f"controls[{block.name!r}]",
                seen,
                f"a function that returns shape {block.control.shape}",
            )
        return values

    return evaluate
