"""What the scripts behind docs/ share: their arguments, where pictures go, the page's table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs"


def parser() -> argparse.ArgumentParser:
    """--tiny and --out."""
    made = argparse.ArgumentParser()
    made.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    made.add_argument(
        "--out", type=Path, help="where pictures go; default: docs/images, with --tiny nowhere"
    )
    return made


def folder(given: argparse.Namespace) -> Path | None:
    """Where pictures go, made if need be; None for nowhere."""
    found: Path | None = given.out or (None if given.tiny else DOCS / "images")
    if found:
        found.mkdir(parents=True, exist_ok=True)
    return found


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)


def publish(
    given: argparse.Namespace, script: str, page: str, tables: list[str], options: str = ""
) -> None:
    """Put the tables between the marks of a page of docs/, below the command that made them.

    Not with --tiny or --out.

    ``script`` is the ``__file__`` of a script NN_name.py, ``options`` what it was called with.
    """
    if given.tiny or given.out:
        return
    name, path = Path(script).name, DOCS / page
    begin, end = (f"<!-- {side}: table of benchmarks/{name[:2]} -->" for side in ("begin", "end"))
    text = path.read_text(encoding="utf-8")
    command = f"python benchmarks/{name} {options}".rstrip()
    body = "\n\n".join([f"Our experiment, made by `{command}`:", *tables])
    path.write_text(
        f"{text.split(begin)[0]}{begin}\n{body}\n{end}{text.split(end)[1]}", encoding="utf-8"
    )
