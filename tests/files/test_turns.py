"""Turns: one thread at a time, at once within one's own, given back whatever happens."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from dnlcontrol.files.turns import elsewhere, in_turn, turn

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def asked_elsewhere(function: Any, *args: Any) -> Any:
    """The result of a function in another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function(*args)))
    thread.start()
    thread.join(10)
    return found[0]


def test_one_thread_has_it_and_within_it_at_once():
    with turn(), turn():
        assert not elsewhere()
        assert asked_elsewhere(elsewhere)
    assert not asked_elsewhere(elsewhere)


def test_another_thread_waits():
    entered = threading.Event()

    def enter() -> None:
        with turn():
            entered.set()

    thread = threading.Thread(target=enter)
    with turn():
        thread.start()
        assert not entered.wait(0.2)
    thread.join(10)
    assert entered.is_set()


def test_it_is_given_back_after_an_error():
    @in_turn
    def fail() -> None:
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        fail()
    assert not asked_elsewhere(elsewhere)
    assert asked_elsewhere(in_turn(lambda: 3)) == 3


def test_results_and_names_pass_through():
    @in_turn
    def add(a: int, *, b: int = 2) -> int:
        """A sum."""
        return a + b

    assert add(1, b=5) == 6
    assert add.__name__ == "add"
    assert add.__doc__ == "A sum."


@needs_fork
def test_a_child_does_not_wait_for_a_thread_of_its_parent():
    """A fork while another thread has its turn: nobody in the child would give it back."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with turn():
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(60)
    child = os.fork()
    if not child:
        with turn():
            os._exit(7 + elsewhere())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    done.set()
    thread.join(60)


@needs_fork
def test_a_child_goes_on_within_its_parents_turn():
    with turn():
        child = os.fork()
        if not child:
            with turn():
                os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
