"""Draw docs/images/architecture.png from the package as it is: python docs/draw_architecture.py

Rows are the stages in order, with their files; a dot says that the row's stage imports from the
column's. The stages and the named exceptions are those of tests/test_layering.py. The picture
carries what it shows as text (``facts``), by which tests/test_architecture.py sees that it is old.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.test_layering import FORWARD, MODULES, STAGES, own_imports  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "architecture.png"
WIDE = 122  # characters of a box's text in a line
LINE = 0.2  # inches
BOX = 7.2  # the width of a box
CELL = 0.38  # of the matrix
INK = {
    "box": "#eef2f7",
    "edge": "#8a97a8",
    "inner": "#ffffff",
    "dot": "#2f5d8c",
    "named": "#c8402f",
}
SAID = {
    "checks": "errors that name the argument, what was seen and what is allowed",
    "files": "bytes on disk, no mathematics",
    "problem": "what the user writes: no grid, no solver",
    "discretisation": "a problem at a depth L: nodes, weights, flat controls, rows",
    "minimise": "a smooth function in a box with rows: NumPy and SciPy alone",
    "backends": "a discrete problem to a minimiser",
    "results": "what was found, recomputed from the controls; files of it",
    "certificates": "what one solution proves",
    "solving": "one problem, one depth, from any start",
    "limits": "L → ∞: constants, expansions, networks of infinite depth",
    "studies": "one problem, many depths: rates, branches, pictures",
    "interop": "other libraries' forms of a solution",
    "shell": "the command line",
}


@dataclass(frozen=True)
class Room:
    """A folder of the package (or a file of it), its own files and the folders inside."""

    name: str
    files: tuple[str, ...]
    inside: tuple[Room, ...]

    @cached_property
    def text(self) -> list[str]:
        return textwrap.wrap(", ".join(self.files), WIDE - (0 if "." not in self.name else 6))

    @property
    def height(self) -> float:
        return LINE * (1.6 + len(self.text)) + sum(r.height + 0.06 for r in self.inside)

    def facts(self) -> Iterator[str]:
        yield f"{self.name}: {', '.join(self.files)}"
        for room in self.inside:
            yield from room.facts()


def room(name: str, nested: bool = False) -> Room:
    """The room of a dotted name below dnlcontrol; folders in those of the backends are drawn."""
    start = f"dnlcontrol.{name}."
    parts = sorted({m.removeprefix(start).split(".")[0] for m in MODULES if m.startswith(start)})
    folders = [p for p in parts if any(m.startswith(f"{start}{p}.") for m in MODULES)]
    if name == "backends" or nested:
        inside = tuple(room(f"{name}.{p}", nested=True) for p in folders)
        return Room(name, tuple(p for p in parts if p not in folders), inside)
    return Room(name, tuple(f"{p}/" if p in folders else p for p in parts), ())


def edges() -> set[tuple[str, str]]:
    """(stage, a stage that it imports from), the named imports of later stages left out."""
    found = {(m, n) for m in MODULES if m != "dnlcontrol" for n in own_imports(m)} - FORWARD
    pairs = {(m.split(".")[1], n.split(".")[1]) for m, n in found}
    return {(a, b) for a, b in pairs if a != b and a in STAGES}


def named() -> set[tuple[str, str]]:
    """The stages of the named imports."""
    return {(a.split(".")[1], b.split(".")[1]) for a, b in FORWARD}


def facts() -> str:
    """Everything that the picture shows, as text."""
    rooms = [line for name in STAGES for line in room(name).facts()]
    used = [f"{a} imports {b}" for a, b in sorted(edges())]
    return "\n".join([*rooms, *used, *(f"{a} leads on to {b}" for a, b in sorted(named()))])


def facts_in(picture: Path) -> str:
    """The text that a picture carries: the PNG's text named Description."""
    data = picture.read_bytes()
    place = 8  # after the signature: length, kind, content, checksum of each chunk
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind == b"tEXt" and content.startswith(b"Description\0"):
            return content.removeprefix(b"Description\0").decode("latin-1")
        place += 12 + length
    return ""


def box(axes: Any, at: Room, left: float, top: float, width: float, colour: str) -> None:
    """A room with its files, the rooms inside below them."""
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (left, top - at.height),
            width,
            at.height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=colour,
            edgecolor=INK["edge"],
            linewidth=0.8,
        )
    )
    short = at.name.split(".")[-1]
    y = top - 0.75 * LINE
    axes.text(left + 0.1, y, short, weight="bold", size=9, va="center")
    axes.text(left + width - 0.1, y, SAID.get(at.name, ""), size=8, va="center", ha="right")
    for line in at.text:
        y -= LINE
        axes.text(left + 0.1, y, line, size=7, va="center", color="#333333")
    top = y - 0.6 * LINE
    for inner in at.inside:
        box(axes, inner, left + 0.18, top, width - 0.3, INK["inner"])
        top -= inner.height + 0.06


def matrix(axes: Any, middles: dict[str, float], top: float) -> None:
    """A dot in row a and column b for each pair of stages."""
    columns = {name: BOX + 0.45 + CELL * k for k, name in enumerate(STAGES)}
    right = BOX + 0.45 + CELL * (len(STAGES) - 0.5)
    for name, x in columns.items():
        axes.text(x - 0.05, top + 0.12, name, rotation=50, size=8, ha="left", va="bottom")
        axes.plot([x, x], [top + 0.05, min(middles.values())], color="#d8dee6", lw=0.8, zorder=0)
    for name, y in middles.items():
        axes.plot([BOX, right], [y, y], color="#d8dee6", lw=0.8, zorder=0)
        axes.plot(columns[name], y, "s", color="#9aa7b8", ms=6)
    for a, b in edges():
        axes.plot(columns[b], middles[a], "o", color=INK["dot"], ms=8)
    for a, b in named():
        axes.plot(columns[b], middles[a], "o", mfc="white", mec=INK["named"], mew=1.6, ms=8)


def key(axes: Any, bottom: float) -> None:
    """What the marks mean."""
    y = bottom - 0.3
    marks = [
        (0.12, "o", INK["dot"], INK["dot"], "the row imports from the column"),
        (3.2, "s", "#9aa7b8", "#9aa7b8", "the stage itself"),
        (
            5.2,
            "o",
            "white",
            INK["named"],
            "a method that leads on: local to it, and named in the test",
        ),
    ]
    for x, mark, face, edge, text in marks:
        axes.plot(x, y, mark, mfc=face, mec=edge, mew=1.4, ms=7)
        axes.text(x + 0.15, y, text, size=8, va="center")


def draw(path: Path = PICTURE) -> None:
    """The picture of the stages, the first on top: imports lead upwards."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    width = BOX + 0.6 + CELL * len(STAGES) + 0.2
    rooms = [room(name) for name in STAGES]
    height = sum(r.height + 0.1 for r in rooms)
    figure = plt.figure(figsize=(width, height + 1.5))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-0.1, width - 0.1)
    axes.set_ylim(-height - 0.5, 1.0)
    axes.axis("off")
    middles = {}
    top = 0.0
    for at in rooms:
        box(axes, at, 0.0, top, BOX, INK["box"])
        middles[at.name] = top - 0.5 * at.height
        top -= at.height + 0.1
    matrix(axes, middles, 0.0)
    key(axes, top)
    figure.savefig(path, dpi=110, metadata={"Software": None, "Description": facts()})
    plt.close(figure)


if __name__ == "__main__":
    draw()
    print(PICTURE.relative_to(ROOT))
