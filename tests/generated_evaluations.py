"""Random problems on three evaluators that share nothing but the formulas.

    python -m tests.generated_evaluations 10000 [SEED]

NumPy's loops over the definition, PyTorch's sweep and CasADi's expressions: one value, one
gradient, at a random control. ``trial(seed)`` is None, or says in a line what differs.
"""

from __future__ import annotations

import sys

import numpy as np

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.exact.condensed.evaluator import ReducedEvaluator
from dnlcontrol.discretisation.discrete import DiscreteProblem
from tests.random_problems import CASES, build

RULES = ("left", "trapezoid")
# As in tests/backends/adjoint/test_evaluator.py: sums of at most a few hundred terms, relative to
# the largest (or to 1, the size of the terms, where they cancel); a gradient passes L layers back.
VALUE = 1e-12
GRADIENT = 1e-10
# Of the differences of NumPy's values, (4 D(h/2) - D(h))/3 with |d| = 1: truncation h⁴ J⁽⁵⁾/480 =
# 3e-14 J⁽⁵⁾, and 1 + |J| times 1e6 is more than any J⁽⁵⁾ of such a problem; rounding 2e-11 |J|.
STEP, SLOPE = 2e-3, 1e-7


def trial(seed: int) -> str | None:
    """One problem of the family seed modulo their number; every other round is trapezoidal."""
    names = list(CASES)
    name, rule = names[seed % len(names)], RULES[seed // len(names) % 2]
    made = build(name, seed)
    discrete = dnl.discretise(made.problem, made.depth, rule)
    rng = np.random.default_rng([seed, 19])
    w, d = 0.5 * rng.standard_normal((2, discrete.space.size))
    found = differs(discrete, w, d / max(float(np.linalg.norm(d)), 1e-300))
    return (
        None if found is None else f"wrong: {name} (seed {seed}, {rule}, L={made.depth}): {found}"
    )


def differs(discrete: DiscreteProblem, w: np.ndarray, d: np.ndarray) -> str | None:
    """What the evaluators do not agree in at w, in words."""
    sweep, condensed = Evaluator(discrete), ReducedEvaluator(discrete)
    J, x = discrete.value(w), discrete.states(w)
    ours, theirs = (each.value_and_gradient(w) for each in (sweep, condensed))
    pairs = {
        "states of torch and NumPy": (sweep.states(w), x, VALUE),
        "states of CasADi and NumPy": (condensed.states(w), x, VALUE),
        "values of torch and NumPy": (ours[0], J, VALUE),
        "values of CasADi and NumPy": (theirs[0], J, VALUE),
        "gradients of torch and CasADi": (ours[1], theirs[1], GRADIENT),
        "slopes of torch and NumPy": (ours[1] @ d, _slope(discrete, w, d), SLOPE * (1 + abs(J))),
    }
    for what, (got, expected, tolerance) in pairs.items():
        off = float(np.abs(np.asarray(got) - expected).max(initial=0.0))
        if not off <= tolerance * max(1.0, float(np.abs(expected).max(initial=0.0))):
            return f"{what} are {off:.2e} apart"
    return None


def _slope(discrete: DiscreteProblem, w: np.ndarray, d: np.ndarray) -> float:
    """dJ(w) d by differences of NumPy's values."""
    h = STEP
    coarse, fine = (
        (discrete.value(w + k * d) - discrete.value(w - k * d)) / (2 * k) for k in (h, h / 2)
    )
    return (4 * fine - coarse) / 3


def main(count: int, first: int = 0) -> int:
    found = [said for said in map(trial, range(first, first + count)) if said]
    print("\n".join([*found, f"{count} problems from seed {first}, {len(found)} wrong"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*(int(a) for a in sys.argv[1:])))
