"""The table of identities names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_identity_names_a_test():
    rows = [
        line
        for line in (ROOT / "docs" / "identities.md").read_text(encoding="utf-8").splitlines()
        if "`" in line
    ]
    named = [re.findall(r"`([\w/]+\.py)::(test_\w+)`", row) for row in rows]
    assert len(rows) > 40
    assert all(len(found) == 1 for found in named)
    for ((file, name),) in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"\ndef {name}(" in source, (file, name)
