"""Costs: a user's function with its targets, and ready-made losses with an optional constant head.

A head maps the final state to the prediction, p = head_W x + head_c, and adds the constants head_W,
head_c.

The ready-made losses are also written out over all samples with their derivatives, in NumPy. With
predictions P (k, n) and targets Y (k, n), samples last:

    squared         Σ (P - Y)²                 2 (P - Y)               2 Ṗ
    logistic        Σ log(1 + e^{-YP})         -Y s, s = σ(-YP)        Y² s (1 - s) Ṗ
    cross entropy   Σ logsumexp(P) - P·Y       S - Y, S = softmax(P)   S ⊙ (Ṗ - 1 (S·Ṗ))

and P = X, or P = W X + c of a head, whose pull-back is X̄ = Wᵀ P̄, W̄ = P̄ Xᵀ, c̄ = P̄ 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.problem.controls import Control, Initial
from dnlcontrol.problem.engines import FormulaArray, FormulaControls, UserFormula
from dnlcontrol.problem.namespace import namespace

__all__ = ["Cost", "Head", "cost", "cross_entropy", "head", "logistic", "squared"]

Slope = tuple[float, np.ndarray]


@dataclass(frozen=True)
class HeadControls:
    """W (k, d) and c (k,) of a head, or tangents or cotangents in their places."""

    matrix: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class WrittenLoss:
    """A loss of predictions P (k, n): (P, Y) -> value and slope; (P, Y, Ṗ) -> the slope's tangent.

    Targets are (k, n), or (n,) for labels.
    """

    slope: Callable[[np.ndarray, np.ndarray], Slope]
    bend: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

    def value(self, x: np.ndarray, y: np.ndarray, head: HeadControls | None) -> float:
        """The sum over samples, at states x (d, n)."""
        return self.slope(predicted(x, head), y)[0]

    def pull(
        self, x: np.ndarray, y: np.ndarray, head: HeadControls | None
    ) -> tuple[float, np.ndarray, HeadControls | None]:
        """The sum, its derivative in x (d, n), and in the head's controls."""
        value, p = self.slope(predicted(x, head), y)
        if head is None:
            return value, p, None
        return value, head.matrix.T @ p, HeadControls(p @ x.T, p.sum(1))

    def pull_along(
        self,
        x: tuple[np.ndarray, np.ndarray],
        y: np.ndarray,
        head: HeadControls | None,
        along: HeadControls | None,
    ) -> tuple[np.ndarray, HeadControls | None]:
        """The tangents of the derivatives along (x, ẋ) and a head's tangent."""
        at, dx = x
        p = predicted(at, head)
        if head is None or along is None:
            return self.bend(p, y, dx), None
        q = self.bend(p, y, head.matrix @ dx + predicted(at, along))
        slope = self.slope(p, y)[1]
        parts = HeadControls(q @ at.T + slope @ dx.T, q.sum(1))
        return head.matrix.T @ q + along.matrix.T @ slope, parts


def written(formula: UserFormula) -> WrittenLoss | None:
    """The loss that a formula of one sample is, summed over samples; None for any other formula."""
    found = getattr(formula, "written", None)
    return found if isinstance(found, WrittenLoss) else None


def predicted(x: np.ndarray, head: HeadControls | None) -> np.ndarray:
    """P (k, n)."""
    return x if head is None else head.matrix @ x + head.shift[:, None]


def _squared(p: np.ndarray, y: np.ndarray) -> Slope:
    r = p - y
    return float(np.vdot(r, r)), 2.0 * r


def _squared_bend(_p: np.ndarray, _y: np.ndarray, along: np.ndarray) -> np.ndarray:
    return 2.0 * along


def _sigmoid(a: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * a)))


def _logistic(p: np.ndarray, y: np.ndarray) -> Slope:
    margin = -y * p
    return float(np.logaddexp(0.0, margin).sum()), -y * _sigmoid(margin)


