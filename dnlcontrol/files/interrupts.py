"""Signals that end a command, but not in the middle of writing what is finished.

The command line lets :meth:`Interrupts.ask` handle its signals; in Python nothing is installed, and
Ctrl-C interrupts at once (atomic.py then leaves files as they were).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether a signal asked this process to end, and whether files are being written."""

    def __init__(self) -> None:
        self.asked: int | None = None  # the number of the first signal
        self._writing = 0

    def ask(self, signum: int, _frame: FrameType | None) -> None:
        """The handler of a signal: KeyboardInterrupt now, or once the files are written."""
        self.asked = self.asked or signum
        if not self._writing:
            raise KeyboardInterrupt

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is within is finished before a signal ends the process.

        Raises KeyboardInterrupt at its end where a signal came, and at its beginning where one came
        before and a library called from Python took the exception for an error of its own: what
        would be written now is no result.
        """
        self._raise()
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
            self._raise()

    def _raise(self) -> None:
        if self.asked and not self._writing:
            raise KeyboardInterrupt


interrupts = Interrupts()
