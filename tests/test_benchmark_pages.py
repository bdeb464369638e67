"""The scripts' tables go between the marks of their pages, below the command that made them."""

from __future__ import annotations

import importlib.util
import re
from argparse import Namespace
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def helper():
    spec = importlib.util.spec_from_file_location("experiment", BENCHMARKS / "experiment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_publish(tmp_path, monkeypatch):
    experiment = helper()
    monkeypatch.setattr(experiment, "DOCS", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- begin: table of benchmarks/08 -->\nold\n<!-- end: table of benchmarks/08 "
        "-->\nafter\n"
    )
    for given in (Namespace(tiny=True, out=None), Namespace(tiny=False, out=tmp_path)):
        experiment.publish(given, "08_name.py", "page.md", ["| new |"])
        assert "old" in page.read_text()
    experiment.publish(
        Namespace(tiny=False, out=None), "a/08_name.py", "page.md", ["| new |", "more"], "--full"
    )
    made = "Our experiment, made by `python benchmarks/08_name.py --full`:"
    begin, end = (f"<!-- {side}: table of benchmarks/08 -->" for side in ("begin", "end"))
    assert page.read_text() == f"before\n{begin}\n{made}\n\n| new |\n\nmore\n{end}\nafter\n"


def test_every_page_has_its_marks():
    experiment, seen = helper(), 0
    for script in sorted(BENCHMARKS.glob("[0-9]*.py")):
        for page in re.findall(
            r'experiment\.publish\(given, __file__, "(\w+\.md)"', script.read_text(encoding="utf-8")
        ):
            text, seen = (experiment.DOCS / page).read_text(encoding="utf-8"), seen + 1
            for side in ("begin", "end"):
                assert text.count(f"<!-- {side}: table of benchmarks/{script.name[:2]} -->") == 1
    assert seen >= 6
