"""What ``dnlcontrol check`` says before anything is solved.

Shapes, bounds, Taylor test, predicted size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dnlcontrol.certificates.taylor import taylor_test
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.discretisation.sizes import forecast
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.shell.finite import first_not_finite

SEED = 0  # of the control and the directions of the Taylor test


def check_report(problem: ControlProblem, depth: int, rule: str = "left") -> dict[str, Any]:
    """Everything that can be said about a problem at one depth without solving it.

    Building both evaluators compares every formula with NumPy at two points, and a batched kernel
    with its formula.
    """
    from dnlcontrol.backends.adjoint.evaluator import Evaluator
    from dnlcontrol.backends.traced_formula import TracedFormula

    discrete = discretise(problem, depth, rule)
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
    }
    if problem.idle:
        report["note"] = problem.idle
    bad = first_not_finite(discrete, evaluator, SEED)
    if bad:
        report["not_finite"] = bad
        report["passed"] = False
    elif discrete.space.size:
        result = taylor_test(problem, depth, rule, seed=SEED)
        report.update(
            taylor_gradient_rate=_rate(result.gradient_rate),
            taylor_hessian_rate=_rate(result.hessian_rate),
            passed=result.passed,
        )
    else:
        report["passed"] = True
    return report


def _rate(rate: float) -> float | str:
    return rate if np.isfinite(rate) else "no remainder above rounding"