def _logistic_bend(p: np.ndarray, y: np.ndarray, along: np.ndarray) -> np.ndarray:
    s = _sigmoid(-y * p)
    return np.asarray(y * y * s * (1.0 - s) * along)


def _softmax(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """softmax(P) and logsumexp(P)."""
    top = p.max(axis=0)
    e = np.exp(p - top)
    total = e.sum(axis=0)
    return e / total, np.log(total) + top


def _cross_entropy(p: np.ndarray, y: np.ndarray) -> Slope:
    s, log_sum = _softmax(p)
    return float(log_sum.sum() - np.vdot(p, y)), s - y


def _cross_entropy_bend(p: np.ndarray, _y: np.ndarray, along: np.ndarray) -> np.ndarray:
    s = _softmax(p)[0]
    return np.asarray(s * (along - (s * along).sum(axis=0)))


SQUARED = WrittenLoss(_squared, _squared_bend)
LOGISTIC = WrittenLoss(_logistic, _logistic_bend)
CROSS_ENTROPY = WrittenLoss(_cross_entropy, _cross_entropy_bend)


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
    return Head(checks.size("head.outputs", outputs), checks.size("head.inputs", inputs), initial)


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
    return Cost(
        MadeLoss(_squared_loss, (head,), SQUARED), y, _constants("squared", head), "squared"
    )


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
    loss = MadeLoss(_logistic_loss, (head,), LOGISTIC)
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
    count = checks.size(
        "cross_entropy.classes", classes if classes is not None else int(y.max()) + 1
    )
    if y.max() >= count:
        checks.reject(
            "cross_entropy.labels", f"label {int(y.max())}", f"labels below classes = {count}"
        )
    onehot = (y[:, None] == np.arange(count)).astype(float)
    loss = MadeLoss(_cross_entropy_loss, (head, count), CROSS_ENTROPY)
    return Cost(loss, onehot, _constants("cross_entropy", head), "cross_entropy")


@dataclass(frozen=True)
class MadeLoss:
    """The function that ``make`` gives, as a pickle can hold it: none holds a function in one."""

    make: Callable[..., UserFormula]
    given: tuple[object, ...]
    written: WrittenLoss

    def __call__(self, *arguments: FormulaArray) -> FormulaArray:
        return self.make(*self.given)(*arguments)


def _squared_loss(head: Head | None) -> UserFormula:
    def loss(x: FormulaArray, c: FormulaControls, y: FormulaArray) -> FormulaArray:
        p = _predict(x, c, head)
        if tuple(p.shape) != tuple(y.shape):
            checks.reject(
                "squared.target",
                f"rows of shape {tuple(y.shape)}",
                f"rows of the prediction's shape {tuple(p.shape)}",
            )
        return namespace(x).sum((p - y) ** 2)

    return loss


def _logistic_loss(head: Head | None) -> UserFormula:
    def loss(x: FormulaArray, c: FormulaControls, y: FormulaArray) -> FormulaArray:
        xp = namespace(x)
        p = _predict(x, c, head)
        if int(np.prod(p.shape, dtype=int)) != 1:
            checks.reject("logistic.head", f"a prediction of shape {tuple(p.shape)}", "one entry")
        margin = -y * xp.sum(p)
        return xp.logsumexp(xp.stack([0.0 * margin, margin]))

    return loss


def _cross_entropy_loss(head: Head | None, classes: int) -> UserFormula:
    def loss(x: FormulaArray, c: FormulaControls, y: FormulaArray) -> FormulaArray:
        xp = namespace(x)
        p = _predict(x, c, head)
        if tuple(p.shape) != (classes,):
            checks.reject(
                "cross_entropy.labels",
                f"{classes} classes for a prediction of shape {tuple(p.shape)}",
                f"shape ({classes},)",
            )
        return xp.logsumexp(p) - xp.sum(p * y)

    return loss


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
