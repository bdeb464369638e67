"""A control that stands in one cell, where the state jumps, is named; any other is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.space.extension import Extension
from dnlcontrol.results.concentration import concentration_note

DEPTH = 32


def moved(u: np.ndarray, depth: int = DEPTH) -> dnl.Solution:
    """x' = (u_0, u_1) from 0 with given controls (depth, 2), as a solution."""
    problem = dnl.ControlProblem(
        x0=[[0.0, 0.0]],
        dynamics=dnl.ODE(lambda t, x, u: u.u),
        controls={"u": dnl.Control((2,))},
        running=lambda t, x, u: u.u[0] ** 2 + u.u[1] ** 2,
    )
    solution = dnl.solve(problem, depth)
    assert solution.message.count("doubtful") == 0
    return dataclasses.replace(
        solution,
        states=dnl.simulate(problem, depth, {"u": lambda t: u[np.floor(t * depth).astype(int)]}),
        controls={"u": Extension("u", solution.controls["u"].layout, u)},
    )


@pytest.mark.parametrize("cell", [0, 11, DEPTH - 1])
@pytest.mark.parametrize("entry", [0, 1])
def test_a_jump_in_any_cell_of_any_entry_is_named(cell: int, entry: int):
    """The other entry, constant and large, hides nothing."""
    u = np.full((DEPTH, 2), 1.0)
    u[:, 1 - entry] = 40.0
    u[cell, entry] = DEPTH
    note = concentration_note(moved(u))
    assert note.startswith("doubtful limit: 51 % of control 'u' stand in one cell, at t = ")
    assert f"at t = {(cell + 0.5) / DEPTH:.3g}, where the state jumps" in note


def test_what_the_grid_resolves_is_not():
    t = (np.arange(DEPTH) + 0.5) / DEPTH
    for u in (np.ones(DEPTH), np.sign(t - 0.6), (1 - t) ** -0.5, np.exp(8 * t), np.zeros(DEPTH)):
        assert concentration_note(moved(np.stack([u, u], axis=1))) == ""


def test_neither_is_a_coarse_grid_nor_a_control_that_moves_nothing():
    u = np.zeros((8, 2))
    u[3] = 8.0
    assert concentration_note(moved(u, 8)) == ""
    still = moved(np.eye(DEPTH, 2))
    assert concentration_note(still)
    unmoved = dataclasses.replace(still, states=np.zeros_like(still.states))
    assert concentration_note(unmoved) == ""
