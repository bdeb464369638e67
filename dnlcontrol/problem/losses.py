"""Costs: a user's function with its targets, and ready-made losses with an optional constant head.

A head maps the final state to the prediction, p = head_W x + head_c, and adds the constants head_W,
head_c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.problem.controls import Control, Initial
from dnlcontrol.problem.engines import FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.namespace import namespace
from dnlcontrol.problem.written_losses import CROSS_ENTROPY, LOGISTIC, SQUARED, written_as


@dataclass(frozen=True)
class Cost:
    """A cost function, its targets (one row per sample) and its own constants."""

    function: UserFormula
    target: np.ndarray | None = None
    controls: Mapping[str, Control] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Head:
    """An affine head p = head_W x + head_c, (outputs,); see :func:`head`."""

    outputs: int
    inputs: int
    initial: Initial = 0.0

    def controls(self) -> dict[str, Control]:
        """head_W (outputs, inputs) and head_c (outputs,), constants."""
        weight = Control((self.outputs, self.inputs), on="const", initial=self.initial)
        return {"head_W": weight, "head_c": Control((self.outputs,), on="const")}


def head(outputs: int, inputs: int, initial: Initial = 0.0) -> Head:
    """An affine head of ``outputs`` rows on ``inputs`` entries, a state of rank 2 flattened.

    Raises InputError for numbers that are not positive integers.
    """
    return Head(checks.whole("head.outputs", outputs), checks.whole("head.inputs", inputs), initial)


def cost(function: UserFormula, target: ArrayLike | None = None) -> Cost:
    """A user's cost with targets (N, *row): ``fn(x, c, target)`` or ``fn(t, x, u, target)``.

    The first is a terminal cost, the second a running cost. Raises InputError for targets that are
    not finite, InputTypeError for what is no function.
    """
    checks.function("cost.fn", function)
    return Cost(
        function,
        None if target is None else checks.numbers("cost.target", target),
        name=_name(function),
    )


def squared(target: ArrayLike, head: Head | None = None) -> Cost:
    """Σ_i (p_i - y_i)², without a factor ½; p = x, or the head's output.

    ``target`` is (N, *shape of p); InputError is raised for any other when the problem is made.
    """
    y = checks.numbers("squared.target", target)

    @written_as(SQUARED)
    def loss(x: FormulaArray, c: FormulaControls, y: FormulaArray) -> FormulaArray:
        p = _predict(x, c, head)
        if tuple(p.shape) != tuple(y.shape):
            checks.reject(
                "squared.target",
                f"rows of shape {tuple(y.shape)}",
                f"rows of the prediction's shape {tuple(p.shape)}",
            )
        return namespace(x).sum((p - y) ** 2)

    return Cost(loss, y, _constants("squared", head), "squared")


def logistic(target: ArrayLike, head: Head | None = None) -> Cost:
    """log(1 + e^{-y p}) for labels y (N,) in {-1, +1} or {0, 1}; p has one entry.

    Raises InputError for other labels, or a prediction of more entries.
    """
    y = checks.numbers("logistic.target", target)
    values = set(np.unique(y).tolist())
    if not (values <= {-1.0, 1.0} or values <= {0.0, 1.0}) or y.ndim != 1 or not y.size:
        checks.reject(
            "logistic.target",
            f"shape {y.shape}, values {sorted(values)[:4]}",
            "one label -1/+1 or 0/1 per sample",
        )
    y = np.where(y > 0, 1.0, -1.0)

    @written_as(LOGISTIC)
    def loss(x: FormulaArray, c: FormulaControls, y: FormulaArray) -> FormulaArray:
        xp = namespace(x)
        p = _predict(x, c, head)
        if int(np.prod(p.shape, dtype=int)) != 1:
            checks.reject("logistic.head", f"a prediction of shape {tuple(p.shape)}", "one entry")
        margin = -y * xp.sum(p)
        return xp.logsumexp(xp.stack([0.0 * margin, margin]))

    return Cost(loss, y, _constants("logistic", head), "logistic")


def cross_entropy(labels: ArrayLike, head: Head | None = None, classes: int | None = None) -> Cost:
    """Softmax cross-entropy logsumexp(p) - p_y for integer labels y (N,) in 0..K-1.

    Kept as one-hot rows (N, K). Raises InputError for other labels, or another shape of p than
    (K,).
    """
    y = checks.numbers("cross_entropy.labels", labels)
    if y.ndim != 1 or y.size == 0 or np.any(y != np.round(y)) or np.any(y < 0):
        checks.reject(
            "cross_entropy.labels",
            f"shape {y.shape}, minimum {y.min(initial=0):g}",
            "one integer 0, 1, ... per sample",
        )
    count = checks.whole(
        "cross_entropy.classes", classes if classes is not None else int(y.max()) + 1
    )
    if y.max() >= count:
        checks.reject(
            "cross_entropy.labels", f"label {int(y.max())}", f"labels below classes = {count}"
        )
    onehot = (y[:, None] == np.arange(count)).astype(float)

    @written_as(LOGISTIC)
    def loss(x: FormulaArray, c: FormulaControls, y: FormulaArray) -> FormulaArray:
        xp = namespace(x)
        p = _predict(x, c, head)
        if tuple(p.shape) != (count,):
            checks.reject(
                "cross_entropy.labels",
                f"{count} classes for a prediction of shape {tuple(p.shape)}",
                f"shape ({count},)",
            )
        return xp.logsumexp(p) - xp.sum(p * y)

    return Cost(loss, onehot, _constants("cross_entropy", head), "cross_entropy")


def _constants(loss: str, head: Head | None) -> Mapping[str, Control]:
    """The controls of a loss's head."""
    if head is not None and not isinstance(head, Head):
        checks.reject_type(f"{loss}.head", head, "head(outputs, inputs) or None")
    return head.controls() if head else {}


def _predict(x: FormulaArray, c: FormulaControls, head: Head | None) -> FormulaArray:
    if head is None:
        return x
    flat = namespace(x).reshape(x, (-1,)) if x.ndim != 1 else x
    if flat.shape[0] != head.inputs:
        checks.reject("head.inputs", head.inputs, f"the state's {flat.shape[0]} entries")
    return c.head_W @ flat + c.head_c


def _name(function: UserFormula) -> str:
    return getattr(function, "__name__", type(function).__name__)
