"""The losses of losses.py over all samples, with their derivatives, in NumPy.

With predictions P (k, n) and targets Y (k, n), samples last:

    squared         Σ (P - Y)²                 2 (P - Y)               2 Ṗ
    logistic        Σ log(1 + e^{-YP})         -Y s, s = σ(-YP)        Y² s (1 - s) Ṗ
    cross entropy   Σ logsumexp(P) - P·Y       S - Y, S = softmax(P)   S ⊙ (Ṗ - 1 (S·Ṗ))

and P = X, or P = W X + c of a head, whose pull-back is X̄ = Wᵀ P̄, W̄ = P̄ Xᵀ, c̄ = P̄ 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dnlcontrol.problem.engines import UserFormula

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


def written_as(loss: WrittenLoss) -> Callable[[UserFormula], UserFormula]:
    """Decorator for a formula of one sample that is, summed over samples, this loss."""

    def attach(formula: UserFormula) -> UserFormula:
        formula.written = loss  # type: ignore[attr-defined]
        return formula

    return attach


def written(formula: UserFormula) -> WrittenLoss | None:
    """What :func:`written_as` attached; None for any other formula."""
    found = getattr(formula, "written", None)
    return found if isinstance(found, WrittenLoss) else None


def predicted(x: np.ndarray, head: HeadControls | None) -> np.ndarray:
    """P (k, n)."""
    return x if head is None else head.matrix @ x + head.shift[:, None]


def _squared(p: np.ndarray, y: np.ndarray) -> Slope:
    r = p - y
    return float(np.vdot(r, r)), 2.0 * r


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


def _cross_entropy_bend(p: np.ndarray, y: np.ndarray, along: np.ndarray) -> np.ndarray:
    s = _softmax(p)[0]
    return np.asarray(s * (along - (s * along).sum(axis=0)))


SQUARED = WrittenLoss(_squared, lambda p, y, along: 2.0 * along)
LOGISTIC = WrittenLoss(_logistic, _logistic_bend)
CROSS_ENTROPY = WrittenLoss(_cross_entropy, _cross_entropy_bend)
