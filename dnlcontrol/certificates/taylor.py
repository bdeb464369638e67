"""The Taylor test of the exact discrete gradient and Hessian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dnlcontrol import checks
from dnlcontrol.backends.fits import room_for_gradients
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem.problem import ControlProblem

if TYPE_CHECKING:
    from dnlcontrol.minimise.multipliers import Multipliers


class TaylorFunction(Protocol):
    """A Lagrangian with its derivatives, as a backend's evaluator forms them."""

    def value(self, w: np.ndarray, multipliers: Multipliers | None = None) -> float:
        """The Lagrangian at w (size,)."""
        ...

    def value_and_gradient(
        self, w: np.ndarray, multipliers: Multipliers | None = None
    ) -> tuple[float, np.ndarray]:
        """The same and its gradient, (size,)."""
        ...

    def hessian_product(
        self, w: np.ndarray, d: np.ndarray, multipliers: Multipliers | None = None
    ) -> np.ndarray:
        """Its Hessian times d, (size,)."""
        ...


DIRECTIONS = 3  # along one of them alone the leading coefficient may nearly vanish
VALUE_ROUNDING = 64 * np.finfo(float).eps  # of J: rounding of its sums, in units of |J|
ROUNDING_STEP = 1e-4  # times the steps: remainders of third order below 1e-18


@dataclass(frozen=True)
class TaylorTest:
    """Fitted orders of the Taylor remainders; inf where a remainder vanishes.

    Those of |J(w+hd) - J - h J'd| (2) and of the same less ½h² J''dd (3). Steps and remainders are
    (5,).
    """

    gradient_rate: float
    hessian_rate: float
    steps: np.ndarray
    gradient_remainders: np.ndarray
    hessian_remainders: np.ndarray

    @property
    def passed(self) -> bool:
        return self.gradient_rate > 1.95 and self.hessian_rate > 2.9


@in_turn
def taylor_test(
    problem: ControlProblem,
    depth: int,
    rule: str = "left",
    seed: int | None = None,
    device: str = "cpu",
) -> TaylorTest:
    """Orders of the first and second Taylor remainders at a random control.

    Along three random directions; ``seed=None`` draws a fresh point. h = 10^{-2} 2^{-k}, k = 0..4:
    small enough for the leading term, large enough for the third-order remainder (about 10^{-10})
    to stay above rounding. Where they are too large for the leading term (sums of many controls
    without the factor τ), steps ten times as small decide: a wrong gradient or Hessian leaves its
    order 1 or 2 there too.

    Raises
    ------
    InputError for a problem without controls, a bad depth or seed.

    >>> import numpy as np, dnlcontrol as dnl
    >>> problem = dnl.ControlProblem(
    ...     x0=np.ones((2, 1)),
    ...     dynamics=dnl.ResNet(1),
    ...     terminal=dnl.losses.squared(np.zeros((2, 1))),
    ... )
    >>> dnl.taylor_test(problem, depth=3, seed=0).passed
    True
    """
    if seed is not None:
        checks.seed("seed", seed)
    with room_for_gradients(problem, depth, rule):
        return _tested(discretise(problem, depth, rule), seed, device)


def _tested(discrete: DiscreteProblem, seed: int | None, device: str) -> TaylorTest:
    """The test at steps of 1e-2, or ten times as small."""
    from dnlcontrol.backends.adjoint.evaluator import Evaluator

    problem = discrete.problem
    if not discrete.space.size:
        checks.reject(
            "problem", f"{problem.name!r} without controls", "a problem with at least one control"
        )
    evaluator = Evaluator(discrete, device)
    rng = np.random.default_rng(seed)
    w = random_control(discrete, rng)
    directions = rng.standard_normal((DIRECTIONS, discrete.space.size))
    found = taylor_at(evaluator, w, directions)
    if found.passed:
        return found
    nearer = taylor_at(evaluator, w, directions, step=1e-3)
    return nearer if nearer.passed else found


def taylor_at(
    evaluator: TaylorFunction,
    w: np.ndarray,
    directions: np.ndarray,
    multipliers: Multipliers | None = None,
    step: float = 1e-2,
) -> TaylorTest:
    """The orders at w along one or several directions, with the steps h = step · 2^{-k}, k = 0..4.

    w is flat (size,), ``directions`` (directions, size). The remainders of several directions are
    added in the root-sum-square; ``multipliers``: of the Lagrangian.
    """
    value, gradient = evaluator.value_and_gradient(w, multipliers)
    steps = step * 0.5 ** np.arange(5)
    first = np.zeros(5)
    second = np.zeros(5)
    noise = 0.0
    for d in directions:
        slope, curvature = (
            float(gradient @ d),
            float(d @ evaluator.hessian_product(w, d, multipliers)),
        )
        values = np.array([evaluator.value(w + h * d, multipliers) for h in steps])
        left = values - value - steps * slope
        first, second = np.hypot(first, left), np.hypot(second, left - 0.5 * steps**2 * curvature)
        # so close that only rounding is left, which may come from terms much larger than J
        near = ROUNDING_STEP * steps
        off = np.array([evaluator.value(w + h * d, multipliers) for h in near]) - value
        rounding = np.abs(off - near * slope - 0.5 * near**2 * curvature)
        noise = max(
            noise,
            VALUE_ROUNDING * float(np.max(np.abs([value, *values]))),
            4 * float(np.max(rounding)),
        )
    return TaylorTest(
        _order(steps, first, noise), _order(steps, second, noise), steps, first, second
    )


def random_control(discrete: DiscreteProblem, rng: np.random.Generator) -> np.ndarray:
    """Half-normal-sized random controls inside their bounds, flat (size,)."""
    lower, upper = discrete.space.bounds
    return np.clip(0.5 * rng.standard_normal(discrete.space.size), lower, upper)


def _order(steps: np.ndarray, remainders: np.ndarray, noise: float) -> float:
    """Least-squares slope over the steps whose remainder is well above rounding."""
    seen = remainders > 10 * noise
    if np.count_nonzero(seen) < 2:
        return math.inf
    return float(np.polyfit(np.log(steps[seen]), np.log(remainders[seen]), 1)[0])
