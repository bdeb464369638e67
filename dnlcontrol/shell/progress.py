"""The line that a terminal shows while a minimiser works."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

import numpy as np

from dnlcontrol.minimise.outcome import Iterate

SEEN = 30  # iterates that the rate is fitted to at most: the last ones
FEWEST = 4  # iterates before which no rate is told


class TimeLeft:
    """The time until the stationarity is below a tolerance.

    It follows from the observed rate of its logarithm per second.

    A least-squares line through the last half of the iterates (``SEEN`` at most): far from a
    minimiser the first ones tell little about the rate, and Newton's method becomes faster.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self._seen: deque[tuple[float, float]] = deque(maxlen=2 * SEEN)

    def seconds(self, now: float, stationarity: float) -> float | None:
        """The estimate after one more iterate.

        None before there is enough to tell, or where nothing falls.
        """
        if not (0 < stationarity < math.inf):
            return None
        self._seen.append((now, math.log(stationarity)))
        if len(self._seen) < FEWEST:
            return None
        t, r = np.array(self._seen)[-max(FEWEST, len(self._seen) // 2) :].T
        t = t - t.mean()
        spread = float(t @ t)
        rate = -float(t @ r) / spread if spread > 0 else 0.0
        return max(math.log(stationarity / self.tolerance), 0.0) / rate if rate > 0 else None


class ProgressLine:
    """One line, written again for each iterate: value, stationarity, radius, work units, time left.

    >>> import io
    >>> from dnlcontrol.minimise.outcome import Iterate
    >>> line = ProgressLine(io.StringIO(), 1e-8, prefix="L=8 ")
    >>> line.text(Iterate(3, 0.5, 1e-4, 1.0, 7, 42.0), left=None)
    'L=8    3  J = 0.5  stationarity 1.0e-04  radius 1  42 units  time left ~'
    """

    def __init__(
        self,
        stream: TextIO,
        tolerance: float,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream
        self.tolerance = tolerance
        self.prefix = prefix
        self.clock = clock
        self._left = TimeLeft(tolerance)
        self._open = False

    def __call__(self, iterate: Iterate) -> None:
        """Show an iterate; iteration 0 is that of another solve."""
        if iterate.iteration == 0:
            self._left = TimeLeft(self.tolerance)
        text = self.text(iterate, self._left.seconds(self.clock(), iterate.stationarity))
        width = shutil.get_terminal_size().columns
        # to the start of the line; clear what follows
        self.stream.write(f"\r{text[: max(width - 1, 20)]}\x1b[K")
        self.stream.flush()
        self._open = True

    def text(self, iterate: Iterate, left: float | None) -> str:
        """The line of an iterate, ``left`` seconds before the end (None: not known)."""
        parts = [
            f"{self.prefix}{iterate.iteration:4d}",
            f"J = {iterate.value:.10g}",
            f"stationarity {iterate.stationarity:.1e}",
            f"radius {iterate.radius:.2g}",
        ]
        if math.isfinite(iterate.work):
            parts.append(f"{iterate.work:.0f} units")
        return "  ".join([*parts, f"time left ~{'' if left is None else ' ' + duration(left)}"])

    def end(self) -> None:
        """Leave the line, so that what follows stands below it."""
        if self._open:
            self.stream.write("\n")
            self.stream.flush()
        self._open = False

    def say(self, text: str) -> None:
        """A line of its own; it names what the next iterates belong to."""
        self.end()
        print(text, file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """Two figures are enough for an estimate.

    >>> [duration(s) for s in (0.3, 42, 600, 7200, 864000)]
    ['1 s', '42 s', '10 min', '2 h', '10 days']
    """
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(math.ceil(seconds), 1)} s"
