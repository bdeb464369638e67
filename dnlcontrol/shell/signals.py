"""How a command ends when it is told to: what is finished is kept, and one line says so."""

from __future__ import annotations

import signal
import sys
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread

from dnlcontrol.files.interrupts import interrupts

BY_SIGNAL = 128  # the shells' convention: the exit status of a command that a signal ended
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
WORDS = {"SIGINT": "interrupted"}  # by Ctrl-C; others are named
AGAIN = 0.01  # seconds after which a signal is asked again: long enough to leave the callback
KEPT = "--checkpoint and a study's --out keep what was done"


def answered(run: Callable[[], int]) -> int:
    """The exit status of ``run``, or that of a command which one of ``ENDING`` has ended.

    Within another call, and in a thread that handles no signals, it is ``run`` alone.
    """
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGTERM) == interrupts.ask:
        return run()
    with _handled():
        try:
            status = run()
            if interrupts.asked is None:
                return status
        except KeyboardInterrupt:
            pass
        except Exception:  # a library may make its own error of the interruption
            if interrupts.asked is None:
                raise
        name = signal.Signals(interrupts.asked or signal.SIGINT).name
        print(f"dnlcontrol: {WORDS.get(name, f'ended by {name}')}; {KEPT}", file=sys.stderr)
        return BY_SIGNAL + signal.Signals[name]


@contextmanager
def _handled() -> Iterator[None]:
    """Handlers of the signals, but where the caller ignores one (nohup); then those before."""
    known = [signal.Signals[name] for name in ENDING if hasattr(signal, name)]
    before = {s: found for s in known if (found := signal.getsignal(s)) is not signal.SIG_IGN}
    interrupts.asked = None
    hook = sys.unraisablehook
    sys.unraisablehook = _asking_again(hook)
    for s in before:
        signal.signal(s, interrupts.ask)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for s, handler in before.items():
            signal.signal(s, handler)
        interrupts.asked = None


def _asking_again(
    hook: Callable[[sys.UnraisableHookArgs], object],
) -> Callable[[sys.UnraisableHookArgs], object]:
    """``hook``, but for a signal that came in a callback, such as a weak reference's.

    Python would print its exception there, and go on.
    """

    def again(seen: sys.UnraisableHookArgs) -> None:
        if interrupts.asked is not None and issubclass(seen.exc_type, KeyboardInterrupt):
            Timer(AGAIN, _ask_again).start()
        else:
            hook(seen)

    return again


def _ask_again() -> None:
    if interrupts.asked is not None:
        interrupt_main(signal.Signals(interrupts.asked))
