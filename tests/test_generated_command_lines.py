"""Drawn command lines end with 0, 1 or 2, one line for bad input, and one JSON object."""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generated_command_lines import draw, judged

EXAMPLES = int(os.environ.get("GENERATED_COMMAND_LINES", "60"))


@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 2**32))
def test_a_command_line_ends_as_documented(seed: int):
    line = draw(random.Random(seed))
    assert judged(line)[1] == "", line
