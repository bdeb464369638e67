"""Calls with wrong values: every public callable works or refuses in one line, in bounded time."""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.generated_calls import (
    EXCLUDED,
    REFUSED,
    WORKED,
    WRONG,
    Call,
    callables,
    called,
    not_covered,
    outcome,
    parameters,
    without_example,
)
from tests.valid_arguments import VALID

EXAMPLES = int(os.environ.get("GENERATED_CALLS", "300"))
# a second or more each, once as a valid example is enough
SLOW = ("export_onnx", "Network.to_onnx", "Network.export", "Study.plot", "Study.plots")
QUICK = sorted(set(parameters()) - {(n, p) for n, p in parameters() if n in SLOW})


def test_every_public_callable_has_a_valid_example():
    assert without_example() == []


def test_every_parameter_of_a_public_callable_is_in_its_example():
    assert not_covered() == []


def test_no_example_is_of_a_callable_that_is_gone():
    assert set(VALID) - set(callables()) == set()


@pytest.mark.parametrize("name", [n for n in callables() if n not in SLOW])
def test_the_valid_example_works(name: str):
    assert outcome(lambda: called(callables()[name](), VALID[name]())) == WORKED


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(QUICK), st.sampled_from(sorted(WRONG)))
def test_a_wrong_value_is_refused_in_one_line_or_works(where: tuple[str, str], wrong: str):
    call = Call(*where, wrong)
    assume((*where, wrong) not in EXCLUDED)
    found = outcome(call)
    assert found in (WORKED, REFUSED), f"{call}: {found}"
