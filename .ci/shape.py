"""What the package looks like, in numbers: python .ci/shape.py [--where]

Each measure has a ceiling in ``CEILINGS``, which tests/test_shape.py holds the package to; a
ceiling may only fall.
"""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dnlcontrol"
# where arrays of any engine pass: the formulas' seam, whose parameters have no narrower type
SEAM = {"array.py", "namespace.py", "engines.py", "formula.py", "activations.py", "losses.py"}
WIDTH = 100
# modules, whose names are not members of a class
LIBRARIES = {"torch", "forward_ad", "casadi"}

CEILINGS: dict[str, float] = {
    "entries of dnlcontrol/": 17,
    "files in a folder, most": 15,
    "files in circles of imports": 0,
    "calls with more than six positional arguments": 0,
    "Any, percent of all parameters": 2.0,
    "Any, percent of parameters outside the array seam": 2.0,
    "private members of another class": 0,
    "lines over 100": 0,
    "formatter exceptions": 0,
    "tuple assignments of three or more per 1,000 lines": 0.2,
    "longest body, lines": 60,
    "body lines, 90th percentile": 20,
    "longest file of the package, lines": 440,
    "class names used twice": 0,
    "file names used in two folders": 0,
}
# one concept in two places: what a folder offers; what both backends have; the command line
# and its old place, at which installed scripts still look
SAME_CONCEPT = {"__init__.py", "run.py", "evaluator.py", "objective.py", "base.py"}


@cache
def tracked(suffix: str = ".py") -> tuple[Path, ...]:
    """Files under version control (or about to be), in the working tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", f"*{suffix}"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(p for p in (ROOT / line for line in listed.splitlines()) if p.is_file())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file."""
    return tuple(ast.walk(tree(path)))


def package() -> list[Path]:
    return [p for p in tracked() if PACKAGE in p.parents]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def long_calls() -> list[str]:
    """Calls with more than six positional arguments; a starred one counts once."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}: {len(node.args)}"
        for path in package()
        for node in nodes(path)
        if isinstance(node, ast.Call) and len(node.args) > 6
    ]


def says_any(annotation: ast.expr) -> bool:
    """Whether Any stands somewhere in an annotation, also in one that is written as a string."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = says_any(ast.parse(node.value, mode="eval").body)
        else:
            found = "Any" in (getattr(node, "id", ""), getattr(node, "attr", ""))
        if found:
            return True
    return False


def parameters(paths: list[Path]) -> list[tuple[str, bool]]:
    """(place, whether its annotation contains Any) of every parameter but self and cls."""
    found = []
    for path in paths:
        for function in functions(path):
            a = function.args
            every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(v for v in (a.vararg, a.kwarg) if v)]
            for arg in every:
                if arg.arg not in ("self", "cls"):
                    vague = arg.annotation is not None and says_any(arg.annotation)
                    place = f"{path.relative_to(ROOT)}:{function.lineno} {function.name}({arg.arg})"
                    found.append((place, vague))
    return found


def in_seam(path: Path) -> bool:
    """The array seam, and dynamics, whose methods are formulas."""
    return path.name in SEAM or path.parent.name == "dynamics"


def vague(paths: list[Path]) -> float:
    """Percent of parameters annotated with Any."""
    marks = [mark for _, mark in parameters(paths)]
    return round(100.0 * sum(marks) / len(marks), 1)


def private_reaches() -> list[str]:
    """Names with one leading underscore read from anything but self, cls or a class of the file."""
    found = []
    for path in package():
        own = {n.name for n in nodes(path) if isinstance(n, ast.ClassDef)}
        own |= {name for c in nodes(path) if isinstance(c, ast.ClassDef) for name in members(c)}
        for node in nodes(path):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            base = node.value
            known = ast.unparse(base).split(".")[0] in LIBRARIES
            known = known or (isinstance(base, ast.Name) and base.id in ("self", "cls"))
            if not known and not node.attr.endswith("__") and node.attr not in own:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
    return found


def members(node: ast.ClassDef) -> set[str]:
    """Methods, class attributes and attributes of self that a class defines."""
    found = {n.name for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    for n in ast.walk(node):
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store):
            if ast.unparse(n.value) in ("self", "cls"):
                found.add(n.attr)
        elif isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name):
            found.add(n.target.id)
    return found


def long_lines() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{k}"
        for path in tracked()
        for k, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > WIDTH
    ]


def formatter_exceptions() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{k}"
        for path in tracked()
        for k, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.rstrip().endswith(("# fmt: " + "skip", "# fmt: " + "off"))
    ]


