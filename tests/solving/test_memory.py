"""What deep problems take, measured in processes of their own; what does not fit is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.resources import room

CHILD = """
import resource, sys
import numpy as np, torch, casadi
import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")][0]

def scalar(width):
    return dnl.ControlProblem(
        x0=np.ones((1, 1)),
        dynamics=dnl.ODE(lambda t, x, u: -x * u.u[0]),
        controls={"u": dnl.Control((width,), initial=1.0)},
        terminal=lambda x, c: x[0] ** 2,
        regularisers=[dnl.H1("u", 1.0)],
    )

def gradient(depth, stored=None):
    discrete = dnl.discretise(problem, depth)
    w = discrete.space.initial()
    value, g = Evaluator(discrete, stored=stored).value_and_gradient(w)
    return value

problem = scalar(1)
DO
start = peak()
value = WHAT
print(float(np.ravel(value)[-1]), peak() - start, peak())
"""
NUMBERS = 8 / 2**20  # MB of one float64


def in_child(what: str, before: str, seconds: float) -> tuple[float, float, float]:
    """A number, the growth of the largest resident size, and that size in MB."""
    code = CHILD.replace("DO", before).replace("WHAT", what)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stderr[-2000:]
    value, grew, all_of_it = map(float, done.stdout.split())
    return value, grew, all_of_it


def product(depth: int) -> float:
    """x(1) = (1 - 1/L)^L of x' = -x by the left rule."""
    return (1.0 - 1.0 / depth) ** depth


def test_a_forward_solve_keeps_few_numbers_a_layer():
    """100 float64 a layer; 4 L² bytes, as a table of pairs with views has, are 900 MB."""
    depth = 15_000
    value, grew, _ = in_child(f"dnl.simulate(problem, {depth})", "dnl.simulate(problem, 4)", 60)
    assert abs(value - product(depth)) < 1e-12
    assert grew < 100 * depth * NUMBERS + 8.0


def test_a_gradient_keeps_few_numbers_a_layer():
    """Stored derivatives: 8 numbers a layer, several copies, and the tables of pairs."""
    depth = 8000
    value, grew, _ = in_child(f"gradient({depth})", "gradient(400)", 60)
    expected = product(depth) ** 2 + 0.5
    assert abs(value - expected) < 1e-11
    assert grew < 200 * depth * NUMBERS + 8.0


@pytest.mark.slow
@pytest.mark.parametrize("what", ["dnl.simulate(problem, {})", "gradient({})"])
def test_a_million_layers_in_1500_mb(what: str):
    depth = 1_000_000
    value, _, all_of_it = in_child(what.format(depth), "gradient(40)", 3000)
    expected = product(depth) if "simulate" in what else product(depth) ** 2 + 0.5
    assert abs(value - expected) < 1e-9
    assert all_of_it < 1500.0


@pytest.mark.slow
def test_a_long_tape_is_made_in_parts():
    """Four controls at 300,000 layers: the whole tape is 4 GB."""
    depth = 300_000
    value, _, all_of_it = in_child(f"gradient({depth}, stored=False)", "gradient(40)", 3000)
    assert abs(value - product(depth) ** 2 - 0.5) < 1e-9
    assert all_of_it < 1000.0


@pytest.mark.slow
def test_a_solve_at_a_hundred_thousand_layers():
    _, _, all_of_it = in_child("dnl.solve(problem, 100_000).value", "dnl.solve(problem, 4)", 3000)
    assert all_of_it < 1500.0


# -- refusals --------------------------------------------------------------------------------------
def dense() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.ones((4, 2)),
        dynamics=dnl.Dense(2, "C"),
        terminal=dnl.losses.squared(np.zeros((4, 2))),
        regularisers=[dnl.H1("W", 1e-2), dnl.H1("b", 1e-2)],
    )


def decay() -> dnl.ControlProblem:
    return dnl.ControlProblem(
        x0=np.ones(1),
        dynamics=dnl.ODE(lambda t, x, u: -x * u.u),
        controls={"u": dnl.Control((), initial=1.0)},
        terminal=lambda x, c: x**2,
        regularisers=[dnl.H1("u", 1.0)],
    )


ROUTES = {
    "simulate": lambda p, L: dnl.simulate(p, L),
    "adjoint": lambda p, L: dnl.solve(p, L, "adjoint"),
    "lifted": lambda p, L: dnl.solve(p, L, formulation="lifted"),
    "condensed": lambda p, L: dnl.solve(p, L, formulation="condensed"),
    "auto": lambda p, L: dnl.solve(p, L, "auto"),
    "study": lambda p, L: dnl.study(p, [2, L]),
    "exact study": lambda p, L: dnl.study(p, [2, L], backend="exact"),
    "taylor_test": lambda p, L: dnl.taylor_test(p, L),
    "discretise": lambda p, L: dnl.discretise(p, L),
    "multistart": lambda p, L: dnl.multistart(p, L, starts=2),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("made", [dense, decay])
def test_every_route_refuses_before_it_builds(route: str, made, monkeypatch):
    """At a depth whose pairs would fill any machine, in a moment: L = 2^31."""
    built = []
    monkeypatch.setattr(np, "arange", lambda *a, **k: built.append(a) or np.empty(0))
    with pytest.raises(dnl.InputError, match=r"^depth: got .* (GB|TB).*; allowed: .*(GB|MB|TB)"):
        ROUTES[route](made(), 2**31)
    assert not [a for a in built if max(a) > 10_000]


def test_a_small_container(monkeypatch):
    """What is refused there is solved where there is more."""
    monkeypatch.setattr(room, "available_mb", lambda: 100.0)
    monkeypatch.setattr("dnlcontrol.backends.fits.available_mb", lambda: 100.0)
    from problems.spirals import problem

    with pytest.raises(
        dnl.InputError, match=r"condensed program of about .* MB .* of 100 MB there"
    ):
        dnl.solve(problem(), 64, formulation="condensed")
    with pytest.raises(dnl.InputError, match=r"got 512: a solve by the adjoint backend"):
        dnl.solve(problem(), 512, "adjoint")
    assert dnl.solve(problem(), 4, formulation="condensed").success


def test_force_builds_what_is_refused(monkeypatch):
    monkeypatch.setattr(room, "FREE_MB", 0.0)
    monkeypatch.setattr("dnlcontrol.backends.fits.FREE_MB", 0.0)
    monkeypatch.setattr(room, "available_mb", lambda: 1e-6)
    monkeypatch.setattr("dnlcontrol.backends.fits.available_mb", lambda: 1e-6)
    with pytest.raises(dnl.InputError, match=r"force=True"):
        dnl.solve(decay(), 4)
    assert dnl.solve(decay(), 4, force=True).success
