"""What ``dnlcontrol check`` says before anything is solved.

Shapes, bounds, Taylor test, predicted size, and what a solve will do in a sentence. The Taylor test
takes some twenty gradients: it is made at a shallow depth, so that all together costs less than
five at the depth that is asked about.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dnlcontrol.backends.fits import room_for_gradients
from dnlcontrol.certificates.taylor import taylor_test
from dnlcontrol.discretisation.discrete import DiscreteProblem, discretise
from dnlcontrol.discretisation.resources.room import in_words
from dnlcontrol.discretisation.resources.sizes import Size, forecast
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.shell.finite import first_not_finite
from dnlcontrol.solving.choice import chosen

SEED = 0  # of the control and the directions of the Taylor test
# the depth of the Taylor test, as a share of the depth asked about and at most; two layers have
# every kind of pair
SHARE = 16
DEEPEST = 8
SHALLOWEST = 2
WAYS = {
    "stored": "derivatives at all nodes kept",
    "printed": "columns of printed formulas, states kept",
    "tape": "a tape of all layers",
    "chain": "layers written out",
    "columns": "columns written out, states kept",
    "dual": "columns by dual numbers, states kept",
}


def check_report(problem: ControlProblem, depth: int, rule: str = "left") -> dict[str, Any]:
    """Everything that can be said about a problem at one depth without solving it.

    Building both evaluators compares every formula with NumPy at two points, and a batched kernel
    with its formula.
    """
    with room_for_gradients(problem, depth, rule):
        return _report(discretise(problem, depth, rule))


def _report(discrete: DiscreteProblem) -> dict[str, Any]:
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.backends.traced_formula import TracedFormula

    problem = discrete.problem
    depth, rule = discrete.depth, discrete.grid.rule
    evaluator = Evaluator(discrete)
    for formula in problem.formulas.all():
        TracedFormula(formula, problem.horizon, evaluator.vectorised.targets(formula))
    report: dict[str, Any] = {
        "problem": problem.name,
        "depth": depth,
        "rule": rule,
        "horizon": problem.horizon,
        "samples": problem.samples,
        "state_shape": list(problem.state_shape),
        "recursion": "one-step" if problem.markov else "all earlier layers",
        "controls": [
            {
                "name": b.name,
                "on": b.control.on,
                "shape": list(b.control.shape),
                "entries": b.size,
                "bounded": b.control.bounded,
                "metric": "H1" if b.metric.smooth else "L2",
            }
            for b in discrete.space
        ],
        "constraints": [
            {"name": b.constraint.name, "kind": b.constraint.kind, "rows": b.size, "once": b.once}
            for b in discrete.rows.blocks
        ],
        "formulas": {f.name: sorted(f.reads) for f in problem.formulas.all()},
        "predicted": forecast(discrete).to_dict(),
        "plan": plan(discrete),
    }
    if problem.idle:
        report["note"] = problem.idle
    bad = first_not_finite(discrete, evaluator, SEED)
    if bad:
        report["not_finite"] = bad
        report["passed"] = False
    elif discrete.space.size:
        result = taylor_test(problem, taylor_depth(depth), rule, seed=SEED)
        report.update(
            taylor_gradient_rate=_rate(result.gradient_rate),
            taylor_hessian_rate=_rate(result.hessian_rate),
            passed=result.passed,
        )
    else:
        report["passed"] = True
    return report


def taylor_depth(depth: int) -> int:
    """The depth of the Taylor test."""
    return min(depth, max(SHALLOWEST, min(DEEPEST, depth // SHARE)))


def plan(discrete: DiscreteProblem) -> str:
    """What a solve by either backend does and takes, and which of them "auto" takes."""
    sizes = forecast(discrete)
    name, reason = chosen(discrete, {})
    exact = sizes.lifted if sizes.better == "lifted" else sizes.condensed
    return (
        f"backend='exact' solves a program of {exact.variables} unknowns ({exact.route}) "
        f"in {_cost(exact)}; backend='adjoint' minimises over {sizes.controls} control entries, "
        f"{WAYS[sizes.adjoint.route]}, in {_cost(sizes.adjoint)}; "
        f"backend='auto' takes {name!r}: {reason}"
    )


def _cost(size: Size) -> str:
    return f"about {size.seconds:.2g} s and {in_words(size.memory_mb)}"


def _rate(rate: float) -> float | str:
    return rate if np.isfinite(rate) else "no remainder above rounding"
