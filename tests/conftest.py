"""Helper modules tell what they compared, as test modules do."""

from __future__ import annotations

import pytest

for helper in (
    "bad_input",
    "certificates.cases",
    "limits.infinite_depth.cases",
    "problem.three_engines",
    "shell.command_line",
):
    pytest.register_assert_rewrite(f"tests.{helper}")
