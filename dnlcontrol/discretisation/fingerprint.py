"""What a problem is, part by part: files of one must not serve another.

Every part has a name that a user knows and a digest: formulas as their graphs with all constants
(formula_graph.py), data and bounds by every bit. Two problems are the same where all parts are.
Not among them are initial guesses (a solve's start), nor ``batched`` and ``affine``, which are
compared with the kernel where they run. The derivatives that activations declare are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import fields

import numpy as np

from dnlcontrol.checks import InputError
from dnlcontrol.discretisation.formula_graph import digest_of, digest_of_numbers
from dnlcontrol.discretisation.grid import Grid
from dnlcontrol.discretisation.rules import RULES
from dnlcontrol.problem.activations import derivatives
from dnlcontrol.problem.constraints import Constraint
from dnlcontrol.problem.controls import Control
from dnlcontrol.problem.dynamics.base import Dynamics
from dnlcontrol.problem.engines import UserFormula
from dnlcontrol.problem.formula import Formula
from dnlcontrol.problem.losses import Cost
from dnlcontrol.problem.problem import ControlProblem

Parts = dict[str, str]
RULE_DEPTH = 5  # at which a rule's weights are compared: ends and interior differ there
MOST_NAMED = 4  # of the parts that changed, in a message


def fingerprint(problem: ControlProblem, rule: str) -> Parts:
    """Name of a part -> what it is: of everything that the discrete problem is made from.

    Raises InputError for an unknown rule.
    """
    f = problem.formulas
    parts = {
        "name": problem.name,
        "rule": _rule(rule),
        "horizon": repr(problem.horizon),
        "x0": digest_of_numbers(problem.x0),
        "kind of dynamics": "differential" if problem.dynamics.is_ode else "integral",
        "kernel": digest_of(f.kernel),
        "free term": digest_of(f.free_term),
        "feature map": digest_of(f.feature),
        "outer map": digest_of(f.outer),
        "derivatives of activations": _activations(problem.dynamics),
        **_cost("terminal", problem.terminal, f.terminal),
        **_cost("running", problem.running, f.running),
    }
    for name, control in problem.controls.items():
        parts |= _control(name, control)
        items = [_fields(r) for r in problem.regularisers_of(name)]
        parts[f"regularisers of control {name!r}"] = "; ".join(items)
    for constraint, formula in zip(problem.constraints, f.constraints, strict=True):
        parts |= _constraint(constraint, formula)
    order = [*problem.controls, "|", *(c.name for c in problem.constraints)]
    return {**parts, "order of controls and constraints": digest_of_words(order)}


def changed(theirs: Mapping[str, object], mine: Mapping[str, object]) -> list[str]:
    """The names of the parts that are not the same in both, in the order of ``mine``."""
    names = [*mine, *(name for name in theirs if name not in mine)]
    found = [name for name in names if theirs.get(name) != mine.get(name)]
    others = [name for name in found if not name.startswith("order of")]
    return others or found


def in_words(names: Iterable[str]) -> str:
    """The names of changed parts, the first few."""
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else ""
    return ", ".join(listed[:MOST_NAMED]) + more


def digest_of_words(words: Iterable[str]) -> str:
    """One digest of several words in their order."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _rule(name: str) -> str:
    """A rule's name and weights."""
    rule = RULES[Grid(RULE_DEPTH, 1.0, name).rule]
    weights = [w(RULE_DEPTH, 1.0 / RULE_DEPTH) for w in (rule.later, rule.own, rule.running)]
    numbers = [digest_of_numbers(v) for v in weights]
    return f"{name} {digest_of_words([*numbers, repr(rule.exponents), str(rule.at_nodes)])}"


def _activations(dynamics: Dynamics) -> str:
    """What the activations of declared affine maps say of their derivatives."""
    if dynamics.affine is None:
        return ""
    affine, outer = dynamics.affine, dynamics.affine.outer
    words = []
    for activation in (affine.activation, affine.feature, outer and outer.activation):
        known = derivatives(activation)
        words += [] if known is None else [_slope(known.slope), _slope(known.curvature_ratio)]
    return digest_of_words(words) if words else ""


def _slope(function: UserFormula | None) -> str:
    """A function of y = σ(x); '' for none, and for one in torch's own words, which has no graph."""
    if function is None:
        return ""
    try:
        return digest_of(Formula("slope", function, {"y": (3,)}, (3,), frozenset()))
    except InputError:
        return ""


def _cost(which: str, cost: Cost | None, formula: Formula | None) -> Parts:
    target = None if cost is None else cost.target
    return {f"{which} cost": digest_of(formula), f"targets of the {which} cost": _optional(target)}


def _control(name: str, control: Control) -> Parts:
    return {
        f"control {name!r}": f"{control.shape} on {control.on!r}",
        f"bounds of control {name!r}": _sides(control.lower, control.upper),
    }


def _constraint(item: Constraint, formula: Formula | None) -> Parts:
    parts = {
        f"constraint {item.name!r}": f"{item.kind} {digest_of(formula)}",
        f"bounds of constraint {item.name!r}": _sides(item.lower, item.upper),
        f"samples of constraint {item.name!r}": repr(item.samples),
    }
    if item.target is not None:
        parts[f"targets of constraint {item.name!r}"] = _optional(item.target)
    return parts


def _sides(lower: np.ndarray, upper: np.ndarray) -> str:
    return digest_of_words([digest_of_numbers(lower), digest_of_numbers(upper)])


def _optional(values: np.ndarray | None) -> str:
    return "" if values is None else digest_of_numbers(values)


def _fields(item: object) -> str:
    """A frozen dataclass of plain values, its kind and fields."""
    values = [f"{f.name}={getattr(item, f.name)!r}" for f in fields(item)]  # type: ignore[arg-type]
    return f"{type(item).__name__}({', '.join(values)})"
