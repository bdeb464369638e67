"""What a solve may take: the time that it has, and the iterate to return when that is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from dnlcontrol.discretisation.space.flat import Flat, RowVector
from dnlcontrol.minimise.multipliers import Multipliers
from dnlcontrol.minimise.outcome import Iterate, Outcome

TIME_LIMIT = "raise max_seconds"  # what every message of a solve that ran out of time says


class OutOfTime(Exception):
    """Raised by a :class:`Watch` inside a minimiser; the backend that set the watch catches it."""


@dataclass(frozen=True)
class Deadline:
    """The moment at which a solve has to stop, by ``time.perf_counter``.

    >>> Deadline().passed, Deadline.after(0.0).passed
    (False, True)
    """

    end: float = np.inf
    seconds: float = np.inf

    @staticmethod
    def after(seconds: float | None) -> Deadline:
        """So many seconds from now; None: never."""
        return Deadline() if seconds is None else Deadline(time.perf_counter() + seconds, seconds)

    @property
    def left(self) -> float:
        """Seconds until then, 0 when it has passed."""
        return max(self.end - time.perf_counter(), 0.0)

    @property
    def passed(self) -> bool:
        return time.perf_counter() >= self.end

    @property
    def words(self) -> str:
        """The message of a solve that it stopped."""
        return f"stopped after {self.seconds:g} s; {TIME_LIMIT} or start closer"


@dataclass(frozen=True)
class Formed:
    """Controls w (size,) at which the Lagrangian was formed, its value, and μ (rows.size,)."""

    w: Flat
    value: float
    mu: RowVector | None


class Watch:
    """Stops a minimiser in time, and knows its last iterate then.

    An evaluator tells what it forms (``saw``), the minimiser its iterates (``told``, a
    ``Progress``); inside ``armed`` either raises :class:`OutOfTime` once the deadline has passed.
    Minimisers accept no iterate that is worse than the one before, so that the last is the best.
    """

    def __init__(self, deadline: Deadline | None = None) -> None:
        self.deadline = deadline or Deadline()
        self.current: Formed | None = None
        self.log: list[Iterate] = []
        self._last: Formed | None = None
        self._armed = False

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Within it, :class:`OutOfTime` may be raised."""
        before, self._armed = self._armed, True
        try:
            yield
        finally:
            self._armed = before

    def check(self) -> None:
        """Raise :class:`OutOfTime` where armed and late."""
        if self._armed and self.deadline.passed:
            raise OutOfTime(self.deadline.words)

    def saw(self, w: Flat, value: float, multipliers: Multipliers | None = None) -> None:
        """The Lagrangian was formed at w."""
        self._last = Formed(w, value, None if multipliers is None else multipliers.mu)

    def told(self, iterate: Iterate) -> None:
        """The minimiser is at an iterate: the controls seen last, unless it fell back."""
        self.log.append(iterate)
        if iterate.controls is not None:
            self.current = Formed(iterate.controls, iterate.value, None)
        elif self._last is not None and (self.current is None or iterate.value == self._last.value):
            self.current = self._last
        self.check()

    def outcome(self, start: Flat) -> Outcome:
        """The last iterate as a minimiser returns it, not converged; ``start`` where none was."""
        at = self.current or Formed(start, np.nan, None)
        return Outcome(
            w=at.w,
            value=at.value,
            gradient=np.full(len(at.w), np.nan),
            stationarity=self.log[-1].stationarity if self.log else np.inf,
            converged=False,
            message=self.deadline.words,
            log=tuple(self.log),
        )
