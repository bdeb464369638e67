"""One way through the library: later stages import earlier ones.

Heavy imports stay where they are used.
"""

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

# Each stage may import from itself and from the stages before it; a folder stands for all its
# modules.
STAGES = [
    "checks",
    "files",
    "problem",
    "discretisation",
    "minimise",
    "backends",
    "results",
    "certificates",
    "solving",
    "limits",
    "studies",
    "interop",
    "shell",
]
LEVEL = {name: level for level, name in enumerate(STAGES)} | {
    "moved": len(STAGES),
    "__main__": len(STAGES),
}
# Methods that lead on from a result: the only imports of a later stage, each local to its function.
FORWARD = {
    ("dnlcontrol.results.solution", "dnlcontrol.interop.network"),  # Solution.to_module
}
# Methods of a result that end in a later file of the same stage.
ONWARD = {
    ("dnlcontrol.results.solution", "dnlcontrol.results.solution_files"),  # Solution.save
    ("dnlcontrol.studies.result", "dnlcontrol.studies.plotting"),  # Study.plot, Study.plots
}
HEAVY = {"torch", "casadi", "scipy", "pandas", "matplotlib"}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
PARTS = [m for m in MODULES if m != "dnlcontrol"]


@cache
def imports(module: str, everywhere: bool) -> frozenset[str]:
    """The modules that a module imports at its top level, or ``everywhere``.

    Everywhere means in functions and for types too.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(MODULES[module].read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, (
                f"{module}, line {node.lineno}: a relative import; write dnlcontrol.…"
            )
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else str(node.module) for name in names)
        elif everywhere:
            pending.extend(ast.iter_child_nodes(node))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def own_imports(module: str) -> frozenset[str]:
    """Modules of this package that a module imports anywhere, but for the package itself."""
    return frozenset(n for n in imports(module, everywhere=True) if n in MODULES) - {"dnlcontrol"}


def level(module: str) -> int:
    """The stage of a module: that of ``problem`` for dnlcontrol.problem.losses."""
    part = module.split(".")[1]
    assert part in LEVEL, f"{module} belongs to no stage; the stages are the folders {STAGES}"
    return LEVEL[part]


@pytest.mark.parametrize("module", PARTS)
def test_imports_lead_to_earlier_stages(module):
    """In functions and for types, too, but for the named ones."""
    later = {(module, n) for n in own_imports(module) if level(n) > level(module)}
    assert later <= FORWARD


def test_each_named_import_of_a_later_stage_is_there_and_local():
    for module, name in FORWARD | ONWARD:
        assert name in own_imports(module) - imports(module, everywhere=False), (module, name)


def test_no_module_imports_itself_in_a_circle():
    """Within a stage, too, imports have an order.

    It holds for imports in functions and for types, but for the named ones.
    """
    order = TopologicalSorter(
        {m: {n for n in own_imports(m) if (m, n) not in FORWARD | ONWARD} for m in PARTS}
    )
    assert set(order.static_order()) == set(PARTS)


def test_every_entry_of_the_package_is_a_stage():
    entries = {
        p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert entries - {"__init__"} == set(LEVEL)


def test_no_export_has_the_name_of_an_entry():
    """Importing the folder would put it in the place of the function of that name."""
    import dnlcontrol as dnl

    modules = {"certificates"}  # exported as what it is
    entries = {p.stem for p in PACKAGE.iterdir()}
    assert entries & set(dnl.__all__) <= modules


def test_exports_stay_callable_after_every_module_was_imported():
    code = f"""
import importlib, inspect, dnlcontrol as dnl
before = {{n for n in dnl.__all__ if callable(getattr(dnl, n))}}
for module in {sorted(set(PARTS) - {"dnlcontrol.__main__"})!r}:
    importlib.import_module(module)
assert before == {{n for n in dnl.__all__ if callable(getattr(dnl, n))}}
assert all(not inspect.ismodule(getattr(dnl, n)) for n in before) and len(before) > 50
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_first_import_imports_nothing_of_the_package_but_the_old_paths():
    found = {n for n in imports("dnlcontrol", everywhere=False) if n in MODULES}
    assert found == {"dnlcontrol.moved"}
    assert not {n for n in imports("dnlcontrol.moved", everywhere=True) if n in MODULES}


def test_the_minimisers_know_neither_a_backend_s_library_nor_a_problem():
    """What minimises a smooth function in a box needs NumPy, SciPy and the metric."""
    for module in PARTS:
        if module.startswith("dnlcontrol.minimise."):
            everything = imports(module, everywhere=True)
            assert not {n.split(".")[0] for n in everything} & {"torch", "casadi"}, module
            assert "dnlcontrol.discretisation.discrete" not in everything, module
            assert not any(n.startswith("dnlcontrol.problem") for n in everything), module


def test_the_lifted_program_may_use_the_condensed_one_and_not_the_reverse():
    exact = "dnlcontrol.backends.exact."
    for module in PARTS:
        if module.startswith(exact + "condensed."):
            assert not any(n.startswith(exact + "lifted") for n in own_imports(module)), module
    assert not any(
        n.startswith((exact + "lifted", exact + "condensed")) for n in own_imports(exact + "ipopt")
    )


# Heavy libraries at the top level: the backends, and the ways to other libraries that are those
# libraries.
LIGHT = [
    m
    for m in MODULES
    if not m.startswith("dnlcontrol.backends.")
    and m
    not in {
        "dnlcontrol.interop.network",
        "dnlcontrol.interop.layers",
        "dnlcontrol.interop.compiled",
        "dnlcontrol.interop.traceable",
        "dnlcontrol.interop.casadi",
    }
]


@pytest.mark.parametrize("module", LIGHT)
def test_heavy_libraries_stay_in_the_backends(module):
    found = {name.split(".")[0] for name in imports(module, everywhere=False)} & HEAVY
    assert not found, (
        f"{module} imports {sorted(found)} at the top level; import them where they are used"
    )


def loaded_after(code: str) -> set[str]:
    """The heavy libraries in sys.modules after running the code in a fresh interpreter.

    Scikit-learn is looked for as well.
    """
    report = f"import sys\n{code}\nprint(*sorted({HEAVY | {'sklearn'}} & sys.modules.keys()))"
    command = [sys.executable, "-c", report]
    return set(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    )


def test_import_is_light():
    assert loaded_after("import dnlcontrol") == set()


def test_defining_a_problem_is_light():
    """Formulas are traced with NumPy alone."""
    code = """
import numpy as np, dnlcontrol as dnl
dnl.ControlProblem(x0=np.ones((2, 2)), dynamics=dnl.Dense(2),
                   terminal=dnl.losses.squared(np.zeros((2, 2))),
                   regularisers=[dnl.H1("W", 1.0), dnl.H1("b", 1.0)])
"""
    assert loaded_after(code) == set()


def test_every_export_is_where_it_is_said_to_be():
    import dnlcontrol as dnl

    for name in dnl.__all__:
        assert getattr(dnl, name) is not None
    assert set(dnl.__all__) == set(dir(dnl))
    assert len(set(dnl.__all__)) == len(dnl.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dnl.nothing