def tuple_assignments() -> list[str]:
    """a, b, c = x, y, z (and longer) but for swaps, whose targets stand on the right too."""
    found = []
    for path in package():
        for node in nodes(path):
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Tuple):
                continue
            left, right = node.targets[0].elts, node.value
            if len(left) >= 3 and isinstance(right, ast.Tuple):
                names = {ast.unparse(e) for e in left}
                if not names & {ast.unparse(e) for e in right.elts}:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)[:80]}")
    return found


def repeated_classes() -> list[str]:
    named = Counter(n.name for p in package() for n in nodes(p) if isinstance(n, ast.ClassDef))
    return [name for name, count in named.items() if count > 1]


def repeated_files() -> list[str]:
    named = Counter(p.name for p in package() if p.name not in SAME_CONCEPT)
    return [name for name, count in named.items() if count > 1]


def named_imports() -> set[tuple[str, str]]:
    """The local imports of what stands later, which tests/test_layering.py names."""
    named: set[tuple[str, str]] = set()
    for node in tree(ROOT / "tests" / "test_layering.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("FORWARD", "ONWARD"):
            named |= ast.literal_eval(node.value)
    return named


def imports() -> dict[str, set[str]]:
    """module -> the modules of the package that it imports anywhere.

    In functions and for types too; the package itself is left out.
    """
    module = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in package()
    }
    found: dict[str, set[str]] = {}
    for name, path in module.items():
        found[name] = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module:
                said = [(f"{node.module}.{a.name}", node.module) for a in node.names]
                found[name] |= {file if file in module else folder for file, folder in said}
        found[name] &= module.keys() - {"dnlcontrol"}
    return found


def circles() -> list[str]:
    """Modules in a circle of imports, or between two, but for the named imports."""
    named = named_imports()
    edges = {(a, b) for a, every in imports().items() for b in every} - named
    while True:
        ahead, behind = {a for a, _ in edges}, {b for _, b in edges}
        left = {(a, b) for a, b in edges if a in behind and b in ahead}
        if left == edges:
            return sorted(ahead)
        edges = left


def measures() -> dict[str, float]:
    """Every measure of ``CEILINGS``."""
    paths = package()
    lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in paths)
    bodies = [body_lines(f) for p in paths for f in functions(p)]
    folders = Counter(p.parent for p in paths)
    entries = {p.relative_to(PACKAGE).parts[0] for p in paths} | {"py.typed"}
    return {
        "entries of dnlcontrol/": len(entries),
        "files in a folder, most": max(folders.values()),
        "files in circles of imports": len(circles()),
        "calls with more than six positional arguments": len(long_calls()),
        "Any, percent of all parameters": vague(paths),
        "Any, percent of parameters outside the array seam": vague(
            [p for p in paths if not in_seam(p)]
        ),
        "private members of another class": len(private_reaches()),
        "lines over 100": len(long_lines()),
        "formatter exceptions": len(formatter_exceptions()),
        "tuple assignments of three or more per 1,000 lines": round(
            1000 * len(tuple_assignments()) / lines, 2
        ),
        "longest body, lines": max(bodies),
        "body lines, 90th percentile": quantiles(bodies, n=10)[-1],
        "longest file of the package, lines": max(
            len(p.read_text(encoding="utf-8").splitlines()) for p in paths
        ),
        "class names used twice": len(repeated_classes()),
        "file names used in two folders": len(repeated_files()),
    }


def where() -> dict[str, list[str]]:
    """The places behind the measures that count places."""
    over = sorted(
        (
            (body_lines(f), f"{p.relative_to(ROOT)}:{f.lineno} {f.name}")
            for p in package()
            for f in functions(p)
        ),
        reverse=True,
    )
    return {
        "files in circles of imports": circles(),
        "calls with more than six positional arguments": long_calls(),
        "private members of another class": private_reaches(),
        "lines over 100": long_lines(),
        "formatter exceptions": formatter_exceptions(),
        "tuple assignments of three or more per 1,000 lines": tuple_assignments(),
        "longest body, lines": [f"{place}: {n}" for n, place in over[:15]],
        "Any, percent of parameters outside the array seam": [
            place for place, mark in parameters([p for p in package() if not in_seam(p)]) if mark
        ],
        "class names used twice": repeated_classes(),
        "file names used in two folders": repeated_files(),
    }


def main() -> None:
    import sys

    found = measures()
    width = max(map(len, found))
    print(f"{'measure':{width}}  {'now':>6}  {'most':>6}")
    for name, value in found.items():
        print(f"{name:{width}}  {value:6g}  {CEILINGS[name]:6g}")
    if "--where" in sys.argv:
        for name, places in where().items():
            print(f"\n{name}", *places, sep="\n  ")


if __name__ == "__main__":
    main()
