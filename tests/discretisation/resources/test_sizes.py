"""The forecast against solves in processes of their own; choices do not depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.resources import pace
from dnlcontrol.discretisation.resources.counts import Structure
from dnlcontrol.discretisation.resources.fitted import MEMORY, SECONDS
from dnlcontrol.discretisation.resources.sizes import forecast, terms
from problems import o1_hager, spirals

CHILD = """
import json, sys, time, warnings
import dnlcontrol as dnl
from dnlcontrol.discretisation.resources.sizes import forecast
from problems.spirals import problem

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")][0]

depth, p = int(sys.argv[1]), problem(alpha=2e-2)
dnl.solve(p, 4, formulation="condensed")
said = forecast(dnl.discretise(p, depth)).condensed
before, began = peak(), time.process_time()
found = dnl.solve(p, depth, formulation="condensed", tolerance=1e-7)
seconds = time.process_time() - began
print(json.dumps([said.memory_mb, peak() - before, said.seconds, seconds, found.success]))
"""


@pytest.mark.parametrize("depth", [48, pytest.param(96, marks=pytest.mark.slow)])
def test_the_condensed_solve_of_two_spirals(depth: int):
    """Once 1,000 times too many seconds and 60 times too many MB, and refused."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(depth)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said_mb, mb, said_seconds, seconds, solved = json.loads(done.stdout)
    assert solved
    assert 1 / 1.25 < said_mb / mb < 1.25
    assert 1 / 3 < said_seconds / seconds < 3


def test_every_route_has_its_constants_and_terms():
    known = set(terms(Structure(o1_hager.problem(), dnl.discretise(o1_hager.problem(), 4).grid)))
    routes = {"lifted", "condensed, dense", "condensed, by products"}
    routes |= {"stored", "printed", "tape", "chain", "columns", "dual"}
    assert set(MEMORY) == set(SECONDS) == routes
    for weights in (*MEMORY.values(), *SECONDS.values()):
        assert weights, "a route that takes nothing"
        assert set(weights) <= known
        assert min(weights.values()) > 0


def test_choices_do_not_depend_on_the_machine(monkeypatch):
    def sizes():
        return forecast(dnl.discretise(spirals.problem(), 16))

    here = sizes()
    monkeypatch.setattr("dnlcontrol.discretisation.resources.sizes.slowness", lambda: 50.0)
    slow = sizes()
    assert slow.condensed.work == here.condensed.work
    assert slow.condensed.seconds == pytest.approx(50.0 * slow.condensed.work)
    assert slow.better == here.better


def test_the_pace_is_told_by_a_few_milliseconds():
    assert 0.0 < pace.products_seconds() < 1.0
    assert pace.slowness() == pace.slowness()


def test_memory_grows_with_the_depth():
    found = [forecast(dnl.discretise(spirals.problem(), L)) for L in (8, 16, 32, 64)]
    for way in ("lifted", "condensed", "adjoint"):
        mb = [getattr(f, way).memory_mb for f in found]
        assert mb[1:3] == sorted(mb[1:3])
        assert mb[3] > mb[2]
