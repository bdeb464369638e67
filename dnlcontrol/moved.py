"""Import paths of the first version, which lead to where modules are now; until version 0.3.

Each is a module of its own whose names are those of the new one. Importing it warns.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = "dnlcontrol."
MOVED = {
    "activations": "problem.activations",
    "array": "problem.array",
    "branches": "results.branches",
    "checking": "shell.check_report",
    "checkpoints": "files.checkpoint",
    "cli": "shell.cli",
    "constraints": "problem.constraints",
    "controls": "problem.controls",
    "discrete": "discretisation.discrete",
    "duals": "solving.prolonged_multipliers",
    "dynamics": "problem.dynamics",
    "engines": "problem.engines",
    "environment": "results.environment",
    "estimators": "interop.estimators",
    "extrapolation": "results.extrapolation",
    "fingerprints": "discretisation.fingerprint",
    "formula": "problem.formula",
    "grid": "discretisation.grid",
    "hjb": "solving.hamilton_jacobi",
    "imagesets": "problem.datasets",
    "init": "limits.init",
    "labelled": "interop.xarray",
    "losses": "problem.losses",
    "multistarts": "studies.multistart",
    "outcome": "results.assemble",
    "plotting": "studies.plotting",
    "problem_files": "problem.from_file",
    "progress": "shell.progress",
    "reference": "problem.reference",
    "regularisers": "problem.regularisers",
    "request": "solving.request",
    "rows": "discretisation.constraint_rows",
    "rules": "discretisation.rules",
    "sizes": "discretisation.resources.sizes",
    "solution": "results.solution",
    "space": "discretisation.space",
    "starts": "solving.starts",
    "storage": "results.solution_files",
    "symmetries": "studies.symmetries",
}


class Moved(MetaPathFinder, Loader):
    """Asked last: for a path of the package that no file has."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """A module that stands for the one that has moved; None for any other name."""
        return ModuleSpec(fullname, self) if new_path(fullname) else None

    def exec_module(self, module: ModuleType) -> None:
        """Let it look its names up in the module that it stands for."""
        new = new_path(module.__name__)
        assert new is not None  # find_spec
        text = f"{module.__name__} is now {new}; the old path goes with version 0.3"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        found = import_module(new)
        module.__dict__.update(
            __getattr__=lambda name: getattr(found, name), __dir__=lambda: dir(found), __path__=[]
        )


def new_path(old: str) -> str | None:
    """Where a module of the first version is now, None for another name."""
    if not old.startswith(PACKAGE):
        return None
    first, *rest = old.removeprefix(PACKAGE).split(".")
    return None if first not in MOVED else ".".join([PACKAGE + MOVED[first], *rest])


def install() -> None:
    """Let import find the old paths, once."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
