"""One way through the library: later stages import earlier ones; heavy imports stay where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dnlcontrol"

# Each row may import from itself and from the rows above. A package stands for all its modules.
LAYERS = (
    "checks engines array environment files checkpoints",
    "formula controls activations losses regularisers constraints dynamics",
    "problem reference",
    "rules grid",
    "space rows",
    "discrete sizes fingerprints",
    "backends",
    "solution",
    "branches",
    "solving duals hjb outcome request starts",
    "certificates",
    "init storage extrapolation symmetries multistarts studies",
    "imagesets labelled progress plotting estimators checking problem_files cli __main__",
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
HEAVY = {"torch", "casadi", "scipy", "pandas", "matplotlib"}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@cache
def top_level_imports(module: str) -> frozenset[str]:
    """The modules that importing this one imports: not those in functions or under ``if TYPE_CHECKING``."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: a relative import; write dnlcontrol.…"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else str(node.module) for name in names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def own_imports(module: str) -> frozenset[str]:
    return frozenset(name for name in top_level_imports(module) if name in MODULES)


def part(module: str) -> str:
    """``space`` for dnlcontrol.space.metric."""
    return module.split(".")[1]


def level(module: str) -> int:
    assert part(module) in LEVEL, f"add {part(module)!r} to LAYERS in this file, in the order of imports"
    return LEVEL[part(module)]


@pytest.mark.parametrize("module", [m for m in MODULES if m != "dnlcontrol"])
def test_imports_go_upwards(module):
    for name in own_imports(module) - {"dnlcontrol"}:
        assert level(name) <= level(module), f"{module} imports {name}, of a later stage"
    level(module)


def test_no_module_imports_itself_in_a_circle():
    """Within a row, too, imports have an order."""
    order = TopologicalSorter({module: own_imports(module) - {"dnlcontrol"} for module in MODULES})
    assert set(order.static_order()) == set(MODULES)


def test_the_table_names_nothing_that_is_gone():
    assert set(LEVEL) == {part(module) for module in MODULES if module != "dnlcontrol"}


def test_the_first_import_imports_nothing_of_the_package():
    assert not own_imports("dnlcontrol")


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("dnlcontrol.backends")])
def test_heavy_libraries_stay_in_the_backends(module):
    found = {name.split(".")[0] for name in top_level_imports(module)} & HEAVY
    assert not found, f"{module} imports {sorted(found)} at the top level; import them where they are used"


def loaded_after(code: str) -> set[str]:
    """The heavy libraries (and scikit-learn) in sys.modules after running the code in a fresh interpreter."""
    report = f"import sys\n{code}\nprint(*sorted({HEAVY | {'sklearn'}} & sys.modules.keys()))"
    command = [sys.executable, "-c", report]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light():
    assert loaded_after("import dnlcontrol") == set()


def test_defining_a_problem_is_light():
    """Formulas are traced with NumPy alone."""
    code = """
import numpy as np, dnlcontrol as dnl
dnl.ControlProblem(x0=np.ones((2, 2)), dynamics=dnl.Dense(2), terminal=dnl.losses.squared(np.zeros((2, 2))),
                   regularisers=[dnl.H1("W", 1.0), dnl.H1("b", 1.0)])
"""
    assert loaded_after(code) == set()


def test_every_export_is_where_it_is_said_to_be():
    import dnlcontrol as dnl

    for name in dnl.__all__:
        assert getattr(dnl, name) is not None
    assert set(dnl.__all__) == set(dir(dnl)) and len(set(dnl.__all__)) == len(dnl.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dnl.nothing
