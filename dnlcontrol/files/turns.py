"""Threads of one process take turns, and a forked child starts anew.

Whatever thread asks, one solve is at work at a time: PyTorch's forward mode has a single level for
the whole process (a second thread sees "Nested forward mode AD is not supported", or the tangents
of the first), and limits on the threads of BLAS hold for the whole process, too, and with them the
last digits of a sum. So a solve beside others is, bit for bit, a solve alone.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial, wraps
from threading import get_ident
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Shared:
    """What all threads see: the lock, who has it, and which thread of this process forked it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.holder: int | None = None
        self.forked: int | None = None

    def after_fork(self) -> None:
        """In the child, whose only thread is the one that forked: no other gives its turn back."""
        if self.holder != get_ident():
            self.lock = threading.RLock()
            self.holder = None
        if "torch" in sys.modules:
            self.forked = get_ident()


_shared = _Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.after_fork)


@contextmanager
def turn() -> Iterator[None]:
    """The turn of the calling thread, once no other has it; within a turn at once."""
    with _shared.lock:
        before, _shared.holder = _shared.holder, get_ident()
        try:
            yield
        finally:
            _shared.holder = before


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, called in turn."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _without_team():
            return _in_new_thread(partial(run, *args, **kwargs))
        with turn():
            return function(*args, **kwargs)

    return run


def elsewhere() -> bool:
    """Whether another thread has its turn."""
    return _shared.holder not in (None, get_ident())


def _without_team() -> bool:
    """Whether OpenMP would wait for threads that a fork has left behind.

    GNU's keeps its team with the thread that called it; in a child the rest of the team is gone.
    """
    if _shared.forked != get_ident() or _shared.holder == get_ident():
        return False
    return int(sys.modules["torch"].get_num_threads()) > 1


def _in_new_thread(call: Callable[[], R]) -> R:
    """The result of a call in a thread of its own, which OpenMP gives a team of its own."""
    outcome: Future[R] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # handed to the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    return outcome.result()
