"""backend="auto": one of the two, the same answer, and the reason."""

from __future__ import annotations

import importlib

import pytest

import dnlcontrol as dnl
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.solving.choice import chosen


def named(name: str, **parameters) -> dnl.ControlProblem:
    problem = importlib.import_module(f"problems.{name}").problem(**parameters)
    assert isinstance(problem, dnl.ControlProblem)
    return problem


CHOICES = {
    "a small differential equation": ("o1_hager", 256, "exact"),
    "constraint rows": ("o4_bryson_denham", 64, "exact"),
    "a small program with memory": ("v1_rational_memory", 16, "exact"),
    "a deep program with memory": ("two_class_toy", 32, "adjoint"),
    "64 states of 32 samples": ("resnet_tvg", 32, "adjoint"),
    "too large": ("digits_dense", 32, "adjoint"),
}


@pytest.mark.parametrize("reason", CHOICES)
def test_the_forecast_chooses_and_says_why(reason: str):
    name, depth, backend = CHOICES[reason]
    if name == "digits_dense":
        pytest.importorskip("sklearn")
    found, why = chosen(discretise(named(name), depth, "left"), {})
    assert found == backend
    words = reason if reason != "constraint rows" else "130 constraint rows"
    assert words in why


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({"method": "lbfgs"}, "adjoint"),
        ({"formulation": "condensed"}, "exact"),
        ({"chunk": 1}, "adjoint"),
        ({"method": "newton"}, "exact"),  # its default says nothing
    ],
)
def test_an_option_of_one_backend_decides(options, backend: str):
    solution = dnl.solve(named("o1_hager"), 8, "auto", **options)
    assert solution.backend == backend
    assert solution.success


def test_options_of_both_backends_are_refused():
    with pytest.raises(dnl.InputError, match=r"^backend: got .*'force' and 'chunk'"):
        dnl.solve(named("o1_hager"), 4, "auto", force=True, chunk=1)
    with pytest.raises(dnl.InputError, match=r"'exact' or 'adjoint' or 'auto'"):
        dnl.solve(named("o1_hager"), 4, "automatic")


def test_the_result_is_that_of_the_backend_and_says_which(tmp_path):
    problem = named("o1_hager")
    found, exact = dnl.solve(problem, 16, "auto"), dnl.solve(problem, 16, "exact")
    assert found.backend == "exact"
    assert found.value == exact.value
    assert found.nit == exact.nit
    assert found.message == f"{exact.message}; backend='exact' chosen: {found.options['chosen']}"
    assert "chosen" not in exact.options
    found.save(tmp_path / "run")
    assert dnl.load(tmp_path / "run").options["chosen"] == found.options["chosen"]


def test_many_starts_share_one_choice():
    found = dnl.multistart(named("o1_hager"), 4, starts=2, backend="auto")
    assert found.best.backend == "exact"
    assert found.best.options["chosen"].startswith("a small differential equation")
