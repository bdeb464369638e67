"""check: what will be done in a sentence, for less than five gradients."""

from __future__ import annotations

import pytest

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.backends.adjoint.sweep.columnwise import Sweep
from dnlcontrol.shell.check_report import check_report, taylor_depth
from problems import o4_bryson_denham, spirals

PRODUCT = 3.0  # gradients that a Hessian product costs at most


@pytest.mark.parametrize("depth", [32, 64])
def test_it_costs_less_than_five_gradients(depth: int, monkeypatch):
    """Counted in pairs of layers: every value as a gradient, every product as three."""
    spent = []

    def counted(name: str, cost: float) -> None:
        plain = getattr(Evaluator, name)

        def call(self, *arguments, **options):
            spent.append(cost * self.discrete.depth**2)
            return plain(self, *arguments, **options)

        monkeypatch.setattr(Evaluator, name, call)

    for name, cost in (("value", 1.0), ("value_and_gradient", 1.0), ("hessian_product", PRODUCT)):
        counted(name, cost)
    report = check_report(spirals.problem(samples=4), depth)
    assert report["passed"]
    assert spent, "the Taylor test is made of them"
    assert sum(spent) < 4.0 * depth**2, "and one gradient at the depth itself is left"


def test_the_depth_of_the_taylor_test():
    assert [taylor_depth(L) for L in (1, 2, 8, 64, 1000)] == [1, 2, 2, 4, 8]


def test_the_sentence_says_route_memory_and_seconds():
    plan = check_report(o4_bryson_denham.problem(), 64)["plan"]
    assert "a program of 194 unknowns (lifted) in about" in plan
    assert "backend='auto' takes 'exact': 130 constraint rows" in plan
    assert plan.count(" s and ") >= 2
    assert plan.count(" MB") >= 2
    assert "\n" not in plan


def test_a_depth_beyond_the_memory_is_refused(monkeypatch):
    swept = []
    monkeypatch.setattr(Sweep, "__init__", lambda *a: swept.append(a))
    with pytest.raises(dnl.InputError, match=r"^depth: got 1000000: a gradient needs about .* TB"):
        check_report(spirals.problem(), 1_000_000)
    assert not swept
