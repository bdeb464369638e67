"""Refusals, before anything is built, of what does not fit the memory that is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dnlcontrol import checks
from dnlcontrol.backends.options import Adjoint, Exact
from dnlcontrol.discretisation.discrete import grid_of
from dnlcontrol.discretisation.resources.counts import Structure
from dnlcontrol.discretisation.resources.room import (
    FREE_MB,
    SHARE,
    available_mb,
    in_words,
    memory_in_words,
    refuse_beyond,
)
from dnlcontrol.discretisation.resources.sizes import (
    Forecast,
    Size,
    forecast_of,
    gradient_mb,
    states_mb,
)
from dnlcontrol.problem.problem import ControlProblem

SECONDS_LIMIT = 3600.0
SMALLER = "take a smaller depth or fewer samples"


def refuse_what_does_not_fit(
    problem: ControlProblem, depth: int, rule: str, options: Exact | Adjoint
) -> float:
    """MB that a solve at a depth is forecast to need.

    On a GPU the adjoint backend's arrays are there: what the host has does not decide.

    Raises
    ------
    InputError : what does not fit; with ``force`` nothing is refused.
    """
    sizes = forecast_of(counts_of(problem, depth, rule))
    if isinstance(options, Exact):
        formulation = chosen_formulation(sizes, options)
        if not options.force:
            refuse_too_large(sizes, formulation)
        return size_of(sizes, formulation).memory_mb
    size = sizes.adjoint
    if options.device == "cpu" and not options.distributed:
        what = f"a solve by the adjoint backend ({size.route})"
        refuse_beyond(size.memory_mb, depth, what, SMALLER)
    return size.memory_mb


def chosen_formulation(sizes: Forecast, options: Exact) -> str:
    """The one asked for, or the better one."""
    return sizes.better if options.formulation == "auto" else options.formulation


def size_of(sizes: Forecast, formulation: str) -> Size:
    """That of a formulation, by its name."""
    return sizes.lifted if formulation == "lifted" else sizes.condensed


def refuse_too_large(sizes: Forecast, formulation: str) -> None:
    """Raise InputError when a formulation would not fit, with what would."""
    size = size_of(sizes, formulation)
    there = available_mb() if size.memory_mb > FREE_MB else float("inf")

    def fits(size: Size) -> bool:
        return size.memory_mb <= SHARE * there and size.work <= SECONDS_LIMIT

    if fits(size):
        return
    other = "condensed" if formulation == "lifted" else "lifted"
    advice = f"formulation='{other}', or " if fits(size_of(sizes, other)) else ""
    limit = (
        f"up to {in_words(SHARE * there)}, of {in_words(there)} there"
        if size.memory_mb > SHARE * there
        else f"up to {SECONDS_LIMIT:.0f} s"
    )
    checks.reject(
        "depth",
        f"a {formulation} program of about {in_words(size.memory_mb)} and {size.seconds:.0f} s at "
        f"L={sizes.depth}",
        f"{limit}; {advice}backend='adjoint'; force=True builds it all the same",
    )


def counts_of(problem: ControlProblem, depth: int, rule: str) -> Structure:
    """The sizes of a problem at a depth; InputError as in :func:`discretise`."""
    return Structure(problem, grid_of(problem, depth, rule))


@contextmanager
def room_for_gradients(problem: ControlProblem, depth: int, rule: str) -> Iterator[None]:
    """For a few values and gradients of the adjoint backend; what runs out is told in one line."""
    need = gradient_mb(counts_of(problem, depth, rule))
    refuse_beyond(need, depth, "a gradient", SMALLER)
    with memory_in_words(depth, need):
        yield


@contextmanager
def room_for_states(problem: ControlProblem, depth: int, rule: str) -> Iterator[None]:
    """For a forward solve; what runs out is told in one line."""
    need = states_mb(counts_of(problem, depth, rule))
    refuse_beyond(need, depth, "a forward solve", SMALLER)
    with memory_in_words(depth, need):
        yield
